/* A call: check, choose, reserve scratch, run, count. */
#include "api/call.h"

#include "api/context.h"

#include <stdio.h>

/* "cpu/avx2/flash: it does not serve f64\n..." of all that cannot serve. */
static void list_declined(const fovea_context *context, const fovea_problem *problem, char *text,
                          size_t size) {
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < fovea_implementation_count(problem->index) && used < size; i++) {
        char reason[160] = "";
        const fovea_implementation *candidate = fovea_implementation_at(problem->index, i);
        bool cuda = problem->device.device_type == kDLCUDA;
        if (fovea_implementation_is_cuda(candidate) != cuda) continue;
        if (fovea_implementation_serves(candidate, problem, reason, sizeof reason)) {
            bool wrong = fovea_routes_condemned(context->routes, problem->index, i);
            if (!candidate->only_by_name && !wrong) continue;
            snprintf(reason, sizeof reason,
                     wrong ? "its results were wrong when routes were measured"
                           : "it is used only when asked for by name");
        }
        used += (size_t)snprintf(text + used, size - used, "%s%s: %s", used ? "\n" : "",
                                 candidate->name, reason);
    }
}

/* Tensors must be where the context is, and on a device really there. */
static fovea_status check_device(fovea_context *context, const fovea_problem *problem) {
    const fovea_device *device = &context->device;
    DLDevice here = {device->cuda ? kDLCUDA : kDLCPU, device->number};
    char theirs[32], ours[32];
    if (!fovea_same_device(here, problem->device))
        return fovea_fail(&context->message, FOVEA_INVALID_ARGUMENT,
                          "%s is on %s; this context serves %s", problem->kernel->arguments[0].name,
                          fovea_device_text(problem->device, theirs, sizeof theirs),
                          fovea_device_text(here, ours, sizeof ours));
    fovea_status status = FOVEA_OK;
    if (!device->cuda) return status;
    for (uint32_t rest = problem->present; rest && status == FOVEA_OK; rest &= rest - 1) {
        int a = __builtin_ctz(rest);
        if (problem->views[a].data)
            status =
                device->cuda->check_pointer(device->number, problem->views[a].data,
                                            problem->kernel->arguments[a].name, &context->message);
    }
    return status;
}

static fovea_status none_serves(fovea_context *context, const fovea_problem *problem) {
    char declined[400];
    list_declined(context, problem, declined, sizeof declined);
    for (char *c = declined; *c; c++)
        if (*c == '\n') *c = ';';
    return fovea_fail(&context->message, FOVEA_UNSUPPORTED,
                      "no implementation of %s serves this: %s", problem->kernel->name, declined);
}

static fovea_status choose_forced(fovea_context *context, const fovea_problem *problem,
                                  const fovea_implementation *forced) {
    char reason[160];
    if (fovea_implementation_serves(forced, problem, reason, sizeof reason)) return FOVEA_OK;
    return fovea_fail(&context->message, FOVEA_UNSUPPORTED, "%s was asked for by name: %s",
                      forced->name, reason);
}

/* What was chosen when the call came before. Whether it serves may hang on contents, on a device on
 * addresses. */
static bool chosen_before(const fovea_kept_call *call) {
    char reason[160];
    return call->implementation &&
           (call->implementation == call->known ||
            fovea_implementation_serves(call->implementation, &call->repeat.problem, reason,
                                        sizeof reason));
}

static fovea_status choose(fovea_context *context, fovea_kept_call *call, fovea_online_turn *turn) {
    const fovea_problem *problem = &call->repeat.problem;
    *turn = (fovea_online_turn){.implementation = context->forced[problem->index]};
    if (turn->implementation && turn->implementation == call->known) return FOVEA_OK;
    if (turn->implementation) return choose_forced(context, problem, turn->implementation);
    if (context->online) {
        *turn = fovea_online_choose(context->online, problem, context->routes, context->threads);
    } else if (chosen_before(call)) {
        turn->implementation = call->implementation;
    } else {
        turn->implementation =
            fovea_choose_quickly(&context->choices, problem, context->routes, context->threads);
        if (!fovea_choice_depends_on_contents(problem)) call->implementation = turn->implementation;
    }
    return turn->implementation ? FOVEA_OK : none_serves(context, problem);
}

/* The same choice, with what speaks for it. */
static fovea_status explain(fovea_context *context, const fovea_problem *problem,
                            fovea_choice *choice) {
    const fovea_implementation *forced = context->forced[problem->index];
    *choice = (fovea_choice){.implementation = forced};
    if (forced) return choose_forced(context, problem, forced);
    fovea_choose(problem, context->routes, context->threads, choice);
    return choice->implementation ? FOVEA_OK : none_serves(context, problem);
}

static fovea_status no_scratch(fovea_context *context, const char *name, size_t bytes) {
    const fovea_device *device = &context->device;
    if (device->cuda && device->cuda->capturing(device->stream))
        return fovea_fail(&context->message, FOVEA_OUT_OF_MEMORY,
                          "%s needs %zu bytes of scratch memory, which cannot be had while the "
                          "stream is captured: make one call like it before",
                          name, bytes);
    return fovea_fail(&context->message, FOVEA_OUT_OF_MEMORY,
                      "%s needs %zu bytes of scratch memory, which could not be had", name, bytes);
}

/* What calls alike share: asked for once. Contents may change it, on a device addresses. */
static void learn(const fovea_context *context, fovea_kept_call *call,
                  const fovea_implementation *implementation) {
    const fovea_problem *problem = &call->repeat.problem;
    if (call->known == implementation && call->threads == context->threads) return;
    bool same = !call->repeat.contents && !context->device.cuda;
    call->known = same ? implementation : NULL;
    call->threads = context->threads;
    call->workspace_bytes =
        implementation->workspace ? implementation->workspace(problem, context->threads) : 0;
    call->work.made = false;
}

static fovea_status run_here(fovea_context *context, fovea_kept_call *call,
                             const fovea_implementation *implementation, fovea_run *state) {
    const fovea_problem *problem = &call->repeat.problem;
    learn(context, call, implementation);
    *state = (fovea_run){.threads = context->threads,
                         .workspace_bytes = call->workspace_bytes,
                         .plans = &context->plans,
                         .kept = call->known ? &call->work : NULL,
                         .stream = context->device.stream};
    if (state->workspace_bytes) {
        state->workspace = fovea_workspace_reserve(&context->workspace, state->workspace_bytes);
        if (!state->workspace)
            return no_scratch(context, implementation->name, state->workspace_bytes);
    }
    fovea_status status = implementation->run(problem, state);
    fovea_leave_tier(implementation->tier);
    if (status != FOVEA_OK)
        fovea_fail(&context->message, status, "%s failed: %s", implementation->name,
                   state->reason ? state->reason : fovea_status_text(status));
    return status;
}

static fovea_status run(fovea_context *context, fovea_kept_call *call,
                        const fovea_implementation *implementation, fovea_run *state) {
    const fovea_device *device = &context->device;
    int previous;
    if (!device->cuda) return run_here(context, call, implementation, state);
    fovea_status status = device->cuda->enter(device->number, &previous, &context->message);
    if (status != FOVEA_OK) return status;
    status = run_here(context, call, implementation, state);
    device->cuda->leave(device->number, previous);
    return status;
}

static double bytes_of(const fovea_problem *problem) {
    double bytes = 0;
    for (uint32_t rest = problem->present; rest; rest &= rest - 1) {
        const fovea_view *view = &problem->views[__builtin_ctz(rest)];
        bytes += (double)fovea_view_elements(view) * (double)fovea_dtype_size(view->dtype);
    }
    return bytes;
}

static void count(fovea_context *context, const fovea_kept_call *call,
                  const fovea_implementation *implementation, const fovea_run *state,
                  uint64_t ticks) {
    const fovea_problem *problem = &call->repeat.problem;
    fovea_statistics *statistics = &context->statistics[problem->index];
    statistics->calls++;
    statistics->seconds += (double)ticks;
    statistics->bytes += call->bytes;
    statistics->implementation = implementation->name;
    context->last = (fovea_call_report){.kernel = problem->kernel->name,
                                        .implementation = implementation->name,
                                        .seconds = (double)ticks,
                                        .scratch_bytes = state->workspace_bytes,
                                        .threads = state->threads,
                                        .block_rows = state->block_rows,
                                        .block_keys = state->block_keys,
                                        .arithmetic = state->arithmetic ? state->arithmetic : ""};
}

/* Where a call of this kernel with such extents is kept, if it came before. */
static fovea_kept_call *place_of(fovea_context *context, int kernel, const DLTensor *const *tensors,
                                 size_t count_of_tensors) {
    uint64_t hash =
        (uint64_t)kernel; /* a rotation a step: a product would be three times as long */
    for (size_t t = 0; t < count_of_tensors && t < 2; t++) {
        const DLTensor *tensor = tensors[t];
        if (!tensor || !tensor->shape || tensor->ndim > FOVEA_RANK_MAX) continue;
        for (int i = 0; i < tensor->ndim; i++)
            hash = (hash << 11 | hash >> 53) + (uint64_t)tensor->shape[i];
    }
    hash *= UINT64_C(0x9e3779b97f4a7c15);
    return &context->calls[(hash >> 32) % FOVEA_CALLS_KEPT];
}

static fovea_status check(fovea_context *context, fovea_kept_call *call, int kernel,
                          const DLTensor *const *tensors, size_t count_of_tensors,
                          const void *options) {
    bool repeated;
    fovea_status status = fovea_problem_repeat(&call->repeat, kernel, tensors, count_of_tensors,
                                               options, &repeated, &context->message);
    if (status != FOVEA_OK) return status;
    if (!repeated) {
        call->implementation = call->known = NULL;
        call->bytes = bytes_of(&call->repeat.problem);
    }
    return check_device(context, &call->repeat.problem);
}

fovea_status fovea_call_kernel(fovea_context *context, int kernel, const DLTensor *const *tensors,
                               size_t count_of_tensors, const void *options) {
    if (!context) return FOVEA_INVALID_ARGUMENT;
    fovea_online_turn turn;
    fovea_run state;
    uint64_t start = fovea_ticks();
    fovea_kept_call *call = place_of(context, kernel, tensors, count_of_tensors);
    fovea_status status = check(context, call, kernel, tensors, count_of_tensors, options);
    if (status == FOVEA_OK) status = choose(context, call, &turn);
    if (status == FOVEA_OK) status = run(context, call, turn.implementation, &state);
    if (status != FOVEA_OK) {
        context->statistics[kernel].failures++;
        return status;
    }
    uint64_t ticks = fovea_ticks() - start;
    count(context, call, turn.implementation, &state, ticks);
    if (context->online) fovea_online_note(context->online, &turn, (double)ticks);
    return status;
}

static fovea_status find_kernel(fovea_context *context, const char *kernel,
                                DLTensor *const *tensors, size_t count_of_tensors, int *index) {
    *index = kernel ? fovea_catalogue_find(kernel) : -1;
    if (!tensors && count_of_tensors > 0)
        return fovea_fail(&context->message, FOVEA_INVALID_ARGUMENT,
                          "tensors is NULL, count is %zu", count_of_tensors);
    if (*index >= 0) return FOVEA_OK;
    return fovea_fail(&context->message, FOVEA_INVALID_ARGUMENT, "there is no kernel «%s»",
                      kernel ? kernel : "(NULL)");
}

fovea_status fovea_call(fovea_context *context, const char *kernel, DLTensor *const *tensors,
                        size_t count_of_tensors, const void *options) {
    int index;
    if (!context) return FOVEA_INVALID_ARGUMENT;
    fovea_status status = find_kernel(context, kernel, tensors, count_of_tensors, &index);
    if (status != FOVEA_OK) return status;
    return fovea_call_kernel(context, index, (const DLTensor *const *)tensors, count_of_tensors,
                             options);
}

/* What was learnt of this problem while working; NULL: nothing. */
static const fovea_online_problem *learnt(const fovea_context *context,
                                          const fovea_problem *problem) {
    if (!context->online || context->forced[problem->index]) return NULL;
    return fovea_online_find(context->online, problem);
}

static void explain_learnt(const fovea_context *context, const fovea_problem *problem,
                           const fovea_online_problem *p, fovea_route *route) {
    const fovea_online_candidate *best = &p->candidates[p->best];
    int tried = 0;
    for (int i = 0; i < p->count; i++) tried += fovea_online_samples(&p->candidates[i]) > 0;
    snprintf(route->implementation, sizeof route->implementation, "%s",
             fovea_implementation_at(problem->index, best->number)->name);
    snprintf(route->reason, sizeof route->reason, "learnt while working: %s of %d tried",
             p->open ? "the best so far" : "the fastest", tried);
    route->runner_up[0] = 0;
    route->seconds = fovea_online_median(best) * fovea_tick_seconds(&context->epoch);
    route->runner_up_seconds = 0;
    route->measured = false;
}

static void explain_reason(const fovea_context *context, const fovea_problem *problem,
                           const fovea_choice *choice, char *reason, size_t size) {
    char key[112];
    if (context->forced[problem->index])
        snprintf(reason, size, "asked for by name");
    else if (choice->source == FOVEA_CHOICE_MEASURED)
        snprintf(reason, size, "measured");
    else if (choice->source == FOVEA_CHOICE_NEIGHBOUR)
        snprintf(reason, size, "measured nearby and scaled by work: %s",
                 fovea_route_key_text(&choice->record->key, key, sizeof key));
    else if (!choice->runner_up)
        snprintf(reason, size, "the only one that serves this call");
    else
        snprintf(reason, size, "by the cost model%s",
                 context->routes ? ": nothing like it was measured" : "");
}

fovea_status fovea_explain(fovea_context *context, const char *kernel, DLTensor *const *tensors,
                           size_t count_of_tensors, const void *options, fovea_route *route) {
    int index;
    if (!context) return FOVEA_INVALID_ARGUMENT;
    if (!route) return fovea_fail(&context->message, FOVEA_INVALID_ARGUMENT, "route is NULL");
    _Alignas(16) char storage[FOVEA_OPTIONS_SIZE_MAX];
    fovea_problem problem;
    fovea_choice choice;
    memset(route, 0, sizeof *route);
    fovea_status status = find_kernel(context, kernel, tensors, count_of_tensors, &index);
    if (status == FOVEA_OK)
        status = fovea_problem_create(index, (const DLTensor *const *)tensors, count_of_tensors,
                                      options, storage, &problem, &context->message);
    if (status == FOVEA_OK) status = check_device(context, &problem);
    if (status != FOVEA_OK) return status;
    list_declined(context, &problem, route->declined, sizeof route->declined);
    if ((status = explain(context, &problem, &choice)) != FOVEA_OK) return status;
    snprintf(route->implementation, sizeof route->implementation, "%s",
             choice.implementation->name);
    if (choice.runner_up)
        snprintf(route->runner_up, sizeof route->runner_up, "%s", choice.runner_up->name);
    route->seconds = choice.seconds;
    route->runner_up_seconds = choice.runner_up_seconds;
    route->measured = choice.record != NULL;
    explain_reason(context, &problem, &choice, route->reason, sizeof route->reason);
    const fovea_online_problem *p = learnt(context, &problem);
    if (p) explain_learnt(context, &problem, p, route);
    return FOVEA_OK;
}
