/* What a pass over memory asks for before it comes to it. */
#ifndef FOVEA_CPU_FETCH_H
#define FOVEA_CPU_FETCH_H

#include "cpu/kernel.h"

/* What is 4 KiB ahead to the second level, and what is 1 KiB ahead from there to the first: a line that comes
 * from memory to the first level holds one of its few buffers for as long as that takes, and processors fetch by
 * themselves only within a page. Two cores of a Xeon, a loop of exponentials of 10^7 floats, which reading takes 1.27
 * ms: 1.68 with one hint for the first level 2 KiB ahead, 1.49 with one for the second 4 KiB ahead, 1.39 with both.
 * With the second hint 512 bytes ahead loss_kl_div takes 3.38 ms and with 1 KiB 3.22, group_norm 2.40 and 2.33; relu,
 * tanh and layer_norm are the same within 1 %, as all are with 6 and 2, 8 and 1, or 16 and 1 KiB.
 *
 * AMD's do better without those for the first level (`near`). Two cores of a Zen 4, libraries in turns in one process, both
 * hints and that for the second level alone, microseconds: reduce_max of 10^6 31 and 26, of 10^7 668 and 594; map_add of 10^6 73
 * and 66, mse 66 and 60, abs 48 and 46. Sums, whose one hint goes to the second level then, of 10^7 from memory 1239 and 1139, in
 * another minute 1082 and 890, but of 10^5 3.0 and 3.5. Losses, layer_norm and maps of 10^7 from memory are the same within 2 %.
 * Without hints reduce_max takes 25 and 459, but softmax of 10^7 2313 for 1837. 8 KiB ahead layer_norm takes 5 % longer.
 *
 * Arithmetic does not hide behind memory whole on this machine. A loop of this form that only reads takes 4.7 ns a line
 * and thread; with 14 multiply-adds a line, 3.8 ns by themselves, it takes 5.4 to 5.8. Where it also writes past the caches
 * it takes 5.9 ns, with 14 multiply-adds 6.6, with 20 (5.0 ns) 7.2: 82 % of what memory allows is the limit there. */
/* Of `bytes` from p + byte on, a constant: one branch for all their lines. */
#define FETCH(ahead, level)                                                                        \
    VF_UNROLLED for (int64_t line = 0; line < bytes; line += LINE_BYTES)                           \
        __builtin_prefetch((const char *)p + byte + (ahead) + line, 0, level)
FOVEA_INLINE void fetch_ahead(bool near, const void *p, int64_t byte, const int64_t bytes) {
    if (VF_WIDTH == 1) return;
    FETCH(4096, 2);
    if (near) {
        FETCH(1024, 3);
    }
}

/* The same where eight lines or two streams are on their way at once: two cores of a Zen 5, 10^7 floats with a mask of
 * bytes, 1.69 and 0.98 ms, of 0.90 that reading takes. */
FOVEA_INLINE void fetch_for_many(bool near, const void *p, int64_t byte, const int64_t bytes) {
    if (VF_WIDTH == 1) return;
    if (near) {
        FETCH(4096, 3);
    } else {
        FETCH(4096, 2);
    }
}
#undef FETCH

/* What is 1 KiB ahead, to be written, where `near` gains: lines come late to stores that miss the first level. Two cores of a
 * Xeon, abs, microseconds without and with: 10^5 floats 8.6 and 6.5, 2.6 10^5 23.6 and 15.4, 5 10^5 52 and 42, from 10^6 on the same;
 * 512 bytes and 2 KiB ahead are no better, and to fetch what is read as well is worse (8.1, 19.7, 48). Past the caches
 * 10^6 take 115 in place of 150, but where they are read next 337 in place of 161. */
FOVEA_INLINE void fetch_to_write(const void *p, int64_t byte) {
    if (VF_WIDTH > 1) __builtin_prefetch((const char *)p + byte + 1024, 1, 3);
}

#endif
