r"""A derivation as LaTeX: an `aligned` environment for notebooks and papers.

Weights are written w_{j,i}, from unit i to unit j, as in the derivations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from deltaprop.explain.paths import Contributions, Delta, Factor, Path, Weight, product, total
from deltaprop.explain.text import TERMS, UNITS, abridged, more
from deltaprop.names import Name

FORMS = {
    "dE/da": r"\frac{{\partial E}}{{\partial a_{{{0}}}}}",
    "dE/dz": r"\frac{{\partial E}}{{\partial z_{{{0}}}}}",
    "slope": r"g'(z_{{{0}}})",
    "w": r"w_{{{1},{0}}}",
    "a": r"a_{{{0}}}",
    "delta": r"\delta_{{{0}}}",
    "more": r"(\mathrm{{{0}\ more}})",
}
LETTER_AND_NUMBER = re.compile(r"([A-Za-z])(\d[\d.]*)?")
SPECIAL = {c: f"\\{c}" for c in "{}_$%#&"} | {
    "\\": r"\backslash ",
    "^": r"\wedge ",
    "~": r"\sim ",
    " ": r"\ ",
}


def name(unit: Name) -> str:
    """x1 as x_{1}, h1.2 as h_{1.2}, words upright."""
    found = LETTER_AND_NUMBER.fullmatch(str(unit))
    if found:
        letter, digits = found.groups()
        return f"{letter}_{{{digits}}}" if digits else letter
    if isinstance(unit, int):
        return str(unit)
    return rf"\mathrm{{{''.join(SPECIAL.get(c, c) for c in unit)}}}"


def symbol(factor: Factor) -> str:
    """As it is written: g'(z_{h})."""
    return FORMS[factor.kind].format(*map(name, factor.units))


def number(x: float) -> str:
    """Six digits, a power of ten as one."""
    mantissa, e, exponent = f"{x + 0.0:.6g}".partition("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if e else mantissa


def _in_product(x: float) -> str:
    """A number between others; one with a sign in brackets."""
    return f"({number(x)})" if x < 0 else number(x)


def latex(e: Contributions) -> str:
    """One line for each path, then the numbers, then the sum."""
    lines = _paths(e) if e.paths else _deltas(e)
    body = " \\\\\n".join(lines)
    return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"


def _gradient(weight: Weight) -> str:
    if isinstance(weight, tuple):
        below = f"w_{{{name(weight[1])},{name(weight[0])}}}"
    else:
        below = f"b_{{{name(weight)}}}"
    return rf"\frac{{\partial E}}{{\partial {below}}}"


def _over_samples(e: Contributions) -> str:
    return "" if e.samples == 1 else rf"\sum_{{s=1}}^{{{e.samples}}} "


def _paths(e: Contributions) -> list[str]:
    sums = _over_samples(e)
    lines = []
    for n, path in enumerate(e.paths):
        begin = f"{_gradient(e.weight)} &= " if n == 0 else r"&\quad + "
        lines += _product(begin + sums, [symbol(f) for f in abridged(path.factors)], r" \, ")
    if e.samples == 1:
        for n, path in enumerate(e.paths):
            lines += _product("&= " if n == 0 else r"&\quad + ", _numbers(path), r" \cdot ")
    if len(e.paths) > 1:
        products = [_in_product(path.product) for path in e.paths]
        lines += _product("&= ", products, " + ")
    return [*lines, f"&= {number(e.total)}"]


def _numbers(path: Path) -> list[str]:
    return [_in_product(float(factor.values[0])) for factor in abridged(path.factors)]


def _product(begin: str, pieces: Sequence[str], between: str) -> list[str]:
    """Pieces with a sign between them, eight a line."""
    rows = [between.join(pieces[i : i + 8]) for i in range(0, len(pieces), 8)]
    return [begin + rows[0], *(rf"&\qquad {between.strip()} {row}" for row in rows[1:])]


# ------------------------------------------------------------------------------------ deltas


def _deltas(e: Contributions) -> list[str]:
    lines = [line for delta in e.deltas[:UNITS] for line in _delta(delta, e.samples == 1)]
    if len(e.deltas) > UNITS:
        left = more(len(e.deltas) - UNITS, "unit").replace(" ", r"\ ")
        lines.append(rf"&\vdots \quad \mathrm{{{left}}}")
    factors = [e.deltas[0].factor] + ([] if e.arriving is None else [e.arriving])
    product_ = r" \, ".join(map(symbol, factors))
    lines.append(f"{_gradient(e.weight)} &= {_over_samples(e)}{product_}")
    return [*lines, f"&= {number(e.total)}"]


def _delta(delta: Delta, numbers: bool) -> list[str]:
    lines = [f"{symbol(delta.factor)} &= {_sum(delta, symbols=True)}"]
    if numbers:
        result = number(float(delta.values[0]))
        lines.append(f"&= {_sum(delta, symbols=False)} = {result}")
    return lines


def _sum(delta: Delta, symbols: bool) -> str:
    """own + g' [w delta + w delta + ...]."""
    between = r" \, " if symbols else r" \cdot "

    def written(*factors: Factor) -> str:
        if symbols:
            return between.join(map(symbol, factors))
        return between.join(_in_product(float(factor.values[0])) for factor in factors)

    own = written(*delta.own)
    if not delta.terms:
        return own
    terms = [written(*pair) for pair in delta.terms]
    if len(terms) > TERMS + 1:
        rest = [float(product(pair)[0]) for pair in delta.terms[TERMS:]]
        left = rf"(\mathrm{{{len(rest)}\ more}})" if symbols else _in_product(total(rest))
        terms = [*terms[:TERMS], left]
    sum_ = rf"{written(delta.slope)} \left[ {' + '.join(terms)} \right]"
    return f"{own} + {sum_}" if own else sum_
