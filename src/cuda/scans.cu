/* Domain 16, scans and compaction, and 112: one pass over memory. A block brings a tile into shared memory,
 * where more of it finds room than in registers, scans it and publishes its sum. What stands before it is the sum of
 * the tiles before it in its group of 32 and in some groups before, of the groups before these in its section of 32 and
 * in the section before, and of all before that: so every sum has one order, which follows from the number of elements,
 * nobody waits for what has only just been put together, and a block looks at 193 places, however many tiles there are:
 * what it looks at takes of the cache's time what the data would. Blocks begin in the order of their numbers; what a
 * block waits for was begun before it. */
#include "cuda/fold.cuh"

enum {
    SCAN_THREADS = 512,
    SCAN_RESIDENT = 3,
    SCAN_GROUP = 32,   /* tiles; a lane looks at one */
    SCAN_SECTION = 32, /* groups */
    /* Groups whose tiles are looked at one by one; of small tensors all but the first few. */
    SCAN_NEAR = 4,
    SCAN_SMALL_NEAR = 13,
    SCAN_WARPS = SCAN_THREADS / 32,
    /* 16 bytes each of a thread; one of what is small, which then has more blocks. */
    SCAN_STEPS = 8,
    COMPACT_STEPS = 8,
    COMPACT_RESIDENT = 2,
    /* Of so many bytes, which are but a few tiles for each block that there is room for: smaller ones. */
    COMPACT_MIDDLE = 64 << 20,
    COMPACT_MIDDLE_STEPS = 4,
    COMPACT_MIDDLE_RESIDENT = 3,
    SCAN_SMALL = 4 << 20, /* bytes */
    SCAN_FEW_THREADS = 256,
    SCAN_PAUSE = 200, /* ns between two looks */
    SCAN_ROOM = 4,    /* words of a place on the board */
    SCAN_LINE = 16    /* words of a line of the cache */
};

/* Bytes of a tile. */
static constexpr int64_t scan_bytes(int steps) { return (int64_t)SCAN_THREADS * steps * 16; }

/* Sums between tiles of what is added within one: wider for floats, so that they do not add to its errors. */
static __device__ __forceinline__ unsigned add(unsigned a, unsigned b) { return a + b; }
static __device__ __forceinline__ uint64_t add(uint64_t a, uint64_t b) { return a + b; }
template <class V>
struct scan_carrier {
    using sum = V;
    V before;
    static __device__ __forceinline__ V of(V x) { return x; }
    __device__ __forceinline__ V plus(V x) const { return before + x; }
};
/* A sum in f64 as two numbers of f32: converting each element would take a quarter of memory's time. */
template <>
struct scan_carrier<float> {
    using sum = double;
    float high, low;
    __device__ __forceinline__ scan_carrier(double before)
        : high((float)before), low(isfinite(high) ? (float)(before - (double)high) : 0) {}
    static __device__ __forceinline__ double of(float x) { return x; }
    __device__ __forceinline__ float plus(float x) const { return high + (low + x); }
};
template <>
struct scan_carrier<double> {
    using sum = pair;
    pair before;
    static __device__ __forceinline__ pair of(double x) { return {x, 0}; }
    __device__ __forceinline__ double plus(double x) const {
        return value_of(add(before, pair{x, 0}));
    }
};

/* What tiles tell one another: sums of tiles and of groups alone, and of all before a section's end. 32 bits a word with
 * a bit that says that they are there: one trip to memory brings both, and no order between words matters. */
template <class Sum>
struct scan_board {
    uint64_t *tiles, *groups, *sections;
    int tiles_of_row, groups_of_row, sections_of_row;
    int lines_log2; /* of lines that neighbours are spread over, so that who looks at one does not hold up another */
    int gate, ahead; /* tiles */
    unsigned pause;  /* ns between two looks, which take time from the data's own way */

    static constexpr int pairs = (sizeof(Sum) + 7) / 8; /* of words */

    static_assert(2 * pairs <= SCAN_ROOM, "they have a place");

    __device__ __forceinline__ unsigned at(int place) const {
        const int line = place & ((1 << lines_log2) - 1);
        return (unsigned)(line * SCAN_LINE + (place >> lines_log2) * SCAN_ROOM);
    }
    __device__ __forceinline__ void tell(uint64_t *board, int place, Sum sum) const {
        const uint64_t there = 1ull << 32;
        unsigned words[2 * pairs] = {};
        memcpy(words, &sum, sizeof sum);
        board += at(place);
#pragma unroll
        for (int p = 0; p < pairs; p++)
            store_shown(board + p * 2, there | words[2 * p], there | words[2 * p + 1]);
    }
    __device__ __forceinline__ Sum hear(const uint64_t *board, int place) const {
        unsigned words[2 * pairs];
        Sum sum;
        board += at(place);
        for (;;) {
            bool there = true;
#pragma unroll
            for (int p = 0; p < pairs; p++) {
                uint64_t a, b;
                load_shown(board + p * 2, a, b);
                words[2 * p] = (unsigned)a, words[2 * p + 1] = (unsigned)b;
                there = there && a >> 32 && b >> 32;
            }
            if (there) break;
            if (pause > 0) __nanosleep(pause);
        }
        memcpy(&sum, words, sizeof sum);
        return sum;
    }
};

/* Waits until the tile that is so many before has been read. Were all tiles read at once, all would come at once
 * and be written at once, and memory would read, wait and write in turns. */
template <class Sum>
static __device__ __forceinline__ void scan_gate(const scan_board<Sum> &board) {
    const int before = (int)blockIdx.x - board.gate;
    if (board.gate == 0 || before < 0) return;
    if (threadIdx.x == 0) board.hear(board.tiles, before);
    __syncthreads();
}

/* Asks for the tile that is so many ahead, which is then in the cache when a block begins it: `bytes` of `row`. */
template <class Sum>
static __device__ __forceinline__ void scan_ask(const scan_board<Sum> &board, int tile,
                                                const void *row, int64_t bytes) {
    const int64_t at = (int64_t)(tile + board.ahead) * bytes + threadIdx.x * 128;
    if (board.ahead > 0 && tile + board.ahead < board.tiles_of_row - 1 &&
        (int)threadIdx.x * 128 < bytes)
        prefetch_l2((const char *)row + at);
}

/* Tells others the sum of a tile, as soon as it is known. */
template <class Sum>
static __device__ __forceinline__ void scan_tell(const scan_board<Sum> &board, int row, int tile,
                                                 Sum own) {
    if (board.tiles_of_row == 1 || threadIdx.x != 0) return;
    board.tell(board.tiles, row * board.tiles_of_row + tile, own);
}

/* The sum of all tiles before `tile` of its row, given that of this tile: a warp looks at each of the `near` groups up to
 * its own, two at those before them, and one thread at all before these. ordered: one thread first waits for the tile right
 * before, which is as a rule the last to come, so that others look less often. */
template <int near, bool ordered, class Sum>
static __device__ __forceinline__ Sum scan_before(const scan_board<Sum> &board, int row, int tile,
                                                  Sum own) {
    constexpr int looking = near + 2;
    static_assert(looking < SCAN_WARPS, "there are so many warps");
    __shared__ Sum parts[looking + 1];
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const int group = tile / SCAN_GROUP, section = group / SCAN_SECTION;
    if (board.tiles_of_row == 1) return {};
    if (ordered) {
        if (threadIdx.x == 0 && tile > 0)
            board.hear(board.tiles, row * board.tiles_of_row + tile - 1);
        __syncthreads();
    }
    if (warp < looking) {
        const bool tiles = warp < near;
        const int place = lane + (tiles ? (group - warp) * SCAN_GROUP
                                        : (section - 1 + warp - near) * SCAN_SECTION);
        Sum sum = {};
        if (place >= 0 && place < (tiles ? tile : group - near + 1))
            sum = tiles ? board.hear(board.tiles, row * board.tiles_of_row + place)
                        : board.hear(board.groups, row * board.groups_of_row + place);
        sum = reduce_warp(sum, [](const Sum &a, const Sum &b) { return add(a, b); });
        if (lane == 0) parts[warp] = sum;
        if (threadIdx.x == 0 && tile % SCAN_GROUP == SCAN_GROUP - 1)
            board.tell(board.groups, row * board.groups_of_row + group, add(sum, own));
    } else if (threadIdx.x == 32 * looking) {
        parts[looking] = {};
        if (section > 1)
            parts[looking] = board.hear(board.sections, row * board.sections_of_row + section - 2);
    }
    __syncthreads();
    Sum before = parts[looking];
#pragma unroll
    for (int p = near; p < looking; p++) before = add(before, parts[p]);
#pragma unroll
    for (int p = near - 1; p >= 0; p--) before = add(before, parts[p]);
    if (threadIdx.x == 0 && (tile + 1) % (SCAN_GROUP * SCAN_SECTION) == 0)
        board.tell(board.sections, row * board.sections_of_row + section, add(before, own));
    return before;
}

/* Turns the sums of a thread's steps into those of all that stands before each in the tile: warps follow
 * one another, then steps, then lanes. The sum of the tile comes back. */
template <class V, int count>
static __device__ __forceinline__ V scan_block(V (&steps)[count]) {
    __shared__ __align__(16) V warps[SCAN_WARPS]; /* read in vectors, which hold nothing else */
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    V total = 0, before = 0, all = 0;
#pragma unroll
    for (int s = 0; s < count; s++) {
        V inclusive = steps[s];
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            V other = __shfl_up_sync(0xffffffffu, inclusive, distance);
            if (lane >= distance) inclusive = other + inclusive;
        }
        V exclusive = __shfl_up_sync(0xffffffffu, inclusive, 1);
        steps[s] = lane == 0 ? total : total + exclusive;
        total += __shfl_sync(0xffffffffu, inclusive, 31);
    }
    if (lane == 0) warps[warp] = total;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < SCAN_WARPS; w++) {
        if (w == warp) before = all;
        all += warps[w];
    }
#pragma unroll
    for (int s = 0; s < count; s++) steps[s] = before + steps[s];
    return all;
}

/* Rows of x and y: `dense` ones begin at rows.offsets(row) and have their elements side by side, of others
 * element i of a row is at all.offsets(row columns + i). */
struct scan_place {
    strided<2> rows, all;
    int64_t columns;
    bool dense, wide;
};

/* `size` elements of a row from i on, and 0 beyond its end, to shared memory, where nobody else looks. */
template <class T, int size, bool dense>
static __device__ __forceinline__ void scan_stage(pack<T, size> *to, const T *x,
                                                  const scan_place &place, int64_t row, int64_t i) {
    if (dense && place.wide && i + size <= place.columns) {
        stage_vector(to, x + i);
    } else if (dense) {
        *to = load_pack<T, size>(x + i, place.columns - i, false);
    } else {
        pack<T, size> values = {};
#pragma unroll
        for (int j = 0; j < size; j++) {
            int64_t at[2];
            place.all.offsets(row * place.columns + i + j, at);
            if (i + j < place.columns) values.at[j] = x[at[0]];
        }
        *to = values;
    }
}

/* 16 bytes in one access; the compiler would take some apart. */
template <class T, int size>
static __device__ __forceinline__ void store_vector(T *to, const pack<T, size> &values) {
    unsigned words[4];
    static_assert(sizeof words == sizeof values, "a vector");
    memcpy(words, &values, sizeof words);
    asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(to), "r"(words[0]), "r"(words[1]),
                 "r"(words[2]), "r"(words[3])
                 : "memory");
}

extern __shared__ __align__(16) char scan_memory[]; /* a tile: step by step, those of all threads */

/* T is unsigned for integers, which wrap. dense: rows have their elements side by side. */
template <class T, int steps, bool dense>
static __global__ __launch_bounds__(SCAN_THREADS, SCAN_RESIDENT) void scan_kernel(
    const T *x, T *y, const __grid_constant__ scan_place place,
    const scan_board<typename scan_carrier<T>::sum> board, bool inclusive) {
    using carrier = scan_carrier<T>;
    constexpr int size = 16 / sizeof(T);
    const int line =
        (int)(board.tiles_of_row > 1 ? blockIdx.x / (unsigned)board.tiles_of_row : blockIdx.x);
    const int tile = (int)blockIdx.x - line * board.tiles_of_row;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t first =
        tile * (scan_bytes(steps) / (int64_t)sizeof(T)) + (warp * (32 * steps) + lane) * size;
    auto *mine = (pack<T, size> *)scan_memory + threadIdx.x;
    const bool whole = dense && place.wide &&
                       (tile + 1) * (scan_bytes(steps) / (int64_t)sizeof(T)) <= place.columns;
    int64_t at[2] = {0, 0};
    T sums[steps];
    follow_stream();
    scan_gate(board);
    if (dense) place.rows.offsets(line, at);
    x += at[0], y += at[1];
    if (whole) {
#pragma unroll
        for (int s = 0; s < steps; s++)
            stage_vector(mine + s * SCAN_THREADS, x + first + s * 32 * size);
    } else {
#pragma unroll 1
        for (int s = 0; s < steps; s++)
            scan_stage<T, size, dense>(mine + s * SCAN_THREADS, x, place, line,
                                       first + s * 32 * size);
    }
    stage_commit();
    if (dense) scan_ask(board, tile, x, scan_bytes(steps));
    stage_wait<0>();
#pragma unroll
    for (int s = 0; s < steps; s++) {
        const pack<T, size> values = mine[s * SCAN_THREADS];
        sums[s] = values.at[0];
#pragma unroll
        for (int j = 1; j < size; j++) sums[s] += values.at[j];
    }
    const T all = scan_block(sums);
    scan_tell(board, line, tile, carrier::of(all));
    constexpr int near = steps > 1 ? SCAN_NEAR : SCAN_SMALL_NEAR;
    const carrier before = {scan_before<near, false>(board, line, tile, carrier::of(all))};
#pragma unroll
    for (int s = 0; s < steps; s++) {
        const int64_t i = first + s * 32 * size;
        const pack<T, size> values = mine[s * SCAN_THREADS];
        T running = sums[s];
        pack<T, size> result;
#pragma unroll
        for (int j = 0; j < size; j++) {
            T next = running + values.at[j];
            result.at[j] = before.plus(inclusive ? next : running);
            running = next;
        }
        if (whole) {
            store_vector(y + i, result);
        } else if (dense) {
            store_pack<T, size>(y + i, result, place.columns - i, place.wide);
        } else {
#pragma unroll
            for (int j = 0; j < size; j++) {
                place.all.offsets(line * place.columns + i + j, at);
                if (i + j < place.columns) y[at[1]] = result.at[j];
            }
        }
    }
}

/* The sum of a warp's numbers, where that is there before its scan: NaN where infinities meet, as in the scan. */
template <class T>
static constexpr bool has_quick_total = sizeof(T) == 4;
static __device__ __forceinline__ unsigned quick_total(unsigned x) {
    return __reduce_add_sync(0xffffffffu, x);
}
static __device__ __forceinline__ float quick_total(float x) { return sum_of_warp(x); }

/* A row that is so small that each thread of a block has one vector: no tile and nobody to hear. The sums of the warps
 * are exchanged while the lanes of each are scanned. Threads beyond the end take another's vector, so that their warp need
 * not branch: nobody is after them. */
template <class T, bool wide>
static __global__ __launch_bounds__(SCAN_FEW_THREADS) void scan_few(const T *x, T *y, int count,
                                                                    bool inclusive) {
    constexpr int size = 16 / sizeof(T), group = SCAN_FEW_THREADS / 32, early = 2;
    __shared__ __align__(16) T warps[group];
    const int first = (int)threadIdx.x * size, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const bool none = first >= count, whole = first + size <= count || (none && count >= size);
    release_next();
    const T *from = settled_global(x + (none ? 0 : first));
    T *to = settled_global(y + first), *mine = settled_shared(warps + warp);
    const T *all = settled_shared(warps);
    await_stream();
    pack<T, size> values = {};
    if (__builtin_expect(whole, true))
        values = load_pack<T, size>(from, size, wide);
    else
        values = load_pack<T, size>(from, count - first, false);
    T upto[size + 1], chosen[size]; /* the sum of the first so many of them; of those that count */
    upto[0] = 0, upto[1] = values.at[0];
#pragma unroll
    for (int j = 1; j < size; j++) upto[j + 1] = upto[j] + values.at[j];
#pragma unroll
    for (int j = 0; j < size; j++) {
        const T with = upto[j + 1], without = upto[j];
        chosen[j] = inclusive ? with : without;
    }
    T sum = upto[size], before[group];
    const auto step = [&](int distance) {
        const T other = __shfl_up_sync(0xffffffffu, sum, distance);
        if (lane >= distance) sum = other + sum;
    };
    if constexpr (has_quick_total<T>) {
        const T total = quick_total(sum);
#pragma unroll
        for (int s = 0; s < early; s++) step(1 << s);
        if (lane == 0) *mine = total;
    } else {
#pragma unroll
        for (int s = 0; s < 5; s++) step(1 << s);
        if (lane == 31) *mine = sum;
    }
    __syncthreads();
#pragma unroll
    for (int w = 0; w < group; w++) before[w] = all[w];
    if constexpr (has_quick_total<T>) {
#pragma unroll
        for (int s = early; s < 5; s++) step(1 << s);
    }
#pragma unroll
    for (int w = 0; w < group; w++) before[w] = w < warp ? before[w] : 0;
#pragma unroll
    for (int span = 1; span < group; span *= 2)
#pragma unroll
        for (int w = 0; w < group; w += 2 * span) before[w] += before[w + span];
    T running;
    if constexpr (std::is_integral<T>::value) {
        running = sum - upto[size];
    } else {
        running = __shfl_up_sync(0xffffffffu, sum, 1);
        if (lane == 0) running = 0;
    }
    running = before[0] + running;
    pack<T, size> result;
#pragma unroll
    for (int j = 0; j < size; j++) result.at[j] = running + chosen[j];
    if (none) return;
    if (__builtin_expect(whole, true))
        store_pack(to, result, size, wide);
    else
        store_pack(to, result, count - first, false);
}

/* ---- Compaction ----------------------------------------------------------------------------- */

/* A bit for each byte that is not 0. */
static __device__ __forceinline__ unsigned nonzero_bytes(unsigned bytes) {
    const unsigned high = ((bytes & 0x7f7f7f7fu) + 0x7f7f7f7fu | bytes) & 0x80808080u;
    return (high >> 7) * 0x01020408u >> 24; /* no two of its products meet */
}

/* Which elements stay: by a mask, or above a threshold. look(): what it needs beside them, from memory; of a vector
 * that is all there and `wide`, or of any. Then a bit for each element. */
template <class T>
struct by_mask {
    static constexpr int size = 16 / sizeof(T);
    using beside = pack<uint8_t, size>;
    const uint8_t *mask;
    strided<1> where;
    bool wide;

    __device__ __forceinline__ beside look(int64_t i) const { return *(const beside *)(mask + i); }
    /* Where look(i) of a `wide` one is, known before a kernel waits. */
    __device__ __forceinline__ const beside *aim(int i) const {
        return settled_global((const beside *)(mask + i));
    }
    static __device__ __forceinline__ beside at(const beside *there) { return *there; }
    static __device__ __forceinline__ beside at(const beside *there, int valid) {
        return load_pack<uint8_t, size>(there->at, valid, false);
    }
    __device__ __forceinline__ bool keeps(const beside &flags, const pack<T, size> &, int j) const {
        return flags.at[j] != 0;
    }
    __device__ __forceinline__ beside look(int64_t i, int64_t count) const {
        beside flags = {};
#pragma unroll
        for (int j = 0; j < size; j++) {
            int64_t at[1];
            where.offsets(i + j, at);
            if (i + j < count) flags.at[j] = mask[at[0]];
        }
        return flags;
    }
    __device__ __forceinline__ unsigned operator()(const beside &flags,
                                                   const pack<T, size> &) const {
        unsigned bytes = 0;
        memcpy(&bytes, &flags, sizeof flags);
        return nonzero_bytes(bytes);
    }
};
template <class T>
struct by_threshold {
    static constexpr int size = 16 / sizeof(T);
    struct beside {};
    T threshold;
    static constexpr bool wide = true;
    __device__ __forceinline__ beside look(int64_t) const { return {}; }
    __device__ __forceinline__ beside look(int64_t, int64_t) const { return {}; }
    __device__ __forceinline__ beside aim(int) const { return {}; }
    static __device__ __forceinline__ beside at(beside there, int = 0) { return there; }
    __device__ __forceinline__ bool keeps(const beside &, const pack<T, size> &x, int j) const {
        return x.at[j] > threshold;
    }
    __device__ __forceinline__ unsigned operator()(const beside &, const pack<T, size> &x) const {
        unsigned above = 0;
#pragma unroll
        for (int j = 0; j < size; j++) above |= x.at[j] > threshold ? 1u << j : 0;
        return above;
    }
};

/* The elements of a vector of the row, and 0 beyond its end. */
template <class T, int size>
static __device__ __forceinline__ pack<T, size> compact_load(const T *x, const scan_place &place,
                                                             int64_t i) {
    pack<T, size> values = {};
#pragma unroll
    for (int j = 0; j < size; j++) {
        int64_t at[2];
        place.all.offsets(i + j, at);
        if (i + j < place.columns) values.at[j] = x[at[0]];
    }
    return values;
}

static constexpr int compact_resident(int steps) {
    return steps == COMPACT_MIDDLE_STEPS ? COMPACT_MIDDLE_RESIDENT : COMPACT_RESIDENT;
}

/* A warp has the elements of a part of the tile in registers, and how many it keeps of each step as bytes of words,
 * so that five exchanges find where all of them go. What is kept of a tile comes together in shared memory. */
template <class T, class Choice, int steps>
static __global__ __launch_bounds__(SCAN_THREADS, compact_resident(steps)) void compact_kernel(
    const T *x, T *y, int64_t step_y, int64_t *total, const __grid_constant__ scan_place place,
    const scan_board<uint64_t> board, const __grid_constant__ Choice choice) {
    constexpr int size = 16 / sizeof(T), each = 32 * steps * size, words = (steps + 3) / 4;
    __shared__ __align__(16) unsigned warps[SCAN_WARPS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t begin = ((int64_t)blockIdx.x * SCAN_WARPS + warp) * each,
                  first = begin + lane * size;
    T *kept = (T *)scan_memory;
    pack<T, size> values[steps];
    unsigned keep = 0; /* a bit for each element */
    static_assert(steps * size <= 32, "they fit a word");
    follow_stream();
    if (place.dense && place.wide && choice.wide && begin + each <= place.columns) {
        typename Choice::beside beside[steps];
#pragma unroll
        for (int s = 0; s < steps; s++)
            values[s] = load_once<true, T, size>(x + first + s * 32 * size);
#pragma unroll
        for (int s = 0; s < steps; s++) beside[s] = choice.look(first + s * 32 * size);
#pragma unroll
        for (int s = 0; s < steps; s++) keep |= choice(beside[s], values[s]) << s * size;
        scan_ask(board, blockIdx.x, x, scan_bytes(steps));
    } else {
#pragma unroll
        for (int s = 0; s < steps; s++) {
            const int64_t i = first + s * 32 * size, rest = place.columns - i;
            const unsigned there = rest >= size ? (1u << size) - 1
                                   : rest > 0   ? (1u << rest) - 1
                                                : 0;
            values[s] = compact_load<T, size>(x, place, i);
            keep |= (choice(choice.look(i, place.columns), values[s]) & there) << s * size;
        }
    }

    unsigned counts[words] = {}, inclusive[words], before_step = 0, places[steps];
#pragma unroll
    for (int s = 0; s < steps; s++)
        counts[s / 4] |= (unsigned)__popc(keep >> s * size & ((1u << size) - 1)) << s % 4 * 8;
#pragma unroll
    for (int w = 0; w < words; w++) {
        inclusive[w] = counts[w];
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            const unsigned other = __shfl_up_sync(0xffffffffu, inclusive[w], distance);
            if (lane >= distance) inclusive[w] += other;
        }
    }
#pragma unroll
    for (int w = 0; w < words; w++) {
        const unsigned all = __shfl_sync(0xffffffffu, inclusive[w], 31);
        const unsigned lanes_before = inclusive[w] - counts[w];
#pragma unroll
        for (int s = 4 * w; s < steps && s < 4 * w + 4; s++) {
            places[s] = before_step + (lanes_before >> s % 4 * 8 & 0xff);
            before_step += all >> s % 4 * 8 & 0xff;
        }
    }
    if (lane == 0) warps[warp] = before_step;
    __syncthreads();
    unsigned own = 0, before_warp = 0;
#pragma unroll
    for (int w = 0; w < SCAN_WARPS; w++) {
        if (w == warp) before_warp = own;
        own += warps[w];
    }
    scan_tell(board, 0, blockIdx.x, (uint64_t)own);
#pragma unroll
    for (int s = 0; s < steps; s++) {
        T *to = kept + before_warp + places[s];
#pragma unroll
        for (int j = 0; j < size; j++)
            if (keep >> (s * size + j) & 1) *to++ = values[s].at[j];
    }
    constexpr int near = steps > 1 ? SCAN_NEAR : SCAN_SMALL_NEAR;
    const int64_t before = (int64_t)scan_before<near, true>(board, 0, blockIdx.x, (uint64_t)own);
    __syncthreads();
    /* A warp writes whole lines of memory. */
    int i = (int)threadIdx.x - (int)((uintptr_t)(y + before) / sizeof(T) % (128 / sizeof(T)));
    y += (before + i) * step_y;
    if (i >= 0 && i < (int)own) *y = kept[i];
    i += SCAN_THREADS, y += SCAN_THREADS * step_y;
#pragma unroll 4
    for (; i < (int)own; i += SCAN_THREADS, y += SCAN_THREADS * step_y) *y = kept[i];
    if (threadIdx.x == 0 && blockIdx.x == gridDim.x - 1) *total = before + own;
}

/* Of as many elements as a block has threads for, each with one vector, to neighbours: where they go is counted by the
 * bits of the lanes before, and by bytes that warps show one another, of which one instruction adds four. Threads beyond the
 * end take another's vector and keep nothing of it. */
template <class T, class Choice>
static __global__
__launch_bounds__(SCAN_FEW_THREADS) void compact_few(const T *x, T *y, int64_t *total, int count,
                                                     const __grid_constant__ Choice choice) {
    constexpr int size = 16 / sizeof(T), group = SCAN_FEW_THREADS / 32;
    static_assert(group == 8 && 32 * size < 256, "bytes of two words");
    __shared__ __align__(8) uint8_t warps[group];
    const int first = (int)threadIdx.x * size, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const bool none = first >= count;
    const int start = none ? 0 : first;
    release_next();
    const T *from = settled_global(x + start);
    const auto there = choice.aim(start);
    y = settled_global(y), total = settled_global(total);
    uint8_t *mine = settled_shared(warps + warp);
    const uint2 *all = (const uint2 *)settled_shared(warps);
    unsigned lanes_before = (1u << lane) - 1, valid = none ? 0 : count - first;
    /* Bytes that are 1 for the warps before. */
    unsigned low = warp >= 4 ? 0x01010101u : 0x01010101u & ((1u << warp % 4 * 8) - 1);
    unsigned high = warp > 4 ? 0x01010101u & ((1u << warp % 4 * 8) - 1) : 0;
    settle(lanes_before), settle(valid), settle(low), settle(high);
    pack<T, size> values = {};
    typename Choice::beside beside = {};
    await_stream();
    if (__builtin_expect(count - start >= size, true)) {
        values = load_pack<T, size>(from, size, true);
        beside = Choice::at(there);
    } else {
        values = load_pack<T, size>(from, count - start, false);
        beside = Choice::at(there, count - start);
    }
    unsigned lanes[size], places[size + 1];
    bool keeps[size];
#pragma unroll
    for (int j = 0; j < size; j++) {
        keeps[j] = choice.keeps(beside, values, j) && j < (int)valid;
        lanes[j] = __ballot_sync(0xffffffffu, keeps[j]);
    }
    places[0] = 0;
#pragma unroll
    for (int j = 0; j < size; j++) places[0] += __popc(lanes[j] & lanes_before);
#pragma unroll
    for (int j = 0; j < size; j++) places[j + 1] = places[j] + keeps[j];
    if (lane == 31) *mine = (uint8_t)places[size];
    __syncthreads();
    const uint2 kept = *all;
    const unsigned before = __dp4a(kept.x, low, __dp4a(kept.y, high, 0u));
#pragma unroll
    for (int j = 0; j < size; j++)
        if (keeps[j]) y[before + places[j]] = values.at[j];
    if (threadIdx.x == 0) *total = __dp4a(kept.x, 0x01010101u, __dp4a(kept.y, 0x01010101u, 0u));
}

/* ---- The host's part ------------------------------------------------------------------------ */

struct scan_sizes {
    int64_t rows, columns, tiles, groups, sections; /* of a row, but for the rows */
    int steps;                                      /* of a thread in a tile; 1: the row is small */
};

static scan_sizes sizes_of(int64_t rows, int64_t columns, size_t element, int steps) {
    if (columns <= SCAN_SMALL / (int64_t)element) steps = 1;
    int64_t tiles = blocks_for(columns, scan_bytes(steps) / (int64_t)element);
    if (tiles < 1) tiles = 1;
    const int64_t groups = blocks_for(tiles, SCAN_GROUP);
    return {rows, columns, tiles, groups, blocks_for(groups, SCAN_SECTION), steps};
}

/* Lines that a large board's neighbours are spread over: places of a line are far apart. Small tensors have but a
 * few, which are cleared first. */
static int board_lines_log2(const scan_sizes &s) {
    int log2 = 0;
    while (s.steps > 1 && ((int64_t)SCAN_LINE / SCAN_ROOM << log2) < s.rows * s.tiles) log2++;
    return log2;
}

/* Words for so many places. */
static int64_t board_part(const scan_sizes &s, int64_t places) {
    const int64_t lines = (int64_t)1 << board_lines_log2(s);
    return lines == 1 ? places * SCAN_ROOM : (places < lines ? places : lines) * SCAN_LINE;
}

static int64_t board_words(const scan_sizes &s) {
    if (s.tiles == 1) return 0;
    return board_part(s, s.rows * s.tiles) + board_part(s, s.rows * s.groups) +
           board_part(s, s.rows * s.sections);
}

static __global__ __launch_bounds__(SCAN_THREADS) void scan_clear(uint64_t *board, int64_t words) {
    const int64_t i = (int64_t)blockIdx.x * SCAN_THREADS + threadIdx.x;
    follow_stream();
    if (i < words) board[i] = 0;
}

/* With nothing told yet. in_order: with a gate, which compaction gains nothing by. A kernel of ours can begin while the
 * one before it ends, and the next while it ends; memset cannot. */
template <class Sum>
static fovea_status make_board(const scan_sizes &s, bool in_order, fovea_run *run,
                               scan_board<Sum> *board) {
    const int multiprocessors = fovea_cuda_multiprocessors(current_device());
    *board = {};
    if (!grid_fits(s.rows * s.tiles)) return FOVEA_OK; /* what is launched refuses it */
    board->tiles_of_row = (int)s.tiles, board->groups_of_row = (int)s.groups;
    board->sections_of_row = (int)s.sections;
    if (s.tiles == 1) return FOVEA_OK;
    board->lines_log2 = board_lines_log2(s);
    board->tiles = (uint64_t *)run->workspace;
    board->groups = board->tiles + board_part(s, s.rows * s.tiles);
    board->sections = board->groups + board_part(s, s.rows * s.groups);
    if (s.steps > 1) {
        board->pause = SCAN_PAUSE;
        board->ahead = multiprocessors / 2 * SCAN_STEPS / s.steps;
        board->gate = in_order ? multiprocessors * 7 / 4 : 0;
    }
    return launch(run, scan_clear, blocks_for(board_words(s), SCAN_THREADS), SCAN_THREADS,
                  board->tiles, board_words(s));
}

static scan_place place_of(const fovea_view &x, const fovea_view &y, bool along_last,
                           int64_t columns) {
    int last = x.rank - 1;
    size_t bytes = fovea_dtype_size(x.dtype);
    int64_t size = 16 / (int64_t)bytes;
    fovea_view views[2] = {x, y}, *all[] = {&views[0], &views[1]};
    scan_place place = {};
    place.columns = columns;
    fovea_views_collapse(all, 2);
    place.all = strided_of<2>({&views[0], &views[1]});
    place.wide = is_aligned(x.data, 16) && is_aligned(y.data, 16);
    if (!along_last) {
        place.dense = views[0].rank == 1 && views[0].stride[0] == 1 && views[1].stride[0] == 1;
        return place;
    }
    place.dense = columns == 1 || (x.stride[last] == 1 && y.stride[last] == 1);
    views[0] = x, views[1] = y;
    views[0].rank = views[1].rank = last;
    fovea_views_collapse(all, 2);
    place.rows = strided_of<2>({&views[0], &views[1]});
    for (int i = 0; i < views[0].rank; i++)
        place.wide &= views[0].shape[i] == 1 ||
                      (views[0].stride[i] % size == 0 && views[1].stride[i] % size == 0);
    return place;
}

static scan_sizes scan_sizes_of(const fovea_problem *problem) {
    const fovea_view *x = &problem->views[0];
    const auto *o = (const fovea_scan_inclusive_options *)problem->options;
    int64_t count = fovea_view_elements(x), last = x->shape[x->rank - 1];
    bool all = o->over == FOVEA_SCAN_INCLUSIVE_OVER_ALL;
    return sizes_of(all || last == 0 ? 1 : count / last, all ? count : last,
                    fovea_dtype_size(x->dtype), SCAN_STEPS);
}

static size_t scan_workspace(const fovea_problem *problem, int threads) {
    (void)threads;
    return (size_t)board_words(scan_sizes_of(problem)) * sizeof(uint64_t);
}

template <class T>
static fovea_status scan_as(const fovea_problem *problem, fovea_run *run, bool inclusive) {
    const fovea_view &x = problem->views[0], &y = problem->views[1];
    const auto *o = (const fovea_scan_inclusive_options *)problem->options;
    scan_sizes sizes = scan_sizes_of(problem);
    scan_board<typename scan_carrier<T>::sum> board;
    if (fovea_view_elements(&x) == 0) return FOVEA_OK;
    bool along_last = o->over == FOVEA_SCAN_INCLUSIVE_OVER_LAST;
    scan_place place = place_of(x, y, along_last, sizes.columns);
    if (sizes.rows == 1 && place.dense && sizes.columns <= SCAN_FEW_THREADS * (16 / (int)sizeof(T)))
        return launch(run, place.wide ? scan_few<T, true> : scan_few<T, false>, 1, SCAN_FEW_THREADS,
                      (const T *)x.data, (T *)y.data, (int)sizes.columns, inclusive);
    fovea_status status = make_board(sizes, true, run, &board);
    if (status != FOVEA_OK) return status;
    const auto large =
        place.dense ? scan_kernel<T, SCAN_STEPS, true> : scan_kernel<T, SCAN_STEPS, false>;
    const auto small = place.dense ? scan_kernel<T, 1, true> : scan_kernel<T, 1, false>;
    return launch_as(run, true, sizes.steps == 1 ? small : large, sizes.rows * sizes.tiles,
                     SCAN_THREADS, (size_t)scan_bytes(sizes.steps), (const T *)x.data, (T *)y.data,
                     place, board, inclusive);
}

/* The options of the two are the same. */
static fovea_status scan(const fovea_problem *problem, fovea_run *run, bool inclusive) {
    switch (problem->dtype) {
    case FOVEA_F32:
        return scan_as<float>(problem, run, inclusive);
    case FOVEA_F64:
        return scan_as<double>(problem, run, inclusive);
    case FOVEA_I64:
        return scan_as<uint64_t>(problem, run, inclusive);
    default:
        return scan_as<unsigned>(problem, run, inclusive);
    }
}
static fovea_status scan_exclusive(const fovea_problem *problem, fovea_run *run) {
    return scan(problem, run, false);
}
static fovea_status scan_inclusive(const fovea_problem *problem, fovea_run *run) {
    return scan(problem, run, true);
}

static scan_sizes compact_sizes(int64_t count, size_t element) {
    const bool few = count <= COMPACT_MIDDLE / (int64_t)element;
    return sizes_of(1, count, element, few ? COMPACT_MIDDLE_STEPS : COMPACT_STEPS);
}

static size_t compact_workspace(const fovea_problem *problem, int threads) {
    const fovea_view *x = &problem->views[0];
    (void)threads;
    const scan_sizes sizes = compact_sizes(fovea_view_elements(x), fovea_dtype_size(x->dtype));
    return (size_t)board_words(sizes) * sizeof(uint64_t);
}

/* y and the count are the arguments `to` and the next. */
template <class T, class Choice>
static fovea_status compact_as(const fovea_problem *problem, fovea_run *run, int to,
                               const Choice &choice) {
    const fovea_view &x = problem->views[0], &y = problem->views[to];
    int64_t count = x.shape[0];
    scan_sizes sizes = compact_sizes(count, sizeof(T));
    scan_board<uint64_t> board;
    scan_place place = {};
    place.columns = count;
    if (count > 0) place = place_of(x, x, false, count);
    if (place.dense && place.wide && choice.wide && y.stride[0] == 1 &&
        count <= SCAN_FEW_THREADS * (16 / (int)sizeof(T)))
        return launch(run, compact_few<T, Choice>, 1, SCAN_FEW_THREADS, (const T *)x.data,
                      (T *)y.data, (int64_t *)problem->views[to + 1].data, (int)count, choice);
    fovea_status status = make_board(sizes, false, run, &board);
    if (status != FOVEA_OK) return status;
    return launch_as(
        run, true,
        sizes.steps == 1               ? compact_kernel<T, Choice, 1>
        : sizes.steps == COMPACT_STEPS ? compact_kernel<T, Choice, COMPACT_STEPS>
                                       : compact_kernel<T, Choice, COMPACT_MIDDLE_STEPS>,
        sizes.tiles, SCAN_THREADS, (size_t)scan_bytes(sizes.steps), (const T *)x.data, (T *)y.data,
        y.stride[0], (int64_t *)problem->views[to + 1].data, place, board, choice);
}

template <class T>
static fovea_status compact_by_mask(const fovea_problem *problem, fovea_run *run) {
    const fovea_view &mask = problem->views[1];
    by_mask<T> choice = {(const uint8_t *)mask.data, strided_of<1>({&mask}),
                         mask.stride[0] == 1 && is_aligned(mask.data, 16 / sizeof(T))};
    return compact_as<T>(problem, run, 2, choice);
}

static fovea_status compact_mask(const fovea_problem *problem, fovea_run *run) {
    if (fovea_dtype_size(problem->dtype) == 8) return compact_by_mask<uint64_t>(problem, run);
    return compact_by_mask<unsigned>(problem, run);
}

template <class T>
static fovea_status compact_above(const fovea_problem *problem, fovea_run *run, double threshold) {
    by_threshold<T> choice;
    fovea_write_element(&choice.threshold, problem->dtype, threshold);
    return compact_as<T>(problem, run, 1, choice);
}

static fovea_status compact_if(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_compact_if_options *)problem->options;
    switch (problem->dtype) {
    case FOVEA_F32:
        return compact_above<float>(problem, run, o->threshold);
    case FOVEA_F64:
        return compact_above<double>(problem, run, o->threshold);
    case FOVEA_I64:
        return compact_above<int64_t>(problem, run, o->threshold);
    case FOVEA_I32:
        return compact_above<int32_t>(problem, run, o->threshold);
    default:
        return compact_above<unsigned>(problem, run, o->threshold);
    }
}

enum {
    NUMBERS =
        1u << FOVEA_F32 | 1u << FOVEA_F64 | 1u << FOVEA_I32 | 1u << FOVEA_U32 | 1u << FOVEA_I64
};

extern "C" const fovea_implementation fovea_cuda_table_scans[] = {
    CUDA_ROW(scan_exclusive, NUMBERS, scan_exclusive, .workspace = scan_workspace),
    CUDA_ROW(scan_inclusive, NUMBERS, scan_inclusive, .workspace = scan_workspace),
    CUDA_ROW(compact_mask, NUMBERS, compact_mask, .workspace = compact_workspace),
    CUDA_ROW(compact_if, NUMBERS, compact_if, .workspace = compact_workspace),
    CUDA_ROW(fused_scan_compact, NUMBERS, compact_if, .workspace = compact_workspace),
    {}};
