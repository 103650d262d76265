/* Attention for f32 by plain multiply-adds, for what f32_products.cu does not take: heads above 128,
 * rows that are not contiguous or not aligned. A block of 256
 * threads owns 64 query rows and walks the keys 32 at a time: scores into shared memory, online softmax
 * there, then the product with v into registers. The sums over blocks of keys are compensated (Kahan):
 * thousands of equal values would otherwise add up rounding errors beyond the bound. */
#include "cuda/attention/grids.cuh"
#include "cuda/attention/scores.cuh"

enum { F32_ROWS = 64, F32_KEYS = 32, F32_THREADS = 256 };

/* Shared memory; rows are padded by one word against bank conflicts. */
template <int size>
struct f32_memory {
    float q[F32_ROWS][size + 1], k[F32_KEYS][size + 1], v[F32_KEYS][size];
    float p[F32_ROWS][F32_KEYS + 1], rescale[F32_ROWS], sum[F32_ROWS], lost[F32_ROWS];
    float maximum[F32_ROWS];
};

static __device__ __forceinline__ void add_compensated(float &sum, float &lost, float term) {
    float y = term - lost, t = sum + y;
    lost = isfinite(t) ? (t - sum) - y : 0;
    sum = t;
}

/* Row, head and query of row r of a tile. */
struct f32_row {
    int head, query;
    bool real;
};

template <int size>
static __global__
__launch_bounds__(F32_THREADS) void attention_f32(const __grid_constant__ fovea_cuda_attention p,
                                                  int row_tiles) {
    extern __shared__ float raw[];
    f32_memory<size> &m = *reinterpret_cast<f32_memory<size> *>(raw);
    constexpr int columns = size / 16; /* of out, a thread: 4 rows and every 16th column */
    int tile = row_tiles - 1 - (int)(blockIdx.x % row_tiles), number = blockIdx.x / row_tiles;
    int key_head = number % p.key_heads, thread = threadIdx.x;
    sequence s = sequence_of(p, number / p.key_heads);
    int first_row = tile * F32_ROWS, row_count = s.query_count * p.group;
    if (first_row >= row_count) return;
    auto row_at = [&](int r) {
        int row = first_row + r;
        return f32_row{key_head * p.group + row % p.group, row / p.group, row < row_count};
    };
    for (int e = thread; e < F32_ROWS * size; e += F32_THREADS) {
        f32_row row = row_at(e / size);
        int d = e % size;
        m.q[e / size][d] =
            row.real && d < p.head_size
                ? ((const float *)p.q.data)[s.batch * p.q.stride[0] + row.head * p.q.stride[1] +
                                            (int64_t)(s.query_start + row.query) * p.q.stride[2] +
                                            d * p.q.stride[3]]
                : 0;
    }
    if (thread < F32_ROWS) m.maximum[thread] = -INFINITY, m.sum[thread] = m.lost[thread] = 0;
    float out[4][columns], lost[4][columns];
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < columns; c++) out[r][c] = lost[r][c] = 0;
    int low, high, unused, last_row = min(first_row + F32_ROWS, row_count) - 1;
    attended(p, s, first_row / p.group, low, unused);
    attended(p, s, last_row / p.group, unused, high);
    int rows_of = thread / 16 * 4, column_of = thread % 16;
    for (int key = low / F32_KEYS * F32_KEYS; key < high; key += F32_KEYS) {
        __syncthreads();
        for (int e = thread; e < F32_KEYS * size; e += F32_THREADS) {
            int j = key + e / size, d = e % size;
            bool real = j < s.key_count;
            const float *k = real ? (const float *)key_row(p, p.k, 4, s, key_head, j) : NULL;
            const float *v = real ? (const float *)key_row(p, p.v, 4, s, key_head, j) : NULL;
            m.k[e / size][d] = real && d < p.head_size ? k[d * p.k.stride[3]] : 0;
            m.v[e / size][d] = real && d < p.value_size ? v[d * p.v.stride[3]] : 0;
        }
        __syncthreads();
        /* Scores of 4 rows and 2 keys. */
        float score[4][2] = {};
#pragma unroll 8
        for (int d = 0; d < size; d++) {
            float k0 = m.k[column_of][d], k1 = m.k[column_of + 16][d];
#pragma unroll
            for (int r = 0; r < 4; r++) {
                float q = m.q[rows_of + r][d];
                score[r][0] = fmaf(q, k0, score[r][0]);
                score[r][1] = fmaf(q, k1, score[r][1]);
            }
        }
#pragma unroll
        for (int r = 0; r < 4; r++) {
            f32_row row = row_at(rows_of + r);
            int first, end;
            attended(p, s, row.query, first, end);
#pragma unroll
            for (int c = 0; c < 2; c++) {
                int j = key + column_of + 16 * c;
                bool may = row.real && j >= first && j < end;
                m.p[rows_of + r][column_of + 16 * c] =
                    may ? modified_score(p, s, row.head, row.query, j, score[r][c]) : -INFINITY;
            }
        }
        __syncthreads();
        /* Softmax of a row by 4 threads, 8 keys each. */
        int r = thread / 4, part = thread % 4 * 8;
        float top = m.maximum[r], before = top, total = 0;
        for (int j = 0; j < 8; j++) top = fmaxf(top, m.p[r][part + j]);
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        float base = top == -INFINITY ? 0 : top;
        f32_row row = row_at(r);
        for (int j = 0; j < 8; j++) {
            float weight = exp2f(m.p[r][part + j] - base);
            total += weight;
            if (p.keep < 1 && !is_kept(p, s, row.head, row.query, key + part + j)) weight = 0;
            m.p[r][part + j] = weight;
        }
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        __syncwarp(); /* all four have read the maximum */
        if (thread % 4 == 0) {
            float rescale = exp2f(before - base);
            m.rescale[r] = rescale, m.maximum[r] = top;
            m.sum[r] *= rescale, m.lost[r] *= rescale;
            add_compensated(m.sum[r], m.lost[r], total);
        }
        __syncthreads();
        float block[4][columns];
#pragma unroll
        for (int q = 0; q < 4; q++)
#pragma unroll
            for (int c = 0; c < columns; c++) block[q][c] = 0;
        for (int j = 0; j < F32_KEYS; j++) {
            float weight[4];
#pragma unroll
            for (int q = 0; q < 4; q++) weight[q] = m.p[rows_of + q][j];
#pragma unroll
            for (int c = 0; c < columns; c++) {
                float v = m.v[j][column_of + 16 * c];
#pragma unroll
                for (int q = 0; q < 4; q++) block[q][c] = fmaf(weight[q], v, block[q][c]);
            }
        }
#pragma unroll
        for (int q = 0; q < 4; q++)
#pragma unroll
            for (int c = 0; c < columns; c++) {
                float rescale = m.rescale[rows_of + q];
                out[q][c] *= rescale, lost[q][c] *= rescale;
                add_compensated(out[q][c], lost[q][c], block[q][c]);
            }
    }
    __syncthreads();
#pragma unroll
    for (int q = 0; q < 4; q++) {
        f32_row row = row_at(rows_of + q);
        if (!row.real) continue;
        float l = m.sum[rows_of + q], top = m.maximum[rows_of + q], scale = 1;
        if (p.sinks) {
            float sink = p.sinks[row.head * p.sinks_stride] * 1.4426950408889634f;
            float larger = fmaxf(top, sink), base = larger == -INFINITY ? 0 : larger;
            scale = exp2f(top - base);
            l = l * scale + exp2f(sink - base);
            top = larger;
        }
        int64_t at = s.query_start + row.query;
        float *to = (float *)p.out.data + s.batch * p.out.stride[0] + row.head * p.out.stride[1] +
                    at * p.out.stride[2];
#pragma unroll
        for (int c = 0; c < columns; c++) {
            int d = column_of + 16 * c;
            if (d < p.value_size)
                to[d * p.out.stride[3]] = l == 0 ? 0 : out[q][c] * scale / (l * p.keep);
        }
        if (p.lse.data && column_of == 0)
            ((float *)p.lse.data)[s.batch * p.lse.stride[0] + row.head * p.lse.stride[1] +
                                  at * p.lse.stride[2]] =
                l == 0 ? -INFINITY : (top + log2f(l)) * 0.69314718055994531f;
    }
}

template <int size>
static int launch(const fovea_cuda_attention &p, cudaStream_t stream) {
    int64_t tiles = blocks_for((int64_t)p.query_length * p.group, F32_ROWS);
    int64_t blocks = tiles * p.key_heads * p.batch;
    if (blocks == 0) return cudaSuccess;
    cudaError_t error = allow_shared_bytes<attention_f32<size>>((int)sizeof(f32_memory<size>));
    if (error != cudaSuccess) return cudaGetLastError(), error;
    attention_f32<size>
        <<<(unsigned)blocks, F32_THREADS, sizeof(f32_memory<size>), stream>>>(p, (int)tiles);
    return cudaGetLastError();
}

extern "C" int fovea_cuda_attention_f32(const fovea_cuda_attention *problem, cudaStream_t stream) {
    int size = problem->head_size > problem->value_size ? problem->head_size : problem->value_size;
    return size <= 64    ? launch<64>(*problem, stream)
           : size <= 128 ? launch<128>(*problem, stream)
                         : launch<256>(*problem, stream);
}
