"""A derivation as plain text: one product for each path, its numbers below its symbols."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from deltaprop.explain.paths import (
    Contributions,
    Delta,
    Factor,
    Path,
    UnitNumbers,
    Weight,
    product,
    total,
)

WIDTH = 96
SAMPLES = 3
"""So many samples are written out."""
FACTORS = 36
"""A longer product is written with what is in its middle as one factor."""
TERMS = 3
"""So many terms of a sum over successors are written out, and then what is left of it."""
UNITS = 12
"""So many units are listed."""


def text(e: Contributions) -> str:
    """All of it, in lines of about 96 characters."""
    blocks = [_head(e)]
    if e.paths:
        blocks += [_path(path, e.samples) for path in e.paths]
    else:
        blocks += [_deltas(e), _end_of_deltas(e)]
    blocks += [_comparison(e)]
    if e.paths:
        blocks += [_units(e)]
    return "\n\n".join(blocks)


def symbol(weight: Weight) -> str:
    """dE/dw of an edge, dE/db of a bias."""
    if isinstance(weight, tuple):
        return f"dE/dw({weight[0]} -> {weight[1]})"
    return f"dE/db({weight})"


def number(x: float) -> str:
    """Six digits; no sign before a 0."""
    return f"{x + 0.0:.6g}"


def in_product(x: float) -> str:
    """A number between others; one with a sign in brackets."""
    return f"({number(x)})" if x < 0 else number(x)


def amount(count: int) -> str:
    """A number of things; one with many digits as a power of 2."""
    return f"{count:,}" if count < 1e6 else f"about 2^{count.bit_length() - 1}"


def more(count: int, what: str) -> str:
    """1 more unit, 2 more units."""
    return f"{count:,} more {what}{'' if count == 1 else 's'}"


def _head(e: Contributions) -> str:
    if e.count == 1:
        what = f"one path, from {e.unit} to an output"
    else:
        what = f"a sum over {amount(e.count)} paths from {e.unit} to an output"
    samples = "1 sample" if e.samples == 1 else f"{e.samples:,} samples"
    weighted = ", each with its weight" if e.weighted else ""
    lines = [f"{symbol(e.weight)}: {what}", f"E is {e.loss} of {samples}{weighted}"]
    if e.cancelled:
        lines.append("dE/dz of an output comes at once: with this loss the slope has cancelled")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------ paths


def abridged(factors: Sequence[Factor]) -> list[Factor]:
    """A long product with what is in its middle as one factor."""
    if len(factors) <= FACTORS:
        return list(factors)
    left, right = factors[: FACTORS // 2], factors[-(FACTORS // 2) :]
    middle = factors[FACTORS // 2 : -(FACTORS // 2)]
    return [*left, Factor("more", (len(middle),), product(middle)), *right]


def _route(path: Path) -> str:
    names = [str(name) for name in path.units]
    if len(names) > FACTORS // 2:
        names = [*names[:6], f"... {len(names) - 12} more ...", *names[-6:]]
    return _wrapped(names, " -> ")


def _wrapped(words: Sequence[str], between: str) -> str:
    lines = [""]
    for i, word in enumerate(words):
        piece = word if i == len(words) - 1 else word + between
        if lines[-1] and len(lines[-1]) + len(piece) > WIDTH:
            lines.append("    ")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _path(path: Path, samples: int) -> str:
    """The product once in symbols, and below in numbers for the first samples."""
    shown = min(samples, SAMPLES)
    columns = [
        [factor.symbol, *map(number, factor.values[:shown].tolist())]
        for factor in abridged(path.factors)
    ]
    products = [number(x) for x in path.products[:shown].tolist()]
    results = ["", *(f" = {x:>{max(map(len, products))}}" for x in products)]
    labels = ["", *("" if samples == 1 else f"sample {s + 1}" for s in range(shown))]
    lines = [_route(path), *_rows(columns, labels, results)]
    if samples > 1:
        left = f"{more(samples - shown, 'sample')}; " if samples > shown else ""
        lines.append(f"    {left}sum over all samples = {number(path.product)}")
    return "\n".join(lines)


def _rows(
    columns: Sequence[Sequence[str]], labels: Sequence[str], results: Sequence[str]
) -> Iterator[str]:
    """Columns side by side as factors, in as many bands as the width of the page asks for."""
    margin = max(map(len, labels))
    room = WIDTH - 3 - (margin and margin + 2) - max(map(len, results))
    bands = list(_bands(columns, room))
    for n, band in enumerate(bands):
        for row, (label, result) in enumerate(zip(labels, results)):
            cells = [column[row].rjust(max(map(len, column))) for column in band]
            begin = f"    {label:<{margin}}  " if margin else "    "
            begin += "" if n == 0 else "* "
            end = result if n == len(bands) - 1 else ""
            yield (begin + " * ".join(cells) + end).rstrip()


def _bands(columns: Sequence[Sequence[str]], room: int) -> Iterator[list[Sequence[str]]]:
    """The columns in groups that fit."""
    band: list[Sequence[str]] = []
    used = 0
    for column in columns:
        width = max(map(len, column)) + 3
        if band and used + width > room:
            yield band
            band, used = [], 0
        band.append(column)
        used += width
    yield band


# ------------------------------------------------------------------------------------ deltas


def _deltas(e: Contributions) -> str:
    """delta of the unit and of its successors, for the first sample."""
    of = "" if e.samples == 1 else " (numbers of sample 1)"
    lines = [f"By unit, each delta from those of its successors{of}:"]
    for delta in islice(e.deltas, UNITS):
        lines += ["", *_delta(delta)]
    if len(e.deltas) > UNITS:
        lines += ["", f"    ... and {more(len(e.deltas) - UNITS, 'unit')}"]
    return "\n".join(lines)


def _delta(delta: Delta) -> Iterator[str]:
    """One equation in symbols, the same in numbers."""
    begin = f"    {delta.factor.symbol} = "
    symbols, numbers = _summands(delta, symbols=True), _summands(delta, symbols=False)
    result = number(float(delta.values[0]))
    if len(delta.own) == 1 and not delta.terms:
        yield f"{begin}{symbols[0]} = {result}"
        return
    yield from _sum(begin, symbols)
    yield from _sum(" " * (len(begin) - 2) + "= ", [*numbers, f"= {result}"])


def _summands(delta: Delta, symbols: bool) -> list[str]:
    """own + g'(z) * [w delta + w delta + ...] in pieces between which a line may end."""

    def written(factor: Factor) -> str:
        return factor.symbol if symbols else in_product(float(factor.values[0]))

    pieces = [" * ".join(map(written, delta.own))] if delta.own else []
    if not delta.terms:
        return pieces
    terms = [f"{written(w)} * {written(d)}" for w, d in delta.terms]
    if len(terms) > TERMS + 1:
        rest = [float(product(pair)[0]) for pair in delta.terms[TERMS:]]
        left = f"({len(rest)} more)" if symbols else in_product(total(rest))
        terms = [*terms[:TERMS], left]
    plus = "+ " if delta.own else ""
    terms[0] = f"{plus}{written(delta.slope)} * [{terms[0]}"
    terms[-1] += "]"
    return [*pieces, terms[0], *(f"+ {term}" for term in terms[1:])]


def _sum(begin: str, pieces: Sequence[str]) -> Iterator[str]:
    """Pieces after each other, in as many lines as the width of the page asks for."""
    line = begin
    for n, piece in enumerate(pieces):
        if n and len(line) + 1 + len(piece) > WIDTH:
            yield line.rstrip()
            line = " " * (len(begin) + 2)
        line += piece + " "
    yield line.rstrip()


def _end_of_deltas(e: Contributions) -> str:
    factors = [e.deltas[0].factor] + ([] if e.arriving is None else [e.arriving])
    over = "" if e.samples == 1 else "the sum over all samples of "
    equation = " * ".join(factor.symbol for factor in factors)
    if e.samples > 1:
        return f"{symbol(e.weight)} = {over}{equation}"
    numbers = " * ".join(in_product(float(factor.values[0])) for factor in factors)
    return f"{symbol(e.weight)} = {equation} = {numbers}"


# ------------------------------------------------------------------------------ the comparison


def _comparison(e: Contributions) -> str:
    """The sum, the gradient, and what they differ by."""
    name = "the product" if e.count == 1 else "the sum over the paths" if e.paths else "the sum"
    sums = [name, _sum_of_paths(e)]
    gradient = ["the gradient by backpropagation", f"{e.gradient:.15g}"]
    rows = [sums, gradient, ["difference", _difference(e)]]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _sum_of_paths(e: Contributions) -> str:
    """The total, after the products of a few paths."""
    if not 2 <= len(e.paths) <= 3:
        return f"{e.total:.15g}"
    first, *others = (path.product for path in e.paths)
    signed = [f"{'-' if x < 0 else '+'} {number(abs(x))}" for x in others]
    return " ".join([number(first), *signed, "=", f"{e.total:.15g}"])


def _difference(e: Contributions) -> str:
    if not math.isfinite(e.difference):
        return f"{e.difference}: the numbers are not finite"
    if e.difference == 0:
        return "0: the same number"
    if e:
        return f"{e.difference:.2g}: equal to rounding, which may be up to {e.rounding:.1g}"
    return f"{e.difference:.2g}: MORE than rounding can make, {e.rounding:.1g}"


def _units(e: Contributions) -> str:
    """What the factors come from: the units on the paths, in the first sample."""
    shown = e.units[:UNITS]
    heads = ["unit", "activation", "z", "a = g(z)", "g'(z)", "target"]
    rows = [heads, *(_unit(unit) for unit in shown)]
    widths = [max(len(row[c]) for row in rows) for c in range(len(heads))]
    lines = [
        "    "
        + "  ".join(
            cell.ljust(width) if c < 2 else cell.rjust(width)
            for c, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    if len(e.units) > UNITS:
        lines.append(f"    ... and {more(len(e.units) - UNITS, 'unit')}")
    title = "the units on the way" + ("" if e.samples == 1 else ", in sample 1")
    return "\n".join([title, *lines])


def _unit(unit: UnitNumbers) -> list[str]:
    def first(x: np.ndarray | None) -> str:
        return "" if x is None else number(float(x[0]))

    numbers = [first(x) for x in (unit.z, unit.a, unit.slope, unit.y)]
    return [str(unit.name), unit.activation, *numbers]
