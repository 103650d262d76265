/* Learning while working, as callers see it: its budget, its report, and the file of what was learnt. */
#include "api/context.h"

#include <fovea/explore.h>
#include <math.h>

fovea_status fovea_explore(fovea_context *context, double share) {
    if (!context) return FOVEA_INVALID_ARGUMENT;
    if (!(share >= 0 && share <= 1))
        return fovea_fail(&context->message, FOVEA_INVALID_ARGUMENT,
                          "share is %g; it lies between 0 (no trials) and 1", share);
    if (context->device.cuda)
        return fovea_fail(&context->message, FOVEA_UNSUPPORTED,
                          "calls on a CUDA device return before their time is known: nothing can "
                          "be learnt from them");
    if (!context->online && share > 0) context->online = fovea_online_create(&context->allocator);
    if (!context->online && share > 0)
        return fovea_fail(&context->message, FOVEA_OUT_OF_MEMORY,
                          "no memory for what is to be learnt");
    if (context->online) context->online->share = share;
    return FOVEA_OK;
}

fovea_status fovea_exploration_report(const fovea_context *context, fovea_exploration *report) {
    if (!context || !report) return FOVEA_INVALID_ARGUMENT;
    *report = (fovea_exploration){0};
    const fovea_online *online = context->online;
    if (!online) return FOVEA_OK;
    double tick = fovea_tick_seconds(&context->epoch);
    *report = (fovea_exploration){.calls = online->calls,
                                  .trials = online->trials,
                                  .seconds = online->time * tick,
                                  .lost_seconds = online->spent * tick};
    for (int i = 0; i < FOVEA_ONLINE_PROBLEMS; i++) {
        const fovea_online_problem *p = &online->problems[i];
        report->problems += p->signature != 0;
        report->settled += p->signature != 0 && p->open == 0;
        report->changed += p->was_changed;
    }
    return FOVEA_OK;
}

static void add_learnt(fovea_routes *routes, const fovea_online_problem *p, double tick) {
    for (int i = 0; i < p->count; i++) {
        const fovea_online_candidate *c = &p->candidates[i];
        double median = fovea_online_median(c) * tick * 1e12;
        fovea_route_record record = {.key = p->key,
                                     .number = c->number,
                                     .samples = (uint32_t)fovea_online_samples(c),
                                     .work = p->work,
                                     .median = (uint64_t)fmin(1e18, fmax(1, round(median)))};
        if (record.samples > 0) fovea_routes_add(routes, &record);
    }
}

fovea_status fovea_routes_save(fovea_context *context, const char *path) {
    if (!context) return FOVEA_INVALID_ARGUMENT;
    if (!path || !*path)
        return fovea_fail(&context->message, FOVEA_INVALID_ARGUMENT, "path is %s",
                          path ? "empty" : "NULL");
    const fovea_routes *old = context->routes;
    int kept = old ? old->count : 0;
    fovea_routes *routes = fovea_routes_create(
        &context->allocator, kept + FOVEA_ONLINE_PROBLEMS * FOVEA_ONLINE_CANDIDATES);
    if (!routes)
        return fovea_fail(&context->message, FOVEA_OUT_OF_MEMORY, "no memory for the routes");
    if (old) {
        routes->rates = old->rates;
        memcpy(routes->device, old->device, sizeof routes->device);
        memcpy(routes->wrong, old->wrong, sizeof routes->wrong);
        memcpy(routes->paces, old->paces, sizeof routes->paces);
        memcpy(routes->records, old->records, (size_t)kept * sizeof *old->records);
        routes->count = kept;
    }
    for (int i = 0; context->online && i < FOVEA_ONLINE_PROBLEMS; i++)
        if (context->online->problems[i].signature)
            add_learnt(routes, &context->online->problems[i], fovea_tick_seconds(&context->epoch));
    fovea_status status = fovea_routes_write(path, routes, &context->message);
    fovea_routes_release(routes);
    return status;
}
