/* The tiles of amx.h in portable C, for machines without them: included by amx.h alone. */
#ifndef FOVEA_CPU_SIMD_AMX_EMULATED_H
#define FOVEA_CPU_SIMD_AMX_EMULATED_H

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

typedef union amx_tile {
    uint8_t u8[AMX_ROWS][AMX_ROW_BYTES];
    int8_t s8[AMX_ROWS][AMX_ROW_BYTES];
    uint16_t bf16[AMX_ROWS][AMX_ROW_BYTES / 2];
    float f32[AMX_ROWS][AMX_ROW_BYTES / 4];
    uint32_t u32[AMX_ROWS][AMX_ROW_BYTES / 4];
} amx_tile;

static _Thread_local amx_tile amx_tiles[AMX_TILES];
static _Thread_local amx_configuration amx_shapes; /* palette 0: none */

static inline void amx_configure(const amx_configuration *c) {
    assert(c->palette == 1 && c->start_row == 0);
    amx_shapes = *c;
    memset(amx_tiles, 0, sizeof amx_tiles);
}
static inline void amx_release(void) { amx_shapes = (amx_configuration){0}; }

static inline void amx_zero(int t) {
    assert(amx_shapes.palette == 1);
    memset(&amx_tiles[t], 0, sizeof amx_tiles[t]);
}

static inline void amx_load(int t, const void *p, ptrdiff_t stride) {
    amx_zero(t);
    for (int r = 0; r < amx_shapes.rows[t]; r++)
        memcpy(amx_tiles[t].u8[r], (const char *)p + r * stride, amx_shapes.row_bytes[t]);
}
static inline void amx_stream_load(int t, const void *p, ptrdiff_t stride) {
    amx_load(t, p, stride);
}

static inline void amx_store(int t, void *p, ptrdiff_t stride) {
    assert(amx_shapes.palette == 1);
    for (int r = 0; r < amx_shapes.rows[t]; r++)
        memcpy((char *)p + r * stride, amx_tiles[t].u8[r], amx_shapes.row_bytes[t]);
}

/* Subnormals are 0. */
static inline float amx_flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x; }
static inline float amx_from_bf16(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return amx_flushed(value);
}

/* What the instructions demand of the shapes; they raise #UD otherwise. */
static inline void amx_check_shapes(int c, int a, int b) {
    assert(amx_shapes.palette == 1 && c != a && c != b && a != b);
    assert(amx_shapes.rows[c] == amx_shapes.rows[a]);
    assert(amx_shapes.row_bytes[c] == amx_shapes.row_bytes[b]);
    assert(amx_shapes.row_bytes[a] == 4 * amx_shapes.rows[b]);
    (void)c, (void)a, (void)b;
}

static inline void amx_bf16(int c, int a, int b) {
    int columns = amx_shapes.row_bytes[c] / 4;
    amx_check_shapes(c, a, b);
    for (int m = 0; m < amx_shapes.rows[c]; m++) {
        float chains[2][AMX_ROW_BYTES / 4] = {0};
        for (int k = 0; k < amx_shapes.rows[b]; k++)
            for (int odd = 0; odd < 2; odd++) {
                float x = amx_from_bf16(amx_tiles[a].bf16[m][2 * k + odd]);
                for (int n = 0; n < columns; n++) {
                    float y = amx_from_bf16(amx_tiles[b].bf16[k][2 * n + odd]);
                    chains[odd][n] = amx_flushed(fmaf(x, y, chains[odd][n]));
                }
            }
        for (int n = 0; n < columns; n++) {
            float sum = amx_flushed(chains[0][n] + chains[1][n]);
            float *place = &amx_tiles[c].f32[m][n];
            *place = amx_flushed(amx_flushed(*place) + sum);
        }
    }
}

static inline void amx_bytes(int c, int a, int b, int a_signed, int b_signed) {
    amx_check_shapes(c, a, b);
    for (int m = 0; m < amx_shapes.rows[c]; m++)
        for (int n = 0; n < amx_shapes.row_bytes[c] / 4; n++)
            for (int k = 0; k < amx_shapes.row_bytes[a]; k++) {
                int x = a_signed ? amx_tiles[a].s8[m][k] : amx_tiles[a].u8[m][k];
                int at = 4 * n + k % 4;
                int y = b_signed ? amx_tiles[b].s8[k / 4][at] : amx_tiles[b].u8[k / 4][at];
                amx_tiles[c].u32[m][n] += (uint32_t)(x * y);
            }
}
static inline void amx_s8s8(int c, int a, int b) { amx_bytes(c, a, b, 1, 1); }
static inline void amx_u8s8(int c, int a, int b) { amx_bytes(c, a, b, 0, 1); }
static inline void amx_s8u8(int c, int a, int b) { amx_bytes(c, a, b, 1, 0); }

#endif
