"""What a plan tells compiled code: records of integers, and where everything lies.

Addresses and steps are in bytes; "where" counts from the start of a room, the memory that one
thread, or all of them together, compute in.
"""

from __future__ import annotations

import numpy as np


def _record(*names: str) -> np.dtype[np.void]:
    return np.dtype([(name, np.int64) for name in names])


LAYER = _record(
    "inputs",  # n_in
    "units",  # n
    "W",  # where in the parameters and in their gradient
    "b",  # likewise; -1 without
    "forward",  # where W^T lies in panels
    "backward",  # where W does
    "z",  # where z is in the room; -1 if a takes its place
    "a",
    "delta",
    "step",  # from one sample's z, a or delta to the next one's
    "value",  # the address of g
    "slope",  # the address of g'
    "of_z",  # whether g' is taken from z
    "nodes",  # where the pending nodes of dW are
    "bias_nodes",
)
"""A layer. Record 0 has the inputs: units, a and step."""

CALL = (
    "parameters",
    "gradient",  # 0 if nobody asks for it; with a rate any array
    "X",
    "Y",
    "rate",  # eta, if the parameters take a step; else 0
    "weights",  # 0 without
    "outputs",  # a^L; 0 if nobody asks
    "errors",  # one number for each member: sum_i w_i e_i
    "loss_scale",  # by which the errors are multiplied; 0 if they are not
    "team",  # the address of its words
    "next_X",  # from one member's to the next one's; 0 where they share
    "next_Y",
    "next_weights",
    "next_rate",
)
"""What changes from call to call: Python's arrays, by the addresses of their objects."""

PLAN = _record(
    *CALL,
    "layers",  # L; L + 1 records of `LAYER` follow
    "samples",  # m of one net and one call
    "members",  # nets of this shape
    "next_parameters",  # from one member's numbers to the next one's; of the gradient too
    "next_outputs",
    "count",  # parameters of a member
    "scale",  # an array of one number: the output delta's scale
    "descend",  # addresses of functions, see loops/rows.py, loops/updates.py
    "residual",
    "factors",
    "softmax",  # 0 without
    "log_softmax",  # 0 without
    "loss_of_z",  # whether the loss is of z, not of a
    "slope_of_z",  # of the output delta, 0 or 1
    "part",  # samples that are in a room at once
    "chunk",  # samples that go through all layers at once
    "few",  # whether samples are so few that threads share the units of each layer
    "blocks",  # how many consecutive blocks the batch is cut into, each with a gradient
    "block",  # samples of a block, a power of two leaves
    "rooms",  # address of the first room
    "next_room",  # from a thread's to the next one's; 0 if they share it
    "own",  # address of a thread's own scratch
    "next_own",
    "panels",  # address of the first thread's panels
    "next_panels",  # 0 if they share them
    "nodes",  # address of the blocks' gradients, each with the error after it
    "next_node",
    "error_at",  # where in the room: e of every sample
    "error_nodes",
    "products_at",  # where in a thread's own: pending nodes of products
    "leaf_at",  # a leaf of a panel, packed when it is needed
    "near_at",  # of gradients: within a block
    "packed_rows_at",
    "packed_panel_at",
    "scales_at",  # c of every output
    "x_at",  # the factors of every output's error
    "v_at",
    "s_at",  # log softmax
    "columns_at",  # blocks of them, transposed
    "levels",  # pending nodes that a tile of dW may have from block to block
    "bias_step",  # from one pending node of db to the next
)

PRODUCT = _record(
    *("x", "W", "b", "c"),  # x (rows, K), c (rows, n); b is 0 without
    *("rows", "K", "n", "transposed"),  # whether it is W^T that x is multiplied by
    *("function", "given", "made"),  # made = function(given), (rows, n), after c
    *("panels", "own", "next_own", "chunk", "team"),
)
"""One product of the contract, forward or back."""

GRADIENT = _record(
    *("d", "a", "c"),  # d (samples, n), a (samples, n_in), c (n, n_in)
    *("samples", "n", "n_in"),
    *("own", "next_own", "packed_rows_at", "packed_panel_at", "far", "levels"),
)
"""One gradient of the contract."""

LEVELS = 40
"""Of a tree over edges: 2^40 leaves do not fit in any memory."""
WIDTH = 1024
"""Bytes of a row for which the sums over a unit's edges are computed at a time."""

ARRIVED, PASSED, JOB, ENTRY, BLOCK, PENDING, STATUS, SLEEPERS, MUTEX, CONDITION, CORE = (
    64 * i for i in (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12)
)
INSIDE, TICKET = (64 * i for i in (13, 14))
"""Where the words of a team are; a mutex and a condition of POSIX need up to two lines."""

OPEN = 1 << 15
"""Added to the threads of a job that each of them may join until it is over; see loops/team.py."""
