/* Words of 32 bits, most significant digit first: their leading 11 bits deal them to buckets, which the
 * threads share and sort each for itself, in a cache: small ones by the network of bitonic.h, others by
 * their two remaining digits, counted in one go. Of a million floats a word is moved three times and
 * counted three times, where digits of 8 bits move and count it four times: 10 cycles a word for 16.
 *
 * Where one bucket has more than a share of the words the threads would wait for one of them; then
 * radix.h sorts. */
#ifndef FOVEA_CPU_SORTING_BUCKETS_H
#define FOVEA_CPU_SORTING_BUCKETS_H

#include "cpu/sorting/bitonic.h"
#include "cpu/sorting/radix.h"

enum {
    BUCKET_BITS = 11,
    BUCKETS = 1 << BUCKET_BITS,
    BUCKET_SHIFT = 32 - BUCKET_BITS,
    BUCKETS_FROM = 1 << 14,       /* words from which it pays */
    BUCKET_PARTS = 16,            /* whose counters take the room of radix.h's */
    BUCKET_NETWORK = 1024,        /* words up to which a network is faster than two digits */
    BUCKET_LOW = BUCKET_SHIFT / 2 /* bits of the last digit */
};
_Static_assert(BUCKET_PARTS *BUCKETS * sizeof(uint32_t) <= PARTS_MAX * DIGITS * sizeof(int64_t),
               "counters of buckets fit those of digits");

/* Counters of a part, then where its next word of a bucket goes. */
static inline uint32_t *bucket_places(const radix *r, int part) {
    return (uint32_t *)(void *)r->places + (int64_t)part * BUCKETS;
}

static inline bool buckets_suit(const radix *r, int64_t key_bytes, int64_t payload_bytes) {
    return key_bytes == 4 && payload_bytes == 0 && r->n >= BUCKETS_FROM && r->n <= INT32_MAX &&
           r->parts <= BUCKET_PARTS;
}

/* Counts become places. False if a bucket holds more than a third of what there is. */
static bool buckets_place(const radix *r) {
    uint32_t place = 0, largest = 0;
    for (int b = 0; b < BUCKETS; b++) {
        uint32_t first = place;
        for (int part = 0; part < r->parts; part++) {
            uint32_t *at = bucket_places(r, part) + b, count = *at;
            *at = place;
            place += count;
        }
        if (place - first > largest) largest = place - first;
    }
    return largest <= r->n / 3;
}

static void buckets_deal(const void *task, int64_t begin, int64_t end, int thread) {
    const radix *r = task;
    const uint32_t *keys = r->keys;
    uint32_t *to = r->other_keys;
    (void)thread;
    for (int part = (int)begin; part < (int)end; part++) {
        uint32_t *places = bucket_places(r, part);
        int64_t last = part_start(r, part + 1);
        for (int64_t i = part_start(r, part); i < last; i++)
            to[places[keys[i] >> BUCKET_SHIFT]++] = keys[i];
    }
}

/* n words, at most BUCKET_NETWORK. */
static void bucket_by_network(uint32_t *keys, int64_t n) {
    _Alignas(64) int32_t block[BUCKET_NETWORK];
    int64_t size = words_SQUARE;
    while (size < n) size *= 2;
    for (int64_t i = 0; i < n; i++) block[i] = (int32_t)(keys[i] ^ UINT32_C(1) << 31);
    for (int64_t i = n; i < size; i++) block[i] = INT32_MAX;
    words_sort(block, 0, size, false);
    for (int64_t i = 0; i < n; i++) keys[i] = (uint32_t)block[i] ^ UINT32_C(1) << 31;
}

/* n words that differ below BUCKET_SHIFT alone; `other` is as much memory. */
static void bucket_by_digits(uint32_t *keys, uint32_t *other, int64_t n) {
    enum { LOW = 1 << BUCKET_LOW, HIGH = 1 << (BUCKET_SHIFT - BUCKET_LOW) };
    uint32_t low[LOW] = {0}, high[HIGH] = {0}, place = 0;
    for (int64_t i = 0; i < n; i++) {
        low[keys[i] & (LOW - 1)]++;
        high[keys[i] >> BUCKET_LOW & (HIGH - 1)]++;
    }
    for (int d = 0; d < LOW; d++) {
        uint32_t count = low[d];
        low[d] = place, place += count;
    }
    place = 0;
    for (int d = 0; d < HIGH; d++) {
        uint32_t count = high[d];
        high[d] = place, place += count;
    }
    for (int64_t i = 0; i < n; i++) other[low[keys[i] & (LOW - 1)]++] = keys[i];
    for (int64_t i = 0; i < n; i++) keys[high[other[i] >> BUCKET_LOW & (HIGH - 1)]++] = other[i];
}

/* The buckets that end in the share of a piece of the words; the last part's places are their ends. */
static void buckets_sort(const void *task, int64_t begin, int64_t end, int thread) {
    const radix *r = task;
    const uint32_t *ends = bucket_places(r, r->parts - 1);
    int64_t from = part_start(r, (int)begin), to = part_start(r, (int)end), start = 0;
    (void)thread;
    for (int b = 0; b < BUCKETS; start = ends[b], b++) {
        int64_t n = ends[b] - start;
        uint32_t *keys = (uint32_t *)r->keys + start, *other = (uint32_t *)r->other_keys + start;
        if (n < 2 || ends[b] <= from || ends[b] > to) continue;
        if (n <= BUCKET_NETWORK)
            bucket_by_network(keys, n);
        else
            bucket_by_digits(keys, other, n);
    }
}

/* Sorts words whose buckets are counted. False if the buckets are too unlike; nothing is moved then. */
static bool buckets_run(radix *r) {
    if (!buckets_place(r)) return false;
    fovea_share(r->parts, r->parts, buckets_deal, r);
    radix_swap(r);
    fovea_share(r->parts, r->parts, buckets_sort, r);
    return true;
}

#endif
