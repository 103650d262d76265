/* The vocabulary of tiles: AMX's eight registers of at most 16 rows of 64 bytes.
 *
 * Tiles are named by literals 0 to 7. Shapes come from amx_configure and hold until amx_release, for
 * this thread; configured and released costs about 100 cycles, so it belongs around an item of work.
 *
 *   amx_configure(c)                the shapes; all tiles become zero
 *   amx_release()                   tiles are of no more use; the system need not save them
 *   amx_zero(t)
 *   amx_load(t, p, stride)          row r from p + r * stride bytes
 *   amx_stream_load(t, p, stride)   the same, with the hint that the lines are not needed again
 *   amx_store(t, p, stride)
 *   amx_bf16(c, a, b)               c[m][n] += sum over k of a[m][2k] b[k][2n] + a[m][2k+1] b[k][2n+1]
 *   amx_s8s8(c, a, b)               the same with quadruples of int8 into int32 (which wraps);
 *   amx_u8s8(c, a, b)               a is unsigned
 *   amx_s8u8(c, a, b)               b is unsigned
 *
 * So the second factor lies in memory with 2 (or 4) neighbours of the inner dimension side by side:
 * row k holds b[2k][n], b[2k + 1][n] for n = 0, 1, ...
 *
 * With FOVEA_EMULATE_AMX the tiles are memory and the products loops in C that give the bits of the
 * instructions (Intel SDM 2, TDPBF16PS: two chains of fused multiply-adds, over the even and over the
 * odd elements, both from 0; their sum is added to c; all roundings to nearest even, subnormals are
 * taken and given as 0).
 */
#ifndef FOVEA_CPU_SIMD_AMX_H
#define FOVEA_CPU_SIMD_AMX_H

#include <stdint.h>

enum { AMX_TILES = 8, AMX_ROWS = 16, AMX_ROW_BYTES = 64, AMX_TILE_BYTES = 1024 };

/* What LDTILECFG reads. */
typedef struct amx_configuration {
    uint8_t palette; /* 1 */
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16]; /* of each tile: at most 64, a multiple of 4 */
    uint8_t rows[16];       /* at most 16 */
} amx_configuration;
_Static_assert(sizeof(amx_configuration) == 64, "LDTILECFG reads 64 bytes");

/* All eight tiles whole. */
static inline amx_configuration amx_whole_tiles(void) {
    amx_configuration whole = {.palette = 1};
    for (int t = 0; t < AMX_TILES; t++)
        whole.row_bytes[t] = AMX_ROW_BYTES, whole.rows[t] = AMX_ROWS;
    return whole;
}

#ifdef FOVEA_EMULATE_AMX
    #include "amx_emulated.h"
#else
    /* Written out rather than by intrinsics: those of gcc 12 do not say that a load reads memory, so
     * that stores before it may be moved behind it. An array without a length says it to gcc; clang
     * wants one, so it is told that all memory counts. */
    #ifdef __clang__
        #define AMX_READS(p) : "memory"
        #define AMX_WRITES(p)
        #define AMX_WRITTEN : "memory"
    #else
        #define AMX_READS(p) , "m"(*(const char(*)[])(p))
        #define AMX_WRITES(p) "=m"(*(char(*)[])(p))
        #define AMX_WRITTEN
    #endif

static inline void amx_configure(const amx_configuration *c) {
    __asm__ volatile("ldtilecfg %0" : : "m"(*c));
}
static inline void amx_release(void) { __asm__ volatile("tilerelease"); }

    #define amx_zero(t) __asm__ volatile("tilezero %%tmm%c0" : : "i"(t))
    #define AMX_LOAD(instruction, t, p, stride)                                                    \
        __asm__ volatile(                                                                          \
            instruction " (%[from],%[step],1), %%tmm%c[tile]"                                      \
            :                                                                                      \
            : [tile] "i"(t), [from] "r"(p), [step] "r"((int64_t)(stride))AMX_READS(p))
    #define amx_load(t, p, stride) AMX_LOAD("tileloadd", t, p, stride)
    #define amx_stream_load(t, p, stride) AMX_LOAD("tileloaddt1", t, p, stride)
    #define amx_store(t, p, stride)                                                                \
        __asm__ volatile("tilestored %%tmm%c[tile], (%[to],%[step],1)"                             \
                         : AMX_WRITES(p)                                                           \
                         : [tile] "i"(t), [to] "r"(p), [step] "r"((int64_t)(stride))AMX_WRITTEN)
    #define AMX_PRODUCT(instruction, c, a, b)                                                      \
        __asm__ volatile(instruction " %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(c), "i"(a), "i"(b))
    #define amx_bf16(c, a, b) AMX_PRODUCT("tdpbf16ps", c, a, b)
    #define amx_s8s8(c, a, b) AMX_PRODUCT("tdpbssd", c, a, b)
    #define amx_u8s8(c, a, b) AMX_PRODUCT("tdpbusd", c, a, b)
    #define amx_s8u8(c, a, b) AMX_PRODUCT("tdpbsud", c, a, b)
#endif

#endif
