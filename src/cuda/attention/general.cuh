/* Attention for f16 and bf16 on mma.sync (sm_80 and above), after FlashAttention-2 (Dao 2023, section
 * 3): a block owns a tile of query rows, walks the keys 64 at a time with online softmax, and keeps
 * scores, probabilities and output in registers. The query heads of a group are rows of one tile, so
 * that k and v are read once for them.
 *
 * K and V have one buffer each: the load of V runs under q k^T, that of the next K under p v. Rows of
 * 64 halves are swizzled in chunks of 16 bytes by row mod 8, so that ldmatrix meets no bank conflict.
 *
 * Two forms: plain ones take causal masks, windows, packed sequences and sinks, with 32 rows a warp, so
 * that a fragment of k or v from shared memory serves two products (with 16 its bandwidth would be the
 * limit: 8 multiply-adds a byte, where the tensor cores want 16). The others take everything else too. */
#ifndef FOVEA_CUDA_ATTENTION_GENERAL_CUH
#define FOVEA_CUDA_ATTENTION_GENERAL_CUH

#include "cuda/attention/scores.cuh"

enum { KEYS = 64 };

template <class T, int size_, bool plain_>
struct form {
    using element = T;
    static constexpr int size = size_; /* of heads, padded */
    static constexpr bool plain = plain_;
    static constexpr int warps = size > 128 ? 8 : 4;
    static constexpr int tiles = plain && size <= 128 ? 2 : 1; /* of 16 rows a warp */
    static constexpr int rows = warps * tiles * 16, threads = warps * 32;
    static constexpr int shared_bytes = (rows + 2 * KEYS) * size * 2;
};

/* ---- Instructions --------------------------------------------------------------------------- */

static __device__ __forceinline__ uint32_t shared_address(const void *pointer) {
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

/* 16 bytes to shared memory, or zeros. */
static __device__ __forceinline__ void copy_async(uint32_t to, const void *from, bool real) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(real ? 16 : 0)
                 : "memory");
}
static __device__ __forceinline__ void copies_commit(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
static __device__ __forceinline__ void copies_wait(void) {
    asm volatile("cp.async.wait_all;" ::: "memory");
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
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                 "{%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void multiply<__nv_bfloat16>(float (&c)[4], const uint32_t (&a)[4],
                                                        uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <class T>
static __device__ __forceinline__ uint32_t pack_two(float low, float high) {
    pack<T, 2> both = {{narrow<T>(low), narrow<T>(high)}};
    return *reinterpret_cast<uint32_t *>(&both);
}

/* ---- Tiles in shared memory ----------------------------------------------------------------- */

template <int size>
static __device__ __forceinline__ uint32_t chunk_address(uint32_t tile, int row, int chunk) {
    return tile + row * size * 2 + ((chunk ^ (row & 7)) << 4);
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

/* Rows of a tile; where(row) is the address of one, NULL for one that is not there. */
template <class Form, int rows, class Where>
static __device__ __forceinline__ void load_tile(uint32_t tile, const fovea_cuda_tensor &t,
                                                 int size, bool aligned, Where where) {
    using T = typename Form::element;
    constexpr int chunks = Form::size / 8, steps = rows * chunks / Form::threads;
#pragma unroll 2
    for (int i = 0; i < steps; i++) {
        int number = i * Form::threads + threadIdx.x, row = number / chunks, c = number % chunks;
        const T *from = (const T *)where(row);
        uint32_t to = chunk_address<Form::size>(tile, row, c);
        bool real = from && c * 8 < size;
        if (Form::plain || aligned)
            copy_async(to, real ? (const void *)(from + c * 8) : (const void *)t.data, real);
        else
            store_chunk(to, from, t.stride[3], c * 8, size);
    }
}

/* ---- The kernel ----------------------------------------------------------------------------- */

template <class Form>
struct work {
    const fovea_cuda_attention &p;
    sequence s;
    int key_head, first_row, row_count; /* rows of all query heads of the group */
    uint32_t q_tile, k_tile, v_tile;
    int warp, lane;
    float out[Form::tiles][Form::size / 8][4];
    float scores[Form::tiles][KEYS / 8][4];
    float maximum[Form::tiles][2], sum[Form::tiles][2];

    __device__ __forceinline__ int row_of(int tile, int half) const {
        return first_row + (warp * Form::tiles + tile) * 16 + half * 8 + lane / 4;
    }
    __device__ __forceinline__ int query_of(int row) const { return row / p.group; }
    __device__ __forceinline__ int head_of(int row) const {
        return key_head * p.group + row % p.group;
    }

    __device__ __forceinline__ void load_queries(bool aligned) {
        load_tile<Form, Form::rows>(q_tile, p.q, p.head_size, aligned, [&](int r) -> const char * {
            int row = first_row + r;
            if (row >= row_count) return NULL;
            return p.q.data + 2 * (s.batch * p.q.stride[0] + head_of(row) * p.q.stride[1] +
                                   (int64_t)(s.query_start + query_of(row)) * p.q.stride[2]);
        });
    }
    __device__ __forceinline__ void load_keys(uint32_t tile, const fovea_cuda_tensor &t, int size,
                                              bool aligned, int first) {
        load_tile<Form, KEYS>(tile, t, size, aligned, [&](int r) -> const char * {
            int j = first + r;
            if (j >= s.key_count) return NULL;
            if (Form::plain)
                return t.data + 2 * (s.batch * t.stride[0] + key_head * t.stride[1] +
                                     (int64_t)(s.key_start + j) * t.stride[2]);
            return key_row(p, t, 2, s, key_head, j);
        });
    }

    /* scores = q k^T */
    __device__ __forceinline__ void score(void) {
        using T = typename Form::element;
#pragma unroll
        for (int t = 0; t < Form::tiles; t++)
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) scores[t][n][e] = 0;
#pragma unroll
        for (int k = 0; k < Form::size / 16; k++) {
            uint32_t a[Form::tiles][4];
#pragma unroll
            for (int t = 0; t < Form::tiles; t++)
                load_matrices(a[t], chunk_address<Form::size>(
                                        q_tile, (warp * Form::tiles + t) * 16 + lane % 16,
                                        2 * k + lane / 16));
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                uint32_t b[4];
                load_matrices(b,
                              chunk_address<Form::size>(k_tile, n * 16 + lane % 8 + lane / 16 * 8,
                                                        2 * k + lane / 8 % 2));
#pragma unroll
                for (int t = 0; t < Form::tiles; t++) {
                    multiply<T>(scores[t][2 * n], a[t], b[0], b[1]);
                    multiply<T>(scores[t][2 * n + 1], a[t], b[2], b[3]);
                }
            }
        }
    }

    /* Options, and -inf where a row may not attend. */
    __device__ __forceinline__ void mask(int first_key) {
#pragma unroll
        for (int t = 0; t < Form::tiles; t++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int row = row_of(t, h), i = query_of(row), head = head_of(row), low, high;
                attended(p, s, i, low, high);
                if (row >= row_count) high = low;
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        int j = first_key + n * 8 + lane % 4 * 2 + e;
                        float &score = scores[t][n][2 * h + e];
                        if (j < low || j >= high)
                            score = -INFINITY;
                        else if (!Form::plain)
                            score = modified_score(p, s, head, i, j, score);
                    }
            }
    }

    /* Online softmax; `factor` takes scores to units of log2. */
    __device__ __forceinline__ void soften(float factor) {
#pragma unroll
        for (int t = 0; t < Form::tiles; t++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float m = maximum[t][h];
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++)
                    m = fmaxf(m, fmaxf(scores[t][n][2 * h], scores[t][n][2 * h + 1]));
                m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 1));
                m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 2));
                float base = m == -INFINITY ? 0 : m * factor;
                float rescale = exp2_fast(fmaf(maximum[t][h], factor, -base)), total = 0;
                maximum[t][h] = m;
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        float &score = scores[t][n][2 * h + e];
                        score = exp2_fast(fmaf(score, factor, -base));
                        total += score;
                    }
                sum[t][h] = fmaf(sum[t][h], rescale, total);
#pragma unroll
                for (int n = 0; n < Form::size / 8; n++)
#pragma unroll
                    for (int e = 0; e < 2; e++) out[t][n][2 * h + e] *= rescale;
            }
    }

    __device__ __forceinline__ void drop(int first_key) {
#pragma unroll
        for (int t = 0; t < Form::tiles; t++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int row = row_of(t, h), i = query_of(row), head = head_of(row);
#pragma unroll 1
                for (int n = 0; n < KEYS / 8; n++) {
                    uint32_t kept = 0;
                    for (int e = 0; e < 2; e++) {
                        int j = first_key + n * 8 + lane % 4 * 2 + e;
                        kept |= (uint32_t)is_kept(p, s, head, i, j) << e;
                    }
#pragma unroll
                    for (int m = 0; m < KEYS / 8; m++) /* registers are indexed by constants */
                        if (m == n) {
                            if (!(kept & 1)) scores[t][m][2 * h] = 0;
                            if (!(kept & 2)) scores[t][m][2 * h + 1] = 0;
                        }
                }
            }
    }

    /* out += p v */
    __device__ __forceinline__ void accumulate(void) {
        using T = typename Form::element;
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
            uint32_t a[Form::tiles][4];
#pragma unroll
            for (int t = 0; t < Form::tiles; t++) {
                a[t][0] = pack_two<T>(scores[t][2 * k][0], scores[t][2 * k][1]);
                a[t][1] = pack_two<T>(scores[t][2 * k][2], scores[t][2 * k][3]);
                a[t][2] = pack_two<T>(scores[t][2 * k + 1][0], scores[t][2 * k + 1][1]);
                a[t][3] = pack_two<T>(scores[t][2 * k + 1][2], scores[t][2 * k + 1][3]);
            }
#pragma unroll
            for (int n = 0; n < Form::size / 16; n++) {
                uint32_t b[4];
                load_transposed(
                    b, chunk_address<Form::size>(v_tile, k * 16 + lane % 16, 2 * n + lane / 16));
#pragma unroll
                for (int t = 0; t < Form::tiles; t++) {
                    multiply<T>(out[t][2 * n], a[t], b[0], b[1]);
                    multiply<T>(out[t][2 * n + 1], a[t], b[2], b[3]);
                }
            }
        }
    }

    __device__ __forceinline__ void store_row(int t, int h, int row, float factor) {
        using T = typename Form::element;
        int i = query_of(row), head = head_of(row);
        T *to = (T *)p.out.data + s.batch * p.out.stride[0] + head * p.out.stride[1] +
                (int64_t)(s.query_start + i) * p.out.stride[2];
#pragma unroll
        for (int n = 0; n < Form::size / 8; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                int d = n * 8 + lane % 4 * 2 + e;
                if (d < p.value_size)
                    to[d * p.out.stride[3]] = narrow<T>(out[t][n][2 * h + e] * factor);
            }
    }

    __device__ __forceinline__ void finish(float factor) {
#pragma unroll
        for (int t = 0; t < Form::tiles; t++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int row = row_of(t, h);
                float l = sum[t][h], m = maximum[t][h], scale = 1;
                l += __shfl_xor_sync(0xffffffffu, l, 1);
                l += __shfl_xor_sync(0xffffffffu, l, 2);
                if (row >= row_count) continue;
                m = m == -INFINITY ? m : m * factor;
                if (p.sinks) {
                    float sink = p.sinks[head_of(row) * p.sinks_stride] * 1.4426950408889634f;
                    float top = fmaxf(m, sink), base = top == -INFINITY ? 0 : top;
                    scale = exp2_fast(m - base);
                    l = l * scale + exp2_fast(sink - base);
                    m = top;
                }
                store_row(t, h, row, l == 0 ? 0 : scale / (l * p.keep));
                if (p.lse.data && lane % 4 == 0)
                    ((float *)
                         p.lse.data)[s.batch * p.lse.stride[0] + head_of(row) * p.lse.stride[1] +
                                     (int64_t)(s.query_start + query_of(row)) * p.lse.stride[2]] =
                        l == 0 ? -INFINITY : (m + log2f(l)) * 0.69314718055994531f;
            }
    }
};

template <class Form>
static __global__
__launch_bounds__(Form::threads) void general(const __grid_constant__ fovea_cuda_attention p,
                                              int row_tiles, uint32_t aligned) {
    extern __shared__ __align__(128) char memory[];
    /* A head's tiles stand together, so that its k and v stay in L2; the longest causal ones first. */
    int tile = row_tiles - 1 - (int)(blockIdx.x % row_tiles), head = blockIdx.x / row_tiles;
    work<Form> w = {p};
    w.s = sequence_of(p, head / p.key_heads);
    w.key_head = head % p.key_heads;
    w.first_row = tile * Form::rows;
    w.row_count = w.s.query_count * p.group;
    if (w.first_row >= w.row_count) return;
    w.warp = threadIdx.x / 32, w.lane = threadIdx.x % 32;
    w.q_tile = shared_address(memory);
    w.k_tile = w.q_tile + Form::rows * Form::size * 2;
    w.v_tile = w.k_tile + KEYS * Form::size * 2;
#pragma unroll
    for (int t = 0; t < Form::tiles; t++) {
#pragma unroll
        for (int n = 0; n < Form::size / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) w.out[t][n][e] = 0;
        w.maximum[t][0] = w.maximum[t][1] = -INFINITY;
        w.sum[t][0] = w.sum[t][1] = 0;
    }
    int last_row = min(w.first_row + Form::rows, w.row_count) - 1;
    int low, low_of_last, high, high_of_first;
    attended(p, w.s, w.query_of(w.first_row), low, high_of_first);
    attended(p, w.s, w.query_of(last_row), low_of_last, high);
    float factor = Form::plain ? p.scale_log2 : 1;
    int key = low / KEYS * KEYS;
    w.load_queries(aligned & 1);
    if (key < high) w.load_keys(w.k_tile, p.k, p.head_size, aligned & 2, key);
    copies_commit();
    for (; key < high; key += KEYS) {
        copies_wait();
        __syncthreads(); /* k is there, and nobody reads v any more */
        w.load_keys(w.v_tile, p.v, p.value_size, aligned & 4, key);
        copies_commit();
        w.score();
        if (!Form::plain || key < low_of_last || key + KEYS > high_of_first) w.mask(key);
        w.soften(factor);
        if (!Form::plain && p.keep < 1) w.drop(key);
        copies_wait();
        __syncthreads(); /* v is there, and nobody reads k any more */
        if (key + KEYS < high) w.load_keys(w.k_tile, p.k, p.head_size, aligned & 2, key + KEYS);
        copies_commit();
        w.accumulate();
    }
    copies_wait();
    w.finish(factor);
}

/* ---- Launch --------------------------------------------------------------------------------- */

template <class Form>
static int launch_form(const fovea_cuda_attention &p, uint32_t aligned, cudaStream_t stream) {
    int64_t rows = (int64_t)p.query_length * p.group;
    int64_t tiles = blocks_for(rows, Form::rows), blocks = tiles * p.key_heads * p.batch;
    if (blocks == 0) return cudaSuccess;
    cudaError_t error = cudaFuncSetAttribute(
        general<Form>, cudaFuncAttributeMaxDynamicSharedMemorySize, Form::shared_bytes);
    if (error != cudaSuccess) return cudaGetLastError(), error;
    general<Form>
        <<<(unsigned)blocks, Form::threads, Form::shared_bytes, stream>>>(p, (int)tiles, aligned);
    return cudaGetLastError();
}

template <class T, int size>
static int launch_general(const fovea_cuda_attention &p, cudaStream_t stream) {
    uint32_t aligned = fovea_cuda_rows_are_aligned(&p.q, p.head_size) |
                       fovea_cuda_rows_are_aligned(&p.k, p.head_size) << 1 |
                       fovea_cuda_rows_are_aligned(&p.v, p.value_size) << 2;
    bool plain = aligned == 7 && !p.mask.data && !p.bias.data && !p.slopes && !p.block_table.data &&
                 isinf(p.softcap) && p.keep == 1 && p.scale > 0;
    return plain ? launch_form<form<T, size, true>>(p, aligned, stream)
                 : launch_form<form<T, size, false>>(p, aligned, stream);
}

#define FOVEA_CUDA_GENERAL(size)                                                                   \
    extern "C" int fovea_cuda_attention_general_##size(const fovea_cuda_attention *problem,        \
                                                       cudaStream_t stream) {                      \
        return problem->q.dtype == FOVEA_F16                                                       \
                   ? launch_general<__half, size>(*problem, stream)                                \
                   : launch_general<__nv_bfloat16, size>(*problem, stream);                        \
    }

#endif
