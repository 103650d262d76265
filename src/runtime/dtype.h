/* Element types: names, sizes, and conversion of single values. */
#ifndef FOVEA_RUNTIME_DTYPE_H
#define FOVEA_RUNTIME_DTYPE_H

#include <dlpack/dlpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum fovea_dtype {
    FOVEA_F32,
    FOVEA_F16,
    FOVEA_BF16,
    FOVEA_F64,
    FOVEA_I8,
    FOVEA_U8,
    FOVEA_I32,
    FOVEA_U32,
    FOVEA_I64,
    FOVEA_U64,
    FOVEA_BOOL,
    FOVEA_E4M3, /* OCP 8-bit float: bias 7, largest 448, no infinity, NaN is 0x7f and 0xff */
    FOVEA_C64,  /* two f32: the real and the imaginary part */
    FOVEA_C128, /* two f64 */
    FOVEA_DTYPE_COUNT
} fovea_dtype;

/* Sets of dtypes, as bits. */
#define FOVEA_DTYPE_BIT(dtype) (1u << (dtype))

const char *fovea_dtype_name(fovea_dtype dtype); /* "f32", "bf16", "e4m3", "bool" */
/* Bytes; asked for many times in every call. */
static inline size_t fovea_dtype_size(fovea_dtype dtype) {
    static const uint8_t in_order[FOVEA_DTYPE_COUNT] = {4, 2, 2, 8, 1, 1, 4, 4, 8, 8, 1, 1, 8, 16};
    return in_order[dtype];
}
bool fovea_dtype_parse(const char *name, fovea_dtype *dtype);
bool fovea_dtype_from_dlpack(DLDataType type, fovea_dtype *dtype);
DLDataType fovea_dtype_to_dlpack(fovea_dtype dtype);
bool fovea_dtype_is_word(fovea_dtype dtype);  /* an integer of 32 or 64 bits */
bool fovea_dtype_is_float(fovea_dtype dtype); /* a complex number is not */

/* Parts of an element: the two of a complex number, else the one that it is. */
int fovea_dtype_parts(fovea_dtype dtype);
fovea_dtype fovea_dtype_of_part(fovea_dtype dtype); /* f32 of c64, f64 of c128, else itself */
fovea_dtype fovea_dtype_complex(fovea_dtype part);  /* c64 of f32, c128 of f64, else itself */

/* The element at an address, exactly, as a double (integers beyond 2^53 are rounded). Here and below
 * complex numbers are read, written and rounded a part at a time, by the dtype of their parts. */
double fovea_read_element(const void *address, fovea_dtype dtype);
/* The nearest value of the dtype, to nearest even; integers saturate, NaN to an integer is 0. What
 * rounds beyond 448 is NaN in e4m3. */
void fovea_write_element(void *address, fovea_dtype dtype, double value);
/* The bytes of the element, as a number with zeros above them, and back. */
uint64_t fovea_read_bits(const void *address, fovea_dtype dtype);
void fovea_write_bits(void *address, fovea_dtype dtype, uint64_t bits);
/* The value as the dtype would hold it. */
double fovea_round_to(fovea_dtype dtype, double value);
/* Spacing of the dtype's values at |value|; the smallest subnormal at 0; inf at inf, NaN at NaN. */
double fovea_ulp(fovea_dtype dtype, double value);
/* The dtype of the arithmetic: f32 for f16 and bf16, that of its parts for a complex one, else itself. */
fovea_dtype fovea_compute_dtype(fovea_dtype dtype);
/* Machine epsilon: 2^-23 for f32, 2^-52 for f64, 2^-10 for f16, 2^-7 for bf16, 2^-3 for e4m3; 0
 * for integers. */
double fovea_epsilon(fovea_dtype dtype);

#endif
