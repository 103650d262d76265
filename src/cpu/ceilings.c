/* The loops of ceilings.h, compiled once a tier. Twelve independent chains cover four or five cycles of
 * latency on two ports, and with two constants fit sixteen registers. */
#include "cpu/ceilings.h"

#include "cpu/fetch.h"

/* Written out by the pragmas: an array that is indexed by a variable would live in memory. */
enum { CHAINS = 12, UNROLL = 8, LINE = 64, LINE_VECTORS = LINE / VF_BYTES, PIECE_LINES = 8 };

#ifndef FOVEA_TIER_AMX
static double multiply_add(int64_t rounds, float *sink) {
    vf x = vf_set1(0.999f), y = vf_set1(1e-3f), a[CHAINS];
    VF_UNROLLED for (int c = 0; c < CHAINS; c++) a[c] = vf_set1((float)c);
    for (int64_t r = 0; r < rounds; r++)
        VF_UNROLLED for (int c = 0; c < CHAINS; c++) a[c] = vf_fma(a[c], x, y);
    VF_UNROLLED for (int c = 1; c < CHAINS; c++) a[0] = vf_add(a[0], a[c]);
    *sink = vf_reduce_add(a[0]);
    return 2.0 * VF_WIDTH * CHAINS * (double)rounds;
}
#endif

VF_INLINE float read_with(const bool ahead, const float *from, size_t count) {
    const bool near = fovea_fetches_near;
    vf sums[UNROLL];
    VF_UNROLLED for (int u = 0; u < UNROLL; u++) sums[u] = vf_set1(0);
    for (size_t i = 0; i < count; i += UNROLL * VF_WIDTH) {
        if (ahead) fetch_ahead(near, from + i, 0, UNROLL * VF_BYTES);
        VF_UNROLLED for (int u = 0; u < UNROLL; u++) sums[u] =
            vf_add(sums[u], vf_load(from + i + u * VF_WIDTH));
    }
    VF_UNROLLED for (int u = 1; u < UNROLL; u++) sums[0] = vf_add(sums[0], sums[u]);
    return vf_reduce_add(sums[0]);
}

static float read(const float *from, size_t count) { return read_with(false, from, count); }

static float read_ahead(const float *from, size_t count) { return read_with(true, from, count); }

static void copy(float *to, const float *from, size_t count) {
    for (size_t i = 0; i < count; i += VF_WIDTH) vf_store(to + i, vf_load(from + i));
}

static void stream_copy(float *to, const float *from, size_t count) {
    for (size_t i = 0; i < count; i += VF_WIDTH) vf_stream(to + i, vf_load(from + i));
    vf_stream_fence();
}

/* One line of a stream. Its sixteen numbers of the scalar tier stay a loop: written out in each of the streams
 * below they take a compiler a minute. */
#if VF_WIDTH == 1
    #define LINE_UNROLLED
#else
    #define LINE_UNROLLED VF_UNROLLED
#endif
VF_INLINE vf move_line(const bool past, const bool ahead, const fovea_stream *s, size_t line) {
    vf sum = vf_set1(0), x = vf_set1(1);
    if (ahead && s->from) fetch_ahead(fovea_fetches_near, s->from, (int64_t)(line * LINE), LINE);
    LINE_UNROLLED for (size_t v = 0; v < LINE_VECTORS; v++) {
        size_t at = line * LINE + v * VF_BYTES;
        float *to = (float *)(void *)(s->to + at);
        if (s->from) x = vf_load((const float *)(const void *)(s->from + at));
        if (!s->to)
            sum = vf_add(sum, x);
        else if (past)
            vf_stream(to, x);
        else
            vf_store(to, x);
    }
    return sum;
}

VF_INLINE vf move_lines(const bool past, const bool ahead, const fovea_stream s, size_t begin,
                        size_t end) {
    vf sums[4];
    size_t i = begin;
    VF_UNROLLED for (size_t u = 0; u < 4; u++) sums[u] = vf_set1(0);
    for (; i + 4 <= end; i += 4)
        VF_UNROLLED for (size_t u = 0; u < 4; u++) sums[u] =
            vf_add(sums[u], move_line(past, ahead, &s, i + u));
    for (; i < end; i++) sums[0] = vf_add(sums[0], move_line(past, ahead, &s, i));
    return vf_add(vf_add(sums[0], sums[1]), vf_add(sums[2], sums[3]));
}

/* Which of both it is and what is written are constants of the loops. */
VF_INLINE vf move_piece(const bool past, const bool ahead, const fovea_stream *s, size_t begin,
                        size_t end) {
    if (!s->to) return move_lines(past, ahead, (fovea_stream){.from = s->from}, begin, end);
    if (!s->from) return move_lines(past, ahead, (fovea_stream){.to = s->to}, begin, end);
    return move_lines(past, ahead, (fovea_stream){.from = s->from, .to = s->to}, begin, end);
}

/* Each stream has code of its own: a processor's prefetcher knows a stream by the instruction that reads it.
 * Three reads and a write by one loop were 39 GB/s where a kernel reached 74. */
VF_INLINE float move_with(const bool past, const bool ahead, const int count,
                          const fovea_stream *streams) {
    size_t at[FOVEA_STREAMS_MAX] = {0}, step[FOVEA_STREAMS_MAX], lines[FOVEA_STREAMS_MAX], most = 1;
    vf sum = vf_set1(0);
    for (int s = 0; s < count; s++) {
        lines[s] = streams[s].bytes / LINE;
        if (lines[s] > most) most = lines[s];
    }
    for (int s = 0; s < count; s++) step[s] = (lines[s] * PIECE_LINES + most - 1) / most;
    for (size_t piece = 0; piece < most; piece += PIECE_LINES)
        VF_UNROLLED for (int s = 0; s < count; s++) {
            size_t end = at[s] + step[s] < lines[s] ? at[s] + step[s] : lines[s];
            sum = vf_add(sum, move_piece(past, ahead, &streams[s], at[s], end));
            at[s] = end;
        }
    if (past) vf_stream_fence();
    return vf_reduce_add(sum);
}

VF_INLINE float move_any(const bool past, const bool ahead, const fovea_stream *streams,
                         int count) {
    switch (count) {
    case 1:
        return move_with(past, ahead, 1, streams);
    case 2:
        return move_with(past, ahead, 2, streams);
    case 3:
        return move_with(past, ahead, 3, streams);
    case 4:
        return move_with(past, ahead, 4, streams);
    case 5:
        return move_with(past, ahead, 5, streams);
    case FOVEA_STREAMS_MAX:
        return move_with(past, ahead, FOVEA_STREAMS_MAX, streams);
    default:
        return 0;
    }
}

static float move(const fovea_stream *streams, int count, bool past, bool ahead) {
    if (past)
        return ahead ? move_any(true, true, streams, count) : move_any(true, false, streams, count);
    return ahead ? move_any(false, true, streams, count) : move_any(false, false, streams, count);
}

#ifdef FOVEA_TIER_AMX
/* Four accumulators cover the latency (52 cycles at one product in 16). */
    #define TILE_PEAK(name, product, type, one)                                                    \
        static double name(int64_t rounds, float *sink) {                                          \
            static const type ones[AMX_TILE_BYTES / sizeof(type)] = {one};                         \
            uint32_t result[AMX_ROWS][AMX_ROW_BYTES / 4];                                          \
            const amx_configuration whole = amx_whole_tiles();                                     \
            amx_configure(&whole);                                                                 \
            amx_load(4, ones, AMX_ROW_BYTES);                                                      \
            amx_load(5, ones, AMX_ROW_BYTES);                                                      \
            for (int64_t r = 0; r < rounds; r++) {                                                 \
                product(0, 4, 5);                                                                  \
                product(1, 4, 5);                                                                  \
                product(2, 4, 5);                                                                  \
                product(3, 4, 5);                                                                  \
            }                                                                                      \
            amx_store(0, result, AMX_ROW_BYTES);                                                   \
            amx_release();                                                                         \
            *sink = (float)result[0][0];                                                           \
            return 4 * 2.0 * 16 * 16 * (64 / sizeof(type)) * (double)rounds;                       \
        }
TILE_PEAK(tile_bf16, amx_bf16, uint16_t, 0x3f80)
TILE_PEAK(tile_int8, amx_s8s8, int8_t, 1)
#endif

#if defined(FOVEA_TIER_AMX)
    #define ARITHMETIC                                                                             \
        {                                                                                          \
            {"tile_bf16", tile_bf16}, { "tile_int8", tile_int8 }                                   \
        }
#elif defined(FOVEA_TIER_AVX512)
extern double fovea_dot_bf16_avx512(int64_t rounds, float *sink); /* ceilings_bf16.c */
    #define ARITHMETIC                                                                             \
        {                                                                                          \
            {"fma_f32", multiply_add}, { "dot_bf16", fovea_dot_bf16_avx512 }                       \
        }
#else
    #define ARITHMETIC                                                                             \
        {                                                                                          \
            { "fma_f32", multiply_add }                                                            \
        }
#endif

extern const fovea_ceiling_loops FOVEA_TIERED(fovea_ceilings);
const fovea_ceiling_loops FOVEA_TIERED(fovea_ceilings) = {.arithmetic = ARITHMETIC,
                                                          .read = read,
                                                          .read_ahead = read_ahead,
                                                          .copy = copy,
                                                          .stream_copy = stream_copy,
                                                          .move = move};
