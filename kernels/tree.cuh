// The aligned binary tree over leaves, as a binary counter: the i-th leaf carries once for each
// zero that the count ends with, and the nodes left at the end are added from the right.
// TREE_LEVELS, the bits of the number of leaves, is fixed when a kernel is compiled.
#pragma once

__device__ inline void add_to(real& x, const real& y) { x = x + y; }

template <class Node>
struct Tree {
    Node nodes[TREE_LEVELS];
    int top = 0;
    int64 leaves = 0;

    __device__ void merge() {
        add_to(nodes[top - 2], nodes[top - 1]);
        --top;
    }

    __device__ void push(const Node& leaf) {
        nodes[top++] = leaf;
        for (int64 count = ++leaves; !(count & 1); count >>= 1) merge();
    }

    __device__ const Node& root() {
        while (top > 1) merge();
        return nodes[0];
    }
};
