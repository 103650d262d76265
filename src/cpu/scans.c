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
#include "cpu/simd/simd_order.h"
#include "cpu/threads.h"
#include "fovea/kernels.h"

#include <math.h>

enum { PIECE_BYTES = 1 << 16, STRIDED_BYTES = 1 << 14, FETCHED_BYTES = 1 << 12 };

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
enum { FETCHED_FURTHER = 2048 }; /* bytes */

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
            if (write && VF_WIDTH > 1)                                                             \
                __builtin_prefetch((const char *)(ahead + i) + (follow ? FETCHED_FURTHER : 0), 0,  \
                                   3);                                                             \
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
    p.row_pieces = divide_up(p.length, p.piece);
    p.several = larger(p.piece / p.length, 1);
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

enum { KEPT_MAX = PIECE_BYTES / 4, LINE_WORDS = 16, RUN_WORDS = 1024 }; /* elements of a piece */

/* Which elements of a piece are kept: bits by vectors, or bytes by elements of 64 bits. */
typedef struct flags {
    uint16_t vectors[KEPT_MAX / VF_WIDTH + 1];
    uint8_t elements[KEPT_MAX];
    int64_t count;
} flags;

typedef struct compact_plan {
    fovea_view x, y, mask;
    bool masked;
    float float_limit;
    double double_limit;
    int64_t long_limit;
    int32_t word_limit, word_sign; /* of u32 with the sign bit changed, which is word_sign */
    int64_t size, elements, piece;
    bool stream;
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

/* Those of a piece from element i on, a whole number of vectors. */
FOVEA_INLINE void flag_rest(choice choice, const compact_plan *p, const piece *from, int64_t i,
                            flags *f) {
    for (int64_t lanes; i < from->n; i += lanes) {
        lanes = smaller(VF_WIDTH, from->n - i);
        f->vectors[i / VF_WIDTH] = (uint16_t)kept_lanes(choice, p, from, i, lanes);
        f->count += __builtin_popcount(f->vectors[i / VF_WIDTH]);
    }
}
static void flag_words(const compact_plan *p, const piece *from, flags *f) {
    if (from->mask)
        flag_rest(BY_MASK, p, from, 0, f);
    else if (p->x.dtype == FOVEA_F32)
        flag_rest(FLOATS_ABOVE, p, from, 0, f);
    else
        flag_rest(WORDS_ABOVE, p, from, 0, f);
}

static void flag_longs(const compact_plan *p, const piece *from, flags *f) {
    const double *doubles = (const double *)(const void *)from->x;
    const int64_t *longs = (const int64_t *)(const void *)from->x;
    for (int64_t i = 0; i < from->n; i++) {
        f->elements[i] = from->mask                ? from->mask[i] != 0
                         : p->x.dtype == FOVEA_F64 ? doubles[i] > p->double_limit
                                                   : longs[i] > p->long_limit;
        f->count += f->elements[i];
    }
}

/* The kept elements side by side; nothing is written beyond the last of them. */
static void keep_words(const char *x, char *y, int64_t n, const flags *f) {
    const float *from = (const float *)(const void *)x;
    float *to = (float *)(void *)y;
    int64_t kept = 0, v = 0;
    for (int64_t i = 0; i < n; i += VF_WIDTH, v++) {
        int64_t count = __builtin_popcount(f->vectors[v]), lanes = smaller(VF_WIDTH, n - i);
        vf whole = lanes == VF_WIDTH ? vf_load(from + i) : vf_load_n(from + i, (size_t)lanes);
        vf front = vf_compress(whole, f->vectors[v]);
        if (kept + VF_WIDTH <= f->count)
            vf_store(to + kept, front);
        else
            vf_store_n(to + kept, front, (size_t)count);
        kept += count;
    }
}

/* What was gathered of lines that begin at `base`: whole ones past the caches; of the first, where others own
 * what stands before `first`, and of the last, what is ours. */
static void put_lines(const float *lines, int64_t first, int64_t end, float *base) {
    int64_t i = 0;
    if (first > 0) {
        memcpy(base + first, lines + first,
               (size_t)(smaller(end, LINE_WORDS) - first) * sizeof *base);
        i = LINE_WORDS;
    }
    for (; i + LINE_WORDS <= end; i += LINE_WORDS)
        VF_UNROLLED for (int v = 0; v < LINE_WORDS; v += VF_WIDTH)
            vf_stream(base + i + v, vf_load(lines + i + v));
    if (i < end) memcpy(base + i, lines + i, (size_t)(end - i) * sizeof *base);
}

/* The same past the caches; the piece that is wanted next is fetched, and flagged. */
FOVEA_INLINE void keep_past(choice choice, const compact_plan *p, const piece *from, char *y,
                            const flags *f, const piece *next, flags *following) {
    _Alignas(64) float lines[RUN_WORDS + 2 * LINE_WORDS];
    const float *x = (const float *)(const void *)from->x;
    int64_t first = (int64_t)((uintptr_t)y / sizeof *x % LINE_WORDS), at = first, v = 0;
    int64_t flagged = next->n / VF_WIDTH * VF_WIDTH;
    float *base = (float *)(void *)y - first;
    following->count = 0;
    for (int64_t i = 0; i < from->n; i += VF_WIDTH, v++) {
        int64_t lanes = smaller(VF_WIDTH, from->n - i);
        vf whole = lanes == VF_WIDTH ? vf_load(x + i) : vf_load_n(x + i, (size_t)lanes);
        if (i < flagged) {
            fetch_ahead(next->x, i * (int64_t)sizeof *x);
            if (choice == BY_MASK && i % 64 == 0) fetch_ahead(next->mask, i);
            following->vectors[v] = (uint16_t)kept_lanes(choice, p, next, i, VF_WIDTH);
            following->count += __builtin_popcount(following->vectors[v]);
        }
        vf_store(lines + at, vf_compress(whole, f->vectors[v]));
        at += __builtin_popcount(f->vectors[v]);
        if (at < RUN_WORDS) continue;
        put_lines(lines, first, RUN_WORDS, base);
        base += RUN_WORDS, at -= RUN_WORDS, first = 0;
        memcpy(lines, lines + RUN_WORDS, LINE_WORDS * sizeof *lines);
    }
    flag_rest(choice, p, next, flagged, following);
    if (at > first) put_lines(lines, first, at, base);
}
static void keep_words_past(const compact_plan *p, const piece *from, char *y, const flags *f,
                            const piece *next, flags *following) {
    if (p->masked)
        keep_past(BY_MASK, p, from, y, f, next, following);
    else if (p->x.dtype == FOVEA_F32)
        keep_past(FLOATS_ABOVE, p, from, y, f, next, following);
    else
        keep_past(WORDS_ABOVE, p, from, y, f, next, following);
}

static void keep_longs(const char *x, char *y, const flags *f) {
    const dense_uint64_t *from = (const dense_uint64_t *)(const void *)x;
    dense_uint64_t *to = (dense_uint64_t *)(void *)y;
    for (int64_t i = 0, kept = 0; kept < f->count; i++) to[kept] = from[i], kept += f->elements[i];
}

/* Where a piece is; x NULL: its elements stand apart. No piece has number -1, and no elements. */
static piece find_piece(const compact_plan *p, int64_t number) {
    int64_t first = number * p->piece;
    if (number < 0) return (piece){0};
    piece found = {.n = smaller(p->piece, p->elements - first)};
    found.x = dense_place(&p->x, first, found.n);
    if (p->masked) found.mask = dense_place(&p->mask, first, found.n);
    return found;
}

/* f: what is kept of the piece if that is known already; following: of the next, found if the results go past the
 * caches. */
static void compact_piece(const compact_plan *p, int64_t number, int64_t next, bool known, flags *f,
                          flags *following) {
    _Alignas(64) char x_block[STRIDED_BYTES], y_block[STRIDED_BYTES];
    uint8_t mask_block[STRIDED_BYTES / 4];
    piece from = find_piece(p, number);
    int64_t first = number * p->piece;
    if (!from.x) dense_read(&p->x, first, from.n, x_block), from.x = x_block;
    if (p->masked && !from.mask)
        dense_read(&p->mask, first, from.n, mask_block), from.mask = mask_block;
    if (!known) f->count = 0, (p->size == 4 ? flag_words : flag_longs)(p, &from, f);
    chain_value before = chain_wait(p->chain, number);
    int64_t place = (int64_t)before.word;
    before.word += (uint64_t)f->count;
    chain_pass(p->chain, number, before);
    char *y = p->y.stride[0] == 1 ? p->y.data + place * p->size : y_block;
    piece later = find_piece(p, p->stream ? next : -1);
    if (p->stream)
        keep_words_past(p, &from, y, f, &later, following);
    else if (p->size == 4)
        keep_words(from.x, y, from.n, f);
    else
        keep_longs(from.x, y, f);
    if (y == y_block) dense_write(&p->y, place, f->count, y_block);
}

static void compact_chain(const void *task, int64_t begin, int64_t end, int thread) {
    const compact_plan *p = task;
    flags kept[2];
    (void)begin, (void)end, (void)thread;
    int64_t piece, next, turn = 0;
    for (bool more = chain_take(p->chain, &piece); more; piece = next, turn++) {
        more = chain_take(p->chain, &next);
        compact_piece(p, piece, more ? next : -1, p->stream && turn > 0, &kept[turn % 2],
                      &kept[(turn + 1) % 2]);
    }
    if (p->stream) vf_stream_fence();
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
    p->piece = (dense && large ? PIECE_BYTES : STRIDED_BYTES) / p->size;
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

const fovea_implementation FOVEA_TIERED(fovea_cpu_scans)[] = {
    ENTRY(scan_exclusive), ENTRY(scan_inclusive),     ENTRY(compact_mask),
    ENTRY(compact_if),     ENTRY(fused_scan_compact), {0}};
