/* split.h on AMX's tiles (split_tiles.h): caches of 8 bits, where AVX-512 on Intel's is bound by arithmetic. */
#include "cpu/attention/split_amx.h"

#include "cpu/attention/split.h"
#include "cpu/attention/split_tiles.h"

fovea_status fovea_split_amx_run(const fovea_problem *problem, fovea_run *run) {
    return split_run(problem, run);
}

size_t fovea_split_amx_workspace(const fovea_problem *problem, int threads) {
    return split_workspace(problem, threads);
}

bool fovea_split_amx_serves(const fovea_problem *problem, char *reason, size_t size) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    split_plan p = split_make_plan(&call, 1);
    if (!split_serves(problem, reason, size)) return false;
    if (!p.key_pairs || !p.value_pairs) {
        snprintf(
            reason, size,
            "k is %s, v %s; it serves rows of bf16, f16, i8 or e4m3 in place, with a scale a head "
            "or a token, where the processor has AVX512-VBMI",
            fovea_dtype_name(call.k.dtype), fovea_dtype_name(call.v.dtype));
        return false;
    }
    return true;
}

/* Beside cpu/avx512/split, which does the same with more arithmetic. Where that multiplies bytes (i8, bf16 queries), tiles read 1 to 10 %
 * faster with 8 rows and slower with fewer; from floats, with one or two rows, it reads 7 % faster. f16 queries were timed with
 * e4m3 alone. */
double fovea_split_amx_cost(const fovea_problem *problem, int threads, double flops,
                            double bandwidth) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    bool integers = call.k.dtype == FOVEA_I8 || call.v.dtype == FOVEA_I8;
    int64_t rows = call.query_length * call.group;
    bool faster = integers ? call.q.dtype == FOVEA_BF16 && rows > 4 : rows > 2;
    return (faster ? 0.9 : 1.1) * split_cost(problem, threads, flops, bandwidth);
}
