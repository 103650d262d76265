/* Domain 11, linalg: products of matrices with vectors and matrices, and triangular systems. */
#include "catalogue/linalg.h"

#define COMMON .domain = "linalg", .dtypes = 1u << FOVEA_F32 | 1u << FOVEA_F64
#define INDICES (1u << FOVEA_I32 | 1u << FOVEA_I64)

const fovea_kernel fovea_rows_linalg[] = {
    {66, "spmv_csr", COMMON,
     .definition = "y_r = sum over i of value_i x[column_i], rowptr_r <= i < rowptr_(r+1)",
     .remarks = "Entries of one place add up; an empty row gives 0. That indices are in range, and "
                "rowptr ascends within [0, Z], is for the caller to see to.",
     .arguments = {{.name = "value", .shape = "Z"},
                   {.name = "column",
                    .shape = "Z",
                    .dtypes = INDICES,
                    .fill = FOVEA_FILL_BY_ROW,
                    .meaning = "the column of each value, from 0"},
                   {.name = "rowptr",
                    .shape = "R+1",
                    .dtypes = INDICES,
                    .fill = FOVEA_FILL_BY_ROW,
                    .meaning = "where each row begins, and the end of the last"},
                   {.name = "x", .shape = "C"},
                   {.name = "y", .shape = "R", .role = FOVEA_OUTPUT}},
     .operations = "2*Z", .bytes = "(s+column)*Z+rowptr*(R+1)+s*(R+C)",
     .bench = "Z=1000000,R=10000,C=10000", .exact_sums = true,
     .bound_text = "(8 + sqrt n) eps S + n/2 eps |y|, at most (8 + n/2) eps S, S = sum|value x| of "
                   "a row of n",
     .bound = FOVEA_HOOK(fovea_bound_spmv), .case_fill = FOVEA_HOOK(fovea_fill_linalg)},
    {67, "matvec", COMMON, .definition = "y = A x, or A^T x",
     .remarks = "With transpose a is [..., C, R].",
     .arguments = {{.name = "a", .shape = "B..., R, C^transpose"},
                   {.name = "x", .shape = "B..., C"},
                   {.name = "y", .shape = "B..., R", .role = FOVEA_OUTPUT}},
     .parameters = {{"transpose", FOVEA_FLAG, 0, NULL, "takes a's last two dimensions swapped"}},
     .operations = "2*B*R*C", .bytes = "s*B*(R*C+R+C)", .bench = "B=1,R=4096,C=4096",
     .exact_sums = true,
     .bound_text = "(8 + sqrt C) eps S + C/2 eps |y|, at most (8 + C/2) eps S, S = sum|a x|",
     .bound = FOVEA_HOOK(fovea_bound_matvec)},
    {68, "outer_product", COMMON, .definition = "y_ij = a_i b_j",
     .arguments = {{.name = "a", .shape = "B..., N"},
                   {.name = "b", .shape = "B..., M"},
                   {.name = "y", .shape = "B..., N, M", .role = FOVEA_OUTPUT}},
     .operations = "B*N*M", .bytes = "s*B*(N*M+N+M)", .bench = "B=1,N=4096,M=4096",
     .bound_text = "correctly rounded", .bound = FOVEA_HOOK(fovea_bound_correct)},
    {69, "matmul_batched", COMMON, .definition = "y = alpha op(a) op(b) + beta c, for each batch",
     .remarks =
         "With transpose_a a is [..., K, M], with transpose_b b is [..., N, K]. c is not read "
         "where beta is 0, and counts as 0 where it is not given.",
     .arguments =
         {{.name = "a", .shape = "B..., M, K^transpose_a"},
          {.name = "b", .shape = "B..., K, N^transpose_b"},
          {.name = "c", .shape = "B..., M, N", .optional = true, .meaning = "what beta multiplies"},
          {.name = "y", .shape = "B..., M, N", .role = FOVEA_OUTPUT}},
     .parameters = {{"transpose_a", FOVEA_FLAG, 0, NULL, "takes a's last two dimensions swapped"},
                    {"transpose_b", FOVEA_FLAG, 0, NULL, "takes b's last two dimensions swapped"},
                    {"alpha", FOVEA_REAL, 1, NULL, "factor of the product"},
                    {"beta", FOVEA_REAL, 0, NULL, "factor of c"}},
     .operations = "2*B*M*N*K", .bytes = "s*B*(M*K+K*N+M*N)", .bench = "B=64,M=128,K=128,N=128",
     .bound_text = "(8 + sqrt K) eps S + K/2 eps |alpha sum a b|, at most (8 + K/2) eps S, S = "
                   "|alpha| sum|a b| + |beta c|",
     .bound = FOVEA_HOOK(fovea_bound_matmul)},
    {70, "triangular_solve", COMMON, .definition = "L x = b, by substitution",
     .remarks =
         "Only the named triangle of l is read, with unit_diagonal not its diagonal. A zero on "
         "the diagonal gives inf or NaN.",
     .arguments = {{.name = "l", .shape = "B..., N, N", .fill = FOVEA_FILL_BY_ROW},
                   {.name = "b", .shape = "B..., N, M"},
                   {.name = "x", .shape = "B..., N, M", .role = FOVEA_OUTPUT}},
     .parameters = {{"triangle", FOVEA_CHOICE, 0, "lower,upper", "which one is read"},
                    {"unit_diagonal", FOVEA_FLAG, 0, NULL, "takes the diagonal as ones"}},
     .operations = "B*N*N*M", .bytes = "s*B*(N*(N+1)/2+2*N*M)", .bench = "B=1,N=4096,M=1",
     .bound_text = "each element of b - L x within (8 + sqrt N) eps (|L| |x| + |b|)",
     .bound = FOVEA_HOOK(fovea_bound_nothing), .residual = FOVEA_HOOK(fovea_residual_triangular),
     .case_fill = FOVEA_HOOK(fovea_fill_linalg)},
    {0}};
