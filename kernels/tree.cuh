// The aligned binary tree over leaves, as a binary counter: the i-th leaf carries once for each
// zero that the count ends with, and the nodes left at the end are added from the right.
// TREE_LEVELS, the most nodes that wait, is fixed when a kernel is compiled.
#pragma once

__device__ inline void add_to(real& x, const real& y) { x = x + y; }

template <class Node>
struct Tree {
    Node nodes[TREE_LEVELS];
    int top = 0;
    int64 leaves = 0;

    // x = the node that waits + x
    __device__ void merge(Node& x) {
        Node node = nodes[--top];
        add_to(node, x);
        x = node;
    }

    // A leaf; x holds it no more.
    __device__ void push(Node x) {
        for (int64 count = ++leaves; !(count & 1); count >>= 1) merge(x);
        nodes[top++] = x;
    }

    // The last leaf becomes the root.
    __device__ void close(Node& x) {
        while (top) merge(x);
    }

    // The root, where the last leaf was pushed.
    __device__ Node root() {
        Node x = nodes[--top];
        close(x);
        return x;
    }
};
