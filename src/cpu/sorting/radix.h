/* Least significant digit first, 8 bits a digit, with or without a payload of 32 or 64 bits: stable, and
 * as fast whatever the data. A pass counts the digits of each part of the row, which tells where each part
 * puts its elements of each digit, and puts them there; a digit that all elements share costs the count
 * alone. Parts are as many as threads: the order does not depend on them. */
#ifndef FOVEA_CPU_SORTING_RADIX_H
#define FOVEA_CPU_SORTING_RADIX_H

#include "cpu/kernel.h"
#include "cpu/threads.h"

enum { DIGITS = 256, PARTS_MAX = 64, SHORT_ROW = 40 };

/* Keys of 4 or 8 bytes and payloads of 0, 4 or 8, each with as much memory beside it. After the sort
 * they stand where `keys` and `payload` point then. */
typedef struct radix {
    void *keys, *other_keys, *payload, *other_payload;
    int64_t n;
    int parts, shift;
    int64_t (*places)[DIGITS]; /* by part: counts, then where the next element of a digit goes */
} radix;

static int64_t part_start(const radix *r, int part) { return r->n * part / r->parts; }

#define RADIX(name, key_type, payload_type, has_payload)                                           \
    static void name##_count(const void *task, int64_t begin, int64_t end, int thread) {           \
        const radix *r = task;                                                                     \
        const key_type *keys = r->keys;                                                            \
        (void)thread;                                                                              \
        for (int part = (int)begin; part < (int)end; part++) {                                     \
            int64_t counts[2][DIGITS] = {0}, i = part_start(r, part);                              \
            int64_t last = part_start(r, part + 1);                                                \
            for (; i + 2 <= last; i += 2) {                                                        \
                counts[0][keys[i] >> r->shift & 255]++;                                            \
                counts[1][keys[i + 1] >> r->shift & 255]++;                                        \
            }                                                                                      \
            if (i < last) counts[0][keys[i] >> r->shift & 255]++;                                  \
            for (int d = 0; d < DIGITS; d++) r->places[part][d] = counts[0][d] + counts[1][d];     \
        }                                                                                          \
    }                                                                                              \
    static void name##_scatter(const void *task, int64_t begin, int64_t end, int thread) {         \
        const radix *r = task;                                                                     \
        const key_type *keys = r->keys;                                                            \
        const payload_type *payload = r->payload;                                                  \
        key_type *to = r->other_keys;                                                              \
        payload_type *payload_to = r->other_payload;                                               \
        (void)thread, (void)payload, (void)payload_to;                                             \
        for (int part = (int)begin; part < (int)end; part++) {                                     \
            int64_t places[DIGITS], last = part_start(r, part + 1);                                \
            memcpy(places, r->places[part], sizeof places);                                        \
            for (int64_t i = part_start(r, part); i < last; i++) {                                 \
                key_type key = keys[i];                                                            \
                int64_t place = places[key >> r->shift & 255]++;                                   \
                to[place] = key;                                                                   \
                if (has_payload) payload_to[place] = payload[i];                                   \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    static void name##_insert(radix *r) {                                                          \
        key_type *keys = r->keys;                                                                  \
        payload_type *payload = r->payload;                                                        \
        (void)payload;                                                                             \
        for (int64_t i = 1; i < r->n; i++) {                                                       \
            key_type key = keys[i];                                                                \
            payload_type carried = has_payload ? payload[i] : 0;                                   \
            int64_t place = i;                                                                     \
            for (; place > 0 && keys[place - 1] > key; place--) {                                  \
                keys[place] = keys[place - 1];                                                     \
                if (has_payload) payload[place] = payload[place - 1];                              \
            }                                                                                      \
            keys[place] = key;                                                                     \
            if (has_payload) payload[place] = carried;                                             \
        }                                                                                          \
    }                                                                                              \
    static void name(radix *r) {                                                                   \
        if (r->n <= SHORT_ROW) {                                                                   \
            name##_insert(r);                                                                      \
            return;                                                                                \
        }                                                                                          \
        for (r->shift = 0; r->shift < (int)sizeof(key_type) * 8; r->shift += 8) {                  \
            fovea_share(r->parts, r->parts, name##_count, r);                                      \
            if (!radix_places(r)) continue;                                                        \
            fovea_share(r->parts, r->parts, name##_scatter, r);                                    \
            radix_swap(r);                                                                         \
        }                                                                                          \
    }

/* Counts become places. False if all elements have one digit. */
static bool radix_places(radix *r) {
    int64_t place = 0, largest = 0;
    for (int d = 0; d < DIGITS; d++) {
        int64_t first = place;
        for (int part = 0; part < r->parts; part++) {
            int64_t count = r->places[part][d];
            r->places[part][d] = place;
            place += count;
        }
        largest = larger(largest, place - first);
    }
    return largest < r->n;
}

static void radix_swap(radix *r) {
    void *keys = r->keys, *payload = r->payload;
    r->keys = r->other_keys, r->other_keys = keys;
    r->payload = r->other_payload, r->other_payload = payload;
}

RADIX(radix_words, uint32_t, uint32_t, false)
RADIX(radix_words_with_word, uint32_t, uint32_t, true)
RADIX(radix_words_with_long, uint32_t, uint64_t, true)
RADIX(radix_longs, uint64_t, uint32_t, false)
RADIX(radix_longs_with_word, uint64_t, uint32_t, true)
RADIX(radix_longs_with_long, uint64_t, uint64_t, true)

/* By the bytes of a key and of a payload. */
static inline void radix_sort(radix *r, int64_t key_bytes, int64_t payload_bytes) {
    static void (*const sorts[2][3])(radix *) = {
        {radix_words, radix_words_with_word, radix_words_with_long},
        {radix_longs, radix_longs_with_word, radix_longs_with_long}};
    sorts[key_bytes == 8][payload_bytes / 4](r);
}

#endif
