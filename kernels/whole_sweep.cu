// Forward, loss, backward and all gradients of a narrow net in one launch, leaf by leaf of samples:
//
//     z^l = W^l a^{l-1} + b^l                 a^l = value(z^l)
//     delta^L = (residual(a^L, y) * c) * output_slope        c_i = w_i * scale
//     delta^l = (W^{l+1}^T delta^{l+1}) * slope(a^l)
//     dE/dW^l = delta^l a^{l-1}^T             dE/db^l = sum over samples of delta^l
//
// A block takes `run` leaves of SAMPLES samples, one after another, for one member of an ensemble;
// where it takes all of them, it may update the parameters, w <- fma(-eta, dE/dw, w), and go on with
// the next step.
// a^l and then, in its place, delta^l stay in shared memory, features by samples; weights come stage
// by stage. Gradients of a leaf are a leaf of the specification's tree: nodes that wait for others
// are in `work`, the last one, the tree over the block's leaves, goes to `nodes`.
//
// parameters (members, P), X (m, n_0), Y (m, n_L) and weights (m), if any, for each member or for
// all, taken in `order` (m), if any, `size` samples a step; outputs (members, m, n_L) in a sweep
// that is forward alone; gradients (members, P) and errors (steps, members) of each slice,
// `slice_step` apart; work (members, slices, levels, P + 1). `layers` has five numbers for each
// layer, inputs first: units, the row of memory where a begins, and z (or -1); where W begins in
// the parameters, and b (or -1). `rates` (members), if any, are etas of their own.
#define THREADS 128
#define ROWS 4
#define COLUMNS (sizeof(real) == 4 ? 8 : 4)

#include "stages.cuh"

#define SAMPLES LEAF_SAMPLES
#define STEP (SAMPLES + CHUNK)
// Units of a product over features, of 2 x 2 warps.
#define SIZE int(2 * WARP_COLUMNS * COLUMNS)
// Those of a product over samples, and inputs: a thread has so many of each, a warp 4 x 8 times as
// many, a block four times that.
#define UNITS int(COLUMNS)
#define INPUTS ROWS

// WHAT a launch is for.
#define OUTPUTS 0
#define ERROR 1
#define GRADIENT 2

// The samples of a leaf: `here` of them, in that order.
struct Leaf {
    const int64* order;
    int64 first;
    int here;
    __device__ int64 row(int sample) const { return order ? order[first + sample] : first + sample; }
};

struct Layer {
    int units, a, z, W, b;
    __device__ Layer(const int64* layers, int l)
        : units(int(layers[5 * l])), a(int(layers[5 * l + 1])), z(int(layers[5 * l + 2])),
          W(int(layers[5 * l + 3])), b(int(layers[5 * l + 4])) {}
};

// Where nodes of the trees over this block's leaves wait, and where their roots go.
struct Tally {
    real *work, *roots;
    int64 step;  // from level to level
    int leaf;  // number of this one
    bool last;

    // N sums of this leaf; the tree of sum q is that of parameter at(q), none if it is negative.
    template <int N, class At>
    __device__ void add(real (&x)[N], At at) {
        int level = 0;
        for (; leaf >> level & 1; ++level) merge(x, at, level);
        if (last)
            for (int higher = level + 1; leaf >> higher; ++higher)
                if (leaf >> higher & 1) merge(x, at, higher);
        real* there = last ? roots : work + level * step;
#pragma unroll
        for (int q = 0; q < N; ++q)
            if (at(q) >= 0) there[at(q)] = x[q];
    }

    template <int N, class At>
    __device__ void merge(real (&x)[N], At at, int level) {
#pragma unroll
        for (int q = 0; q < N; ++q)
            if (at(q) >= 0) x[q] = work[level * step + at(q)] + x[q];
    }
};

// sums = a product of SIZE elements of x, which come stage by stage, with `terms` rows of memory.
template <class Operand>
__device__ void product(Sums& sums, const real* rows, const Operand& x, int first, int terms,
                        Stage<SIZE> (&stages)[2]) {
    const int warp = threadIdx.x / 32;
    const int i_in = warp % 2 * (WARP_ROWS * ROWS) + place<WARP_ROWS>(lane_row(), 0);
    const int j_in = warp / 2 * (WARP_COLUMNS * COLUMNS) + place<WARP_COLUMNS>(lane_column(), 0);
    Feed<Operand, SIZE> feed(x, first, terms);
    feed.fill(stages[0], 0, real(0));
    sums = {};
    int now = 0;
    for (int k = 0; k < terms; k += DEPTH, now ^= 1) {
        wait_for_copies();
        __syncthreads();  // the stage is there, and nobody reads the one before it any more
        if (k + DEPTH < terms) feed.fill(stages[now ^ 1], k + DEPTH, real(0));
        const int here = terms - k < DEPTH ? terms - k : DEPTH;
        const real *x_at = rows + k * STEP + i_in, *y_at = &stages[now].v[0][j_in];
        // Four at a time; rows that are there for that only hold -0, and (-0)(+0) adds nothing.
        for (int term = 0; term < here; term += 4)
#pragma unroll
            for (int q = term; q < term + 4; ++q) {
                real x[ROWS], y[COLUMNS];
                load<WARP_ROWS>(x, x_at + q * STEP);
                load<WARP_COLUMNS>(y, y_at + q * stages[0].PITCH);
                multiply(sums, x, y);
            }
    }
    __syncthreads();  // the stages may be filled again
}

// out(unit, sample, x): the sums of a unit, from `first` on, with a chunk of samples.
template <class Out>
__device__ void each_chunk(const Sums& sums, int first, int units, Out out) {
    const int warp = threadIdx.x / 32;
    const int i_in = warp % 2 * (WARP_ROWS * ROWS) + place<WARP_ROWS>(lane_row(), 0);
    const int j_in = warp / 2 * (WARP_COLUMNS * COLUMNS) + place<WARP_COLUMNS>(lane_column(), 0);
#pragma unroll
    for (int c = 0; c < COLUMNS; ++c) {
        const int unit = first + j_in + place<WARP_COLUMNS>(0, c);
#pragma unroll
        for (int r = 0; r < ROWS; r += CHUNK) {
            Chunk x;
#pragma unroll
            for (int q = 0; q < CHUNK; ++q) x.v[q] = sums.v[r + q][c];
            if (unit < units) out(unit, i_in + place<WARP_ROWS>(0, r), x);
        }
    }
}

__device__ inline real* at(real* memory, int row, int sample) {
    return memory + row * STEP + sample;
}

// Rows up to a multiple of four, which products read along with those that are there.
__device__ inline void pad(real* memory, int row, int units) {
    for (int q = threadIdx.x; q < (-units & 3) * SAMPLES; q += THREADS)
        *at(memory, row + units + q / SAMPLES, q % SAMPLES) = real(-0.0);
}

__device__ inline void store(real* p, const Chunk& x) { *reinterpret_cast<Chunk*>(p) = x; }

// a^l from a^{l-1}; samples from `here` on do not exist, and have a = 0.
__device__ void forward(const real* parameters, const Layer& below, const Layer& layer, bool output,
                        int here, real* memory, Stage<SIZE> (&stages)[2]) {
    for (int first = 0; first < layer.units; first += SIZE) {
        Sums sums;
        product(sums, at(memory, below.a, 0),
                Rows{parameters + layer.W, layer.units, below.units}, first, below.units, stages);
        each_chunk(sums, first, layer.units, [&](int unit, int sample, Chunk x) {
            const real b = layer.b < 0 ? real(0) : parameters[layer.b + unit];
#pragma unroll
            for (int q = 0; q < CHUNK; ++q)
                if (layer.b >= 0) x.v[q] = x.v[q] + b;
            if (layer.z >= 0) store(at(memory, layer.z + unit, sample), x);
#pragma unroll
            for (int q = 0; q < CHUNK; ++q) {
                const real a = output ? output_value(x.v[q]) : value(x.v[q]);
                x.v[q] = sample + q < here ? a : real(0);
            }
            store(at(memory, layer.a + unit, sample), x);
        });
    }
    pad(memory, layer.a, layer.units);
}

// delta^{l-1} in place of a^{l-1}; that of samples that do not exist is -0, which adds nothing.
__device__ void back(const real* parameters, const Layer& below, const Layer& layer, int here,
                     real* memory, Stage<SIZE> (&stages)[2]) {
    const int slope_row = HIDDEN_SLOPE_OF_Z ? below.z : below.a;
    for (int first = 0; first < below.units; first += SIZE) {
        Sums sums;
        product(sums, at(memory, layer.a, 0),
                Columns{parameters + layer.W, below.units, below.units}, first, layer.units, stages);
        each_chunk(sums, first, below.units, [&](int unit, int sample, Chunk x) {
            const Chunk s = *reinterpret_cast<const Chunk*>(at(memory, slope_row + unit, sample));
#pragma unroll
            for (int q = 0; q < CHUNK; ++q)
                x.v[q] = sample + q < here ? x.v[q] * slope(s.v[q]) : real(-0.0);
            store(at(memory, below.a + unit, sample), x);
        });
    }
    pad(memory, below.a, below.units);
}

// dE/dW^l and dE/db^l of this leaf.
__device__ void gradients(const Layer& below, const Layer& layer, const real* memory, Tally tally) {
    const int warp = threadIdx.x / 32, line = lane_column(), column = lane_row();
    for (int u0 = warp % 2 * (4 * UNITS); u0 < layer.units; u0 += 8 * UNITS)
        for (int i0 = warp / 2 * (8 * INPUTS); i0 < below.units; i0 += 16 * INPUTS) {
            // Those that do not exist are read from the last one.
            const real *delta[UNITS], *a[INPUTS];
#pragma unroll
            for (int r = 0; r < UNITS; ++r) {
                const int unit = u0 + 4 * r + line;
                delta[r] = memory + (layer.a + (unit < layer.units ? unit : layer.units - 1)) * STEP;
            }
#pragma unroll
            for (int c = 0; c < INPUTS; ++c) {
                const int input = i0 + 8 * c + column;
                a[c] = memory + (below.a + (input < below.units ? input : below.units - 1)) * STEP;
            }
            real sums[UNITS * INPUTS] = {};
#pragma unroll 2
            for (int sample = 0; sample < SAMPLES; sample += CHUNK) {
                Chunk x[UNITS], y[INPUTS];
#pragma unroll
                for (int r = 0; r < UNITS; ++r)
                    x[r] = *reinterpret_cast<const Chunk*>(delta[r] + sample);
#pragma unroll
                for (int c = 0; c < INPUTS; ++c)
                    y[c] = *reinterpret_cast<const Chunk*>(a[c] + sample);
#pragma unroll
                for (int q = 0; q < CHUNK; ++q)
#pragma unroll
                    for (int r = 0; r < UNITS; ++r)
#pragma unroll
                        for (int c = 0; c < INPUTS; ++c)
                            sums[r * INPUTS + c] =
                                fma_rn(x[r].v[q], y[c].v[q], sums[r * INPUTS + c]);
            }
            tally.add(sums, [&](int q) {
                const int unit = u0 + 4 * (q / INPUTS) + line, input = i0 + 8 * (q % INPUTS) + column;
                const bool there = unit < layer.units && input < below.units;
                return there ? layer.W + unit * below.units + input : -1;
            });
        }
    if (layer.b >= 0 && threadIdx.x < layer.units) {
        const real* delta = memory + (layer.a + threadIdx.x) * STEP;
        real sum[1] = {0};
#pragma unroll 4
        for (int sample = 0; sample < SAMPLES; ++sample) sum[0] = sum[0] + delta[sample];
        tally.add(sum, [&](int) { return layer.b + int(threadIdx.x); });
    }
}

// The errors of this leaf's samples, and their sum; a softmax takes the place of its z.
__device__ void errors(const Layer& output, const real* Y, const real* weights, const Leaf& leaf,
                       real* memory, real (&e)[SAMPLES], Tally tally) {
    const int sample = threadIdx.x, n = output.units;
    if (sample < leaf.here) {
        real* a = at(memory, output.a, sample);
        const real *s = LOSS_OF_Z ? at(memory, output.z, sample) : a;
        const real* y = Y + (Y ? leaf.row(sample) * n : 0);
        real sum = 0;
#if SOFTMAX
        real largest = a[0], total = 0;
        for (int k = 1; k < n; ++k) largest = a[k * STEP] > largest ? a[k * STEP] : largest;
        for (int k = 0; k < n; ++k) total = fma_rn(exp(a[k * STEP] - largest), real(1), total);
        const real log_total = log(total);
        for (int k = 0; k < n; ++k) {
            const real log_p = (a[k * STEP] - largest) - log_total;
            if (Y) sum = fma_rn(left(log_p, y[k]), right(log_p, y[k]), sum);
            a[k * STEP] = exp(a[k * STEP] - largest) / total;
        }
#else
        if (Y)
            for (int k = 0; k < n; ++k)
                sum = fma_rn(left(s[k * STEP], y[k]), right(s[k * STEP], y[k]), sum);
#endif
        e[sample] = sum;
    }
    __syncthreads();
    if (sample == 0 && Y) {
        real sum[1] = {0};
        for (int i = 0; i < leaf.here; ++i)
            sum[0] = weights ? fma_rn(e[i], weights[leaf.row(i)], sum[0]) : sum[0] + e[i];
        tally.add(sum, [&](int) { return 0; });
    }
}

// delta^L in place of a^L.
__device__ void output_delta(const Layer& output, const real* Y, const real* weights, real scale,
                             const Leaf& leaf, real* memory) {
    for (int q = threadIdx.x; q < output.units * SAMPLES; q += THREADS) {
        const int unit = q / SAMPLES, sample = q % SAMPLES;
        real* a = at(memory, output.a + unit, sample);
        const real s = OUTPUT_SLOPE_OF_Z ? *at(memory, output.z + unit, sample) : *a;
        real delta = real(-0.0);
        if (sample < leaf.here) {
            const int64 row = leaf.row(sample);
            const real c = weights ? weights[row] * scale : scale;
            delta = (residual(*a, Y[row * output.units + unit]) * c) * output_slope(s);
        }
        *a = delta;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) whole_sweep(
    real* parameters, const real* X, const real* Y, const real* weights, real* outputs,
    real* gradients_, real* errors_, real* work, const real* rates, const int64* order,
    const int64* layers, int64 depth, int64 m, int64 size, int64 count, int64 X_step, int64 Y_step,
    int64 weights_step, int64 slice_step, int64 run, int64 levels, int64 update, real scale,
    real last_scale, real eta) {
    __shared__ Stage<SIZE> stages[2];
    __shared__ real e[SAMPLES];
    real* memory = dynamic_shared();
    const int64 member = blockIdx.x, members = gridDim.x, slice = blockIdx.y, slices = gridDim.y;
    const Layer inputs(layers, 0), output(layers, int(depth));
    X += member * X_step;
    if (Y) Y += member * Y_step;
    if (weights) weights += member * weights_step;
    if (rates) eta = rates[member];
    real* w = parameters + member * count;
    work += (member * slices + slice) * levels * (count + 1);
    gradients_ += slice * slice_step + member * count;
    errors_ += slice * slice_step + member;

    for (int64 begin = 0; begin < m; begin += size) {
        const int64 end = begin + size < m ? begin + size : m;
        const int leaves = int((end - begin + SAMPLES - 1) / SAMPLES), from = int(slice * run);
        const int last = leaves - from < run ? leaves - from : int(run);
        for (int number = 0; number < last; ++number) {
            const int64 first = begin + (from + number) * int64(SAMPLES);
            const Leaf leaf{order, first, end - first < SAMPLES ? int(end - first) : SAMPLES};
            const bool is_last = number + 1 == last;
            for (int q = threadIdx.x; q < inputs.units * SAMPLES; q += THREADS) {
                const int sample = q / inputs.units, k = q % inputs.units;
                *at(memory, inputs.a + k, sample) =
                    sample < leaf.here ? X[leaf.row(sample) * inputs.units + k] : real(0);
            }
            pad(memory, inputs.a, inputs.units);
            __syncthreads();
            for (int l = 1; l <= depth; ++l) {
                const Layer below(layers, l - 1), layer(layers, l);
                forward(w, below, layer, l == depth, leaf.here, memory, stages);
                __syncthreads();
            }
            errors(output, Y, weights, leaf, memory, e,
                   Tally{work + count, errors_, count + 1, number, is_last});
            __syncthreads();
#if WHAT == OUTPUTS
            for (int q = threadIdx.x; q < output.units * leaf.here; q += THREADS)
                outputs[(member * m + first) * output.units + q] =
                    *at(memory, output.a + q % output.units, q / output.units);
            __syncthreads();
#elif WHAT == GRADIENT
            const real c = end - begin < size ? last_scale : scale;
            output_delta(output, Y, weights, c, leaf, memory);
            pad(memory, output.a, output.units);
            __syncthreads();
            for (int l = int(depth); l >= 1; --l) {
                const Layer below(layers, l - 1), layer(layers, l);
                gradients(below, layer, memory,
                          Tally{work, gradients_, count + 1, number, is_last});
                __syncthreads();
                if (l > 1) back(w, below, layer, leaf.here, memory, stages);
                __syncthreads();
            }
#endif
        }
#if WHAT == GRADIENT
        if (update)
            for (int64 p = threadIdx.x; p < count; p += THREADS)
                w[p] = fma_rn(-eta, gradients_[p], w[p]);
        errors_ += members;
#endif
    }
}
