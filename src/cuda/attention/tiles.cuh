/* Tiles of 16-bit elements in shared memory and products of them on the tensor cores by mma.sync: what
 * the kernels of attention for sm_80 and above share. */
#ifndef FOVEA_CUDA_ATTENTION_TILES_CUH
#define FOVEA_CUDA_ATTENTION_TILES_CUH

#include "cuda/attention/quads.cuh"
#include "cuda/attention/scores.cuh"

/* ---- Instructions --------------------------------------------------------------------------- */

static __device__ __forceinline__ uint32_t shared_address(const void *pointer) {
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

/* 16 bytes to shared memory, or zeros: `bytes` of them are read. */
static __device__ __forceinline__ void copy_async(uint32_t to, const void *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}
/* The same, with where its lines stand in the L2's order of eviction. */
static __device__ __forceinline__ void copy_async(uint32_t to, const void *from, int bytes,
                                                  uint64_t policy) {
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(to),
                 "l"(from), "r"(bytes), "l"(policy)
                 : "memory");
}
/* Of lines that leave the L2 before all others: what is read once. */
static __device__ __forceinline__ uint64_t first_to_leave(void) {
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
static __device__ __forceinline__ void copies_commit(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* A word, or zero. */
static __device__ __forceinline__ void copy_word_async(uint32_t to, const void *from, bool real) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from),
                 "r"(real ? 4 : 0)
                 : "memory");
}
/* Until at most `pending` groups of this thread are on their way. */
template <int pending>
static __device__ __forceinline__ void copies_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

static __device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
static __device__ __forceinline__ void load_transposed(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

template <class T>
static __device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                uint32_t b1);
template <>
__device__ __forceinline__ void multiply<__half>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                 uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void multiply<__nv_bfloat16>(float (&c)[4], const uint32_t (&a)[4],
                                                        uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
        "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* ---- Tiles in shared memory ----------------------------------------------------------------- */

/* Where 16 bytes of a row lie: swizzled by the row, so that eight rows of one chunk, as ldmatrix reads
 * them, lie in different banks. Rows of 64 bytes share a line by two. */
template <int row_bytes>
static __device__ __forceinline__ uint32_t byte_chunk_address(uint32_t tile, int row, int chunk) {
    int turn = row_bytes >= 128 ? row & 7 : row / 2 & 3;
    return tile + row * row_bytes + ((chunk ^ turn) << 4);
}

/* Of rows of `size` halves. */
template <int size>
static __device__ __forceinline__ uint32_t chunk_address(uint32_t tile, int row, int chunk) {
    return byte_chunk_address<2 * size>(tile, row, chunk);
}

/* A row's 8 elements from `first` on, of any stride, zeros beyond the size. */
template <class T>
static __device__ __forceinline__ void store_chunk(uint32_t to, const T *row, int64_t stride,
                                                   int first, int size) {
    uint32_t words[4];
#pragma unroll
    for (int w = 0; w < 4; w++) {
        pack<T, 2> two = {{narrow<T>(0), narrow<T>(0)}};
        if (row && first + 2 * w < size) two.at[0] = row[(first + 2 * w) * stride];
        if (row && first + 2 * w + 1 < size) two.at[1] = row[(first + 2 * w + 1) * stride];
        words[w] = *reinterpret_cast<uint32_t *>(&two);
    }
    asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(words[0]), "r"(words[1]),
                 "r"(words[2]), "r"(words[3])
                 : "memory");
}

/* Tiles of `rows` rows in turn, which stand at one distance: a thread has the same chunk of every few
 * rows, or of rows longer than the threads the same chunks of each, so that its places in a tile are
 * constants and one addition takes it from row to row. */
template <int row_bytes, int rows, int threads>
struct tile_loader {
    static constexpr int chunks = row_bytes / 16, across = chunks < threads ? chunks : threads;
    static constexpr int pass = threads / across, columns = chunks / across;
    static_assert(rows % pass == 0 && (pass % 8 == 0 || (row_bytes >= 128 && 8 % pass == 0)),
                  "the swizzle of a thread's rows differs by whole passes");
    const char *from;

    static __device__ __forceinline__ int row(void) { return threadIdx.x % threads / across; }
    static __device__ __forceinline__ int chunk(void) { return threadIdx.x % threads % across; }

    /* The first tile begins at a row of a head. */
    __device__ __forceinline__ void begin(const fovea_cuda_tensor &t, int element, int batch,
                                          int head, int first) {
        from = t.data +
               element * (batch * t.stride[0] + head * t.stride[1] +
                          (int64_t)(first + row()) * t.stride[2]) +
               chunk() * 16;
    }
    __device__ __forceinline__ void begin(const fovea_cuda_tensor &t, int element,
                                          const sequence &s, int head, int first) {
        begin(t, element, s.batch, head, s.key_start + first);
    }

    /* The next tile, of which `left` rows of `real` bytes are there. pitch: bytes from one of a
     * thread's rows to the next, which stands in the parameters and takes no register. */
    template <class... Policy>
    __device__ __forceinline__ void load(uint32_t tile, int left, int real, const int64_t &pitch,
                                         Policy... policy) {
        uint32_t place = byte_chunk_address<row_bytes>(0, row(), chunk());
        int bytes[columns];
#pragma unroll
        for (int c = 0; c < columns; c++) bytes[c] = (chunk() + c * across) * 16 < real ? 16 : 0;
        if (left >= rows) {
#pragma unroll
            for (int i = 0; i < rows / pass; i++, from += pitch)
#pragma unroll
                for (int c = 0; c < columns; c++)
                    copy_async(tile + place_of(place, i, c), from + c * across * 16, bytes[c],
                               policy...);
        } else {
#pragma unroll 1
            for (int i = 0; i < rows / pass; i++, from += pitch)
#pragma unroll
                for (int c = 0; c < columns; c++)
                    copy_async(tile + place_of(place, i, c), from + c * across * 16,
                               row() + i * pass < left ? bytes[c] : 0, policy...);
        }
    }

  private:
    /* Of chunk c of a thread's row i in the tile, from that of its first. */
    static __device__ __forceinline__ uint32_t place_of(uint32_t place, int i, int c) {
        return i * pass * row_bytes + (place ^ (i * pass & 7) << 4) + c * across * 16;
    }
};

/* Bytes between a thread's rows of k and of v. */
struct row_pitches {
    int64_t k, v;
};

#endif
