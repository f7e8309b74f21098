"""The tile that a product is computed in: as much as this CPU's registers hold."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from deltaprop.backends.native import register_bytes
from deltaprop.contract import LEAF_SAMPLES

NEAR = 2
"""Digits of a sum over samples that are pending within a block only."""
BLOCK = LEAF_SAMPLES << NEAR
"""Samples of a panel that stay in the first cache while the rows of a gradient go by."""


class Tiling(NamedTuple):
    """How this CPU's registers are used: bytes of a vector, and the most a tile has of them."""

    bytes: int
    rows: int
    vectors: int


@cache
def tiling() -> Tiling:
    """28 sums in the 32 registers of AVX-512, 12 in the 16 of AVX, 16 in the 32 of NEON."""
    rows_and_vectors = {64: (14, 2), 32: (6, 2), 16: (4, 4)}
    return Tiling(register_bytes(), *rows_and_vectors[register_bytes()])


class Shape(NamedTuple):
    """The tiles of one dtype."""

    size: int
    """Bytes of a number."""
    lanes: int
    """Numbers of a vector."""
    rows: int
    """The most rows of a tile."""
    vectors: int
    """The most vectors of a row."""
    width: int
    """Columns of a tile, and of a panel."""
    bytes: int
    """Of a whole tile."""


@cache
def shape(dtype: np.dtype[Any]) -> Shape:
    """Of the tiles of a dtype."""
    size, (width, rows, vectors) = dtype.itemsize, tiling()
    lanes = width // size
    return Shape(size, lanes, rows, vectors, vectors * lanes, rows * vectors * width)


def groups(rows: int, dtype: np.dtype[Any]) -> int:
    """How many tiles lie below each other."""
    return -(-rows // shape(dtype).rows)


def panels(columns: int, dtype: np.dtype[Any]) -> int:
    """How many panels lie side by side."""
    return -(-columns // shape(dtype).width)


def digits(leaves: int) -> int:
    """How many nodes may be pending in a sum of so many leaves."""
    return (leaves - 1).bit_length()
