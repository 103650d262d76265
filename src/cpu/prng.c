/* Domain 14, prng: words of Philox4x32-10, and what is made of them, a group at a time.
 *
 * Of a set of 64 words 10 rounds are 12 operations each on AVX-512, with eight shuffles 2.3 operations a word.
 * At two a cycle this is 3.5 bytes a cycle, so that one thread stays below the bandwidth of memory and two come
 * near it. */
#include "cpu/philox_groups.h"
#include "cpu/simd/simd_math.h"
#include "cpu/simd/simd_turns.h"
#include "cpu/threads.h"

enum { GROUP = PHILOX_GROUP, PIECE_GROUPS = 16384 / GROUP };

typedef enum kind { WORDS, UNIFORM, UNIFORM_F64, NORMAL, DROPOUT_MASK } kind;

typedef struct plan {
    kind kind;
    fovea_view y;
    int64_t elements, of_a_group, piece_groups; /* elements; groups */
    bool direct, stream;                        /* y is contiguous; its stores bypass the caches */
    philox_stream words;
    vi limit; /* what a dropped word is at least */
} plan;

/* ---- A group --------------------------------------------------------------------------------- */

/* sin and cos of 2 pi word / 2^24, both within 0.6 ULP and exact at quarter turns: quarters and a
 * rest of at most an eighth of a turn, in integers. */
VF_INLINE void sin_cos_of_turn(vi word, vf *sine, vf *cosine) {
    vi quarter = vi_shr(vi_add(word, vi_set1(1 << 21)), 22);
    vf t = vf_mul(vf_from_vi(vi_sub(word, vi_shl(quarter, 22))), vf_set1(0x1p-24f));
    vf_sin_cos_of_turn(quarter, t, sine, cosine);
}

/* Box and Muller, A note on the generation of random normal deviates, 1958. Errors of the
 * logarithm are halved by the root: 3 ULP in all. */
VF_INLINE void normal_pair(vi first, vi second, vf *a, vf *b) {
    vf uniform = vf_mul(vf_from_vi(vi_add(vi_shr(first, 8), vi_set1(1))), vf_set1(0x1p-24f));
    vf radius = vf_sqrt(vf_mul(vf_set1(-2), vf_log(uniform)));
    vf sine, cosine;
    sin_cos_of_turn(vi_shr(second, 8), &sine, &cosine);
    *a = vf_mul(radius, cosine), *b = vf_mul(radius, sine);
}

/* Pairs of words as doubles. */
static void store_doubles(const vf words[4], double *y) {
    uint64_t pairs[PHILOX_SET / 2];
    VF_UNROLLED for (int i = 0; i < 4; i++)
        vf_store((float *)(void *)pairs + i * VF_WIDTH, words[i]);
    for (int i = 0; i < PHILOX_SET / 2; i++) y[i] = (double)(int64_t)(pairs[i] >> 11) * 0x1p-53;
}

FOVEA_INLINE void set_run(kind kind, const plan *p, const vi words[4], void *y, bool stream) {
    vf x[4];
    VF_UNROLLED for (int i = 0; i < 4; i++) x[i] =
        kind == UNIFORM ? vi_philox_uniform(words[i]) : vi_as_vf(words[i]);
    if (kind == NORMAL)
        normal_pair(words[0], words[1], &x[0], &x[1]),
            normal_pair(words[2], words[3], &x[2], &x[3]);
    vf_transpose_quads(x);
    if (kind == UNIFORM_F64) {
        store_doubles(x, y);
        return;
    }
    if (kind == DROPOUT_MASK) {
        philox_store_mask(x, p->limit, y);
        return;
    }
    VF_UNROLLED for (int i = 0; i < 4; i++) {
        float *to = (float *)y + i * VF_WIDTH;
        if (stream)
            vf_stream(to, x[i]);
        else
            vf_store(to, x[i]);
    }
}

FOVEA_INLINE void group_run(kind kind, const plan *p, int64_t group, char *y, bool stream) {
    vi words[PHILOX_SETS][4];
    philox_group(&p->words, group, words);
    VF_UNROLLED for (int i = 0; i < PHILOX_SETS; i++)
        set_run(kind, p, words[i], y + i * (kind == DROPOUT_MASK ? 1 : 4) * PHILOX_SET, stream);
}

#define GROUPS(name, kind)                                                                         \
    static void name(const plan *p, int64_t begin, int64_t end, char *y) {                         \
        int64_t bytes = p->of_a_group * (int64_t)fovea_dtype_size(p->y.dtype);                     \
        bool stream = p->stream && elements_to_alignment(FOVEA_F32, y) == 0;                       \
        for (int64_t g = begin; g < end && stream; g++, y += bytes)                                \
            group_run(kind, p, g, y, true);                                                        \
        for (int64_t g = begin; g < end && !stream; g++, y += bytes)                               \
            group_run(kind, p, g, y, false);                                                       \
    }
GROUPS(groups_of_words, WORDS)
GROUPS(groups_of_uniforms, UNIFORM)
GROUPS(groups_of_uniform_doubles, UNIFORM_F64)
GROUPS(groups_of_normals, NORMAL)
GROUPS(groups_of_masks, DROPOUT_MASK)

static void (*const run_groups[])(const plan *, int64_t, int64_t, char *) = {
    groups_of_words, groups_of_uniforms, groups_of_uniform_doubles, groups_of_normals,
    groups_of_masks};

/* ---- The tensor ------------------------------------------------------------------------------ */

/* Copies elements [first, first + count) of y, in row-major order, to where they belong. */
static void scatter(const fovea_view *y, const char *from, int64_t first, int64_t count) {
    int inner = y->rank - 1;
    int64_t size = (int64_t)fovea_dtype_size(y->dtype), columns = y->shape[inner];
    while (count > 0) {
        int64_t column = first % columns, row = first / columns;
        int64_t run = smaller(columns - column, count), offset = column * y->stride[inner];
        for (int i = inner - 1; i >= 0; i--) {
            offset += row % y->shape[i] * y->stride[i];
            row /= y->shape[i];
        }
        char *to = y->data + offset * size;
        for (int64_t i = 0; i < run; i++, from += size, to += y->stride[inner] * size)
            memcpy(to, from, (size_t)size);
        first += run, count -= run;
    }
}

static void run_piece(const plan *p, int64_t piece) {
    _Alignas(64) char buffer[GROUP * 4];
    int64_t size = (int64_t)fovea_dtype_size(p->y.dtype);
    int64_t begin = piece * p->piece_groups, whole = p->elements / p->of_a_group;
    int64_t end = smaller(begin + p->piece_groups, divide_up(p->elements, p->of_a_group));
    int64_t direct = p->direct ? smaller(end, whole) : begin;
    if (direct > begin)
        run_groups[p->kind](p, begin, direct, p->y.data + begin * p->of_a_group * size);
    for (int64_t g = larger(direct, begin); g < end; g++) {
        int64_t first = g * p->of_a_group;
        run_groups[p->kind](p, g, g + 1, buffer);
        scatter(&p->y, buffer, first, smaller(p->of_a_group, p->elements - first));
    }
}

static void run_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const plan *p = task;
    (void)thread;
    for (int64_t piece = begin; piece < end; piece++) run_piece(p, piece);
    if (p->stream) vf_stream_fence();
}

/* `cost`: the time of a word in bytes of memory traffic. */
static fovea_status draw(const fovea_problem *problem, fovea_run *run, kind kind, uint64_t seed,
                         uint64_t number, int64_t cost) {
    plan p = {.kind = kind, .y = problem->views[0], .words = philox_begin(seed, number)};
    int allowed = run->threads;
    p.elements = fovea_view_elements(&p.y);
    run->threads = 1;
    if (p.elements == 0) return FOVEA_OK;
    fovea_views_collapse((fovea_view *[]){&p.y}, 1);
    p.of_a_group = kind == UNIFORM_F64 ? GROUP / 2 : GROUP;
    p.direct = p.y.rank == 1 && p.y.stride[0] == 1;
    if (kind == DROPOUT_MASK) {
        const fovea_prng_dropout_mask_options *options = problem->options;
        p.limit = vi_philox_limit((float)options->keep);
    }
    int64_t words = p.elements * GROUP / p.of_a_group;
    int64_t groups = divide_up(p.elements, p.of_a_group);
    p.piece_groups = fovea_equal_pieces(groups, PIECE_GROUPS, 1);
    int64_t pieces = divide_up(groups, p.piece_groups);
    run->threads = fovea_useful_threads(pieces, words * cost, allowed);
    p.stream = p.direct && p.y.dtype != FOVEA_U8 && p.y.dtype != FOVEA_F64 &&
               fovea_worth_streaming(4 * words, run->threads);
    fovea_share(pieces, run->threads, run_pieces, &p);
    return FOVEA_OK;
}

#define DRAW(name, kind, cost)                                                                     \
    static fovea_status name(const fovea_problem *problem, fovea_run *run) {                       \
        const fovea_##name##_options *options = problem->options;                                  \
        return draw(problem, run, kind, (uint64_t)options->seed, (uint64_t)options->stream, cost); \
    }
DRAW(prng_philox, WORDS, 8)
DRAW(prng_uniform, problem->dtype == FOVEA_F64 ? UNIFORM_F64 : UNIFORM, 8)
DRAW(prng_normal, NORMAL, 24)
DRAW(prng_dropout_mask, DROPOUT_MASK, 8)

const fovea_implementation FOVEA_TIERED(fovea_cpu_prng)[] = {
    {"prng_philox", FOVEA_CPU_NAME("direct"), 1u << FOVEA_U32, FOVEA_TIER_HERE, .run = prng_philox},
    {"prng_uniform", FOVEA_CPU_NAME("direct"), 1u << FOVEA_F32 | 1u << FOVEA_F64, FOVEA_TIER_HERE,
     .run = prng_uniform},
    {"prng_normal", FOVEA_CPU_NAME("direct"), 1u << FOVEA_F32, FOVEA_TIER_HERE, .run = prng_normal},
    {"prng_dropout_mask", FOVEA_CPU_NAME("direct"), 1u << FOVEA_U8, FOVEA_TIER_HERE,
     .run = prng_dropout_mask},
    {0}};
