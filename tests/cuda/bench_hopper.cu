/* Checks and times shapes of the Hopper attention kernel by themselves, beside a plain f64
 * computation on the device. */
#include "cuda/attention/hopper_launch.cuh"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unistd.h>
#include <vector>

using namespace fovea::hopper;

#define CUDA(call)                                                                                 \
    do {                                                                                           \
        cudaError_t error_ = (call);                                                               \
        if (error_ != cudaSuccess) {                                                               \
            printf("%s:%d %s\n", __FILE__, __LINE__, cudaGetErrorString(error_));                  \
            exit(2);                                                                               \
        }                                                                                          \
    } while (0)

using launcher = cudaError_t (*)(const attention_call &, int, cudaStream_t);
struct variant {
    const char *name;
    int D;
    bool half;
    launcher launch;
};
#define V(D, N, groups, stages, qstages, turns, trust)                                             \
    {                                                                                              \
        #D "x" #N " g" #groups " s" #stages " q" #qstages " t" #turns " r" #trust, D, false,       \
            launch_attention < attention_shape < __nv_bfloat16, D, N, groups, stages, qstages,     \
            turns, trust>>                                                                         \
    }
#define H(D, N, groups, stages, qstages, turns, trust)                                             \
    {                                                                                              \
        "f16 " #D "x" #N " g" #groups " s" #stages " q" #qstages " t" #turns " r" #trust, D, true, \
            launch_attention<attention_shape<__half, D, N, groups, stages, qstages, turns, trust>> \
    }
static const variant variants[] = {
#ifdef QUICK
    V(128, 128, 2, 2, 2, 1, 0),
#else
    #include VARIANTS
#endif
};

__global__ void fill(uint16_t *to, size_t n, uint64_t seed, bool half, float amplitude) {
    for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < n;
         i += size_t(gridDim.x) * blockDim.x) {
        uint64_t x = seed + i * 0x9e3779b97f4a7c15ull;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ x >> 27) * 0x94d049bb133111ebull;
        x ^= x >> 31;
        float u = ((x >> 40) + 0.5f) / 16777216.0f, w = (x & 0xffffff) / 16777216.0f;
        float g = sqrtf(-2 * logf(u)) * cospif(2 * w) * amplitude;
        to[i] =
            half ? __half_as_ushort(__float2half(g)) : __bfloat16_as_ushort(__float2bfloat16(g));
    }
}
__device__ double widen(uint16_t x, bool half) {
    return half ? double(__half2float(__ushort_as_half(x)))
                : double(__bfloat162float(__ushort_as_bfloat16(x)));
}
/* A block a row. */
__global__ void reference(attention_call c, bool half, double *out, double *lse) {
    extern __shared__ double scores[];
    __shared__ double part[128];
    int i = blockIdx.x, h = blockIdx.y, b = blockIdx.z, kh = h / (c.query_heads / c.key_heads);
    const uint16_t *q = (const uint16_t *)c.q.data + b * c.q.batch + h * c.q.head + i * c.q.row;
    const uint16_t *k = (const uint16_t *)c.k.data + b * c.k.batch + kh * c.k.head;
    const uint16_t *v = (const uint16_t *)c.v.data + b * c.v.batch + kh * c.v.head;
    int begin = max(0, i + c.shift_left), end = min(c.key_length, i + c.shift_right + 1);
    double top = -INFINITY;
    for (int j = begin + threadIdx.x; j < end; j += 128) {
        double s = 0;
        for (int d = 0; d < c.head_size; d++)
            s += widen(q[d], half) * widen(k[j * c.k.row + d], half);
        scores[j] = s * c.scale_log2 * 0.693147180559945309;
        top = fmax(top, scores[j]);
    }
    part[threadIdx.x] = top;
    __syncthreads();
    for (int t = 0; t < 128; t++) top = fmax(top, part[t]);
    __syncthreads();
    double sum = 0;
    for (int j = begin + threadIdx.x; j < end; j += 128)
        sum += scores[j] = exp(scores[j] - (top == -INFINITY ? 0 : top));
    part[threadIdx.x] = sum;
    __syncthreads();
    sum = 0;
    for (int t = 0; t < 128; t++) sum += part[t];
    size_t row = (size_t(b) * c.query_heads + h) * c.query_length + i;
    for (int d = threadIdx.x; d < c.head_size; d += 128) {
        double o = 0;
        for (int j = begin; j < end; j++) o += scores[j] * widen(v[j * c.v.row + d], half);
        out[row * c.head_size + d] = sum == 0 ? 0 : o / sum;
    }
    if (threadIdx.x == 0) lse[row] = sum == 0 ? -INFINITY : top + log(sum);
}

static int processors;
static uint32_t *counter;
struct shape {
    int B, Hq, Hkv, Sq, Sk, D, causal,
        left; /* causal 0, 1 top left, 2 bottom right; left: window or -1 */
    bool bshd;
};
struct buffers {
    attention_call call;
    size_t q, kv;
    uint16_t *memory;
};
static buffers allocate(const shape &s, bool half, uint64_t seed, float amplitude) {
    buffers r = {};
    attention_call &c = r.call;
    r.q = size_t(s.B) * s.Hq * s.Sq * s.D, r.kv = size_t(s.B) * s.Hkv * s.Sk * s.D;
    size_t rows = size_t(s.B) * s.Hq * s.Sq;
    CUDA(cudaMalloc(&r.memory, 2 * (2 * r.q + 2 * r.kv) + 4 * rows + 4096));
    auto place = [&](uint16_t *data, int heads, int length) {
        int64_t D = s.D;
        if (s.bshd) return attention_tensor{data, length * heads * D, D, heads * D};
        return attention_tensor{data, heads * length * D, length * D, D};
    };
    /* Each tensor starts at 16 bytes: all sizes are multiples of 8 elements. */
    c.q = place(r.memory, s.Hq, s.Sq), c.k = place(r.memory + r.q, s.Hkv, s.Sk);
    c.v = place(r.memory + r.q + r.kv, s.Hkv, s.Sk),
    c.out = place(r.memory + r.q + 2 * r.kv, s.Hq, s.Sq);
    c.lse = {r.memory + 2 * r.q + 2 * r.kv, int64_t(s.Hq) * s.Sq, s.Sq, 1};
    c.batch = s.B, c.query_heads = s.Hq, c.key_heads = s.Hkv, c.query_length = s.Sq,
    c.key_length = s.Sk;
    c.head_size = s.D, c.scale_log2 = 1.44269504f / sqrtf(float(s.D));
    int shift = s.causal == 2 ? s.Sk - s.Sq : 0;
    c.shift_right = s.causal ? shift : 1 << 29;
    c.shift_left = s.left >= 0 ? shift - s.left : -(1 << 29);
    c.banded = s.causal || s.left >= 0;
    c.counter = counter;
    fill<<<1024, 256>>>(r.memory, r.q + 2 * r.kv, seed, half, amplitude);
    CUDA(cudaGetLastError());
    return r;
}

static int failures, checks;
static double worst;
static void check(const variant &v, const shape &s, bool dynamic, float amplitude) {
    buffers r = allocate(s, v.half, 1234567 + checks * 7919ull, amplitude);
    attention_call &c = r.call;
    if (!dynamic) c.counter = nullptr;
    size_t rows = size_t(s.B) * s.Hq * s.Sq;
    double *out, *lse;
    CUDA(cudaMalloc(&out, 8 * (r.q + rows)));
    lse = out + r.q;
    CUDA(cudaFuncSetAttribute(reference, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              8 * s.Sk + 64));
    reference<<<dim3(s.Sq, s.Hq, s.B), 128, 8 * s.Sk + 64>>>(c, v.half, out, lse);
    CUDA(cudaGetLastError());
    std::vector<uint16_t> got(r.q), again(r.q);
    std::vector<float> got_lse(rows);
    std::vector<double> want(r.q + rows);
    CUDA(cudaMemcpy(want.data(), out, 8 * want.size(), cudaMemcpyDeviceToHost));
    for (int run = 0; run < 2; run++) {
        CUDA(cudaMemset(c.out.data, 0xff, 2 * r.q));
        CUDA(cudaMemset(c.lse.data, 0xff, 4 * rows));
        CUDA(v.launch(c, processors, 0));
        CUDA(cudaDeviceSynchronize());
        CUDA(cudaMemcpy((run ? again : got).data(), c.out.data, 2 * r.q, cudaMemcpyDeviceToHost));
    }
    CUDA(cudaMemcpy(got_lse.data(), c.lse.data, 4 * rows, cudaMemcpyDeviceToHost));
    double error = 0, norm = 0, most = 0, lse_error = 0;
    bool bad = false;
    for (int b = 0; b < s.B; b++)
        for (int h = 0; h < s.Hq; h++)
            for (int i = 0; i < s.Sq; i++) {
                size_t row = (size_t(b) * s.Hq + h) * s.Sq + i;
                size_t at = b * c.out.batch + h * c.out.head + i * c.out.row;
                for (int d = 0; d < s.D; d++) {
                    double y = want[row * s.D + d], x;
                    uint16_t w = got[at + d];
                    if (v.half) {
                        _Float16 f;
                        memcpy(&f, &w, 2);
                        x = double(f);
                    } else {
                        uint32_t u = uint32_t(w) << 16;
                        float f;
                        memcpy(&f, &u, 4);
                        x = f;
                    }
                    error += (x - y) * (x - y), norm += y * y, most = std::max(most, fabs(x - y));
                    if (!(fabs(x - y) < 1e9)) bad = true;
                }
                double e = want[r.q + row], g = got_lse[row];
                if (std::isinf(e) ? g != e : !(fabs(g - e) <= 1e-4 + 1e-5 * fabs(e)))
                    bad = true, lse_error = fabs(g - e);
            }
    error = sqrt(error / (norm + 1e-30));
    bool same = !memcmp(got.data(), again.data(), 2 * r.q);
    double bound = v.half ? 6e-4 : 4.5e-3;
    bool failed = bad || !(error <= bound) || !same;
    worst = std::max(worst, error / bound);
    checks++;
    if (failed) {
        failures++;
        if (failures < 40)
            printf("FAIL %s B%d H%d/%d Sq%d Sk%d D%d causal%d left%d %s dyn%d: rel %.2e max %.2e "
                   "lse %.2e %s%s\n",
                   v.name, s.B, s.Hq, s.Hkv, s.Sq, s.Sk, s.D, s.causal, s.left,
                   s.bshd ? "bshd" : "bhsd", dynamic, error, most, lse_error, bad ? "bad " : "",
                   same ? "" : "differs");
    }
    CUDA(cudaFree(out));
    CUDA(cudaFree(r.memory));
}

static double timed(const variant &v, const attention_call &c, bool hot) {
    static cudaEvent_t events[21];
    if (!events[0])
        for (auto &e : events) CUDA(cudaEventCreate(&e));
    if (!hot) usleep(100000);
    for (int i = 0; i < 5; i++) CUDA(v.launch(c, processors, 0));
    if (hot) {
        CUDA(cudaDeviceSynchronize());
        timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        do {
            for (int i = 0; i < 10; i++) CUDA(v.launch(c, processors, 0));
            CUDA(cudaDeviceSynchronize());
            clock_gettime(CLOCK_MONOTONIC, &b);
        } while ((b.tv_sec - a.tv_sec) + 1e-9 * (b.tv_nsec - a.tv_nsec) < 0.3);
    }
    for (int i = 0; i < 20; i++) {
        CUDA(cudaEventRecord(events[i]));
        CUDA(v.launch(c, processors, 0));
    }
    CUDA(cudaEventRecord(events[20]));
    CUDA(cudaDeviceSynchronize());
    std::vector<float> times(20);
    for (int i = 0; i < 20; i++) CUDA(cudaEventElapsedTime(&times[i], events[i], events[i + 1]));
    std::sort(times.begin(), times.end());
    return (times[9] + times[10]) * 5e-4;
}

int main(int argc, char **argv) {
    cudaDeviceProp properties;
    CUDA(cudaGetDeviceProperties(&properties, 0));
    processors = properties.multiProcessorCount;
    CUDA(cudaMalloc(&counter, 8));
    CUDA(cudaMemset(counter, 0, 8));
    setvbuf(stdout, NULL, _IOLBF, 0);
    std::string mode = argc > 1 ? argv[1] : "check";
    const char *only = argc > 2 ? argv[2] : "";
    if (mode == "check" || mode == "small") {
        static const shape shapes[] = {
            {1, 1, 1, 128, 128, 0, 0, -1, false},  {1, 2, 1, 1, 1, 0, 0, -1, false},
            {2, 4, 1, 63, 65, 0, 1, -1, true},     {1, 8, 1, 129, 257, 0, 2, -1, false},
            {2, 2, 2, 1000, 1023, 0, 0, -1, true}, {1, 4, 4, 1023, 1000, 0, 2, -1, false},
            {1, 1, 1, 3, 4097, 0, 0, -1, false},   {1, 2, 2, 127, 31, 0, 2, -1, true},
            {1, 2, 1, 513, 513, 0, 1, 100, false}, {2, 2, 2, 700, 900, 0, 2, 64, true},
            {1, 2, 2, 300, 4097, 0, 0, 33, false}, {3, 16, 4, 512, 512, 0, 1, -1, true},
            {40, 8, 8, 257, 300, 0, 1, -1, false}, {40, 8, 2, 300, 257, 0, 0, -1, false},
            {1, 1, 1, 4097, 4097, 0, 1, -1, false}};
        for (const variant &v : variants) {
            if (!strstr(v.name, only)) continue;
            int before = failures, done = checks;
            worst = 0;
            for (shape s : shapes) {
                if (mode == "small" && (s.B > 3 || s.Sq > 600 || s.Sk > 600)) continue;
                s.D = v.D;
                check(v, s, true, 1);
                if (mode == "small") continue;
                if (s.Sq < 4000) check(v, s, false, 4);
                if (s.Sq * s.B < 2000) {
                    s.D = v.D == 64 ? 40 : v.D == 128 ? 80 : v.D == 192 ? 168 : 200;
                    check(v, s, true, 1);
                }
            }
            printf("check %-32s %d of %d failed, worst share %.2f\n", v.name, failures - before,
                   checks - done, worst);
        }
        printf("%d checks, %d failed\n", checks, failures);
        return failures > 0;
    }
    /* time: cool and hot rates of every variant at the cells of suite hopper */
    if (mode == "one") { /* NAME D S causal: three launches, for a profiler */
        shape s = {16384 / atoi(argv[4]),
                   2048 / atoi(argv[3]),
                   2048 / atoi(argv[3]),
                   atoi(argv[4]),
                   atoi(argv[4]),
                   atoi(argv[3]),
                   atoi(argv[5]),
                   -1,
                   false};
        for (const variant &v : variants)
            if (!strcmp(v.name, only)) {
                attention_call c = allocate(s, v.half, 42, 1).call;
                c.lse.data = nullptr;
                for (int i = 0; i < 3; i++) CUDA(v.launch(c, processors, 0));
            }
        CUDA(cudaDeviceSynchronize());
        return 0;
    }
    bool hot_too = mode == "hot";
    int only_D = argc > 3 ? atoi(argv[3]) : 0, only_S = argc > 4 ? atoi(argv[4]) : 0;
    for (int D : {64, 128, 192, 256}) {
        if (only_D && D != only_D) continue;
        for (int causal : {0, 1})
            for (int S = 512; S <= 16384; S *= 2) {
                if (only_S && S != only_S) continue;
                shape s = {16384 / S, 2048 / D, 2048 / D, S, S, D, causal, -1, false};
                buffers r[2] = {allocate(s, false, 42, 1), allocate(s, true, 43, 1)};
                double flops = 4.0 * 16384 * (2048 / D * D) * S / (causal ? 2 : 1) * 1e-12;
                printf("cell %d %s %d\n", D, causal ? "causal" : "full", S);
                for (const variant &v : variants) {
                    if (v.D != D || !strstr(v.name, only)) continue;
                    for (int dynamic = 0; dynamic < 2; dynamic++) {
                        if (dynamic != causal && mode != "both") continue;
                        attention_call c = r[v.half].call;
                        c.lse.data = nullptr;
                        if (!dynamic) c.counter = nullptr;
                        double cool = flops / timed(v, c, false),
                               hot = hot_too ? flops / timed(v, c, true) : 0;
                        printf("  %-34s %s %6.1f %6.1f\n", v.name, dynamic ? "dynamic" : "static ",
                               cool, hot);
                    }
                }
                for (auto &b : r) CUDA(cudaFree(b.memory));
            }
    }
    CUDA(cudaDeviceSynchronize());
    return 0;
}
