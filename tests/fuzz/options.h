/* Parameters and dtypes of a case, from the fuzzer's bytes. */
#ifndef FOVEA_TESTS_FUZZ_OPTIONS_H
#define FOVEA_TESTS_FUZZ_OPTIONS_H

#include "bytes.h"
#include "catalogue/case.h"

/* Of a flag or a choice; rarely one that it does not have. */
static inline double next_name(bytes *b, const fovea_parameter *parameter) {
    int names = parameter->kind == FOVEA_FLAG ? 2 : 1, which = next_byte(b);
    for (const char *at = parameter->choices; at && *at; at++) names += *at == ',';
    return parameter->kind == FOVEA_CHOICE && which > 250 ? names : which % names;
}

/* Integers are mostly small: some are extents of outputs. */
static inline double next_value(bytes *b, const fovea_parameter *parameter) {
    if (parameter->kind == FOVEA_REAL) return next_real(b);
    if (parameter->kind != FOVEA_INTEGER) return next_name(b, parameter);
    if (next_choice(b, 8) == 1) return (double)(next_integer(b) / 2);
    return next_choice(b, 70) - 4;
}

/* True if anything is not as by default. Of many parameters as few are changed as of few: together they
 * would hardly ever be right. */
static inline bool set_parameters(bytes *b, fovea_case *c) {
    const fovea_kernel *row = fovea_catalogue_kernel(c->index);
    int count = fovea_kernel_parameters(row), one_in = count > 6 ? count / 2 : 3;
    bool changed = false;
    for (int p = 0; p < count; p++) {
        if (next_choice(b, one_in) != 1) continue;
        changed = true;
        c->parameters[p] = next_value(b, &row->parameters[p]);
    }
    return changed;
}

static inline void set_dtypes(bytes *b, fovea_case *c) {
    const fovea_kernel *row = fovea_catalogue_kernel(c->index);
    uint32_t set = row->dtypes;
    for (int skip = next_choice(b, __builtin_popcount(set)); skip > 0; skip--) set &= set - 1;
    c->dtype = (fovea_dtype)__builtin_ctz(set);
    for (int a = 0; a < fovea_kernel_arguments(row); a++) {
        uint32_t own = fovea_argument_dtypes(&row->arguments[a], c->dtype);
        if (row->arguments[a].optional && next_choice(b, 3) == 1) c->optional |= 1u << a;
        if (!(own & (own - 1))) continue;
        if (own >> c->dtype & 1 && next_choice(b, 3) != 1) { /* most must agree with the call */
            c->dtypes[a] = 1 + (uint32_t)c->dtype;
            continue;
        }
        for (int skip = next_choice(b, __builtin_popcount(own)); skip > 0; skip--) own &= own - 1;
        c->dtypes[a] = 1 + (uint32_t)__builtin_ctz(own);
    }
}

#endif
