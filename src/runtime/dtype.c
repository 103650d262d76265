/* Element types: one table of facts, and scalar conversions that are exact by construction. */
#include "runtime/dtype.h"

#include <math.h>

typedef struct facts {
    const char *name;
    uint8_t code, bits;
    int8_t mantissa;          /* stored fraction bits of a float type */
    int16_t minimum_exponent; /* of the smallest normal number */
} facts;

/* Codes of later DLPack versions, kDLComplex among them; system headers may not have them. */
enum { DLPACK_COMPLEX = 5, DLPACK_BOOL = 6, DLPACK_E4M3 = 10 };

static const facts table[FOVEA_DTYPE_COUNT] = {
    [FOVEA_F32] = {"f32", kDLFloat, 32, 23, -126},
    [FOVEA_F16] = {"f16", kDLFloat, 16, 10, -14},
    [FOVEA_BF16] = {"bf16", kDLBfloat, 16, 7, -126},
    [FOVEA_F64] = {"f64", kDLFloat, 64, 52, -1022},
    [FOVEA_I8] = {"i8", kDLInt, 8, 0, 0},
    [FOVEA_U8] = {"u8", kDLUInt, 8, 0, 0},
    [FOVEA_I32] = {"i32", kDLInt, 32, 0, 0},
    [FOVEA_U32] = {"u32", kDLUInt, 32, 0, 0},
    [FOVEA_I64] = {"i64", kDLInt, 64, 0, 0},
    [FOVEA_U64] = {"u64", kDLUInt, 64, 0, 0},
    [FOVEA_BOOL] = {"bool", DLPACK_BOOL, 8, 0, 0},
    [FOVEA_E4M3] = {"e4m3", DLPACK_E4M3, 8, 3, -6},
    [FOVEA_C64] = {"c64", DLPACK_COMPLEX, 64, 0, 0},
    [FOVEA_C128] = {"c128", DLPACK_COMPLEX, 128, 0, 0},
};

const char *fovea_dtype_name(fovea_dtype dtype) { return table[dtype].name; }
bool fovea_dtype_is_float(fovea_dtype dtype) { return table[dtype].mantissa > 0; }

bool fovea_dtype_is_word(fovea_dtype dtype) {
    return dtype == FOVEA_I32 || dtype == FOVEA_U32 || dtype == FOVEA_I64 || dtype == FOVEA_U64;
}

bool fovea_dtype_parse(const char *name, fovea_dtype *dtype) {
    for (int i = 0; i < FOVEA_DTYPE_COUNT; i++) {
        if (strcmp(name, table[i].name) == 0) return *dtype = (fovea_dtype)i, true;
    }
    return false;
}

bool fovea_dtype_from_dlpack(DLDataType type, fovea_dtype *dtype) {
    for (int i = 0; i < FOVEA_DTYPE_COUNT; i++) {
        if (type.code == table[i].code && type.bits == table[i].bits && type.lanes == 1)
            return *dtype = (fovea_dtype)i, true;
    }
    return false;
}

DLDataType fovea_dtype_to_dlpack(fovea_dtype dtype) {
    return (DLDataType){.code = table[dtype].code, .bits = table[dtype].bits, .lanes = 1};
}

fovea_dtype fovea_dtype_of_part(fovea_dtype dtype) {
    return dtype == FOVEA_C64 ? FOVEA_F32 : dtype == FOVEA_C128 ? FOVEA_F64 : dtype;
}

fovea_dtype fovea_dtype_complex(fovea_dtype part) {
    return part == FOVEA_F32 ? FOVEA_C64 : part == FOVEA_F64 ? FOVEA_C128 : part;
}

int fovea_dtype_parts(fovea_dtype dtype) { return fovea_dtype_of_part(dtype) == dtype ? 1 : 2; }

fovea_dtype fovea_compute_dtype(fovea_dtype dtype) {
    return dtype == FOVEA_F16 || dtype == FOVEA_BF16 ? FOVEA_F32 : fovea_dtype_of_part(dtype);
}

double fovea_epsilon(fovea_dtype dtype) {
    return fovea_dtype_is_float(dtype) ? ldexp(1, -table[dtype].mantissa) : 0;
}

/* By the bits of the exponent: bounds ask for every element of every case. Spacings of doubles near
 * the smallest ones are subnormal and have no exponent to set. */
double fovea_ulp(fovea_dtype dtype, double value) {
    if (!fovea_dtype_is_float(dtype)) return 0;
    if (!isfinite(value)) return fabs(value);
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    if (exponent < table[dtype].minimum_exponent) exponent = table[dtype].minimum_exponent;
    exponent -= table[dtype].mantissa;
    if (exponent < -1022) return ldexp(1, exponent);
    bits = (uint64_t)(exponent + 1023) << 52;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Rounds to the type's spacing with the current (nearest even) mode; nearbyint is exact here
 * because the quotient has at most 53 bits. */
double fovea_round_to(fovea_dtype dtype, double value) {
    if (dtype == FOVEA_E4M3 && isinf(value)) return NAN;
    if (dtype == FOVEA_F64 || !isfinite(value)) {
        if (fovea_dtype_is_float(dtype)) return value;
    }
    if (dtype == FOVEA_F32) return (double)(float)value;
    if (!fovea_dtype_is_float(dtype)) {
        char element[8];
        fovea_write_element(element, dtype, value);
        return fovea_read_element(element, dtype);
    }
    double ulp = fovea_ulp(dtype, value);
    double rounded = nearbyint(value / ulp) * ulp;
    if (dtype == FOVEA_E4M3 && fabs(rounded) > 448) return NAN;
    double limit = dtype == FOVEA_F16 ? 65504.0 : 3.38953138925153547590470800371487867e+38;
    if (fabs(rounded) > limit) return copysign(INFINITY, value);
    return rounded == 0 ? copysign(0.0, value) : rounded;
}

/* References read hundreds of millions of halves: by the bits, since ldexp takes ten times as long. */
static double power_of_two(int exponent) {
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double read_half(uint16_t bits, int mantissa, int bias) {
    int exponent = (bits >> mantissa) & ((1 << (15 - mantissa)) - 1);
    int fraction = bits & ((1 << mantissa) - 1);
    double magnitude;
    if (exponent == (1 << (15 - mantissa)) - 1)
        magnitude = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        magnitude = fraction * power_of_two(1 - bias - mantissa);
    else
        magnitude = (fraction + (1 << mantissa)) * power_of_two(exponent - bias - mantissa);
    return bits & 0x8000 ? -magnitude : magnitude;
}

static uint16_t write_half(double value, fovea_dtype dtype) {
    int mantissa = table[dtype].mantissa;
    int bias = 1 - table[dtype].minimum_exponent;
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    uint16_t infinity = (uint16_t)(((1 << (15 - mantissa)) - 1) << mantissa);
    if (isnan(value)) return (uint16_t)(sign | infinity | (1 << (mantissa - 1)));
    double rounded = fabs(fovea_round_to(dtype, value));
    if (isinf(rounded)) return (uint16_t)(sign | infinity);
    if (rounded < power_of_two(table[dtype].minimum_exponent))
        return (uint16_t)(sign | (uint16_t)(rounded / fovea_ulp(dtype, 0)));
    uint64_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    int fraction = (int)(bits >> (52 - mantissa)) & ((1 << mantissa) - 1);
    return (uint16_t)(sign | ((exponent + bias) << mantissa) | fraction);
}

static double read_e4m3(uint8_t bits) {
    int exponent = bits >> 3 & 15, fraction = bits & 7;
    if ((bits & 0x7f) == 0x7f) return NAN;
    double magnitude = exponent ? ldexp(8 + fraction, exponent - 10) : ldexp(fraction, -9);
    return bits & 0x80 ? -magnitude : magnitude;
}

static uint8_t write_e4m3(double value) {
    uint8_t sign = signbit(value) ? 0x80 : 0;
    double rounded = fabs(fovea_round_to(FOVEA_E4M3, value));
    if (isnan(rounded)) return sign | 0x7f;
    if (rounded < 0x1p-6) return sign | (uint8_t)(rounded * 0x1p9);
    int exponent = ilogb(rounded);
    return (uint8_t)(sign | (exponent + 7) << 3 | ((int)ldexp(rounded, 3 - exponent) - 8));
}

#define READ(type)                                                                                 \
    {                                                                                              \
        type element;                                                                              \
        memcpy(&element, address, sizeof element);                                                 \
        return (double)element;                                                                    \
    }

double fovea_read_element(const void *address, fovea_dtype dtype) {
    switch (dtype) {
    case FOVEA_F32:
        READ(float)
    case FOVEA_F64:
        READ(double)
    case FOVEA_I8:
        READ(int8_t)
    case FOVEA_U8:
        READ(uint8_t)
    case FOVEA_I32:
        READ(int32_t)
    case FOVEA_U32:
        READ(uint32_t)
    case FOVEA_I64:
        READ(int64_t)
    case FOVEA_U64:
        READ(uint64_t)
    case FOVEA_BOOL:
        return *(const uint8_t *)address != 0;
    case FOVEA_F16:
    case FOVEA_BF16: {
        uint16_t bits;
        memcpy(&bits, address, sizeof bits);
        return read_half(bits, table[dtype].mantissa, 1 - table[dtype].minimum_exponent);
    }
    case FOVEA_E4M3:
        return read_e4m3(*(const uint8_t *)address);
    case FOVEA_C64:
    case FOVEA_C128:
    case FOVEA_DTYPE_COUNT:
        break;
    }
    return NAN;
}

#define WRITE(type, lowest, highest)                                                               \
    {                                                                                              \
        double nearest = nearbyint(value);                                                         \
        type element = isnan(value)                   ? (type)0                                    \
                       : nearest <= (double)(lowest)  ? (type)(lowest)                             \
                       : nearest >= (double)(highest) ? (type)(highest)                            \
                                                      : (type)nearest;                             \
        memcpy(address, &element, sizeof element);                                                 \
        return;                                                                                    \
    }

void fovea_write_element(void *address, fovea_dtype dtype, double value) {
    switch (dtype) {
    case FOVEA_F32: {
        float element = (float)value;
        memcpy(address, &element, sizeof element);
        return;
    }
    case FOVEA_F64:
        memcpy(address, &value, sizeof value);
        return;
    case FOVEA_I8:
        WRITE(int8_t, INT8_MIN, INT8_MAX)
    case FOVEA_U8:
        WRITE(uint8_t, 0, UINT8_MAX)
    case FOVEA_I32:
        WRITE(int32_t, INT32_MIN, INT32_MAX)
    case FOVEA_U32:
        WRITE(uint32_t, 0, UINT32_MAX)
    case FOVEA_I64:
        WRITE(int64_t, INT64_MIN, INT64_MAX)
    case FOVEA_U64:
        WRITE(uint64_t, 0, UINT64_MAX)
    case FOVEA_BOOL:
        *(uint8_t *)address = value != 0;
        return;
    case FOVEA_F16:
    case FOVEA_BF16: {
        uint16_t bits = write_half(value, dtype);
        memcpy(address, &bits, sizeof bits);
        return;
    }
    case FOVEA_E4M3:
        *(uint8_t *)address = write_e4m3(value);
        return;
    case FOVEA_C64:
    case FOVEA_C128:
    case FOVEA_DTYPE_COUNT:
        return;
    }
}

#define EACH_SIZE(CASE)                                                                            \
    CASE(uint8_t)                                                                                  \
    CASE(uint16_t)                                                                                 \
    CASE(uint32_t)                                                                                 \
    CASE(uint64_t)

uint64_t fovea_read_bits(const void *address, fovea_dtype dtype) {
#define READ_BITS(type)                                                                            \
    case sizeof(type): {                                                                           \
        type bits;                                                                                 \
        memcpy(&bits, address, sizeof bits);                                                       \
        return bits;                                                                               \
    }
    switch (fovea_dtype_size(dtype)) { EACH_SIZE(READ_BITS) }
    return 0;
}

void fovea_write_bits(void *address, fovea_dtype dtype, uint64_t value) {
#define WRITE_BITS(type)                                                                           \
    case sizeof(type): {                                                                           \
        type bits = (type)value;                                                                   \
        memcpy(address, &bits, sizeof bits);                                                       \
        return;                                                                                    \
    }
    switch (fovea_dtype_size(dtype)) { EACH_SIZE(WRITE_BITS) }
}
