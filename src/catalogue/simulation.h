/* What the rows of domain 12 say by functions. */
#ifndef FOVEA_CATALOGUE_SIMULATION_H
#define FOVEA_CATALOGUE_SIMULATION_H

#include "catalogue/bounds.h"

fovea_bound_function fovea_bound_heat, fovea_bound_wave, fovea_bound_rk4, fovea_bound_verlet,
    fovea_bound_monte_carlo, fovea_bound_stencil;
double fovea_operations_simulation(const fovea_problem *problem);
fovea_status fovea_check_simulation(const fovea_problem *problem, fovea_message *message);

#endif
