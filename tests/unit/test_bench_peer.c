/* Peers that misbehave: each is a line of shell in the worker's place. The tool must learn what
 * happened, within its time, and leave no process. */
#define _GNU_SOURCE
#include "bench_peer.h"
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int memory;

static fovea_peer *start(const char *script) {
    const char *command[] = {"sh", "-c", script, "sh", NULL};
    char reason[FOVEA_PEER_REASON];
    fovea_peer *peer = fovea_peer_start("shell", command, 1, NULL, memory, reason);
    assert_non_null(peer);
    return peer;
}

static fovea_peer_answer ask(fovea_peer *peer, double timeout, char *reason) {
    *reason = 0;
    return fovea_peer_ask(peer, json_pack("{s:s}", "do", "hello"), timeout, NULL, reason);
}

static bool alive(int process) { return kill(process, 0) == 0; }

static char state_of(int process) {
    char path[64], line[256] = "", state = '?';
    snprintf(path, sizeof path, "/proc/%d/stat", process);
    FILE *file = fopen(path, "r");
    if (!file) return '-';
    if (fgets(line, sizeof line, file)) sscanf(strrchr(line, ')') + 1, " %c", &state);
    fclose(file);
    return state;
}

#define OBEDIENT "while read line <&3; do echo '{\"ok\": true, \"n\": 7}' >&4; done"

static void test_answers_and_is_stopped_between(void **unused) {
    (void)unused;
    fovea_peer *peer = start(OBEDIENT);
    char reason[FOVEA_PEER_REASON];
    for (int i = 0; i < 3; i++) {
        json_t *reply = NULL;
        assert_int_equal(fovea_peer_ask(peer, json_pack("{s:s}", "do", "run"), 5, &reply, reason),
                         FOVEA_PEER_OK);
        assert_int_equal(json_integer_value(json_object_get(reply, "n")), 7);
        json_decref(reply);
        assert_int_equal(state_of(fovea_peer_process(peer)), 'T');
    }
    int process = fovea_peer_process(peer);
    fovea_peer_end(peer);
    assert_false(alive(process));
}

static void test_crash_is_named(void **unused) {
    (void)unused;
    fovea_peer *peer = start("read line <&3; echo some words >&2; kill -SEGV $$");
    char reason[FOVEA_PEER_REASON];
    assert_int_equal(ask(peer, 5, reason), FOVEA_PEER_GONE);
    assert_non_null(strstr(reason, strsignal(SIGSEGV)));
    assert_non_null(strstr(reason, "some words"));
    assert_int_equal(fovea_peer_process(peer), -1);
    assert_int_equal(ask(peer, 5, reason), FOVEA_PEER_GONE); /* again: no waiting, no signal */
    fovea_peer_end(peer);
}

static void test_exit_status_is_named(void **unused) {
    (void)unused;
    fovea_peer *peer = start("read line <&3; exit 9");
    char reason[FOVEA_PEER_REASON];
    assert_int_equal(ask(peer, 5, reason), FOVEA_PEER_GONE);
    assert_non_null(strstr(reason, "status 9"));
    fovea_peer_end(peer);
}

static void test_hang_ends_in_time(void **unused) {
    (void)unused;
    fovea_peer *peer = start("read line <&3; exec sleep 100");
    int process = fovea_peer_process(peer);
    char reason[FOVEA_PEER_REASON];
    time_t before = time(NULL);
    assert_int_equal(ask(peer, 1, reason), FOVEA_PEER_GONE);
    assert_true(time(NULL) - before <= 3);
    assert_non_null(strstr(reason, "no answer"));
    assert_false(alive(process));
    fovea_peer_end(peer);
}

static void test_nonsense_is_refused(void **unused) {
    (void)unused;
    static const char *const lines[] = {"hello", "{", "[]", "7", "{}", "{\\\"ok\\\": 1}", ""};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char script[128], reason[FOVEA_PEER_REASON];
        snprintf(script, sizeof script, "read line <&3; echo \"%s\" >&4; sleep 100", lines[i]);
        fovea_peer *peer = start(script);
        assert_int_equal(ask(peer, 5, reason), FOVEA_PEER_GONE);
        assert_non_null(strstr(reason, "protocol"));
        fovea_peer_end(peer);
    }
}

static void test_refusals_are_told_apart(void **unused) {
    (void)unused;
    fovea_peer *peer =
        start("read line <&3; echo '{\"ok\": false, \"unserved\": \"no such\"}' >&4;"
              "read line <&3; echo '{\"ok\": false, \"error\": \"broken\"}' >&4;" OBEDIENT);
    char reason[FOVEA_PEER_REASON];
    assert_int_equal(ask(peer, 5, reason), FOVEA_PEER_UNSERVED);
    assert_string_equal(reason, "no such");
    assert_int_equal(ask(peer, 5, reason), FOVEA_PEER_FAILED);
    assert_string_equal(reason, "broken");
    assert_int_equal(ask(peer, 5, reason), FOVEA_PEER_OK);
    fovea_peer_end(peer);
}

static void test_large_messages(void **unused) {
    (void)unused;
    fovea_peer *peer =
        start("read line <&3; n=${#line}; echo \"{\\\"ok\\\": true, \\\"n\\\": $n}\" >&4; sleep 9");
    char reason[FOVEA_PEER_REASON], text[200001];
    memset(text, 'x', 200000);
    text[200000] = 0;
    json_t *reply = NULL;
    assert_int_equal(fovea_peer_ask(peer, json_pack("{s:s}", "t", text), 20, &reply, reason),
                     FOVEA_PEER_OK);
    assert_int_equal(json_integer_value(json_object_get(reply, "n")), 200008);
    json_decref(reply);
    fovea_peer_end(peer);
}

static void test_missing_program(void **unused) {
    (void)unused;
    const char *command[] = {"/no/such/program", NULL};
    char reason[FOVEA_PEER_REASON];
    fovea_peer *peer = fovea_peer_start("none", command, 1, NULL, memory, reason);
    assert_non_null(peer);
    assert_int_equal(ask(peer, 5, reason), FOVEA_PEER_GONE);
    assert_non_null(strstr(reason, "127"));
    fovea_peer_end(peer);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    memory = memfd_create("test", MFD_CLOEXEC);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_and_is_stopped_between),
        cmocka_unit_test(test_crash_is_named),
        cmocka_unit_test(test_exit_status_is_named),
        cmocka_unit_test(test_hang_ends_in_time),
        cmocka_unit_test(test_nonsense_is_refused),
        cmocka_unit_test(test_refusals_are_told_apart),
        cmocka_unit_test(test_large_messages),
        cmocka_unit_test(test_missing_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
