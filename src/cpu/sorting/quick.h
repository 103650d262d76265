/* Keys without a payload, parted by vectors (Hoare, Quicksort, 1962): the lanes that belong to a part are
 * compressed and stored where the part ends so far, two operations of one port for a part and vector.
 *
 * Four parts are made at a time, by three pivots, since beyond the first level of cache a pass over the
 * keys waits for its lines longer than it computes. The first part goes to where the sorted keys are to
 * stand, the others to three areas, which are stacks: the last part is sorted first, in the room that
 * the others leave. What is parted may stand where one of its parts goes, since no more is written
 * than was read. Leaves of at most two squares of keys are sorted by the network of bitonic.h, and leave it as
 * elements, so that no pass turns them.
 *
 * Pivots are order statistics of a sample. Where they part nothing (equal keys), or badly too often, the
 * middle of the range takes over, which ends after as many passes as a key has bits.
 *
 * Many keys are first dealt to buckets, block by block, each block in a cache, by splitters that all blocks
 * share; threads then take buckets, which fit a cache too. So all keys move through memory twice.
 *
 * Operations, for 16 words of 10^6: a pass by three pivots has 3 comparisons and 4 compressions of 2, all of one
 * port: 11 cycles, 12 measured in L1 and 15 in L2; six of them lead to leaves of 245 to 490. The network of 256
 * has 968 operations for two ports: 484 cycles, 540 measured; joining two adds 0.4 cycles a key, 0.45 measured. So
 * 10^6 words need 6.3 cycles each, 2.1 ms at 3 GHz, and take 3.4: leaves are not full (456 ns for 385 to 512 keys), passes
 * over L2 take 15 cycles, and branches that are not foreseen are the rest.
 *
 * 10^6 keys on a Xeon of 3 GHz, one thread, medians in turns: floats 3.4 ms, doubles 7.5; 3.5 and 7.9 where a pass does
 * not ask for what is 32 vectors ahead, and 3.6 if it asks for room ahead of its parts. With leaves of one square, of
 * which many are a little too large and parted once more, 4.0 and 9.0; of this, turning elements into keys and back in
 * passes of their own is 0.1 and 0.2. Leaves of at most 300, 360, 430 and 512 at the mean: 3.68, 3.59, 3.54, 3.55. Buckets
 * of digits (buckets.h) took 9.0, digits of 8 bits 29.7 for doubles. In the network of 256 keys transpositions to and
 * fro took 1.36 ns a key, interleaving 0.88, the maximum as an exclusive or 0.72. Blocks of 2^17 and 2^18 and 16
 * buckets differed by less than the noise. With AVX2 it was as fast as buckets, so that only AVX-512 has it. */
#ifndef FOVEA_CPU_SORTING_QUICK_H
#define FOVEA_CPU_SORTING_QUICK_H

#include "cpu/sorting/bitonic.h"
#include "cpu/sorting/keys.h"
#include "cpu/threads.h"

enum {
    QUICK_PARTS = 4,
    QUICK_SAMPLED = 4096,   /* keys of which a square is sampled, a quarter of one of fewer */
    QUICK_CACHED = 1 << 17, /* keys whose parts are sorted in a thread's areas */
    QUICK_BLOCK = 1 << 16,
    QUICK_BUCKETS = 256,
    QUICK_SAMPLES = 16, /* of a bucket */
    QUICK_AHEAD = 32    /* vectors that are asked for before they are parted */
};

FOVEA_INLINE vi words_load_n(const int32_t *p, size_t n, vi x) {
    return vi_select(vm_first(n), vi_load_n(p, n), x);
}
FOVEA_INLINE void words_store_n(int32_t *p, vi x, size_t n) { vi_store_n(p, x, n); }
FOVEA_INLINE vi words_set1(int32_t x) { return vi_set1(x); }
FOVEA_INLINE vm words_above(vi x, vi pivot) { return vi_gt(x, pivot); }
FOVEA_INLINE vm words_without(vm a, vm b) { return vm_without(a, b); }
FOVEA_INLINE vi words_keep(vi x, vm m) { return vi_keep(x, m); }
FOVEA_INLINE vm words_lanes_of(size_t n) { return vm_first(n); }
FOVEA_INLINE int words_count(vm m) { return __builtin_popcount(vm_bits(m)); }
FOVEA_INLINE vl longs_load_n(const int64_t *p, size_t n, vl x) { return vl_load_n(p, n, x); }
FOVEA_INLINE void longs_store_n(int64_t *p, vl x, size_t n) { vl_store_n(p, x, n); }
FOVEA_INLINE vl longs_set1(int64_t x) { return vl_set1(x); }
FOVEA_INLINE vlm longs_above(vl x, vl pivot) { return vl_gt(x, pivot); }
FOVEA_INLINE vlm longs_without(vlm a, vlm b) { return vlm_without(a, b); }
FOVEA_INLINE vl longs_keep(vl x, vlm m) { return vl_keep(x, m); }
FOVEA_INLINE vlm longs_lanes_of(size_t n) { return vlm_first(n); }
FOVEA_INLINE int longs_count(vlm m) { return __builtin_popcount(vlm_bits(m)); }

/* A row on its way: n keys of x from `first` on, to y. */
typedef struct quick_row {
    const fovea_view *x, *y;
    int64_t first, n;
    void *to; /* where they stand sorted: y's memory if it is dense, or scratch */
    bool dense;
    void *dealt, *spare;         /* as much memory, twice */
    void *areas;                 /* of each thread, QUICK_PARTS - 1 times `room` keys */
    int64_t room, block, blocks; /* keys of an area, of a block; blocks: 0 if there is no need */
    int buckets, threads;
    void *samples;                         /* in order, of each bucket as many */
    uint32_t (*places)[QUICK_BUCKETS + 1]; /* of buckets in a block, and their end */
    int64_t *starts;                       /* of buckets in the row, and their end */
} quick_row;

/* Keys in a row of the square, of n in all. */
FOVEA_INLINE size_t quick_lanes(int64_t n, int row, int width) {
    int64_t rest = n - (int64_t)row * width;
    return (size_t)(rest < 0 ? 0 : rest < width ? rest : width);
}

/* Whether two parts of n keys lead to fuller leaves than four: of more than a square, at best. */
static inline bool quick_halves(int64_t n, int64_t square) {
    int64_t leaf = 7 * square / 4;
    return n <= 2 * leaf || (n > 4 * leaf && n <= 8 * leaf);
}

/* Keys of type T in vectors V of W lanes, masked by M. */
#define QUICKSORT(D, T, V, M, W, bits)                                                                                  \
    typedef struct D##_areas {                                                                                          \
        T *top[QUICK_PARTS - 1], *spare; /* the last for what is too large for the others */                            \
        fovea_dtype dtype;               /* of the elements that sorted keys become */                                  \
    } D##_areas;                                                                                                        \
    static V##_turn D##_turn(fovea_dtype dtype) {                                                                       \
        return V##_turn_of(turn_##bits##_of(dtype, (uint##bits##_t)1 << (bits - 1)));                                   \
    }                                                                                                                   \
    /* Parts n keys, or elements with their turn, by ascending pivots, and adds to the parts at to[0], ... of so many \
     * keys. */ \
    FOVEA_INLINE void D##_part(const T *from, int64_t n, const V##_turn *turn, const T *pivots,                         \
                               int parts, T *const *to, int64_t *counts) {                                              \
        V pivot[QUICK_PARTS];                                                                                           \
        T *end[QUICK_PARTS];                                                                                            \
        VF_UNROLLED for (int q = 0; q < parts; q++) end[q] = to[q] + counts[q];                                         \
        VF_UNROLLED for (int q = 0; q + 1 < parts; q++) pivot[q] = D##_set1(pivots[q]);                                 \
        for (; n >= W; from += W, n -= W) {                                                                             \
            V x = D##_load((T *)(uintptr_t)from, 0);                                                                    \
            if (turn) x = V##_key(*turn, x);                                                                            \
            __builtin_prefetch(from + QUICK_AHEAD * W);                                                                 \
            M rest = D##_lanes_of(W);                                                                                   \
            int count = W;                                                                                              \
            VF_UNROLLED for (int q = 0; q + 1 < parts; q++) {                                                           \
                M above = D##_above(x, pivot[q]);                                                                       \
                int beyond = D##_count(above);                                                                          \
                D##_store(end[q], 0, D##_keep(x, D##_without(rest, above)));                                            \
                end[q] += count - beyond, count = beyond, rest = above;                                                 \
            }                                                                                                           \
            D##_store(end[parts - 1], 0, D##_keep(x, rest));                                                            \
            end[parts - 1] += count;                                                                                    \
        }                                                                                                               \
        V x = D##_load_n(from, (size_t)n, pivot[0]);                                                                    \
        if (turn) x = V##_key(*turn, x);                                                                                \
        M rest = D##_lanes_of((size_t)n);                                                                               \
        VF_UNROLLED for (int q = 0; q < parts; q++) {                                                                   \
            M here = q + 1 < parts ? D##_without(rest, D##_above(x, pivot[q])) : rest;                                  \
            D##_store_n(end[q], D##_keep(x, here), (size_t)D##_count(here));                                            \
            counts[q] = end[q] + D##_count(here) - to[q];                                                               \
            rest = D##_without(rest, here);                                                                             \
        }                                                                                                               \
    }                                                                                                                   \
    static void D##_part_two(const T *from, int64_t n, const T *pivots, T *const *to,                                   \
                             int64_t *counts) {                                                                         \
        D##_part(from, n, NULL, pivots, 2, to, counts);                                                                 \
    }                                                                                                                   \
    static void D##_part_four(const T *from, int64_t n, const T *pivots, T *const *to,                                  \
                              int64_t *counts) {                                                                        \
        D##_part(from, n, NULL, pivots, 4, to, counts);                                                                 \
    }                                                                                                                   \
    static void D##_part_elements(fovea_dtype dtype, const T *from, int64_t n, const T *pivots,                         \
                                  T *const *to, int64_t *counts) {                                                      \
        V##_turn turn = D##_turn(dtype);                                                                                \
        D##_part(from, n, &turn, pivots, 4, to, counts);                                                                \
    }                                                                                                                   \
    /* n keys, at most `lanes` in each of W vectors, into as many vectors; padding comes last. */                       \
    FOVEA_INLINE void D##_network(const T *from, int64_t n, V *x, int lanes) {                                          \
        const V most = D##_set1(INT##bits##_MAX);                                                                       \
        VF_UNROLLED for (int i = 0; i < W; i++) x[i] =                                                                  \
            D##_load_n(from + i * lanes, quick_lanes(n, i, lanes), most);                                               \
        D##_sort_lanes(x, lanes, false);                                                                                \
    }                                                                                                                   \
    /* At most a square, as elements. */                                                                                \
    FOVEA_INLINE void D##_finish(const T *from, int64_t n, T *to, fovea_dtype dtype, int lanes) {                       \
        const V##_turn turn = D##_turn(dtype);                                                                          \
        V x[W];                                                                                                         \
        D##_network(from, n, x, lanes);                                                                                 \
        VF_UNROLLED for (int i = 0; i < lanes; i++)                                                                     \
            D##_store_n(to + i * W, V##_element(turn, x[i]), quick_lanes(n, i, W));                                     \
    }                                                                                                                   \
    static void D##_sorted_square(const T *from, T *to) {                                                               \
        V x[W];                                                                                                         \
        D##_network(from, W *W, x, W);                                                                                  \
        VF_UNROLLED for (int i = 0; i < W; i++) D##_store(to, i *W, x[i]);                                              \
    }                                                                                                                   \
    /* A sorted square and n keys after it, at most `lanes` in each of W vectors, are merged: in the first stage the \
     * upper ends change places, so that both are bitonic. What comes after the square is padded. */  \
    FOVEA_INLINE void D##_finish_two(T *square, const T *from, int64_t n, T *to,                                        \
                                     fovea_dtype dtype, int lanes) {                                                    \
        const V##_turn turn = D##_turn(dtype);                                                                          \
        V x[W], high[W];                                                                                                \
        D##_network(from, n, high, lanes);                                                                              \
        VF_UNROLLED for (int i = 0; i < lanes; i++) {                                                                   \
            V low = D##_load(square, (W - 1 - i) * W);                                                                  \
            high[i] = D##_reverse(high[i]);                                                                             \
            D##_exchange(&low, &high[i]);                                                                               \
            D##_store(square, (W - 1 - i) * W, low);                                                                    \
        }                                                                                                               \
        VF_UNROLLED for (int i = 0; i < lanes; i++) x[i] = high[lanes - 1 - i];                                         \
        D##_grow(x, lanes, lanes, false);                                                                               \
        VF_UNROLLED for (int i = 0; i < lanes; i++)                                                                     \
            D##_store_n(to + (W + i) * W, V##_element(turn, x[i]), quick_lanes(n, i, W));                               \
        VF_UNROLLED for (int i = 0; i < W; i++) x[i] = D##_load(square, i * W);                                         \
        D##_grow(x, W, W, false);                                                                                       \
        VF_UNROLLED for (int i = 0; i < W; i++) D##_store(to, i *W, V##_element(turn, x[i]));                           \
    }                                                                                                                   \
    /* At most two squares, to where they are to stand, as elements. Fewer lanes take less time. */                     \
    static void D##_leaf(const T *from, int64_t n, T *to, fovea_dtype dtype) {                                          \
        _Alignas(64) T square[W * W];                                                                                   \
        int64_t more = n - W * W;                                                                                       \
        if (more > 0) D##_sorted_square(from, square);                                                                  \
        if (more > W * W / 2)                                                                                           \
            D##_finish_two(square, from + W * W, more, to, dtype, W);                                                   \
        else if (more > W * W / 4)                                                                                      \
            D##_finish_two(square, from + W * W, more, to, dtype, W / 2);                                               \
        else if (more > 0)                                                                                              \
            D##_finish_two(square, from + W * W, more, to, dtype, W / 4);                                               \
        else if (n > W * W / 2)                                                                                         \
            D##_finish(from, n, to, dtype, W);                                                                          \
        else if (n > W * W / 4)                                                                                         \
            D##_finish(from, n, to, dtype, W / 2);                                                                      \
        else                                                                                                            \
            D##_finish(from, n, to, dtype, W / 4);                                                                      \
    }                                                                                                                   \
    /* Quarters, about, of n keys: those of a sample of W * lanes. */                                                   \
    FOVEA_INLINE void D##_sampled(const T *keys, int64_t n, T *pivots, int lanes) {                                     \
        const V any = D##_set1(0);                                                                                      \
        V x[W];                                                                                                         \
        T sorted[W * W];                                                                                                \
        VF_UNROLLED for (int i = 0; i < W; i++) x[i] =                                                                  \
            D##_load_n(keys + n / W * i, (size_t)lanes, any);                                                           \
        D##_sort_lanes(x, lanes, false);                                                                                \
        VF_UNROLLED for (int i = 0; i < lanes; i++) D##_store(sorted, i *W, x[i]);                                      \
        for (int q = 1; q < QUICK_PARTS; q++) pivots[q - 1] = sorted[q * W * lanes / QUICK_PARTS];                      \
    }                                                                                                                   \
    static void D##_pivots(const T *keys, int64_t n, T *pivots) {                                                       \
        if (n >= QUICK_SAMPLED)                                                                                         \
            D##_sampled(keys, n, pivots, W);                                                                            \
        else                                                                                                            \
            D##_sampled(keys, n, pivots, W / 4);                                                                        \
    }                                                                                                                   \
    /* The middle of the range of n keys; false if they are equal. */                                                   \
    static bool D##_middle(const T *keys, int64_t n, T *middle) {                                                       \
        T least = keys[0], most = keys[0];                                                                              \
        for (int64_t i = 1; i < n; i++) {                                                                               \
            least = keys[i] < least ? keys[i] : least;                                                                  \
            most = keys[i] > most ? keys[i] : most;                                                                     \
        }                                                                                                               \
        *middle = (T)(least + (T)(((uint##bits##_t)most - (uint##bits##_t)least) >> 1));                                \
        return least != most;                                                                                           \
    }                                                                                                                   \
    static void D##_quick(const T *from, T *to, int64_t n, D##_areas areas, int tries);                                 \
    /* Sorts the second and later parts to where they end, before `end`. */                                             \
    static void D##_quick_later(T *const *parts, const int64_t *sizes, T *end, D##_areas areas,                         \
                                int tries) {                                                                            \
        for (int q = QUICK_PARTS - 1; q > 0; q--) {                                                                     \
            D##_areas left = areas;                                                                                     \
            for (int i = 1; i < q; i++) left.top[i - 1] += sizes[i];                                                    \
            end -= sizes[q];                                                                                            \
            D##_quick(parts[q], end, sizes[q], left, tries);                                                            \
        }                                                                                                               \
    }                                                                                                                   \
    /* n keys, which stand at `to`, at the top of an area, or elsewhere; `tries` passes by samples. */                  \
    static void D##_quick(const T *from, T *to, int64_t n, D##_areas areas, int tries) {                                \
        while (n > 2 * D##_SQUARE) {                                                                                    \
            T pivots[QUICK_PARTS - 1];                                                                                  \
            bool large = n > QUICK_CACHED;                                                                              \
            T *parts[] = {to, large ? areas.spare : areas.top[0], areas.top[1], areas.top[2]};                          \
            int64_t sizes[QUICK_PARTS] = {0};                                                                           \
            if (tries > 0)                                                                                              \
                D##_pivots(from, n, pivots);                                                                            \
            else if (!D##_middle(from, n, &pivots[1]))                                                                  \
                break;                                                                                                  \
            if (large || quick_halves(n, D##_SQUARE) || tries <= 0)                                                     \
                D##_part_two(from, n, &pivots[1], parts, sizes);                                                        \
            else                                                                                                        \
                D##_part_four(from, n, pivots, parts, sizes);                                                           \
            tries = sizes[0] == n ? 0 : tries - 1;                                                                      \
            D##_quick_later(parts, sizes, to + n, areas, tries);                                                        \
            from = to, n = sizes[0];                                                                                    \
        }                                                                                                               \
        if (n <= 2 * D##_SQUARE)                                                                                        \
            D##_leaf(from, n, to, areas.dtype);                                                                         \
        else                                                                                                            \
            keys_to_##bits(areas.dtype, (const uint##bits##_t *)from, to, n,                                            \
                           (uint##bits##_t)1 << (bits - 1));                                                            \
    }                                                                                                                   \
    static D##_areas D##_areas_of(const quick_row *r, int thread, int64_t spare) {                                      \
        T *room = (T *)r->areas + (int64_t)thread * (QUICK_PARTS - 1) * r->room;                                        \
        return (D##_areas){.top = {room, room + r->room, room + 2 * r->room},                                           \
                           .spare = (T *)r->spare + spare,                                                              \
                           .dtype = r->y->dtype};                                                                       \
    }                                                                                                                   \
    static void D##_quarters(const T *samples, int span, T *pivots) {                                                   \
        for (int q = 1; q < QUICK_PARTS; q++) pivots[q - 1] = samples[q * span / QUICK_PARTS];                          \
    }                                                                                                                   \
    /* Four parts, of which the first stands where all are to stand, dealt on to the buckets of a span \
     * of samples. */                \
    static void D##_spread(T *const *parts, const int64_t *sizes, D##_areas areas,                                      \
                           const T *samples, int span, uint32_t *buckets) {                                             \
        T *to = parts[0] + sizes[0] + sizes[1] + sizes[2] + sizes[3];                                                   \
        int each = span / QUICK_PARTS, several = each / QUICK_SAMPLES;                                                  \
        for (int q = QUICK_PARTS - 1; q >= 0; q--) {                                                                    \
            D##_areas left = areas;                                                                                     \
            for (int i = 1; i < q; i++) left.top[i - 1] += sizes[i];                                                    \
            to -= sizes[q];                                                                                             \
            if (several == 1) {                                                                                         \
                if (q > 0) memcpy(to, parts[q], (size_t)sizes[q] * sizeof *to);                                         \
                buckets[q] = (uint32_t)sizes[q];                                                                        \
                continue;                                                                                               \
            }                                                                                                           \
            T pivots[QUICK_PARTS - 1], *into[] = {to, left.top[0], left.top[1], left.top[2]};                           \
            int64_t counts[QUICK_PARTS] = {0};                                                                          \
            D##_quarters(samples + q * each, each, pivots);                                                             \
            D##_part_four(parts[q], sizes[q], pivots, into, counts);                                                    \
            D##_spread(into, counts, left, samples + q * each, each, buckets + q * several);                            \
        }                                                                                                               \
    }                                                                                                                   \
    static void D##_deal_blocks(const void *task, int64_t begin, int64_t end, int thread) {                             \
        const quick_row *r = task;                                                                                      \
        const int span = r->buckets * QUICK_SAMPLES;                                                                    \
        D##_areas areas = D##_areas_of(r, thread, 0);                                                                   \
        T pivots[QUICK_PARTS - 1];                                                                                      \
        D##_quarters(r->samples, span, pivots);                                                                         \
        for (int64_t b = begin; b < end; b++) {                                                                         \
            int64_t i = b * r->block, last = smaller(i + r->block, r->n),                                               \
                    counts[QUICK_PARTS] = {0};                                                                          \
            T *into[] = {(T *)r->dealt + i, areas.top[0], areas.top[1], areas.top[2]};                                  \
            uint32_t place = 0, *places = r->places[b];                                                                 \
            const T *x = dense_place(r->x, r->first + i, last - i);                                                     \
            if (x) D##_part_elements(r->x->dtype, x, last - i, pivots, into, counts);                                   \
            for (int64_t n; i < last && !x; i += n) {                                                                   \
                T block[TURN_BLOCK];                                                                                    \
                n = smaller(TURN_BLOCK, last - i);                                                                      \
                dense_read(r->x, r->first + i, n, block);                                                               \
                D##_part_elements(r->x->dtype, block, n, pivots, into, counts);                                         \
            }                                                                                                           \
            D##_spread(into, counts, areas, r->samples, span, places);                                                  \
            for (int d = 0; d <= r->buckets; d++) {                                                                     \
                uint32_t size = d < r->buckets ? places[d] : 0;                                                         \
                places[d] = place, place += size;                                                                       \
            }                                                                                                           \
        }                                                                                                               \
    }                                                                                                                   \
    /* Sorted elements, if they were not sorted in y's memory. */                                                       \
    static void D##_write(const quick_row *r, int64_t start, int64_t n) {                                               \
        if (!r->dense) dense_write(r->y, r->first + start, n, (const T *)r->to + start);                                \
    }                                                                                                                   \
    /* A bucket is parted from its pieces in the blocks, by its samples; if large it is brought \
     * together first. */                       \
    static void D##_sort_bucket(const quick_row *r, int d, D##_areas areas) {                                           \
        int64_t n = r->starts[d + 1] - r->starts[d], sizes[QUICK_PARTS] = {0};                                          \
        bool large = n > QUICK_CACHED;                                                                                  \
        T *to = (T *)r->to + r->starts[d], pivots[QUICK_PARTS - 1];                                                     \
        T *parts[] = {to, areas.top[0], areas.top[1], areas.top[2]};                                                    \
        D##_quarters((T *)r->samples + d * QUICK_SAMPLES, QUICK_SAMPLES, pivots);                                       \
        for (int64_t b = 0; b < r->blocks; b++) {                                                                       \
            const uint32_t *places = r->places[b];                                                                      \
            const T *piece = (const T *)r->dealt + b * r->block + places[d];                                            \
            int64_t count = places[d + 1] - places[d];                                                                  \
            if (large)                                                                                                  \
                memcpy(to + sizes[0], piece, (size_t)count * sizeof *to), sizes[0] += count;                            \
            else                                                                                                        \
                D##_part_four(piece, count, pivots, parts, sizes);                                                      \
        }                                                                                                               \
        D##_quick_later(parts, sizes, to + n, areas, 2 * bits);                                                         \
        D##_quick(to, to, sizes[0], areas, 2 * bits);                                                                   \
        D##_write(r, r->starts[d], n);                                                                                  \
    }                                                                                                                   \
    /* The buckets that end in the share of a piece. */                                                                 \
    static void D##_sort_buckets(const void *task, int64_t begin, int64_t end, int thread) {                            \
        const quick_row *r = task;                                                                                      \
        int64_t from = r->n * begin / r->threads, to = r->n * end / r->threads;                                         \
        for (int d = 0; d < r->buckets; d++)                                                                            \
            if (r->starts[d + 1] > from && r->starts[d + 1] <= to &&                                                    \
                r->starts[d + 1] > r->starts[d])                                                                        \
                D##_sort_bucket(r, d, D##_areas_of(r, thread, r->starts[d]));                                           \
    }                                                                                                                   \
    static void D##_sample(const quick_row *r) {                                                                        \
        int64_t span = (int64_t)r->buckets * QUICK_SAMPLES;                                                             \
        for (int64_t i = 0; i < span; i++)                                                                              \
            keys_read_##bits(r->x, r->first + (2 * i + 1) * r->n / (2 * span), 1,                                       \
                             (uint##bits##_t *)r->samples + i, (uint##bits##_t)1 << (bits - 1));                        \
        D##_sort(r->samples, 0, span, false);                                                                           \
    }                                                                                                                   \
    static void D##_sort_row(quick_row *r) {                                                                            \
        if (r->blocks == 0) {                                                                                           \
            keys_read_##bits(r->x, r->first, r->n, r->to, (uint##bits##_t)1 << (bits - 1));                             \
            D##_quick(r->to, r->to, r->n, D##_areas_of(r, 0, 0), 2 * bits);                                             \
            D##_write(r, 0, r->n);                                                                                      \
            return;                                                                                                     \
        }                                                                                                               \
        D##_sample(r);                                                                                                  \
        fovea_share(r->blocks, r->threads, D##_deal_blocks, r);                                                         \
        r->starts[0] = 0;                                                                                               \
        for (int d = 0; d < r->buckets; d++) {                                                                          \
            r->starts[d + 1] = r->starts[d];                                                                            \
            for (int64_t b = 0; b < r->blocks; b++)                                                                     \
                r->starts[d + 1] += r->places[b][d + 1] - r->places[b][d];                                              \
        }                                                                                                               \
        fovea_share(r->threads, r->threads, D##_sort_buckets, r);                                                       \
    }

QUICKSORT(words, int32_t, vi, vm, VF_WIDTH, 32)
QUICKSORT(longs, int64_t, vl, vlm, VD_WIDTH, 64)

/* Blocks, as many for each thread; none if the row is one. */
static int64_t quick_blocks(int64_t n, int threads) {
    if (n <= (threads > 1 ? QUICK_BLOCK / 4 : QUICK_CACHED)) return 0;
    return threads * ((n + threads * QUICK_BLOCK - 1) / (threads * QUICK_BLOCK));
}
static size_t quick_aligned(int64_t bytes) { return ((size_t)bytes + 63) & ~(size_t)63; }

/* The next so many bytes of scratch memory; NULL if they are but counted. */
static void *quick_take(char *scratch, size_t *at, int64_t bytes) {
    void *place = scratch ? scratch + *at : NULL;
    *at += quick_aligned(bytes);
    return place;
}

/* Lays a row of n keys out in scratch memory, if there is any yet; how much it takes. */
static size_t quick_lay_out(quick_row *r, int64_t key_bytes, char *scratch) {
    size_t at = 0;
    int64_t keys = r->n * key_bytes;
    r->room = smaller(r->n, QUICK_CACHED) + 64;
    r->blocks = quick_blocks(r->n, r->threads);
    r->block = r->blocks ? (r->n + r->blocks - 1) / r->blocks : 0;
    r->buckets = r->n < 1 << 18 ? 16 : r->n < 1 << 23 ? 64 : QUICK_BUCKETS;
    r->areas = quick_take(scratch, &at, r->threads * (QUICK_PARTS - 1) * r->room * key_bytes);
    if (!r->dense) r->to = quick_take(scratch, &at, keys);
    if (!r->blocks) return at;
    r->dealt = quick_take(scratch, &at, keys);
    r->spare = quick_take(scratch, &at, keys);
    r->samples = quick_take(scratch, &at, r->buckets * QUICK_SAMPLES * key_bytes);
    r->starts = quick_take(scratch, &at, (r->buckets + 1) * (int64_t)sizeof *r->starts);
    r->places = quick_take(scratch, &at, r->blocks * (int64_t)sizeof *r->places);
    return at;
}

#endif
