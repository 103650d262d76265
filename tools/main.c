/* The command `fovea`: finds the subcommand and hands over. */
#include "commands.h"

#include <argp.h>
#include <errno.h>
#include <fovea/fovea.h>
#include <stdio.h>
#include <string.h>

#if !FOVEA_HAS_JANSSON
static int without_json(int argc, char **argv) {
    (void)argc, (void)argv;
    fprintf(stderr, "fovea bench: this build lacks libjansson; install libjansson-dev and build "
                    "again\n");
    return 1;
}
#endif

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"check", fovea_command_check, "verify every implementation against the reference"},
    {"info", fovea_command_info, "show this machine, the kernels, and what implements them"},
    {"tune", fovea_command_tune, "measure which implementation is fastest for which call"},
    {"route", fovea_command_route, "explain which implementation a call gets, and why"},
#if FOVEA_HAS_JANSSON
    {"bench", fovea_command_bench, "measure kernels beside what else there is on this machine"},
#else
    {"bench", without_json, "not in this build, which lacks libjansson"},
#endif
    {"report", fovea_command_report, "make an HTML page from the samples of fovea bench"},
};

static int usage(FILE *file, int code) {
    fprintf(file, "fovea %s: verified compute kernels\n\nusage: fovea COMMAND [OPTION...]\n\n",
            fovea_version());
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(file, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(file, "\nfovea COMMAND --help tells more.\n");
    return code;
}

/* Output that could not be written, to a full disk say, is a failure. */
static int written(const char *name, int code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    fprintf(stderr, "%s: standard output cannot be written: %s\n", name, strerror(errno));
    return code ? code : 1;
}

/* The subcommand calls itself «fovea check» in what it says. */
static int run(int (*command)(int argc, char **argv), int argc, char **argv) {
    char name[32];
    snprintf(name, sizeof name, "fovea %s", argv[1]);
    argv[1] = name;
    argp_err_exit_status = 2;
    return written(name, command(argc - 1, argv + 1));
}

int main(int argc, char **argv) {
    if (argc < 2) return usage(stderr, 2);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
        return written("fovea", usage(stdout, 0));
    if (strcmp(argv[1], "--version") == 0)
        return written("fovea", printf("fovea %s\n", fovea_version()) < 0);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return run(commands[i].run, argc, argv);
    fprintf(stderr, "fovea: there is no command «%s»\n", argv[1]);
    return usage(stderr, 2);
}
