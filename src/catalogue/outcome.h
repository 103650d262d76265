/* What the outputs of a call are to be, for callers who make them: bindings, which return results. */
#ifndef FOVEA_CATALOGUE_OUTCOME_H
#define FOVEA_CATALOGUE_OUTCOME_H

#include "catalogue/problem.h"

/* The rank, shape and dtype of an output, from a problem that has views of the inputs and complete
 * options, and no more: nothing in it was checked. False if they do not say it; then the checks of the
 * call find what is wrong with the inputs, or the output has to be given. */
bool fovea_outcome(const fovea_problem *given, int argument, fovea_view *outcome);

/* The dtype of a call: that of the first given argument that has no other choice. False if there is
 * none. */
bool fovea_call_dtype(const fovea_problem *given, fovea_dtype *dtype);

/* Of rows whose shapes depend on options: sets rank and shape of an output of dtype outcome->dtype. */
typedef bool fovea_outcome_function(const fovea_problem *given, int argument, fovea_view *outcome);
fovea_outcome_function fovea_attention_outcome, fovea_backward_outcome;
fovea_outcome_function fovea_loss_outcome, fovea_quantization_outcome;

/* The shape and dtype of another argument, if that is given. */
bool fovea_outcome_like(const fovea_problem *given, int argument, fovea_view *outcome);

#endif
