/* Arms of ours on the processor: by the door that programs use. */
#include "api/call.h"
#include "bench_arms.h"

#include <stdio.h>

static bool call(fovea_measurement *m, const fovea_bench_arm *arm, const fovea_sample *sample) {
    if (arm->steps) return fovea_steps_run(arm->steps, m->run->context, sample);
    return fovea_call_kernel(m->run->context, sample->problem.index,
                             (const DLTensor *const *)sample->required, sample->count,
                             sample->options) == FOVEA_OK;
}

static bool use(fovea_measurement *m, const fovea_bench_arm *arm) {
    return arm->steps || fovea_use(m->run->context, m->samples[0].problem.kernel->name,
                                   arm->implementation->name) == FOVEA_OK;
}

static bool fail(fovea_measurement *m, fovea_bench_arm *arm) {
    snprintf(arm->row->reason, sizeof arm->row->reason, "%s", fovea_last_message(m->run->context));
    return false;
}

static bool first(fovea_measurement *m, fovea_bench_arm *arm) {
    fovea_bench_row *row = arm->row;
    fovea_call_report report;
    double start = fovea_seconds_now();
    if (!use(m, arm) || !call(m, arm, &m->samples[0])) return fail(m, arm);
    arm->estimate = fovea_seconds_now() - start;
    if (arm->steps || fovea_last_call(m->run->context, &report) != FOVEA_OK) return true;
    row->scratch_bytes = report.scratch_bytes;
    row->block_rows = report.block_rows, row->block_keys = report.block_keys;
    snprintf(row->arithmetic, sizeof row->arithmetic, "%s", report.arithmetic);
    return true;
}

static bool take(fovea_measurement *m, fovea_bench_arm *arm, const fovea_turn *turn,
                 fovea_timings *samples) {
    bool good = use(m, arm);
    fovea_measurement_set_options(m, arm->definition);
    for (int i = 0; i < turn->warm; i++) good = good && call(m, arm, &m->samples[0]);
    for (int s = 0; good && s < turn->count; s++) {
        double start = fovea_seconds_now();
        for (int i = 0; i < turn->inner; i++)
            good = call(m, arm, &m->samples[m->turn_of_set++ % m->sets]) && good;
        double seconds = (fovea_seconds_now() - start) / turn->inner;
        good = good && fovea_timings_add(samples, seconds);
    }
    fovea_measurement_set_options(m, &m->c->definition);
    return good || fail(m, arm);
}

const fovea_provider fovea_provide_host = {first, take};
