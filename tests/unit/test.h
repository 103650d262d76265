/* cmocka with the headers that it wants before it; include this one in its place. */
#ifndef FOVEA_TESTS_TEST_H
#define FOVEA_TESTS_TEST_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#endif
