/* What a device can do: copying, reading, f32 multiply-adds, and what a launch costs. */
#include "cuda/kernel.cuh"

enum { PROBE_THREADS = 256, PROBE_STEPS = 4, FMA_CHAINS = 8, FMA_ROUNDS = 4096 };
static constexpr size_t probe_large = (size_t)2
                                      << 30; /* bytes of which less is met as calls meet it */

static __global__ void empty(void) {}

static __global__ void empty_programmatic(void) { follow_stream(); }

static __global__ __launch_bounds__(PROBE_THREADS) void copy(const float4 *from, float4 *to) {
    int64_t first = (int64_t)blockIdx.x * PROBE_THREADS * PROBE_STEPS + threadIdx.x;
    float4 values[PROBE_STEPS];
#pragma unroll
    for (int s = 0; s < PROBE_STEPS; s++) values[s] = from[first + s * PROBE_THREADS];
#pragma unroll
    for (int s = 0; s < PROBE_STEPS; s++) to[first + s * PROBE_THREADS] = values[s];
}

/* Writes only what no data gives, so that nothing is left out. */
static __global__ __launch_bounds__(PROBE_THREADS) void read(const float4 *from, float *sink) {
    int64_t first = (int64_t)blockIdx.x * PROBE_THREADS * 2 * PROBE_STEPS + threadIdx.x;
    float4 values[2 * PROBE_STEPS];
    float sum = 0;
#pragma unroll
    for (int s = 0; s < 2 * PROBE_STEPS; s++) values[s] = from[first + s * PROBE_THREADS];
#pragma unroll
    for (int s = 0; s < 2 * PROBE_STEPS; s++)
        sum += (values[s].x + values[s].y) + (values[s].z + values[s].w);
    if (sum == 1.2345e33f) *sink = sum;
}

/* As calls do it: a vector a thread, by which blocks that run beside one another take 4 KiB each. */
static __global__ __launch_bounds__(PROBE_THREADS) void copy_call(const float4 *from, float4 *to) {
    const int64_t i = (int64_t)blockIdx.x * PROBE_THREADS + threadIdx.x;
    follow_stream();
    to[i] = from[i];
}

static __device__ __forceinline__ float read_past_l1(const float4 *from) {
    unsigned words[4];
    load_past_l1(words, from);
    return __uint_as_float(words[0] ^ words[1] ^ words[2] ^ words[3]);
}

/* A thread's vectors lie as far apart as all threads have one. Of 40 MB 9.8 µs, by blocks that stay, in rounds of as much,
 * 10.4. */
static __global__ __launch_bounds__(PROBE_THREADS, 3) void read_call(const float4 *from,
                                                                     int64_t vectors, float *sink) {
    const int64_t step = (int64_t)gridDim.x * PROBE_THREADS;
    const int64_t i = (int64_t)blockIdx.x * PROBE_THREADS + threadIdx.x;
    float values[2 * PROBE_STEPS] = {}, sum = 0;
    follow_stream();
#pragma unroll
    for (int s = 0; s < 2 * PROBE_STEPS; s++)
        if (i + s * step < vectors) values[s] = read_past_l1(from + i + s * step);
#pragma unroll
    for (int s = 0; s < 2 * PROBE_STEPS; s++) sum += values[s];
    if (sum == 1.2345e33f) *sink = sum;
}

static __global__ __launch_bounds__(PROBE_THREADS) void multiply_add(float *sink, float factor) {
    float chain[FMA_CHAINS], sum = 0;
#pragma unroll
    for (int c = 0; c < FMA_CHAINS; c++) chain[c] = (float)(threadIdx.x + c);
    for (int i = 0; i < FMA_ROUNDS; i++)
#pragma unroll
        for (int c = 0; c < FMA_CHAINS; c++) chain[c] = fmaf(chain[c], factor, factor);
#pragma unroll
    for (int c = 0; c < FMA_CHAINS; c++) sum += chain[c];
    if (sum == 1.2345e33f) *sink = sum;
}

extern "C" int fovea_cuda_probe_launch(fovea_cuda_probe probe, void *memory, size_t bytes,
                                       cudaStream_t stream, double *work) {
    constexpr size_t piece = (size_t)PROBE_THREADS * PROBE_STEPS * 16;
    float *floats = (float *)memory;
    *work = 0;
    if (probe == FOVEA_CUDA_PROBE_EMPTY && bytes == 0) {
        empty<<<1, 32, 0, stream>>>();
        *work = 1;
    } else if (probe == FOVEA_CUDA_PROBE_EMPTY) { /* of some bytes: launched as our kernels are */
        fovea_run run = {};
        run.stream = stream;
        *work = 1;
        launch(&run, empty_programmatic, 1, 32);
    } else if (probe == FOVEA_CUDA_PROBE_FMA && bytes >= 4) {
        const int blocks = 132 * 8 * 4;
        multiply_add<<<blocks, PROBE_THREADS, 0, stream>>>(floats, 0.999f);
        *work = 2.0 * FMA_ROUNDS * FMA_CHAINS * PROBE_THREADS * blocks;
    } else if (bytes < probe_large) {
        const int64_t vectors = (int64_t)(bytes / (32 * PROBE_THREADS)) * 2 * PROBE_THREADS;
        fovea_run run = {};
        run.stream = stream;
        *work = 16.0 * (double)vectors;
        if (vectors == 0) return cudaSuccess;
        if (probe == FOVEA_CUDA_PROBE_COPY)
            launch(&run, copy_call, vectors / 2 / PROBE_THREADS, PROBE_THREADS,
                   (const float4 *)memory, (float4 *)memory + vectors / 2);
        else
            launch(&run, read_call, blocks_for(vectors, 2 * PROBE_STEPS * PROBE_THREADS),
                   PROBE_THREADS, (const float4 *)memory, vectors, floats);
    } else {
        size_t blocks = bytes / (2 * piece);
        if (probe == FOVEA_CUDA_PROBE_COPY)
            copy<<<(unsigned)blocks, PROBE_THREADS, 0, stream>>>(
                (const float4 *)memory, (float4 *)((char *)memory + blocks * piece));
        else
            read<<<(unsigned)blocks, PROBE_THREADS, 0, stream>>>((const float4 *)memory, floats);
        *work = 2.0 * (double)(blocks * piece);
    }
    return (int)cudaGetLastError();
}
