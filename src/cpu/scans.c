/* Domain 16, scans, and 112: prefix sums and compaction in one pass over memory, by pieces of 64 KiB that
 * stay in the second-level cache between their sum (or count) and their results. A thread has its next piece
 * fetched while it writes the results of one: reading and writing in turns, two threads had 27 of the
 * 49 GB/s of a copy.
 *
 * A sum runs on in each vector by lanes, four additions deep. What is carried from vector to vector is a
 * double for f32; for f64 it is two, the sum and what its roundings have left out. A chain of vector sums
 * in the dtype itself would err by n/8 eps of equal data, which R(i+1) does not allow.
 *
 * Kept elements are brought to the front of a vector in a register and stored whole: the store of a
 * compressed vector to memory is microcode on Zen 4 and 5. Their count comes first, so that no store goes
 * beyond the place of the piece. Larger than the caches they are gathered in lines that bypass them, and while that is
 * done those of the thread's next piece are counted: a pass that only counts, or sums up integers, leaves memory idle.
 * Elements of 64 bits go one by one, two cycles each: with two threads that is what memory delivers. */
#include "cpu/chain.h"
#include "cpu/dense.h"
#include "cpu/fetch.h"
#include "cpu/outflow.h"
#include "cpu/simd/simd_order.h"
#include "cpu/threads.h"
#include "fovea/kernels.h"

#include <math.h>

enum { PIECE_BYTES = 1 << 17, STRIDED_BYTES = 1 << 14, FETCHED_BYTES = 1 << 12 };

/* ---- Sums ------------------------------------------------------------------------------------ */

/* Adds to a sum of two parts (Knuth's exact difference of a sum of two floats). */
FOVEA_INLINE void carry_double(chain_value *c, double term) {
    double sum = c->high + term, part = sum - c->high;
    double lost = (c->high - (sum - part)) + (term - part);
    c->high = sum;
    c->low += isfinite(lost) ? lost : 0; /* of an infinite sum nothing is left out */
}
FOVEA_INLINE void carry_float(chain_value *c, float term) { c->high += (double)term; }
FOVEA_INLINE void carry_word(chain_value *c, int32_t term) { c->word += (uint32_t)term; }

static chain_value joined(chain_value before, chain_value piece) {
    carry_double(&before, piece.high);
    before.low += piece.low;
    before.word += piece.word;
    return before;
}

/* What stands before a vector: the pieces before, and the vectors of this one. */
FOVEA_INLINE vf spread_float(const chain_value *before, const chain_value *c) {
    return vf_set1((float)(before->high + before->low + c->high));
}
FOVEA_INLINE vd spread_double(const chain_value *before, const chain_value *c) {
    return vd_set1(before->high + c->high + (before->low + c->low));
}
FOVEA_INLINE vi spread_word(const chain_value *before, const chain_value *c) {
    return vi_set1((int32_t)(before->word + c->word));
}
FOVEA_INLINE void vi_stream(int32_t *p, vi x) { vf_stream((float *)(void *)p, vi_as_vf(x)); }

/* What a thread does next: it is fetched while results are written, and of integers summed up too. */
typedef struct following {
    const void *x;
    int64_t n;       /* 0: it is only fetched */
    chain_value sum; /* found */
} following;

/* The sum of n elements, and their prefix sums to y if that is not NULL. */
typedef enum form { INCLUSIVE, EXCLUSIVE } form;
typedef chain_value sums_function(form form, const void *x, void *y, int64_t n, bool stream,
                                  const chain_value *before, following *next);

#define SUMS(name, type, v, width, carry, spread, total, follow)                                   \
    FOVEA_INLINE chain_value name##_run(form form, const type *x, type *y, int64_t n, bool write,  \
                                        bool stream, const chain_value *before, following *next) { \
        chain_value c = {0};                                                                       \
        v totals = v##_set1(0);                                                                    \
        const type *ahead = write ? next->x : NULL;                                                \
        int64_t i = 0, summed = write && follow ? next->n / width * width : 0;                     \
        for (; i + width <= n; i += width) {                                                       \
            v sums = v##_prefix(v##_load(x + i));                                                  \
            v result = v##_add(form == EXCLUSIVE ? v##_up(sums) : sums, spread(before, &c));       \
            if (write && follow)                                                                   \
                fetch_ahead(fovea_fetches_near, ahead + i, 0, sizeof(v));                          \
            else if (write && VF_WIDTH > 1)                                                        \
                __builtin_prefetch(ahead + i, 0, 2),                                               \
                    __builtin_prefetch(x + i + 1024 / sizeof *x, 0, 3);                            \
            if (follow && i < summed) totals = v##_add(totals, v##_load(ahead + i));               \
            if (write && stream)                                                                   \
                v##_stream(y + i, result);                                                         \
            else if (write)                                                                        \
                v##_store(y + i, result);                                                          \
            carry(&c, v##_last(sums));                                                             \
        }                                                                                          \
        if (i < n) {                                                                               \
            v sums = v##_prefix(v##_load_n(x + i, (size_t)(n - i)));                               \
            v result = v##_add(form == EXCLUSIVE ? v##_up(sums) : sums, spread(before, &c));       \
            if (write) v##_store_n(y + i, result, (size_t)(n - i));                                \
            carry(&c, v##_last(sums));                                                             \
        }                                                                                          \
        if (write && follow) {                                                                     \
            int64_t k = smaller(i, summed); /* a last piece is shorter than the next */            \
            for (; k < summed; k += width) totals = v##_add(totals, v##_load(ahead + k));          \
            next->sum = (chain_value){0};                                                          \
            carry(&next->sum, v##_last(v##_prefix(totals)));                                       \
            for (; k < next->n; k++) carry(&next->sum, ahead[k]);                                  \
        }                                                                                          \
        return c;                                                                                  \
    }                                                                                              \
    static chain_value name(form form, const void *x, void *y, int64_t n, bool stream,             \
                            const chain_value *before, following *next) {                          \
        if (!y) return total;                                                                      \
        if (form == INCLUSIVE)                                                                     \
            return stream ? name##_run(INCLUSIVE, x, y, n, true, true, before, next)               \
                          : name##_run(INCLUSIVE, x, y, n, true, false, before, next);             \
        return stream ? name##_run(EXCLUSIVE, x, y, n, true, true, before, next)                   \
                      : name##_run(EXCLUSIVE, x, y, n, true, false, before, next);                 \
    }
/* Integers may be added up in any order. */
static chain_value total_of_words(const void *from, int64_t n) {
    const int32_t *x = from;
    vi sums[4];
    uint32_t total = 0;
    int64_t i = 0;
    VF_UNROLLED for (int k = 0; k < 4; k++) sums[k] = vi_set1(0);
    for (; i + 4 * VF_WIDTH <= n; i += 4 * VF_WIDTH)
        VF_UNROLLED for (int k = 0; k < 4; k++) sums[k] =
            vi_add(sums[k], vi_load(x + i + k * VF_WIDTH));
    vi all = vi_add(vi_add(sums[0], sums[1]), vi_add(sums[2], sums[3]));
    total = (uint32_t)vi_last(vi_prefix(all));
    for (; i < n; i++) total += (uint32_t)x[i];
    return (chain_value){.word = total};
}

/* Floats are added up as where their results are formed. */
#define IN_ORDER(name) name##_run(INCLUSIVE, x, NULL, n, false, false, before, NULL)
SUMS(sums_f32, float, vf, VF_WIDTH, carry_float, spread_float, IN_ORDER(sums_f32), false)
SUMS(sums_f64, double, vd, VD_WIDTH, carry_double, spread_double, IN_ORDER(sums_f64), false)
SUMS(sums_word, int32_t, vi, VF_WIDTH, carry_word, spread_word, total_of_words(x, n), true)

/* One addition a cycle, 8 bytes: as fast as vectors, which wait for memory. */
static chain_value sums_long(form form, const void *x, void *y, int64_t n, bool stream,
                             const chain_value *before, following *ahead) {
    const uint64_t *from = x, *later = y ? ahead->x : NULL;
    uint64_t *to = y, first = before->word, sum = first;
    (void)stream;
    for (int64_t i = 0; i < n; i++) {
        if (to && i % 8 == 0) __builtin_prefetch(later + i, 0, 3);
        uint64_t next = sum + from[i];
        if (to) to[i] = form == EXCLUSIVE ? sum : next;
        sum = next;
    }
    return (chain_value){.word = sum - first};
}

typedef struct scan_plan {
    fovea_view x, y;
    sums_function *sums;
    form form;
    int64_t size, length, rows; /* of an element; of a row; how many */
    int64_t piece, row_pieces,
        several;        /* elements in a piece; pieces of a row, or rows of a piece */
    bool stream, ahead; /* sums are wanted before results */
    bool summed;        /* and found while those of the piece before are written */
    chain *chain;
} scan_plan;

/* Elements [first, first + n), all of one row; those from number `later` on are wanted next. */
static chain_value scan_elements(const scan_plan *p, int64_t first, int64_t n, bool write,
                                 const chain_value *before, int64_t later, following *next) {
    _Alignas(64) char x_block[STRIDED_BYTES], y_block[STRIDED_BYTES];
    const void *x = dense_place(&p->x, first, n);
    next->x = x ? (const char *)x + (later - first) * p->size : x_block;
    void *y = write ? dense_place(&p->y, first, n) : NULL, *to = write && !y ? y_block : y;
    if (!x) dense_read(&p->x, first, n, x_block);
    bool stream = p->stream && (uintptr_t)to % VF_BYTES == 0;
    chain_value sum = p->sums(p->form, x ? x : x_block, to, n, stream, before, next);
    if (write && !y) dense_write(&p->y, first, n, y_block);
    return sum;
}

static int64_t first_of_piece(const scan_plan *p, int64_t piece) {
    return piece / p->row_pieces * p->length + piece % p->row_pieces * p->piece;
}
static int64_t elements_of_piece(const scan_plan *p, int64_t piece) {
    return smaller(p->piece, p->length - piece % p->row_pieces * p->piece);
}

/* A piece that is summed ahead of its results stands in a cache for them; then the next one is fetched. `sum`: of
 * this piece if it is known, then of the next; returns whether that is. */
static bool scan_piece(const scan_plan *p, int64_t piece, int64_t next, bool known,
                       chain_value *sum) {
    int64_t first = first_of_piece(p, piece), n = elements_of_piece(p, piece);
    int64_t later = p->ahead ? first_of_piece(p, next) : first + FETCHED_BYTES / p->size;
    following follows = {.n = p->summed && next != piece ? elements_of_piece(p, next) : 0};
    chain_value before = {0}, own;
    if (p->ahead && !known) *sum = scan_elements(p, first, n, false, &before, first, &follows);
    before = chain_wait(p->chain, piece);
    if (piece % p->row_pieces == 0) before = (chain_value){0};
    if (p->ahead) chain_pass(p->chain, piece, joined(before, *sum));
    own = scan_elements(p, first, n, true, &before, later, &follows);
    if (!p->ahead) chain_pass(p->chain, piece, joined(before, own));
    *sum = follows.sum;
    return follows.n > 0;
}

/* A thread takes a piece before it is done with the one before: pieces are finished in order by each. */
static void scan_chain(const void *task, int64_t begin, int64_t end, int thread) {
    const scan_plan *p = task;
    int64_t piece, next;
    bool known = false;
    chain_value sum = {0};
    (void)begin, (void)end, (void)thread;
    for (bool more = chain_take(p->chain, &piece); more; piece = next) {
        more = chain_take(p->chain, &next);
        known = scan_piece(p, piece, more ? next : piece, known, &sum);
    }
    if (p->stream) vf_stream_fence();
}

static void scan_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const scan_plan *p = task;
    const chain_value nothing = {0};
    following next = {0};
    (void)thread;
    for (int64_t r = begin * p->several; r < smaller(end * p->several, p->rows); r++) {
        int64_t first = r * p->length;
        scan_elements(p, first, p->length, true, &nothing, first + FETCHED_BYTES / p->size, &next);
    }
    if (p->stream) vf_stream_fence();
}

static fovea_status scan(const fovea_problem *problem, fovea_run *run, form form, bool all) {
    static sums_function *const sums[] = {[FOVEA_F32] = sums_f32,
                                          [FOVEA_F64] = sums_f64,
                                          [FOVEA_I32] = sums_word,
                                          [FOVEA_U32] = sums_word,
                                          [FOVEA_I64] = sums_long};
    chain chain = {0};
    scan_plan p = {.x = problem->views[0], .y = problem->views[1], .form = form, .chain = &chain};
    int64_t elements = fovea_view_elements(&p.x);
    int allowed = run->threads;
    run->threads = 1;
    if (elements == 0) return FOVEA_OK;
    p.size = (int64_t)fovea_dtype_size(p.x.dtype), p.sums = sums[p.x.dtype];
    p.length = all ? elements : p.x.shape[p.x.rank - 1];
    p.rows = elements / p.length;
    bool dense = fovea_view_is_contiguous(&p.x) && fovea_view_is_contiguous(&p.y);
    p.piece = (dense ? PIECE_BYTES : STRIDED_BYTES) / p.size;
    p.several = larger(p.piece / p.length, 1);
    p.piece = fovea_equal_pieces(p.length, p.piece, 64);
    p.row_pieces = divide_up(p.length, p.piece);
    bool chained = p.row_pieces > 1;
    int64_t pieces = chained ? p.rows * p.row_pieces : divide_up(p.rows, p.several);
    run->threads = fovea_useful_threads(pieces, 2 * elements * p.size, allowed);
    p.stream = fovea_worth_streaming(2 * elements * p.size, run->threads);
    p.ahead = run->threads > 1;
    p.summed = p.ahead && dense && p.sums == sums_word;
    chain.pieces = pieces;
    fovea_share(chained ? run->threads : pieces, run->threads, chained ? scan_chain : scan_rows,
                &p);
    return FOVEA_OK;
}

static fovea_status scan_exclusive(const fovea_problem *problem, fovea_run *run) {
    const fovea_scan_exclusive_options *options = problem->options;
    return scan(problem, run, EXCLUSIVE, options->over == FOVEA_SCAN_EXCLUSIVE_OVER_ALL);
}
static fovea_status scan_inclusive(const fovea_problem *problem, fovea_run *run) {
    const fovea_scan_inclusive_options *options = problem->options;
    return scan(problem, run, INCLUSIVE, options->over == FOVEA_SCAN_INCLUSIVE_OVER_ALL);
}

/* ---- Compaction ------------------------------------------------------------------------------ */

/* What is kept of a piece is brought together in a block of the thread, and goes to its place when that is known: past
 * the caches vector by vector, while the next piece is read. Two cores of a Xeon, 10^7 floats, half of them kept, where
 * moving the same takes 1.51 ms: 2.08 where each piece was flagged and counted, read again, and written 4 KiB at a time;
 * 1.94 so with pieces of 64 KiB, 1.88 with 128, 1.85 with 256, as threads wait for one another seldom. From a cache
 * 0.19 ns an element instead of 0.25. */
enum { KEPT_BYTES = 1 << 18 };

typedef struct compact_plan {
    fovea_view x, y, mask;
    bool masked;
    float float_limit;
    double double_limit;
    int64_t long_limit;
    int32_t word_limit, word_sign; /* of u32 with the sign bit changed, which is word_sign */
    int64_t size, elements, piece;
    bool stream;
    char *blocks; /* two of each thread */
    int64_t block_bytes;
    chain *chain;
} compact_plan;

typedef enum choice { BY_MASK, FLOATS_ABOVE, WORDS_ABOVE } choice;

/* A piece of x and of the mask. */
typedef struct piece {
    const char *x;
    const uint8_t *mask;
    int64_t n;
} piece;

FOVEA_INLINE uint32_t kept_lanes(choice choice, const compact_plan *p, const piece *from, int64_t i,
                                 int64_t n) {
    if (choice == BY_MASK) return u8_bits(from->mask + i, (size_t)n);
    uint32_t first = (uint32_t)((UINT64_C(1) << n) - 1);
    if (choice == FLOATS_ABOVE) {
        vf x = vf_load_n((const float *)(const void *)from->x + i, (size_t)n);
        return first & vm_bits(vf_gt(x, vf_set1(p->float_limit)));
    }
    vi words = vi_load_n((const int32_t *)(const void *)from->x + i, (size_t)n);
    return first & vm_bits(vi_gt(vi_xor(words, vi_set1(p->word_sign)), vi_set1(p->word_limit)));
}

/* What is read after a piece, and what of the piece before goes past the caches meanwhile. */
typedef struct meanwhile {
    piece next;
    outflow past;
} meanwhile;

/* What is 4 KiB ahead of a byte of a piece, or of the next one that this thread has. */
FOVEA_INLINE void fetch_far(const void *x, const void *next, int64_t byte, int64_t bytes) {
    const char *far = byte + 4096 < bytes ? (const char *)x + bytes : (const char *)next;
    __builtin_prefetch(far + (byte + 4096 - bytes), 0, 2);
    __builtin_prefetch((const char *)x + byte + 512, 0, 3);
}

/* The kept elements of a piece side by side; returns how many. Up to a vector beyond them is written. */
FOVEA_INLINE int64_t keep_words(choice choice, bool past, const compact_plan *p, const piece *from,
                                float *to, meanwhile *m) {
    const float *x = (const float *)(const void *)from->x;
    int64_t n = from->n, kept = 0, i = 0, due = 0;
    outflow out = m->past; /* in registers */
    int64_t share = (out.end - out.to) / VF_WIDTH, vectors = n / VF_WIDTH;
    for (; i + VF_WIDTH <= n; i += VF_WIDTH) {
        if (past) fetch_far(x, m->next.x, i * 4, n * 4);
        if (past && choice == BY_MASK && i % LINE_BYTES == 0)
            fetch_far(from->mask, m->next.mask, i, n);
        uint32_t lanes = kept_lanes(choice, p, from, i, VF_WIDTH);
        vf_store(to + kept, vf_compress(vf_load(x + i), lanes));
        kept += __builtin_popcount(lanes);
        if (past && (due += share) >= vectors) due -= vectors, outflow_put(&out);
    }
    m->past = out;
    if (i == n) return kept;
    uint32_t lanes = kept_lanes(choice, p, from, i, n - i);
    vf_store(to + kept, vf_compress(vf_load_n(x + i, (size_t)(n - i)), lanes));
    return kept + __builtin_popcount(lanes);
}
FOVEA_INLINE int64_t keep_words_of(bool past, const compact_plan *p, const piece *from, float *to,
                                   meanwhile *m) {
    if (p->masked) return keep_words(BY_MASK, past, p, from, to, m);
    if (p->x.dtype == FOVEA_F32) return keep_words(FLOATS_ABOVE, past, p, from, to, m);
    return keep_words(WORDS_ABOVE, past, p, from, to, m);
}

static int64_t keep_longs(const compact_plan *p, const piece *from, dense_uint64_t *to) {
    const dense_uint64_t *x = (const dense_uint64_t *)(const void *)from->x;
    const double *doubles = (const double *)(const void *)from->x;
    const int64_t *longs = (const int64_t *)(const void *)from->x;
    int64_t kept = 0;
    for (int64_t i = 0; i < from->n; i++) {
        to[kept] = x[i];
        kept += from->mask                ? from->mask[i] != 0
                : p->x.dtype == FOVEA_F64 ? doubles[i] > p->double_limit
                                          : longs[i] > p->long_limit;
    }
    return kept;
}

/* Where a piece is; x NULL: its elements stand apart. */
static piece find_piece(const compact_plan *p, int64_t number) {
    int64_t first = number * p->piece;
    piece found = {.n = smaller(p->piece, p->elements - first)};
    found.x = dense_place(&p->x, first, found.n);
    if (p->masked) found.mask = dense_place(&p->mask, first, found.n);
    return found;
}

static int64_t keep_piece(const compact_plan *p, int64_t number, char *to, meanwhile *m) {
    _Alignas(64) char x_block[STRIDED_BYTES];
    uint8_t mask_block[STRIDED_BYTES / 4];
    piece from = find_piece(p, number);
    int64_t first = number * p->piece;
    if (!from.x) dense_read(&p->x, first, from.n, x_block), from.x = x_block;
    if (p->masked && !from.mask)
        dense_read(&p->mask, first, from.n, mask_block), from.mask = mask_block;
    if (p->size == 8) return keep_longs(p, &from, (dense_uint64_t *)(void *)to);
    float *words = (float *)(void *)to;
    return p->stream ? keep_words_of(true, p, &from, words, m)
                     : keep_words_of(false, p, &from, words, m);
}

static void compact_chain(const void *task, int64_t begin, int64_t end, int thread) {
    const compact_plan *p = task;
    meanwhile m = {.past = {0}};
    int64_t number, next, turn = 2 * thread;
    (void)begin, (void)end;
    for (bool more = chain_take(p->chain, &number); more; number = next, turn ^= 1) {
        char *kept = p->blocks + turn * p->block_bytes;
        more = chain_take(p->chain, &next);
        m.next = find_piece(p, more ? next : number);
        int64_t count = keep_piece(p, number, kept, &m);
        outflow_end(&m.past);
        chain_value before = chain_wait(p->chain, number);
        int64_t place = (int64_t)before.word;
        before.word += (uint64_t)count;
        chain_pass(p->chain, number, before);
        char *y = p->y.data + place * p->size;
        if (p->stream)
            m.past = outflow_begin((float *)(void *)kept, count, (float *)(void *)y);
        else if (p->y.stride[0] == 1)
            memcpy(y, kept, (size_t)(count * p->size));
        else
            dense_write(&p->y, place, count, kept);
    }
    outflow_end(&m.past);
    if (p->stream) vf_stream_fence();
}

/* Of a piece, and what a vector may write beyond it. */
static int64_t kept_bytes(const fovea_view *x) {
    return smaller(fovea_view_elements(x) * (int64_t)fovea_dtype_size(x->dtype), KEPT_BYTES) / 64 *
               64 +
           128;
}
static size_t compact_workspace(const fovea_problem *problem, int threads) {
    return (size_t)(2 * threads * kept_bytes(&problem->views[0]));
}

static fovea_status compact(compact_plan *p, fovea_run *run, const fovea_view *count) {
    chain chain = {0};
    int allowed = run->threads;
    int64_t kept;
    p->elements = fovea_view_elements(&p->x);
    p->size = (int64_t)fovea_dtype_size(p->x.dtype);
    bool dense =
        p->x.stride[0] == 1 && p->y.stride[0] == 1 && (!p->masked || p->mask.stride[0] == 1);
    bool large = fovea_worth_streaming(2 * p->elements * p->size, allowed);
    p->piece = (dense && large ? KEPT_BYTES : STRIDED_BYTES) / p->size;
    p->blocks = run->workspace, p->block_bytes = kept_bytes(&p->x);
    p->stream = dense && large && p->size == 4 && VF_WIDTH > 1 && (uintptr_t)p->y.data % 4 == 0;
    p->chain = &chain;
    chain.pieces = divide_up(p->elements, p->piece);
    run->threads = fovea_useful_threads(chain.pieces, 2 * p->elements * p->size, allowed);
    if (p->elements > 0) fovea_share(run->threads, run->threads, compact_chain, p);
    kept = (int64_t)chain.value.word;
    memcpy(count->data, &kept, sizeof kept);
    return FOVEA_OK;
}

static fovea_status compact_mask(const fovea_problem *problem, fovea_run *run) {
    compact_plan p = {
        .x = problem->views[0], .mask = problem->views[1], .y = problem->views[2], .masked = true};
    return compact(&p, run, &problem->views[3]);
}

static fovea_status keep_above(const fovea_problem *problem, fovea_run *run, double threshold) {
    compact_plan p = {.x = problem->views[0], .y = problem->views[1]};
    fovea_dtype dtype = p.x.dtype;
    p.float_limit = (float)threshold, p.double_limit = threshold;
    if (dtype == FOVEA_I64) fovea_write_element(&p.long_limit, dtype, threshold);
    if (dtype == FOVEA_I32 || dtype == FOVEA_U32)
        fovea_write_element(&p.word_limit, dtype, threshold);
    p.word_sign = dtype == FOVEA_U32 ? INT32_MIN : 0;
    p.word_limit ^= p.word_sign;
    return compact(&p, run, &problem->views[2]);
}

static fovea_status compact_if(const fovea_problem *problem, fovea_run *run) {
    const fovea_compact_if_options *options = problem->options;
    return keep_above(problem, run, options->threshold);
}
static fovea_status fused_scan_compact(const fovea_problem *problem, fovea_run *run) {
    const fovea_fused_scan_compact_options *options = problem->options;
    return keep_above(problem, run, options->threshold);
}

#define DTYPES                                                                                     \
    (1u << FOVEA_F32 | 1u << FOVEA_F64 | 1u << FOVEA_I32 | 1u << FOVEA_U32 | 1u << FOVEA_I64)
#define ENTRY(name)                                                                                \
    { #name, FOVEA_CPU_NAME("chain"), DTYPES, FOVEA_TIER_HERE, .run = name }
#define COMPACT_ENTRY(name)                                                                        \
    {                                                                                              \
        #name, FOVEA_CPU_NAME("chain"), DTYPES, FOVEA_TIER_HERE, .workspace = compact_workspace,   \
                                                                 .run = name                       \
    }

const fovea_implementation FOVEA_TIERED(fovea_cpu_scans)[] = {ENTRY(scan_exclusive),
                                                              ENTRY(scan_inclusive),
                                                              COMPACT_ENTRY(compact_mask),
                                                              COMPACT_ENTRY(compact_if),
                                                              COMPACT_ENTRY(fused_scan_compact),
                                                              {0}};
