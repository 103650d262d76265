/* What the rows of domain 11 say by functions: bounds, residuals, and the content of matrices. */
#ifndef FOVEA_CATALOGUE_LINALG_H
#define FOVEA_CATALOGUE_LINALG_H

#include "catalogue/bounds.h"
#include "catalogue/case.h"

fovea_bound_function fovea_bound_spmv, fovea_bound_matvec, fovea_bound_matmul;
fovea_bound_function fovea_bound_nothing; /* for rows that are judged by a residual */
fovea_residual_function fovea_residual_triangular;
void fovea_fill_linalg(const fovea_case *c, int argument, const fovea_view *view);

#endif
