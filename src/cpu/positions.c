/* Rotary embedding and ALiBi.
 *
 * rope_apply moves 8 bytes an element of f32 for 3 operations: memory decides. The tables of all
 * positions are made once for all heads, where they are not given. Pairs 2j, 2j + 1 take tables
 * spread over both elements, with the sign in the sine: y = x cos + swapped(x) sin.
 *
 * fused_rope_attention_mask is a matrix product of 2 D operations for each of S^2/2 results. Rotated
 * keys lie in panels of two vectors, [element][key]; blocks of six rotated queries take twelve
 * accumulators over 128 elements at a time. Each thread rotates the keys of its batch for itself, 1
 * operation for S of the product. Blocks are dealt from both ends of the triangle in turn. */
#include "catalogue/network.h"
#include "cpu/angles.h"
#include "cpu/rows.h"

/* ---- Tables --------------------------------------------------------------------------------- */

typedef struct rope_tables {
    const float *cosines, *sines; /* of row p at p * step */
    int64_t step, pairs;
    bool interleaved; /* then spread: 2 pairs floats a row */
} rope_tables;

typedef struct table_task {
    const fovea_view *cosines, *sines; /* NULL: from the turns */
    const double *turns;
    float *to_cosines, *to_sines;
    int64_t pairs, offset;
    bool interleaved;
} table_task;

static void read_row(const fovea_view *table, int64_t row, int64_t pairs, float *to) {
    const float *from = (const float *)(const void *)table->data + row * table->stride[0];
    for (int64_t j = 0; j < pairs; j++) to[j] = from[j * table->stride[1]];
}

/* In place, from the end. */
static void spread(float *row, int64_t pairs, float sign) {
    for (int64_t j = pairs - 1; j >= 0; j--) {
        float value = row[j];
        row[2 * j] = sign * value, row[2 * j + 1] = value;
    }
}

static void make_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    const table_task *task = argument;
    int64_t step = task->interleaved ? 2 * task->pairs : task->pairs;
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        float *cosines = task->to_cosines + row * step, *sines = task->to_sines + row * step;
        if (task->cosines) {
            read_row(task->cosines, row, task->pairs, cosines);
            read_row(task->sines, row, task->pairs, sines);
        } else {
            angles_at(task->turns, (double)row + (double)task->offset, task->pairs, cosines, sines);
        }
        if (task->interleaved) spread(cosines, task->pairs, 1), spread(sines, task->pairs, -1);
    }
}

/* What a call says of them, looked up by name once. */
typedef struct rope_facts {
    const fovea_view *cosines, *sines; /* as given; NULL: by base and offset */
    int64_t rows, size;
    bool interleaved, in_place;
} rope_facts;

static rope_facts find_facts(const fovea_problem *problem) {
    rope_facts facts = {.cosines = fovea_problem_view(problem, "cos"),
                        .sines = fovea_problem_view(problem, "sin"),
                        .rows = fovea_problem_extent(problem, "S"),
                        .size = fovea_problem_extent(problem, "D"),
                        .interleaved = fovea_problem_parameter(problem, "pairing") != 0};
    const fovea_view *c = facts.cosines, *s = facts.sines;
    bool dense = c && (c->shape[1] == 1 || (c->stride[1] == 1 && s->stride[1] == 1));
    facts.in_place = !facts.interleaved && dense && c->stride[0] == s->stride[0];
    return facts;
}

static int64_t turns_bytes(int64_t pairs) { return divide_up(pairs * 8, 64) * 64; }

static size_t tables_bytes(const rope_facts *facts) {
    if (facts->in_place) return 0;
    int64_t of_row = facts->interleaved ? facts->size : facts->size / 2;
    return (size_t)(turns_bytes(facts->size / 2) + 2 * rows_scratch_bytes(facts->rows * of_row));
}

static rope_tables make_tables(const fovea_problem *problem, const rope_facts *facts,
                               char *workspace, int threads) {
    int64_t rows = facts->rows, size = facts->size;
    const fovea_view *c = facts->cosines, *s = facts->sines;
    rope_tables tables = {.pairs = size / 2, .interleaved = facts->interleaved};
    if (facts->in_place) {
        tables.cosines = (const float *)(const void *)c->data;
        tables.sines = (const float *)(const void *)s->data;
        tables.step = c->stride[0];
        return tables;
    }
    double *turns = (double *)(void *)workspace;
    tables.step = tables.interleaved ? size : size / 2;
    table_task task = {.cosines = c,
                       .sines = s,
                       .turns = turns,
                       .to_cosines = (float *)(void *)(workspace + turns_bytes(size / 2)),
                       .pairs = size / 2,
                       .offset = (int64_t)fovea_problem_parameter(problem, "offset"),
                       .interleaved = tables.interleaved};
    task.to_sines = task.to_cosines + rows_scratch_bytes(rows * tables.step) / 4;
    tables.cosines = task.to_cosines, tables.sines = task.to_sines;
    if (!c) angles_frequencies(fovea_problem_parameter(problem, "base"), size / 2, turns);
    fovea_share(rows, fovea_useful_threads(rows, rows * size * 8, threads), make_rows, &task);
    return tables;
}

/* ---- Rotation ------------------------------------------------------------------------------- */

FOVEA_INLINE vf swapped(vf x) {
#if VF_WIDTH >= 8
    vi bits = vf_as_vi(x);
    return vi_as_vf(vi_merge(vi_odd_to_even(bits), bits));
#else
    float lanes[VF_WIDTH], other[VF_WIDTH];
    vf_store(lanes, x);
    for (int l = 0; l < VF_WIDTH; l++) other[l] = lanes[l ^ (VF_WIDTH > 1)];
    return vf_load(other);
#endif
}

/* Pairs side by side, with spread tables. */
FOVEA_INLINE void rotate_spread(fovea_dtype dtype, const void *x, const float *cosines,
                                const float *sines, int64_t size, void *y) {
    for (int64_t i = 0; i < size && VF_WIDTH == 1; i += 2) {
        vf a = vf_load_as(dtype, x, i), b = vf_load_as(dtype, x, i + 1);
        vf c = vf_load(cosines + i), s = vf_load(sines + i + 1);
        vf_store_as(dtype, y, i, vf_fms(a, c, vf_mul(b, s)));
        vf_store_as(dtype, y, i + 1, vf_fma(a, s, vf_mul(b, c)));
    }
    for (int64_t i = 0; i < size && VF_WIDTH > 1; i += VF_WIDTH) {
        int64_t n = smaller(VF_WIDTH, size - i);
        vf a = vf_load_n_as(dtype, x, i, n);
        vf c = vf_load_n(cosines + i, (size_t)n), s = vf_load_n(sines + i, (size_t)n);
        vf_store_n_as(dtype, y, i, vf_fma(a, c, vf_mul(swapped(a), s)), n);
    }
}

FOVEA_INLINE void rotate(const rope_tables *tables, fovea_dtype dtype, const void *x, int64_t p,
                         void *y) {
    const float *c = tables->cosines + p * tables->step, *s = tables->sines + p * tables->step;
    if (tables->interleaved)
        rotate_spread(dtype, x, c, s, 2 * tables->pairs, y);
    else
        angles_rotate_half(dtype, x, c, s, tables->pairs, y);
}

/* ---- rope_apply ----------------------------------------------------------------------------- */

typedef struct rope_plan {
    rope_tables tables;
    int64_t positions;
} rope_plan;

static void rope_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const rows_plan *plan = task;
    const rope_plan *rope = plan->constants;
    float *scratch = (float *)(void *)(plan->scratch + thread * plan->scratch_step);
    for (int64_t row = begin; row < end; row++) {
        const char *x = rows_address(&plan->x, row);
        char *y = rows_address(&plan->y, row);
        int64_t p = row % rope->positions;
        if (plan->x_step != 1 || plan->y_step != 1) {
            const float *from = rows_load(plan->dtype, x, plan->x_step, plan->columns, scratch);
            rotate(&rope->tables, FOVEA_F32, from, p, scratch);
            rows_scatter(plan->dtype, scratch, plan->columns, y, plan->y_step);
        } else if (plan->dtype == FOVEA_F16) {
            rotate(&rope->tables, FOVEA_F16, x, p, y);
        } else if (plan->dtype == FOVEA_BF16) {
            rotate(&rope->tables, FOVEA_BF16, x, p, y);
        } else {
            rotate(&rope->tables, FOVEA_F32, x, p, y);
        }
    }
}

static size_t rope_workspace(const fovea_problem *problem, int threads) {
    rope_facts facts = find_facts(problem);
    return tables_bytes(&facts) + (size_t)(rows_scratch_bytes(facts.size) * threads);
}

static fovea_status rope_apply(const fovea_problem *problem, fovea_run *run) {
    rows_plan plan = rows_make_plan(&problem->views[0], &problem->views[1]);
    rope_facts facts = find_facts(problem);
    rope_plan rope = {.positions = facts.rows};
    if (plan.rows == 0) return run->threads = 1, FOVEA_OK;
    rope.tables = make_tables(problem, &facts, run->workspace, run->threads);
    plan.constants = &rope;
    plan.scratch = (char *)run->workspace + tables_bytes(&facts);
    return rows_call(&plan, run, rope_rows, 8);
}

/* ---- rope_precompute ------------------------------------------------------------------------ */

typedef struct precompute_plan {
    const fovea_view *cosines, *sines;
    const double *turns;
    char *scratch; /* two rows for each thread */
    int64_t pairs, offset;
} precompute_plan;

static void write_row(const fovea_view *view, int64_t row, const float *from, int64_t n) {
    float *to = (float *)(void *)view->data + row * view->stride[0];
    for (int64_t j = 0; j < n; j++) to[j * view->stride[1]] = from[j];
}

static void precompute_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const precompute_plan *plan = task;
    int64_t bytes = rows_scratch_bytes(plan->pairs);
    float *cosines = (float *)(void *)(plan->scratch + 2 * bytes * thread);
    float *sines = cosines + bytes / 4;
    bool direct = plan->cosines->stride[1] == 1 && plan->sines->stride[1] == 1;
    for (int64_t row = begin; row < end; row++) {
        if (direct) {
            cosines = (float *)(void *)plan->cosines->data + row * plan->cosines->stride[0];
            sines = (float *)(void *)plan->sines->data + row * plan->sines->stride[0];
        }
        angles_at(plan->turns, (double)row + (double)plan->offset, plan->pairs, cosines, sines);
        if (direct) continue;
        write_row(plan->cosines, row, cosines, plan->pairs);
        write_row(plan->sines, row, sines, plan->pairs);
    }
}

static size_t precompute_workspace(const fovea_problem *problem, int threads) {
    int64_t pairs = problem->views[0].shape[1];
    return (size_t)(turns_bytes(pairs) + 2 * rows_scratch_bytes(pairs) * threads);
}

static fovea_status rope_precompute(const fovea_problem *problem, fovea_run *run) {
    const fovea_rope_precompute_options *options = problem->options;
    const fovea_view *cosines = &problem->views[0], *sines = &problem->views[1];
    int64_t rows = cosines->shape[0], pairs = cosines->shape[1];
    int allowed = run->threads;
    run->threads = 1;
    if (rows == 0 || pairs == 0) return FOVEA_OK;
    double *turns = run->workspace;
    angles_frequencies(options->base, pairs, turns);
    precompute_plan plan = {.cosines = cosines,
                            .sines = sines,
                            .turns = turns,
                            .scratch = (char *)run->workspace + turns_bytes(pairs),
                            .pairs = pairs,
                            .offset = options->offset};
    run->threads = fovea_useful_threads(rows, rows * pairs * 32, allowed);
    fovea_share(rows, run->threads, precompute_rows, &plan);
    return FOVEA_OK;
}

/* ---- ALiBi ---------------------------------------------------------------------------------- */

typedef struct alibi_plan {
    const fovea_view *slopes; /* NULL: by the number of heads */
    int64_t heads, queries, offset;
} alibi_plan;

typedef struct alibi_row {
    float slope;
    int64_t position;
} alibi_row;

/* Distances are exact while they are below 2^24. */
FOVEA_INLINE vf biased(const float *x, void *state, int64_t i, int64_t n) {
    const alibi_row *row = state;
    vf first = vf_set1((float)(i - row->position));
    vf distance = vf_add(first, vf_from_vi(vi_iota()));
    return vf_fma(vf_set1(row->slope), distance, rows_take(x, i, n));
}

static float slope_of(const alibi_plan *plan, int64_t head) {
    if (!plan->slopes) return (float)exp2(-8 * (double)(head + 1) / (double)plan->heads);
    return ((const float *)(const void *)plan->slopes->data)[head * plan->slopes->stride[0]];
}

static void alibi_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const rows_plan *plan = task;
    const alibi_plan *alibi = plan->constants;
    float *scratch = (float *)(void *)(plan->scratch + thread * plan->scratch_step);
    int64_t known = -1;
    alibi_row state = {0};
    for (int64_t row = begin; row < end; row++) {
        int64_t head = row / alibi->queries % alibi->heads;
        if (head != known) state.slope = slope_of(alibi, head), known = head;
        state.position = row % alibi->queries + alibi->offset;
        char *scores = rows_address(&plan->y, row);
        const float *x = rows_load(plan->dtype, scores, plan->y_step, plan->columns, scratch);
        rows_store(plan, scores, biased, x, &state, scratch);
    }
}

static size_t alibi_workspace(const fovea_problem *problem, int threads) {
    const fovea_view *scores = &problem->views[0];
    return (size_t)(rows_scratch_bytes(scores->shape[scores->rank - 1]) * threads);
}

static fovea_status alibi_bias(const fovea_problem *problem, fovea_run *run) {
    const fovea_alibi_bias_options *options = problem->options;
    rows_plan plan = rows_make_plan(&problem->views[0], &problem->views[0]);
    alibi_plan alibi = {.slopes = fovea_problem_view(problem, "slopes"),
                        .heads = fovea_problem_extent(problem, "H"),
                        .queries = fovea_problem_extent(problem, "Sq"),
                        .offset = options->offset};
    plan.constants = &alibi;
    plan.scratch = run->workspace;
    return rows_call(&plan, run, alibi_rows, 8);
}

/* ---- Scores of rotated rows ----------------------------------------------------------------- */

enum { SCORE_ROWS = 6, SCORE_VECTORS = 2, PANEL = SCORE_VECTORS * VF_WIDTH, SCORE_CHAIN = 128 };

typedef struct scores_plan {
    rows_side q, k; /* rows of [batch, S] */
    rows_plan out;
    rope_tables tables;
    int64_t rows, size, blocks; /* blocks: of queries, in a batch */
    float scale;
    char *scratch;
    int64_t scratch_step; /* bytes of a thread */
} scores_plan;

/* A thread's scratch. */
typedef struct scores_room {
    float *panels, *queries, *strip, *row;
} scores_room;

static int64_t padded_rows(int64_t rows) { return divide_up(rows, PANEL) * PANEL; }
static int64_t scores_room_bytes(int64_t rows, int64_t size) {
    return rows_scratch_bytes(padded_rows(rows) * size) + rows_scratch_bytes(SCORE_ROWS * size) +
           rows_scratch_bytes(SCORE_ROWS * padded_rows(rows)) + rows_scratch_bytes(size);
}
static scores_room room_of(const scores_plan *plan, int thread) {
    char *at = plan->scratch + thread * plan->scratch_step;
    scores_room room = {.panels = (float *)(void *)at};
    at += rows_scratch_bytes(padded_rows(plan->rows) * plan->size);
    room.queries = (float *)(void *)at;
    at += rows_scratch_bytes(SCORE_ROWS * plan->size);
    room.strip = (float *)(void *)at;
    at += rows_scratch_bytes(SCORE_ROWS * padded_rows(plan->rows));
    room.row = (float *)(void *)at;
    return room;
}

/* Row p of a batch as floats, rotated. */
static void rotated_row(const scores_plan *plan, const rows_side *side, int64_t batch, int64_t p,
                        float *to) {
    if (plan->size == 0) return;
    const char *from = rows_address(&side->rows, batch * plan->rows + p);
    const float *x = rows_load(side->rows.dtype, from, side->step, plan->size, to);
    rotate(&plan->tables, FOVEA_F32, x, p, to);
}

/* Keys as panels; those beyond the last are 0. */
static void pack_keys(const scores_plan *plan, int64_t batch, const scores_room *room) {
    int64_t size = plan->size, whole = plan->rows / PANEL * PANEL;
    if (whole < plan->rows)
        memset(room->panels + whole * size, 0, (size_t)(PANEL * size) * sizeof *room->panels);
    for (int64_t p = 0; p < plan->rows; p++) {
        float *panel = room->panels + p / PANEL * PANEL * size + p % PANEL;
        rotated_row(plan, &plan->k, batch, p, room->row);
        for (int64_t d = 0; d < size; d++) panel[d * PANEL] = room->row[d];
    }
}

/* strip[i][0, PANEL) = query i . the keys of a panel. */
static void multiply_panel(const float *queries, const float *panel, int64_t size, float *strip,
                           int64_t strip_step) {
    for (int64_t first = 0; first < size; first += SCORE_CHAIN) {
        int64_t end = smaller(size, first + SCORE_CHAIN);
        vf sum[SCORE_ROWS][SCORE_VECTORS];
        VF_UNROLLED for (int i = 0; i < SCORE_ROWS; i++)
            VF_UNROLLED for (int v = 0; v < SCORE_VECTORS; v++) sum[i][v] = vf_set1(0);
        for (int64_t d = first; d < end; d++) {
            vf keys[SCORE_VECTORS];
            VF_UNROLLED for (int v = 0; v < SCORE_VECTORS; v++) keys[v] =
                vf_load(panel + d * PANEL + v * VF_WIDTH);
            VF_UNROLLED for (int i = 0; i < SCORE_ROWS; i++) {
                vf query = vf_set1(queries[i * size + d]);
                VF_UNROLLED for (int v = 0; v < SCORE_VECTORS; v++) sum[i][v] =
                    vf_fma(query, keys[v], sum[i][v]);
            }
        }
        VF_UNROLLED for (int i = 0; i < SCORE_ROWS; i++)
            VF_UNROLLED for (int v = 0; v < SCORE_VECTORS; v++) {
            float *to = strip + i * strip_step + v * VF_WIDTH;
            vf_store(to, first == 0 ? sum[i][v] : vf_add(vf_load(to), sum[i][v]));
        }
    }
}

FOVEA_INLINE vf masked_score(const float *x, void *state, int64_t i, int64_t n) {
    int64_t allowed = *(const int64_t *)state - i;
    size_t lanes = (size_t)larger(0, smaller(allowed, VF_WIDTH));
    return vf_select(vm_first(lanes), rows_take(x, i, n), vf_set1(-INFINITY));
}

static void score_block(const scores_plan *plan, int64_t batch, int64_t block,
                        const scores_room *room) {
    int64_t first = block * SCORE_ROWS, count = smaller(SCORE_ROWS, plan->rows - first);
    int64_t step = padded_rows(plan->rows);
    const vf scale = vf_set1(plan->scale);
    for (int64_t i = 0; i < SCORE_ROWS; i++) {
        float *query = room->queries + i * plan->size;
        if (i >= count) {
            memset(query, 0, (size_t)plan->size * sizeof *query);
            continue;
        }
        rotated_row(plan, &plan->q, batch, first + i, query);
        for (int64_t d = 0; d < plan->size; d += VF_WIDTH) {
            size_t n = (size_t)smaller(VF_WIDTH, plan->size - d);
            vf_store_n(query + d, vf_mul(vf_load_n(query + d, n), scale), n);
        }
    }
    memset(room->strip, 0, (size_t)(SCORE_ROWS * step) * sizeof *room->strip);
    for (int64_t key = 0; key < first + count; key += PANEL)
        multiply_panel(room->queries, room->panels + key * plan->size, plan->size,
                       room->strip + key, step);
    for (int64_t i = 0; i < count; i++) {
        int64_t allowed = first + i + 1;
        rows_store(&plan->out, rows_address(&plan->out.y, batch * plan->rows + first + i),
                   masked_score, room->strip + i * step, &allowed, room->strip + i * step);
    }
}

static void score_blocks(const void *task, int64_t begin, int64_t end, int thread) {
    const scores_plan *plan = task;
    scores_room room = room_of(plan, thread);
    int64_t packed = -1;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t batch = piece / plan->blocks, number = piece % plan->blocks;
        if (batch != packed) pack_keys(plan, batch, &room), packed = batch;
        int64_t block = number % 2 ? plan->blocks - 1 - number / 2 : number / 2;
        score_block(plan, batch, block, &room);
    }
}

static size_t scores_workspace(const fovea_problem *problem, int threads) {
    rope_facts facts = find_facts(problem);
    return tables_bytes(&facts) + (size_t)(scores_room_bytes(facts.rows, facts.size) * threads);
}

static fovea_status fused_rope_attention_mask(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *out = &problem->views[2];
    rope_facts facts = find_facts(problem);
    scores_plan plan;
    int allowed = run->threads;
    run->threads = 1;
    if (fovea_view_elements(out) == 0) return FOVEA_OK;
    plan.q = rows_make_side(&problem->views[0]), plan.k = rows_make_side(&problem->views[1]);
    plan.out = rows_make_plan(out, out);
    plan.rows = facts.rows, plan.size = facts.size;
    int64_t batches = plan.out.rows / plan.rows;
    plan.blocks = divide_up(plan.rows, SCORE_ROWS);
    plan.scale = plan.size > 0 ? (float)(1 / sqrt((double)plan.size)) : 0;
    plan.tables = make_tables(problem, &facts, run->workspace, allowed);
    plan.scratch = (char *)run->workspace + tables_bytes(&facts);
    plan.scratch_step = scores_room_bytes(plan.rows, plan.size);
    int64_t pieces = batches * plan.blocks;
    double work = (double)batches * (double)plan.rows * (double)plan.rows * (double)plan.size / 8;
    run->threads = fovea_useful_threads(pieces, work < 0x1p40 ? (int64_t)work : 1LL << 40, allowed);
    fovea_share(pieces, run->threads, score_blocks, &plan);
    return FOVEA_OK;
}

const fovea_implementation FOVEA_TIERED(fovea_cpu_positions)[] = {
    {"rope_apply", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .workspace = rope_workspace, .run = rope_apply},
    {"rope_precompute", FOVEA_CPU_NAME("direct"), 1u << FOVEA_F32, FOVEA_TIER_HERE,
     .workspace = precompute_workspace, .run = rope_precompute},
    {"alibi_bias", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .workspace = alibi_workspace, .run = alibi_bias},
    {"fused_rope_attention_mask", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .workspace = scores_workspace, .run = fused_rope_attention_mask},
    {0}};
