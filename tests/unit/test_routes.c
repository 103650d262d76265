/* Routes: keys, the file and everything that may be wrong with it, and choosing with and without a
 * file. The implementations are registered here, so that the tests depend on none of the backends. */
#include "api/context.h"
#include "catalogue/case.h"
#include "router/identity.h"
#include "router/routes.h"
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Implementations of map_add ------------------------------------------------------------- */

static int serves_at_most = 1 << 30; /* elements, for test/quick */

static fovea_status run_right(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *v = problem->views;
    run->threads = 1;
    for (int64_t i = 0; i < fovea_view_elements(&v[0]); i++)
        fovea_view_write(&v[2], i, fovea_view_read(&v[0], i) + fovea_view_read(&v[1], i));
    return FOVEA_OK;
}

static fovea_status run_wrong(const fovea_problem *problem, fovea_run *run) {
    fovea_status status = run_right(problem, run);
    if (fovea_view_elements(&problem->views[2]) > 0) fovea_view_write(&problem->views[2], 0, 1e6);
    return status;
}

static bool serves_small(const fovea_problem *problem, char *reason, size_t size) {
    if (problem->extents[0] <= serves_at_most) return true;
    snprintf(reason, size, "it serves at most %d elements", serves_at_most);
    return false;
}

/* So cheap that the cost model prefers them to all that a backend may have. */
static double costs(double seconds, double elements) { return 1e-15 * seconds * (1 + elements); }
static double cost_quick(const fovea_problem *problem, int threads, double flops, double bytes) {
    (void)threads, (void)flops, (void)bytes;
    return costs(1, (double)problem->extents[0]);
}
static double cost_steady(const fovea_problem *problem, int threads, double flops, double bytes) {
    (void)threads, (void)flops, (void)bytes;
    return costs(2, (double)problem->extents[0]);
}
static double cost_slow(const fovea_problem *problem, int threads, double flops, double bytes) {
    (void)threads, (void)flops, (void)bytes;
    return costs(3, (double)problem->extents[0]);
}

#define ROW(algorithm, function, model)                                                            \
    {                                                                                              \
        .kernel = "map_add", .name = "test/scalar/" algorithm, .dtypes = UINT32_MAX,               \
        .serves = serves_small, .run = function, .cost = model                                     \
    }
static fovea_implementation quick = ROW("quick", run_right, cost_quick);
static fovea_implementation steady = ROW("steady", run_right, cost_steady);
static fovea_implementation wrong = ROW("wrong", run_wrong, cost_slow);
static fovea_implementation by_name = ROW("by_name", run_right, NULL);

static int kernel, number_quick, number_steady, number_wrong, number_by_name;
static char directory[] = "/tmp/fovea-routes-XXXXXX";
static char path[64];

static int number_of(const fovea_implementation *implementation) {
    for (int i = 0; i < fovea_implementation_count(kernel); i++)
        if (fovea_implementation_at(kernel, i) == implementation) return i;
    fail_msg("%s is not registered", implementation->name);
    return -1;
}

static int set_up(void **state) {
    (void)state;
    steady.serves = NULL;
    by_name.only_by_name = true;
    kernel = fovea_catalogue_find("map_add");
    fovea_implementation *rows[] = {&quick, &steady, &wrong, &by_name};
    for (int i = 0; i < 4; i++)
        if (!fovea_implementation_register(rows[i])) return 1;
    number_quick = number_of(&quick), number_steady = number_of(&steady);
    number_wrong = number_of(&wrong), number_by_name = number_of(&by_name);
    setenv("FOVEA_ROUTES", "", 1);
    if (!mkdtemp(directory)) return 1;
    snprintf(path, sizeof path, "%s/routes", directory);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(path);
    return rmdir(directory); /* fails if anything half-written was left */
}

/* ---- Makings -------------------------------------------------------------------------------- */

typedef struct makings {
    fovea_case c;
    fovea_sample sample;
} makings;

static fovea_problem *make(makings *m, const char *name, const char *text) {
    fovea_message message;
    fovea_case_begin(&m->c, fovea_catalogue_find(name));
    assert_int_equal(fovea_case_parse(&m->c, text, 0, &message), FOVEA_OK);
    assert_int_equal(fovea_case_complete(&m->c, &message), FOVEA_OK);
    assert_int_equal(fovea_sample_create(&m->c, NULL, &m->sample, &message), FOVEA_OK);
    return &m->sample.problem;
}

static fovea_route_key key_of(const char *name, const char *text, int threads) {
    makings m;
    fovea_route_key key;
    fovea_route_key_of(make(&m, name, text), threads, &key);
    fovea_sample_destroy(&m.sample);
    return key;
}

static fovea_routes *empty_routes(void) {
    fovea_allocator allocator = fovea_default_allocator();
    fovea_routes *routes = fovea_routes_create(&allocator, 100);
    assert_non_null(routes);
    return routes;
}

static void add(fovea_routes *routes, const char *text, int number, uint64_t median) {
    makings m;
    fovea_problem *problem = make(&m, "map_add", text);
    fovea_route_record record = {.number = number,
                                 .work = fovea_route_work(problem),
                                 .median = median,
                                 .deviation = median / 100,
                                 .samples = 11};
    fovea_route_key_of(problem, 1, &record.key);
    assert_true(fovea_routes_add(routes, &record));
    fovea_sample_destroy(&m.sample);
}

/* At 1024 elements steady is faster, at 65536 quick. */
static fovea_routes *usual_routes(void) {
    fovea_routes *routes = empty_routes();
    routes->rates.flops[FOVEA_TIER_SCALAR] = 3e9;
    routes->rates.bandwidth[FOVEA_TIER_SCALAR] = 5e9;
    add(routes, "n=65536", number_quick, 30000000);
    add(routes, "n=65536", number_steady, 40000000);
    add(routes, "n=1024", number_quick, 900000);
    add(routes, "n=1024", number_steady, 500000);
    return routes;
}

static char *file_text(size_t *length) {
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = malloc(1 << 16);
    *length = fread(text, 1, 1 << 16, file);
    fclose(file);
    return text;
}

static void write_usual_file(void) {
    fovea_routes *routes = usual_routes();
    fovea_message message;
    assert_int_equal(fovea_routes_write(path, routes, &message), FOVEA_OK);
    fovea_routes_release(routes);
}

static fovea_status parse(const char *text, size_t length, fovea_message *message) {
    fovea_allocator allocator = fovea_default_allocator();
    fovea_routes *routes;
    char *exact = malloc(length + (length == 0)); /* so that a sanitizer sees reads past the end */
    memcpy(exact, text, length);
    fovea_status status =
        fovea_routes_parse("test", exact, length, 0, &allocator, &routes, message);
    assert_true((status == FOVEA_OK) == (routes != NULL));
    fovea_routes_release(routes);
    free(exact);
    return status;
}

/* The usual file with its first `from` replaced, and a right checksum: what a careful forger makes. */
static fovea_status parse_forged(const char *from, const char *to, fovea_message *message) {
    size_t length;
    char *text = file_text(&length), *forged = malloc(length + strlen(to) + 64);
    text[length] = 0;
    char *place = strstr(text, from);
    assert_non_null(place);
    sprintf(forged, "%.*s%s%s", (int)(place - text), text, to, place + strlen(from));
    char *last = strrchr(forged, ' ') + 1;
    uint64_t hash = fovea_hash(FOVEA_HASH_START, forged, (size_t)(last - forged));
    sprintf(last, "%016llx\n", (unsigned long long)hash);
    fovea_status status = parse(forged, strlen(forged), message);
    free(forged), free(text);
    return status;
}

#define assert_refused(from, to, reason)                                                           \
    do {                                                                                           \
        fovea_message why = {{0}};                                                                 \
        assert_int_equal(parse_forged(from, to, &why), FOVEA_FILE_ERROR);                          \
        if (!strstr(why.text, reason)) fail_msg("«%s» does not say «%s»", why.text, reason);       \
    } while (0)

/* ---- Keys ----------------------------------------------------------------------------------- */

static void sizes_fall_into_the_nearest_bucket(void **state) {
    (void)state;
    fovea_route_key a = key_of("map_add", "n=1024", 1), b = key_of("map_add", "n=1100", 1);
    fovea_route_key c = key_of("map_add", "n=1500", 1);
    assert_int_equal(fovea_route_key_compare(&a, &b), 0);
    assert_int_not_equal(fovea_route_key_compare(&a, &c), 0);
    assert_true(fovea_route_key_distance(&a, &c) == 2); /* half an octave */
}

static void buckets_grow_with_the_size_and_lie_within_half_a_step(void **state) {
    (void)state;
    int previous = 0;
    char text[64];
    for (int n = 1; n < 5000; n++) {
        snprintf(text, sizeof text, "n=%d", n);
        fovea_route_key key = key_of("map_add", text, 1);
        double exact = 4 * __builtin_log2(12.0 * n);
        assert_true(key.sizes[0] >= previous && key.sizes[0] % 2 == 0);
        assert_true(key.sizes[0] - exact <= 1.0001 && exact - key.sizes[0] <= 1.0001);
        previous = key.sizes[0];
    }
}

static void features_keep_problems_apart(void **state) {
    (void)state;
    static const char *const texts[] = {"b=1,hq=4,sq=64,d=64",
                                        "b=1,hq=4,sq=64,d=64,causal=top_left",
                                        "b=1,hq=4,sq=64,d=64,mask=1",
                                        "b=1,hq=4,sq=64,d=64,bias=1",
                                        "b=1,hq=4,sq=64,d=64,window_left=8",
                                        "b=1,hq=4,sq=64,d=64,softcap=20",
                                        "b=1,hq=4,sq=64,d=64,memory=stepped",
                                        "b=1,hq=4,sq=64,d=64,dtype=f16",
                                        "b=1,hq=4,sq=64,d=64,cu_seqlens_q=1,cu_seqlens_k=1",
                                        "b=1,hq=4,sq=64,d=64,block_table=1,seqused_k=1"};
    enum { COUNT = sizeof texts / sizeof *texts };
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < COUNT; j++) {
            fovea_route_key a = key_of("attention", texts[i], 1);
            fovea_route_key b = key_of("attention", texts[j], 1);
            assert_true((fovea_route_key_distance(&a, &b) < 1e9) == (i == j));
        }
    fovea_route_key one = key_of("map_gelu", "n=64,approximate=none", 1);
    fovea_route_key two = key_of("map_gelu", "n=64,approximate=tanh", 1);
    assert_true(fovea_route_key_distance(&one, &two) > 1e9);
    one = key_of("quantize_f32_to_f16", "n=64,y=f16", 1);
    two = key_of("quantize_f32_to_f16", "n=64,y=bf16", 1);
    assert_true(fovea_route_key_distance(&one, &two) > 1e9);
}

static void a_key_says_in_words_what_it_is(void **state) {
    (void)state;
    char text[160];
    fovea_route_key key = key_of("attention", "b=1,hq=8,sq=512,d=64,causal=top_left", 2);
    assert_string_equal(fovea_route_key_text(&key, text, sizeof text),
                        "f32 threads=2 causal d=64 dv=64 sq=512 sk=512 heads=8 group=1");
    key = key_of("map_gelu", "n=1024,approximate=tanh,dtype=f16", 1);
    assert_string_equal(fovea_route_key_text(&key, text, sizeof text),
                        "f16 threads=1 approximate=tanh bytes=4096");
}

/* ---- The file ------------------------------------------------------------------------------- */

static void a_file_comes_back_as_it_was(void **state) {
    (void)state;
    fovea_allocator allocator = fovea_default_allocator();
    fovea_message message;
    fovea_routes *routes = usual_routes(), *back;
    fovea_routes_condemn(routes, kernel, number_wrong);
    routes->paces[kernel] = (fovea_pace){1.5, 0.25};
    assert_int_equal(fovea_routes_write(path, routes, &message), FOVEA_OK);
    assert_int_equal(fovea_routes_read(path, 3, &allocator, &back, &message), FOVEA_OK);
    assert_int_equal(back->count, routes->count);
    assert_memory_equal(back->records, routes->records,
                        (size_t)back->count * sizeof *back->records);
    assert_memory_equal(back->wrong, routes->wrong, sizeof back->wrong);
    assert_memory_equal(&back->rates, &routes->rates, sizeof back->rates);
    assert_true(back->paces[kernel].foreseen == 1.5 && back->paces[kernel].taken == 0.25);
    assert_int_equal(back->capacity, back->count + 3);
    fovea_routes_release(back);
    fovea_routes_release(routes);
}

static void a_truncated_file_is_refused_at_every_length(void **state) {
    (void)state;
    size_t length;
    fovea_message message;
    write_usual_file();
    char *text = file_text(&length);
    assert_int_equal(parse(text, length, &message), FOVEA_OK);
    for (size_t cut = 0; cut < length; cut++)
        assert_int_equal(parse(text, cut, &message), FOVEA_FILE_ERROR);
    free(text);
}

static void a_changed_byte_is_refused_wherever_it_is(void **state) {
    (void)state;
    size_t length;
    fovea_message message;
    write_usual_file();
    char *text = file_text(&length);
    for (size_t i = 0; i < length; i++)
        for (int bit = 0; bit < 8; bit++) {
            text[i] = (char)(text[i] ^ 1 << bit);
            assert_int_equal(parse(text, length, &message), FOVEA_FILE_ERROR);
            text[i] = (char)(text[i] ^ 1 << bit);
        }
    text[length++] = '\n';
    assert_int_equal(parse(text, length, &message), FOVEA_FILE_ERROR);
    free(text);
}

static void random_bytes_are_refused(void **state) {
    (void)state;
    char text[4096];
    fovea_message message;
    uint64_t seed = 1;
    for (int round = 0; round < 2000; round++) {
        size_t length = (size_t)(seed % sizeof text);
        for (size_t i = 0; i < length; i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
            text[i] = (char)(seed >> 56);
        }
        if (round % 2 && length > 15) memcpy(text, "fovea-routes 1\n", 15);
        assert_int_equal(parse(text, length, &message), FOVEA_FILE_ERROR);
    }
}

static void a_file_of_elsewhere_is_refused_with_the_reason(void **state) {
    (void)state;
    write_usual_file();
    assert_refused("fovea-routes 1", "fovea-routes 2", "another format");
    assert_refused("fovea-routes 1", "some-thing 1", "not a routes file");
    assert_refused("library ", "library 9", "library 9");
    assert_refused("kernels ", "kernels 0", "kernels 0");
    assert_refused("processor ", "processor Other", "processor Other");
    assert_refused(", tiers scalar", ", tiers scalar neon", "here it is");
    assert_refused("affinity ", "affinity 77,", "affinity 77");
    assert_refused(", threads ", ", threads 6", "threads 6");
}

static void a_forged_record_is_refused_with_the_reason(void **state) {
    (void)state;
    write_usual_file();
    assert_refused("test/scalar/quick", "test/scalar/magic", "does not have");
    assert_refused("test/scalar/quick", "test/scalar/by_name", "asked for by name");
    assert_refused("route map_add", "route map_sub", "map_sub");
    assert_refused("f32", "f31", "f31");
    assert_refused("route map_add", "detour map_add", "unknown line");
    assert_refused("route map_add", "route  map_add", "malformed");
    assert_refused(" 30000000 ", " -30000000 ", "-30000000");
    assert_refused(" 30000000 ", " nan ", "nan");
    assert_refused(" 30000000 ", " 0 ", "not 0");
    assert_refused(" 30000000 ", " 030000000 ", "030000000");
    assert_refused(" 30000000 ", " 99999999999999999999 ", "99999999999999999999");
    assert_refused(" 30000000 ", " 50000000 ", "out of order");
    assert_refused(" 300000 11", " 300000 0", "samples");
    assert_refused(" 1 00000000", " 0 00000000", "malformed key");
    assert_refused(" 1 00000000", " 4097 00000000", "malformed key");
    assert_refused(",0,0 1024", ",0 1024", "malformed key");
    assert_refused(",0,0 1024", ",0,256 1024", "malformed key");
    assert_refused("test/scalar/quick", "test/scalar/steady", "duplicate");
    assert_refused("end 4", "end 3", "more routes");
    assert_refused("end 4", "end 5", "announces 5");
    assert_refused("end 4", "end 4000000000", "at most");
    assert_refused("end 4", "end 99999999999999999999999999", "malformed last line");
    assert_refused("rate scalar 3000000000", "rate scalar -3000000000", "malformed rate");
    assert_refused("rate scalar", "rate quantum", "malformed rate");
    assert_refused("written 2", "written x", "time of writing");
    assert_refused("route map_add", "wrong map_add test/scalar/quick\nroute map_add", "wrong");
    assert_refused("route map_add", "wrong map_add nobody\nroute map_add", "nobody");
    assert_refused("route map_add", "pace map_add 0 5\nroute map_add", "malformed pace");
    assert_refused("route map_add", "pace map_sub 5 5\nroute map_add", "malformed pace");
    assert_refused("route map_add", "pace map_add 5 5\npace map_add 5 5\nroute map_add", "twice");
    char line[700] = "";
    memset(line, 'x', sizeof line - 1);
    assert_refused("route map_add", line, "bytes in line");
    assert_refused("route map_add", "route\tmap_add", "not text");
}

static void what_is_no_regular_file_is_refused(void **state) {
    (void)state;
    fovea_allocator allocator = fovea_default_allocator();
    fovea_message message;
    fovea_routes *routes;
    unlink(path);
    assert_int_equal(fovea_routes_read(path, 0, &allocator, &routes, &message), FOVEA_FILE_ERROR);
    assert_non_null(strstr(message.text, "does not exist"));
    assert_int_equal(mkfifo(path, 0600), 0); /* must not wait for a writer either */
    assert_int_equal(fovea_routes_read(path, 0, &allocator, &routes, &message), FOVEA_FILE_ERROR);
    assert_non_null(strstr(message.text, "regular file"));
    routes = usual_routes();
    assert_int_equal(fovea_routes_write(path, routes, &message), FOVEA_FILE_ERROR);
    unlink(path);
    fovea_routes_release(routes);
    assert_int_equal(fovea_routes_read(directory, 0, &allocator, &routes, &message),
                     FOVEA_FILE_ERROR);
}

static void a_write_that_fails_leaves_the_old_file(void **state) {
    (void)state;
    size_t before, after;
    fovea_message message;
    write_usual_file();
    char *old = file_text(&before);
    fovea_routes *routes = empty_routes();
    char beneath[96];
    snprintf(beneath, sizeof beneath, "%s/x", path); /* a directory that cannot be */
    assert_int_equal(fovea_routes_write(beneath, routes, &message), FOVEA_FILE_ERROR);
    assert_non_null(strstr(message.text, "cannot be written"));
    assert_int_equal(fovea_routes_write("/proc/fovea/routes", routes, &message), FOVEA_FILE_ERROR);
    char *now = file_text(&after);
    assert_int_equal(before, after);
    assert_memory_equal(old, now, before);
    free(old), free(now);
    fovea_routes_release(routes);
}

static void *write_often(void *failures) {
    fovea_message message;
    fovea_routes *routes = usual_routes();
    for (int i = 0; i < 10; i++)
        *(int *)failures += fovea_routes_write(path, routes, &message) != FOVEA_OK;
    fovea_routes_release(routes);
    return NULL;
}

static void threads_write_to_one_path_at_once(void **state) {
    (void)state;
    enum { WRITERS = 4 };
    pthread_t writers[WRITERS];
    int failures[WRITERS] = {0};
    size_t length;
    fovea_message message;
    write_usual_file();
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_often, &failures[i]), 0);
    for (int i = 0; i < 50; i++) {
        char *text = file_text(&length);
        assert_int_equal(parse(text, length, &message), FOVEA_OK);
        free(text);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i], NULL);
        assert_int_equal(failures[i], 0);
    }
}

/* ---- Choosing ------------------------------------------------------------------------------- */

static fovea_choice choose(const char *text, const fovea_routes *routes) {
    makings m;
    fovea_choice choice, again;
    fovea_choice_cache cache = {0};
    fovea_problem *problem = make(&m, "map_add", text);
    fovea_choose(problem, routes, 1, &choice);
    fovea_choose(problem, routes, 1, &again);
    assert_memory_equal(&choice, &again, sizeof choice);
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(fovea_choose_quickly(&cache, problem, routes, 1), choice.implementation);
    fovea_sample_destroy(&m.sample);
    return choice;
}

static void without_a_file_the_model_chooses(void **state) {
    (void)state;
    fovea_choice choice = choose("n=1024", NULL);
    assert_ptr_equal(choice.implementation, &quick);
    assert_ptr_equal(choice.runner_up, &steady);
    assert_int_equal(choice.source, FOVEA_CHOICE_MODEL);
    assert_true(choice.seconds > 0 && choice.seconds < choice.runner_up_seconds);
    assert_null(choice.record);
}

static void a_measurement_overrules_the_model(void **state) {
    (void)state;
    fovea_routes *routes = usual_routes();
    fovea_choice choice = choose("n=1024", routes);
    assert_ptr_equal(choice.implementation, &steady);
    assert_ptr_equal(choice.runner_up, &quick);
    assert_int_equal(choice.source, FOVEA_CHOICE_MEASURED);
    assert_true(choice.seconds > 499e-9 && choice.seconds < 501e-9);
    assert_true(choice.runner_up_seconds > 899e-9 && choice.runner_up_seconds < 901e-9);
    fovea_routes_release(routes);
}

static void the_nearest_measurement_is_scaled_by_work(void **state) {
    (void)state;
    fovea_routes *routes = usual_routes();
    fovea_choice small = choose("n=2048", routes), large = choose("n=131072", routes);
    assert_ptr_equal(small.implementation, &steady);
    assert_int_equal(small.source, FOVEA_CHOICE_NEIGHBOUR);
    assert_true(small.seconds > 999e-9 && small.seconds < 1001e-9);
    assert_ptr_equal(large.implementation, &quick);
    assert_int_equal(choose("n=1024,dtype=f16", routes).source, FOVEA_CHOICE_MODEL);
    assert_int_equal(choose("n=1024,memory=stepped", routes).source, FOVEA_CHOICE_MODEL);
    fovea_routes_release(routes);
}

/* Near by one is a little ahead, farther away the other one is twice as fast: the small lead does not
 * decide between the two, but where the two are equally near to it the large one does not either. */
static void neighbours_are_weighed(void **state) {
    (void)state;
    fovea_routes *routes = empty_routes();
    add(routes, "n=4096", number_quick, 1020000);
    add(routes, "n=4096", number_steady, 1000000);
    add(routes, "n=65536", number_quick, 10000000);
    add(routes, "n=65536", number_steady, 20000000);
    assert_ptr_equal(choose("n=4096", routes).implementation, &steady);
    fovea_choice between = choose("n=10000", routes);
    assert_ptr_equal(between.implementation, &quick);
    assert_ptr_equal(between.runner_up, &steady);
    assert_true(between.runner_up_seconds > between.seconds);
    assert_true(between.seconds > 2.4e-6 && between.seconds < 2.6e-6); /* scaled from 4096 */
    add(routes, "n=8192", number_quick, 4000000);
    add(routes, "n=8192", number_steady, 2000000);
    assert_ptr_equal(choose("n=10000", routes).implementation, &steady);
    fovea_routes_release(routes);
}

/* It was dropped where it is not among the measured: slow there, though it won far away. */
static void what_was_dropped_near_by_is_slow(void **state) {
    (void)state;
    fovea_routes *routes = empty_routes();
    add(routes, "n=256", number_quick, 100000);
    add(routes, "n=256", number_steady, 110000);
    add(routes, "n=65536", number_steady, 20000000);
    assert_ptr_equal(choose("n=300", routes).implementation, &quick);
    assert_ptr_equal(choose("n=50000", routes).implementation, &steady);
    fovea_routes_release(routes);
}

static void what_does_not_serve_is_passed_over(void **state) {
    (void)state;
    fovea_routes *routes = usual_routes();
    serves_at_most = 100;
    fovea_choice choice = choose("n=65536", routes);
    serves_at_most = 1 << 30;
    assert_ptr_equal(choice.implementation, &steady);
    assert_null(choice.runner_up);
    assert_int_equal(choice.source, FOVEA_CHOICE_MEASURED);
    fovea_routes_release(routes);
}

static void what_was_wrong_is_never_chosen(void **state) {
    (void)state;
    fovea_routes *routes = usual_routes();
    add(routes, "n=1024", number_wrong, 1);
    assert_ptr_equal(choose("n=1024", routes).implementation, &wrong); /* as it would be */
    fovea_routes_condemn(routes, kernel, number_wrong);
    assert_int_equal(routes->count, 4);
    serves_at_most = 1 << 30;
    assert_ptr_equal(choose("n=1024", routes).implementation, &steady);
    fovea_routes_condemn(routes, kernel, number_quick);
    fovea_choice choice = choose("n=1024,dtype=f16", routes); /* by the model */
    assert_ptr_equal(choice.implementation, &steady);
    assert_ptr_not_equal(choice.runner_up, &wrong);
    fovea_routes_release(routes);
}

static void what_is_by_name_only_is_never_chosen(void **state) {
    (void)state;
    fovea_routes *routes = usual_routes();
    add(routes, "n=1024", number_by_name, 1);
    assert_ptr_equal(choose("n=1024", routes).implementation, &steady);
    fovea_routes_release(routes);
}

static void the_cache_tells_problems_apart(void **state) {
    (void)state;
    fovea_routes *routes = usual_routes();
    fovea_choice_cache cache = {0};
    makings small, large;
    fovea_problem *a = make(&small, "map_add", "n=1024"), *b = make(&large, "map_add", "n=65536");
    for (int i = 0; i < 4; i++) {
        assert_ptr_equal(fovea_choose_quickly(&cache, a, routes, 1), &steady);
        assert_ptr_equal(fovea_choose_quickly(&cache, b, routes, 1), &quick);
    }
    serves_at_most = 100; /* what was kept does not serve any more */
    assert_ptr_equal(fovea_choose_quickly(&cache, b, routes, 1), &steady);
    serves_at_most = 1 << 30;
    fovea_sample_destroy(&small.sample);
    fovea_sample_destroy(&large.sample);
    fovea_routes_release(routes);
}

/* Strides of extents of 1 may be any numbers, and so a signature may be made to be another's. */
static void a_choice_kept_for_another_kernel_is_not_taken(void **state) {
    (void)state;
    fovea_choice_cache cache = {0};
    makings added, multiplied;
    fovea_problem *a = make(&added, "map_add", "n=1024"),
                  *b = make(&multiplied, "map_mul", "n=1024");
    uint64_t forged = fovea_problem_signature(b);
    size_t place = (fovea_problem_signature(a) >> 32) % FOVEA_CHOICES_KEPT;
    assert_ptr_equal(fovea_choose_quickly(&cache, a, NULL, 1), &quick);
    cache.entries[(forged >> 32) % FOVEA_CHOICES_KEPT] = cache.entries[place];
    cache.entries[(forged >> 32) % FOVEA_CHOICES_KEPT].signature = forged;
    assert_string_equal(fovea_choose_quickly(&cache, b, NULL, 1)->kernel, "map_mul");
    fovea_sample_destroy(&added.sample);
    fovea_sample_destroy(&multiplied.sample);
}

/* ---- Contexts ------------------------------------------------------------------------------- */

static fovea_status open_with(const char *routes, fovea_context **context) {
    fovea_context_options options;
    fovea_context_options_default(&options);
    options.routes = routes;
    options.threads = 1;
    return fovea_context_create(&options, context);
}

static void explain(fovea_context *context, const char *text, fovea_route *route) {
    makings m;
    make(&m, "map_add", text);
    assert_int_equal(fovea_explain(context, "map_add", m.sample.required, m.sample.count,
                                   m.sample.options, route),
                     FOVEA_OK);
    assert_int_equal(
        fovea_call(context, "map_add", m.sample.required, m.sample.count, m.sample.options),
        FOVEA_OK);
    fovea_call_report report;
    assert_int_equal(fovea_last_call(context, &report), FOVEA_OK);
    assert_string_equal(report.implementation, route->implementation);
    fovea_sample_destroy(&m.sample);
}

static void a_context_uses_the_file_that_is_named(void **state) {
    (void)state;
    fovea_context *context;
    fovea_route route;
    write_usual_file();
    assert_int_equal(open_with(path, &context), FOVEA_OK);
    assert_non_null(strstr(fovea_routes_state(context), "4 measurements"));
    explain(context, "n=1024", &route);
    assert_string_equal(route.implementation, "test/scalar/steady");
    assert_string_equal(route.runner_up, "test/scalar/quick");
    assert_true(route.measured);
    explain(context, "n=2048", &route);
    assert_non_null(strstr(route.reason, "nearby"));
    assert_non_null(strstr(route.declined, "by_name: it is used only when asked for by name"));
    assert_int_equal(fovea_use(context, "map_add", "test/scalar/quick"), FOVEA_OK);
    explain(context, "n=1024", &route);
    assert_string_equal(route.implementation, "test/scalar/quick");
    assert_string_equal(route.reason, "asked for by name");
    fovea_context_destroy(context);
}

static void a_named_file_that_is_refused_is_an_error(void **state) {
    (void)state;
    fovea_context *context;
    unlink(path);
    assert_int_equal(open_with(path, &context), FOVEA_FILE_ERROR);
    assert_null(context);
    assert_non_null(strstr(fovea_last_message(NULL), path));
}

static void a_refused_file_at_the_default_place_is_only_not_used(void **state) {
    (void)state;
    fovea_context *context;
    fovea_route route;
    FILE *file = fopen(path, "w");
    fputs("nonsense\n", file);
    fclose(file);
    setenv("FOVEA_ROUTES", path, 1);
    assert_int_equal(open_with(NULL, &context), FOVEA_OK);
    assert_non_null(strstr(fovea_routes_state(context), "not a routes file"));
    explain(context, "n=1024", &route);
    assert_false(route.measured);
    assert_string_equal(route.implementation, "test/scalar/quick");
    fovea_context_destroy(context);
    write_usual_file();
    assert_int_equal(open_with(NULL, &context), FOVEA_OK);
    explain(context, "n=1024", &route);
    assert_string_equal(route.implementation, "test/scalar/steady");
    fovea_context_destroy(context);
    assert_int_equal(open_with("", &context), FOVEA_OK);
    assert_non_null(strstr(fovea_routes_state(context), "no routes file is named"));
    fovea_context_destroy(context);
    setenv("FOVEA_ROUTES", "", 1);
}

/* ---- Devices -------------------------------------------------------------------------------- */

static const char some_device[] = "NVIDIA H200, capability 9.0, 132 multiprocessors";

static void a_file_of_a_device_is_of_no_other(void **state) {
    (void)state;
    fovea_message message;
    fovea_context *context;
    fovea_allocator allocator = fovea_default_allocator();
    fovea_routes *routes = fovea_routes_create(&allocator, 4), *back;
    snprintf(routes->device, sizeof routes->device, "%s", some_device);
    assert_int_equal(fovea_routes_write(path, routes, &message), FOVEA_OK);
    assert_int_equal(fovea_routes_read(path, 0, &allocator, &back, &message), FOVEA_OK);
    assert_string_equal(back->device, some_device);
    assert_int_equal(fovea_routes_check_device(back, path, some_device, &message), FOVEA_OK);
    assert_int_equal(fovea_routes_check_device(back, path, "NVIDIA A100, capability 8.0", &message),
                     FOVEA_FILE_ERROR);
    assert_non_null(strstr(message.text, "H200"));
    assert_non_null(strstr(message.text, "A100"));
    fovea_routes_release(back);
    fovea_routes_release(routes);
    assert_int_equal(open_with(path, &context), FOVEA_FILE_ERROR);
    assert_non_null(strstr(fovea_last_message(NULL), "not of the processor"));
    write_usual_file();
}

/* Whoever is told a name, the library and `fovea tune --output` mean the same file by it. */
static void a_device_has_a_place_of_its_own(void **state) {
    (void)state;
    char place[512], small[24];
    const char *of_device = "/somewhere/routes.NVIDIA-H200";
    setenv("FOVEA_ROUTES", "/somewhere/routes", 1);
    assert_string_equal(fovea_routes_place_of(NULL, "", place, sizeof place), "/somewhere/routes");
    assert_string_equal(fovea_routes_place_of(NULL, some_device, place, sizeof place), of_device);
    setenv("FOVEA_ROUTES", "/elsewhere", 1);
    assert_string_equal(
        fovea_routes_place_of("/somewhere/routes", some_device, place, sizeof place), of_device);
    assert_string_equal(fovea_routes_place_of(of_device, some_device, place, sizeof place),
                        of_device);
    assert_string_equal(fovea_routes_place_of("/somewhere/routes", "", place, sizeof place),
                        "/somewhere/routes");
    assert_null(fovea_routes_place_of("/somewhere/routes", some_device, small, sizeof small));
    assert_null(fovea_routes_place_of("", some_device, place, sizeof place));
    setenv("FOVEA_ROUTES", "", 1);
    assert_null(fovea_routes_place_of(NULL, some_device, place, sizeof place));
}

/* ---- Memory --------------------------------------------------------------------------------- */

typedef struct scarce {
    int left;       /* allocations before memory is out */
    int64_t in_use; /* bytes */
} scarce;

static void *scarce_allocate(void *user, size_t bytes, size_t alignment) {
    scarce *s = user;
    if (s->left-- <= 0) return NULL;
    s->in_use += (int64_t)bytes;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void scarce_release(void *user, void *memory, size_t bytes) {
    ((scarce *)user)->in_use -= (int64_t)bytes;
    free(memory);
}

static void memory_may_be_out_at_every_allocation(void **state) {
    (void)state;
    scarce s = {0};
    fovea_context *context = NULL;
    fovea_context_options options;
    write_usual_file();
    fovea_context_options_default(&options);
    options.routes = path;
    options.allocator = (fovea_allocator){scarce_allocate, scarce_release, &s};
    int allowed = 0;
    for (;; allowed++) {
        s.left = allowed;
        fovea_status status = fovea_context_create(&options, &context);
        if (status == FOVEA_OK) break;
        assert_int_equal(status, FOVEA_OUT_OF_MEMORY);
        assert_null(context);
        assert_int_equal(s.in_use, 0);
        assert_true(allowed < 100);
    }
    assert_true(allowed >= 5); /* context, its two tables, the file, its routes */
    fovea_context_destroy(context);
    assert_int_equal(s.in_use, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_fall_into_the_nearest_bucket),
        cmocka_unit_test(buckets_grow_with_the_size_and_lie_within_half_a_step),
        cmocka_unit_test(features_keep_problems_apart),
        cmocka_unit_test(a_key_says_in_words_what_it_is),
        cmocka_unit_test(a_file_comes_back_as_it_was),
        cmocka_unit_test(a_truncated_file_is_refused_at_every_length),
        cmocka_unit_test(a_changed_byte_is_refused_wherever_it_is),
        cmocka_unit_test(random_bytes_are_refused),
        cmocka_unit_test(a_file_of_elsewhere_is_refused_with_the_reason),
        cmocka_unit_test(a_forged_record_is_refused_with_the_reason),
        cmocka_unit_test(what_is_no_regular_file_is_refused),
        cmocka_unit_test(a_write_that_fails_leaves_the_old_file),
        cmocka_unit_test(threads_write_to_one_path_at_once),
        cmocka_unit_test(without_a_file_the_model_chooses),
        cmocka_unit_test(a_measurement_overrules_the_model),
        cmocka_unit_test(the_nearest_measurement_is_scaled_by_work),
        cmocka_unit_test(neighbours_are_weighed),
        cmocka_unit_test(what_was_dropped_near_by_is_slow),
        cmocka_unit_test(what_does_not_serve_is_passed_over),
        cmocka_unit_test(what_was_wrong_is_never_chosen),
        cmocka_unit_test(what_is_by_name_only_is_never_chosen),
        cmocka_unit_test(the_cache_tells_problems_apart),
        cmocka_unit_test(a_choice_kept_for_another_kernel_is_not_taken),
        cmocka_unit_test(a_context_uses_the_file_that_is_named),
        cmocka_unit_test(a_named_file_that_is_refused_is_an_error),
        cmocka_unit_test(a_refused_file_at_the_default_place_is_only_not_used),
        cmocka_unit_test(a_file_of_a_device_is_of_no_other),
        cmocka_unit_test(a_device_has_a_place_of_its_own),
        cmocka_unit_test(memory_may_be_out_at_every_allocation),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
