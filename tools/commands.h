/* The subcommands of `fovea`: each parses its own arguments and returns the exit code (0 success, 1
 * something failed or is wrong, 2 bad usage). */
#ifndef FOVEA_TOOLS_COMMANDS_H
#define FOVEA_TOOLS_COMMANDS_H

#include <argp.h>
#include <stdbool.h>

/* Values of --backend and --device; anything else ends the command with a sentence, and so does a device
 * that would not be used. */
bool fovea_backend_is_cuda(const char *value, const struct argp_state *state);
int fovea_device_number(const char *value, const struct argp_state *state);
void fovea_device_expect(bool cuda, int device, const struct argp_state *state);

int fovea_command_check(int argc, char **argv);
int fovea_command_info(int argc, char **argv);
int fovea_command_tune(int argc, char **argv);
int fovea_command_route(int argc, char **argv);
int fovea_command_bench(int argc, char **argv);
int fovea_command_report(int argc, char **argv);

#endif
