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
 * Two cores of a Zen 4: a bare loop that adds 4 MB takes 21 microseconds without hints and 31 with both, of 40 MB cold 1385
 * and 1303, with that of the second level alone 26 and 1269; but 21 kernels of 10^6 and 10^7, without those for the first
 * level, are 0.9 to 1.1 times as fast, within the noise of that machine. So hints are the same everywhere.
 *
 * Arithmetic does not hide behind memory whole on this machine. A loop of this form that only reads takes 4.7 ns a line
 * and thread; with 14 multiply-adds a line, 3.8 ns by themselves, it takes 5.4 to 5.8. Where it also writes past the caches
 * it takes 5.9 ns, with 14 multiply-adds 6.6, with 20 (5.0 ns) 7.2: 82 % of what memory allows is the limit there. */
FOVEA_INLINE void fetch_ahead(const void *p, int64_t byte) {
    if (VF_WIDTH == 1) return;
    __builtin_prefetch((const char *)p + byte + 4096, 0, 2);
    __builtin_prefetch((const char *)p + byte + 1024, 0, 3);
}

/* What is 1 KiB ahead, to be written: lines come late to stores that miss the first level. Two cores of a Xeon, abs,
 * microseconds without and with: 10^5 floats 8.6 and 6.5, 2.6 10^5 23.6 and 15.4, 5 10^5 52 and 42, from 10^6 on the same;
 * 512 bytes and 2 KiB ahead are no better, and to fetch what is read as well is worse (8.1, 19.7, 48). Past the caches
 * 10^6 take 115 in place of 150, but where they are read next 337 in place of 161. */
FOVEA_INLINE void fetch_to_write(const void *p, int64_t byte) {
    if (VF_WIDTH > 1) __builtin_prefetch((const char *)p + byte + 1024, 1, 3);
}

#endif
