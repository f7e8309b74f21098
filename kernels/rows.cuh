// Rows of a matrix (m, n) in shared memory, where a thread takes a leaf of LEAF_FEATURES terms.
//
// A block has up to `most` rows, or one row in parts of `room` reals, whole leaves. Leaves lie an
// odd number of chunks apart: threads that each read one read from banks of their own. Elsewhere
// `lanes` threads, a power of two, go along a row, and what a thread brings to a tile is what it
// changes and sends; so there are barriers around the leaves, and nowhere else. Numbers of a row
// are found by its owner, one of the first threads.
#pragma once

#include "copy.cuh"
#include "tree.cuh"

#define MOST_THREADS 1024
#define LOWEST (real(-1) / real(0))

template <class Body, class... X>
__device__ inline void each_of(Body body, X... x) {
#pragma unroll
    for (int r = 0; r < CHUNK; ++r) body(x.v[r]...);
}

// body(x, ...) for so many terms, one after another, read chunk by chunk.
template <class Body, class... X>
__device__ inline void each_term(int terms, Body body, const X*... x) {
    int k = 0;
#pragma unroll 4
    for (; k + CHUNK <= terms; k += CHUNK) each_of(body, pack<CHUNK>(x + k)...);
    for (; k < terms; ++k) body(x[k]...);
}

template <class Packed, class F>
__device__ inline Packed mapped(Packed x, int row, F f) {
#pragma unroll
    for (int r = 0; r < Packed::width; ++r) x.v[r] = f(row, x.v[r]);
    return x;
}

struct Rows {
    const int64 n, first;
    const unsigned most, rows, room, leaves, pitch;
    // Of a thread: its first row, how far the next one is, and its place along a row.
    const unsigned own, step, lanes, lane;
    const bool whole, in_chunks;
    real *tiles, *of_leaf, *of_row;
    // The part that is there.
    int64 column = 0;
    unsigned columns = 0;

    __device__ Rows(int64 m, int64 n, unsigned most, unsigned lanes, unsigned room, int tile_count,
                    bool aligned)
        : n(n),
          first(int64(blockIdx.x) * most),
          most(most),
          rows(m - first < most ? m - first : most),
          room(room),
          leaves((room + LEAF_FEATURES - 1) / LEAF_FEATURES),
          pitch(((room < LEAF_FEATURES ? room : LEAF_FEATURES) + CHUNK - 1) / CHUNK * CHUNK | CHUNK),
          own(threadIdx.x / lanes),
          step(blockDim.x / lanes),
          lanes(lanes),
          lane(threadIdx.x - own * lanes),
          whole(room >= n),
          in_chunks(aligned && n % CHUNK == 0),
          tiles(dynamic_shared()),
          of_leaf(tiles + tile_count * most * leaves * pitch),
          of_row(of_leaf + most * leaves) {}

    // Of as many reals as the part has.
    __device__ real* tile(int q) const { return tiles + q * most * leaves * pitch; }
    // Of a real for each row.
    __device__ real* numbers(int q) const { return of_row + q * most; }
    __device__ bool owner() const { return threadIdx.x < rows; }
    __device__ int64 begin() const { return first * n + column; }

    template <class Body>
    __device__ void each_part(Body body) {
        for (column = 0; column < n; column += room) {
            columns = n - column < room ? n - column : room;
            body();
        }
    }

    // body(pack, row, place in a tile, place in the matrix from `begin` on) for every pack.
    template <class Pack, class Body>
    __device__ void each_pack(Body body) const {
#pragma unroll 1
        for (unsigned row = own; row < rows; row += step)
#pragma unroll 1
            for (unsigned k = lane * Pack::width; k < columns; k += lanes * Pack::width)
                body(Pack(), row, (row * leaves + k / LEAF_FEATURES) * pitch + k % LEAF_FEATURES,
                     row * unsigned(n) + k);
    }
    template <class Body>
    __device__ void each(Body body) const {
        if (in_chunks)
            each_pack<Chunk>(body);
        else
            each_pack<Pack<1>>(body);
    }

    // What z has of the part.
    __device__ void bring(real* tile, const real* z) const {
        const real* from = z + begin();
        each([=](auto x, int, unsigned here, unsigned there) {
            copy_async<decltype(x)::width>(tile + here, from + there);
        });
        wait_for_copies();
    }

    // y = f(row, x) for every x of a tile; y is a tile.
    template <class F>
    __device__ void map(real* y, const real* x, F f) const {
        each([=](auto packed, int row, unsigned here, unsigned) {
            constexpr int WIDTH = decltype(packed)::width;
            pack<WIDTH>(y + here) = mapped(pack<WIDTH>(x + here), row, f);
        });
    }

    // p = f(row, x) for every x of a tile; p is the matrix.
    template <class F>
    __device__ void send(real* p, const real* x, F f) const {
        real* to = p + begin();
        each([=](auto packed, int row, unsigned here, unsigned there) {
            constexpr int WIDTH = decltype(packed)::width;
            pack<WIDTH>(to + there) = mapped(pack<WIDTH>(x + here), row, f);
        });
    }

    // A row's owner takes leaf(place in a tile, terms) of each leaf of the part, in order.
    template <class Leaf, class Take>
    __device__ void each_leaf(Leaf leaf, Take take) const {
        __syncthreads();
        for (unsigned q = threadIdx.x; q < rows * leaves; q += blockDim.x) {
            const int rest = int(columns - q % leaves * LEAF_FEATURES);
            if (rest > 0) of_leaf[q] = leaf(q * pitch, rest < LEAF_FEATURES ? rest : LEAF_FEATURES);
        }
        __syncthreads();
        if (owner())
            for (unsigned q = 0; q * LEAF_FEATURES < columns; ++q)
                take(of_leaf[threadIdx.x * leaves + q]);
    }

    // What the owners have found, for all threads.
    __device__ void share(real* numbers, real found) const {
        if (owner()) numbers[threadIdx.x] = found;
        __syncthreads();
    }

    // The largest of each row of z; a NaN may be passed over, to come back in the sum.
    __device__ void largest(real* numbers, real* tile, const real* z) {
        real found = LOWEST;
        each_part([&] {
            bring(tile, z);
            each_leaf(
                [=](int at, int terms) {
                    real most = LOWEST;
                    each_term(terms, [&](real x) { most = x > most ? x : most; }, tile + at);
                    return most;
                },
                [&](real x) { found = x > found ? x : found; });
        });
        share(numbers, found);
    }

    // The sums of a tile's leaves go to each row's tree.
    __device__ void sum_leaves(Tree<real>& tree, const real* tile) const {
        each_leaf(
            [=](int at, int terms) {
                real s = 0;
                each_term(terms, [&](real x) { s = s + x; }, tile + at);
                return s;
            },
            [&](real s) { tree.push(s); });
    }

    // So those of the products of two tiles.
    __device__ void sum_products(Tree<real>& tree, const real* left, const real* right) const {
        each_leaf(
            [=](int at, int terms) {
                real s = 0;
                each_term(terms, [&](real x, real v) { s = fma_rn(x, v, s); }, left + at,
                          right + at);
                return s;
            },
            [&](real s) { tree.push(s); });
    }
};
