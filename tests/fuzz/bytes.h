/* The fuzzer's bytes, taken one after another; past their end come zeros. And what must hold. */
#ifndef FOVEA_TESTS_FUZZ_BYTES_H
#define FOVEA_TESTS_FUZZ_BYTES_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bytes {
    const uint8_t *at, *end;
} bytes;

static inline uint8_t next_byte(bytes *b) { return b->at < b->end ? *b->at++ : 0; }

static inline uint64_t next_word(bytes *b) {
    uint64_t word = 0;
    for (int i = 0; i < 8; i++) word = word << 8 | next_byte(b);
    return word;
}

/* One of `count`. */
static inline int next_choice(bytes *b, int count) { return count > 0 ? next_byte(b) % count : 0; }

/* Numbers at which something changes, and any others. */
static inline double next_real(bytes *b) {
    static const double edges[] = {0,    -0.0, 1,     -1,    0.5,  1e-30,    1e30,      1e-5,
                                   -0.5, 2,    0.999, 65504, 1e38, INFINITY, -INFINITY, NAN};
    int which = next_choice(b, 20);
    double any;
    if (which < 16) return edges[which];
    uint64_t word = next_word(b);
    memcpy(&any, &word, sizeof any);
    return any;
}

static inline int64_t next_integer(bytes *b) {
    static const int64_t edges[] = {0,         1,         -1,        2,         INT64_MAX,
                                    INT64_MIN, INT32_MAX, 1LL << 32, 1LL << 40, -(1 << 20)};
    int which = next_choice(b, 16);
    return which < 10 ? edges[which] : which < 14 ? next_byte(b) : (int64_t)next_word(b);
}

static inline void must(bool condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "%s\n", what);
    abort();
}

#endif
