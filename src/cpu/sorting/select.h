/* Selection of keys: the smallest with their places, and those of given ranks. */
#ifndef FOVEA_CPU_SORTING_SELECT_H
#define FOVEA_CPU_SORTING_SELECT_H

#include "cpu/sorting/keys.h"
#include "cpu/sorting/radix.h"

/* ---- The k smallest --------------------------------------------------------------------------- */

/* Candidates: the k smallest of the keys so far, or all, and what has come since below the largest of
 * those. When there is no more room they are sorted and all but k dropped. Of random keys some k ln(n/k)
 * ever become candidates, so that the rest costs a comparison each. */
typedef struct smallest {
    radix sort;
    int64_t k, capacity;
    uint64_t limit; /* keys below it are candidates */
} smallest;

static int64_t smallest_capacity(int64_t n, int64_t k) {
    int64_t capacity = 2 * k + 4 * TURN_BLOCK;
    return capacity < n ? capacity : n;
}
static size_t smallest_bytes(int64_t n, int64_t k, int64_t key_bytes) {
    int64_t capacity = smallest_capacity(n, k);
    return 2 * (((size_t)(capacity * key_bytes) + 63) & ~(size_t)63) +
           2 * (((size_t)capacity * 8 + 63) & ~(size_t)63) + DIGITS * 8;
}

static smallest smallest_begin(int64_t n, int64_t k, int64_t key_bytes, char *scratch) {
    smallest s = {.k = k, .capacity = smallest_capacity(n, k), .limit = UINT64_MAX};
    size_t keys = ((size_t)(s.capacity * key_bytes) + 63) & ~(size_t)63;
    size_t places = ((size_t)s.capacity * 8 + 63) & ~(size_t)63;
    s.sort = (radix){.keys = scratch,
                     .other_keys = scratch + keys,
                     .payload = scratch + 2 * keys,
                     .other_payload = scratch + 2 * keys + places,
                     .parts = 1,
                     .places = (int64_t(*)[DIGITS])(void *)(scratch + 2 * keys + 2 * places)};
    return s;
}

/* Sorts the candidates and keeps k of them. */
static void smallest_settle(smallest *s, int64_t key_bytes) {
    radix_sort(&s->sort, key_bytes, 8);
    if (s->sort.n < s->k) return;
    s->sort.n = s->k;
    s->limit = key_bytes == 4 ? ((uint32_t *)s->sort.keys)[s->k - 1]
                              : ((uint64_t *)s->sort.keys)[s->k - 1];
}

/* Whether any of VF_WIDTH words is below the limit. */
FOVEA_INLINE bool any_below_32(const uint32_t *keys, uint64_t limit) {
    const vi sign = vi_set1(INT32_MIN);
    vi words = vi_xor(vi_load((const int32_t *)(const void *)keys), sign);
    if (limit > UINT32_MAX) return true;
    return vm_any(vi_lt(words, vi_xor(vi_set1((int32_t)(uint32_t)limit), sign)));
}
FOVEA_INLINE bool any_below_64(const uint64_t *keys, uint64_t limit) {
    bool any = limit == UINT64_MAX; /* no limit yet, or one that keys may be equal to */
    for (int i = 0; i < VF_WIDTH; i++) any |= keys[i] < limit;
    return any;
}

/* Takes n keys, at most TURN_BLOCK, the first of which stands at `place`. */
#define SMALLEST(bits)                                                                             \
    static void smallest_take_##bits(smallest *s, const uint##bits##_t *keys, int64_t place,       \
                                     int64_t n) {                                                  \
        if (s->sort.n + n > s->capacity) smallest_settle(s, bits / 8);                             \
        uint##bits##_t *to = s->sort.keys;                                                         \
        int64_t *places = s->sort.payload, count = s->sort.n;                                      \
        for (int64_t i = 0; i < n; i += VF_WIDTH) {                                                \
            if (i + VF_WIDTH <= n && !any_below_##bits(keys + i, s->limit)) continue;              \
            for (int64_t j = i; j < smaller(i + VF_WIDTH, n); j++)                                 \
                if (keys[j] < s->limit || s->limit == UINT64_MAX)                                  \
                    to[count] = keys[j], places[count++] = place + j;                              \
        }                                                                                          \
        s->sort.n = count;                                                                         \
    }
SMALLEST(32)
SMALLEST(64)

/* ---- Given ranks ------------------------------------------------------------------------------ */

/* By their leading bits, keys fall into bins whose sizes tell in which of them the ranks lie. The keys of
 * those are brought together and sorted. */
enum { BIN_BITS = 11, BINS = 1 << BIN_BITS };

typedef struct bins {
    int64_t before[BINS + 1]; /* keys in the bins before */
    int64_t kept[BINS + 1];   /* of those in bins that are wanted */
    uint8_t wanted[BINS];
} bins;

/* The last bin with no more than `rank` keys before it. */
static int bin_of_rank(const bins *b, int64_t rank) {
    int first = 0, end = BINS;
    while (end - first > 1) {
        int middle = (first + end) / 2;
        if (b->before[middle] <= rank)
            first = middle;
        else
            end = middle;
    }
    return first;
}

static void bins_keep(bins *b) {
    b->kept[0] = 0;
    for (int d = 0; d < BINS; d++)
        b->kept[d + 1] = b->kept[d] + (b->wanted[d] ? b->before[d + 1] - b->before[d] : 0);
}

#define RANKS(bits)                                                                                \
    static void bins_count_##bits(bins *b, const uint##bits##_t *keys, int64_t n) {                \
        uint32_t counts[2][BINS] = {0};                                                            \
        int64_t i = 0, sum = 0;                                                                    \
        for (; i + 2 <= n; i += 2) {                                                               \
            counts[0][keys[i] >> (bits - BIN_BITS)]++;                                             \
            counts[1][keys[i + 1] >> (bits - BIN_BITS)]++;                                         \
        }                                                                                          \
        if (i < n) counts[0][keys[i] >> (bits - BIN_BITS)]++;                                      \
        for (int d = 0; d < BINS; d++) {                                                           \
            b->before[d] = sum, b->wanted[d] = 0;                                                  \
            sum += (int64_t)counts[0][d] + counts[1][d];                                           \
        }                                                                                          \
        b->before[BINS] = sum;                                                                     \
    }                                                                                              \
    /* Brings the keys of wanted bins to the front of `to`, which has room for n. */               \
    static int64_t bins_gather_##bits(bins *b, const uint##bits##_t *keys, int64_t n,              \
                                      uint##bits##_t *to) {                                        \
        int64_t count = 0;                                                                         \
        for (int64_t i = 0; i < n; i++) {                                                          \
            to[count] = keys[i];                                                                   \
            count += b->wanted[keys[i] >> (bits - BIN_BITS)];                                      \
        }                                                                                          \
        bins_keep(b);                                                                              \
        return count;                                                                              \
    }
RANKS(32)
RANKS(64)

#endif
