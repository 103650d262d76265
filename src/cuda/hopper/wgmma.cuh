#pragma once

/* Warpgroup matrix products of 64 rows: 16-bit operands, f32 sums in registers.
 *   product::shared      sums (+)= A Bᵀ: A [64, 16] and B [n, 16] in shared memory, rows of both
 *                        along the summed dimension («K-major»)
 *   product::registers   sums (+)= A B: A [64, 16] in registers, B [16, n] in shared memory with
 *                        rows along n («MN-major»)
 * A thread holds, of rows r = lane / 4 and r + 8 of its warp's 16, columns 8j + 2 (lane mod 4) and
 * the next one, as sums[4j], sums[4j + 1] and sums[4j + 2], sums[4j + 3]. Two neighbouring j,
 * rounded to 16 bits, are just the operand A in registers for 16 columns: so the result of one
 * product feeds the next without moving between lanes.
 * Facts: PTX ISA 8.x, asynchronous warpgroup level matrix instructions. */

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace fovea::hopper {

/* Registers that a product in flight reads or writes must not be moved across these: the
 * compiler sees the asm statements' operands only, so waiting names the registers it makes
 * valid. */
__device__ __forceinline__ void product_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void product_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int count>
__device__ __forceinline__ void hold_registers(float (&values)[count]) {
#pragma unroll
    for (int i = 0; i < count; i++) asm volatile("" : "+f"(values[i])::"memory");
}

/* Waits until at most `pending` committed groups are unfinished. */
template <int pending>
__device__ __forceinline__ void product_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

/* Tiles lie in shared memory as panels of 64 columns (128 bytes a row), swizzled by 128 bytes,
 * each panel aligned to 1024 bytes. A descriptor counts in 16 bytes; its upper half says the
 * swizzle and that 8 rows of a panel take 1024 bytes, its lower half where the panel starts and
 * how far the next one is. */
__device__ __forceinline__ uint32_t panel_place(uint32_t address, uint32_t panel_bytes) {
    return panel_bytes >> 4 << 16 | (address & 0x3ffff) >> 4;
}

__device__ __forceinline__ uint64_t panel_descriptor(uint32_t place) {
    return uint64_t{1u << 30 | 1024 >> 4} << 32 | place;
}

template <typename Element, int n>
struct product;

#define FOVEA_C0 "%0, %1, %2, %3, %4, %5, %6, %7, "
#define FOVEA_C1 "%8, %9, %10, %11, %12, %13, %14, %15, "
#define FOVEA_C2 "%16, %17, %18, %19, %20, %21, %22, %23, "
#define FOVEA_C3 "%24, %25, %26, %27, %28, %29, %30, %31"
#define FOVEA_C4 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define FOVEA_C5 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define FOVEA_C6 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define FOVEA_C7 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define FOVEA_C8 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define FOVEA_C9 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define FOVEA_C10 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define FOVEA_C11 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define FOVEA_C12 ", %96, %97, %98, %99, %100, %101, %102, %103"
#define FOVEA_C13 ", %104, %105, %106, %107, %108, %109, %110, %111"
#define FOVEA_C14 ", %112, %113, %114, %115, %116, %117, %118, %119"
#define FOVEA_C15 ", %120, %121, %122, %123, %124, %125, %126, %127"
#define FOVEA_NAMES_32 FOVEA_C0 FOVEA_C1 FOVEA_C2 FOVEA_C3
#define FOVEA_NAMES_40 FOVEA_NAMES_32 FOVEA_C4
#define FOVEA_NAMES_48 FOVEA_NAMES_40 FOVEA_C5
#define FOVEA_NAMES_56 FOVEA_NAMES_48 FOVEA_C6
#define FOVEA_NAMES_64 FOVEA_NAMES_56 FOVEA_C7
#define FOVEA_NAMES_72 FOVEA_NAMES_64 FOVEA_C8
#define FOVEA_NAMES_80 FOVEA_NAMES_72 FOVEA_C9
#define FOVEA_NAMES_88 FOVEA_NAMES_80 FOVEA_C10
#define FOVEA_NAMES_96 FOVEA_NAMES_88 FOVEA_C11
#define FOVEA_NAMES_128 FOVEA_NAMES_96 FOVEA_C12 FOVEA_C13 FOVEA_C14 FOVEA_C15

#define FOVEA_E(i)                                                                                 \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),    \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define FOVEA_SUMS_32 FOVEA_E(0), FOVEA_E(8), FOVEA_E(16), FOVEA_E(24)
#define FOVEA_SUMS_40 FOVEA_SUMS_32, FOVEA_E(32)
#define FOVEA_SUMS_48 FOVEA_SUMS_40, FOVEA_E(40)
#define FOVEA_SUMS_56 FOVEA_SUMS_48, FOVEA_E(48)
#define FOVEA_SUMS_64 FOVEA_SUMS_56, FOVEA_E(56)
#define FOVEA_SUMS_72 FOVEA_SUMS_64, FOVEA_E(64)
#define FOVEA_SUMS_80 FOVEA_SUMS_72, FOVEA_E(72)
#define FOVEA_SUMS_88 FOVEA_SUMS_80, FOVEA_E(80)
#define FOVEA_SUMS_96 FOVEA_SUMS_88, FOVEA_E(88)
#define FOVEA_SUMS_128 FOVEA_SUMS_96, FOVEA_E(96), FOVEA_E(104), FOVEA_E(112), FOVEA_E(120)

/* `sums` registers hold n = 2·sums columns; o0 … o5: the numbers of the operands after them. */
#define FOVEA_PRODUCT(element, type, n, sums, o0, o1, o2, o3, o4, o5)                              \
    template <>                                                                                    \
    struct product<element, n> {                                                                   \
        static __device__ __forceinline__ void shared(float (&d)[sums], uint64_t a, uint64_t b,    \
                                                      int add) {                                   \
            asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" o2 ", 0;\n"                      \
                         "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type           \
                         " {" FOVEA_NAMES_##sums "}, %" o0 ", %" o1 ", add, 1, 1, 0, 0;\n}"        \
                         : FOVEA_SUMS_##sums                                                       \
                         : "l"(a), "l"(b), "r"(add));                                              \
        }                                                                                          \
        static __device__ __forceinline__ void registers(float (&d)[sums], const uint32_t *a,      \
                                                         uint64_t b, int add) {                    \
            asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" o5 ", 0;\n"                      \
                         "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type           \
                         " {" FOVEA_NAMES_##sums "}, {%" o0 ", %" o1 ", %" o2 ", %" o3 "}, %" o4   \
                                                 ", add, 1, 1, 1;\n}"                              \
                         : FOVEA_SUMS_##sums                                                       \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));          \
        }                                                                                          \
    };

#define FOVEA_PRODUCTS(n, sums, o0, o1, o2, o3, o4, o5)                                            \
    FOVEA_PRODUCT(__nv_bfloat16, "bf16", n, sums, o0, o1, o2, o3, o4, o5)                          \
    FOVEA_PRODUCT(__half, "f16", n, sums, o0, o1, o2, o3, o4, o5)

FOVEA_PRODUCTS(64, 32, "32", "33", "34", "35", "36", "37")
FOVEA_PRODUCTS(80, 40, "40", "41", "42", "43", "44", "45")
FOVEA_PRODUCTS(96, 48, "48", "49", "50", "51", "52", "53")
FOVEA_PRODUCTS(128, 64, "64", "65", "66", "67", "68", "69")
FOVEA_PRODUCTS(192, 96, "96", "97", "98", "99", "100", "101")
FOVEA_PRODUCTS(256, 128, "128", "129", "130", "131", "132", "133")

} /* namespace fovea::hopper */
