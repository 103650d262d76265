/* kv_append in canonical form: where each new key and value goes, and what it is on arrival. The
 * reference and the backends read calls through this. Definition: the manual of `kv_append`. */
#ifndef FOVEA_CATALOGUE_APPEND_H
#define FOVEA_CATALOGUE_APPEND_H

#include "catalogue/problem.h"

/* Positions of the arguments in the row. */
enum {
    FOVEA_APPEND_K,
    FOVEA_APPEND_V,
    FOVEA_APPEND_POSITIONS,
    FOVEA_APPEND_K_CACHE,
    FOVEA_APPEND_V_CACHE,
    FOVEA_APPEND_K_SCALE,
    FOVEA_APPEND_V_SCALE,
    FOVEA_APPEND_BLOCK_TABLE,
    FOVEA_APPEND_COS,
    FOVEA_APPEND_SIN
};

fovea_status fovea_append_shape(fovea_problem *problem, fovea_message *message);
fovea_status fovea_append_check(const fovea_problem *problem, fovea_message *message);
double fovea_append_operations(const fovea_problem *problem);
double fovea_append_bytes(const fovea_problem *problem);
void fovea_append_case_defaults(fovea_case *c);
void fovea_append_case_shape(const fovea_case *c, int argument, int *rank, int64_t *shape);
void fovea_append_case_fill(const fovea_case *c, int argument, const fovea_view *view);

/* One of the two tensors on its way into its cache. All views are [B or pages, Hkv, S, D]. */
typedef struct fovea_append_side {
    fovea_view from, cache, scale; /* scale: as in attention.h; data NULL: there is none */
    int64_t size, group;           /* elements of a row, and of a scale */
    bool rotated;
    int cache_argument, scale_argument;
} fovea_append_side;

typedef struct fovea_append_call {
    const fovea_kv_append_options *options;
    const fovea_problem *problem;
    int64_t batch, heads, tokens, page_size;
    bool heads_inside, paged; /* of the cache: [B, S, H, D] in memory order of its axes */
    fovea_append_side k, v;
    fovea_view cos, sin; /* data NULL: by base and offset */
} fovea_append_call;

/* The problem must have passed its checks. */
void fovea_append_describe(const fovea_problem *problem, fovea_append_call *append);
/* Where token t of sequence b goes; negative: nowhere. */
int64_t fovea_append_position(const fovea_append_call *append, int64_t batch, int64_t token);
/* Coordinates of a position in a cache: the sequence, or the page and the place in it. */
void fovea_append_place(const fovea_append_call *append, int64_t batch, int64_t position,
                        int64_t *outer, int64_t *row);

#endif
