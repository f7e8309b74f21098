"""Gradients derived by hand, checked: which are right, and which mistake explains the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from deltaprop.arrays import as_input
from deltaprop.contract import Array
from deltaprop.diagnosis.given import check_shapes, named_gradients, unit_roundoff
from deltaprop.diagnosis.mistakes import Task
from deltaprop.diagnosis.search import Explanation, Part, Search, Slip, alike, layer_of, over_bound
from deltaprop.diagnosis.unit_diagnosis import check_graph
from deltaprop.diagnosis.verdicts import ALL_RIGHT, ONE_SAMPLE, SAME, SCALES, BackpropCheck, Verdict
from deltaprop.foreign import batch_to_numpy
from deltaprop.graph import Graph
from deltaprop.losses import Loss
from deltaprop.mlp import MLP


def check_backprop(
    my_grads: Any,
    net: MLP | Graph,
    X: Array,
    Y: Array,
    loss: str | Loss | None = None,
    sample_weight: Array | None = None,
) -> BackpropCheck:
    """Says for every gradient derived by hand whether it is right, or which mistake explains it.

    Parameters
    ----------
    my_grads
        The gradients of the net's parameters: what `value_and_grad` returns, a list with one
        pair (dW, db) for each layer, a flat list [dW, db, dW, ...], a dict {"0.W": dW, ...}, or
        a vector of all numbers in the order of `net.parameters`. Arrays of any float dtype, or
        nested lists: dW (n, n_in) and db (n,), (n, 1) or (1, n). Nets without bias have no db.

        Of a `Graph`, one number for each edge and bias: what `value_and_grad` or `backward`
        returns, a dict {("x1", "h"): dw, "h": db, ...} ("x1 -> h" is understood as well), or a
        vector in the order of `graph.parameters`.
    X, Y, loss, sample_weight
        As of `value_and_grad`: X (m, n_in), Y (m, n_out) or labels (m,).

    Notes
    -----
    The right gradient and the mistaken ones are computed in float64; each element may be off by
    what rounding in the dtype of `my_grads` can do. Raises TypeError for what is no gradient, and
    ValueError for a wrong number of layers, a parameter that is missing or unknown, a shape that
    no mistake explains, NaN or infinity in `my_grads` or in the right gradient.
    """
    if isinstance(net, Graph):
        return check_graph(my_grads, net, X, Y, loss, sample_weight)
    net._require_one("check_backprop")
    wide = net.to("numpy", "float64")
    X, Y, weights = batch_to_numpy(X, Y, sample_weight)
    X = as_input("X", X, wide.dtype, ("m", wide.sizes[0]), wide.kernels)
    chosen, batch = wide._batch(Y, loss, weights, len(X))
    shapes = {name: x.shape for name, x in wide._parameters.named()}
    given = named_gradients(my_grads, shapes)
    check_shapes(given, {name: list(_understood(shape, len(X))) for name, shape in shapes.items()})
    with np.errstate(all="ignore"):
        task = Task(X, batch, chosen, unit_roundoff(given.values()), wide.layers)
        search = Search(task, {name: x.astype(np.float64) for name, x in given.items()})
        _check_finite(search)
        return _result(search)


def _check_finite(search: Search) -> None:
    for name in search.given:
        if not np.all(np.isfinite(search.right_gradient(name).x)):
            raise ValueError(f"the right gradient of {name} is not finite: nothing can equal it")


def _understood(shape: tuple[int, ...], m: int) -> Iterator[tuple[int, ...]]:
    """The shapes a gradient may have, the right one first."""
    yield shape
    if len(shape) == 2:
        yield shape[::-1]
        return
    (n,) = shape
    yield from [(n, 1), (1, n), (m,), (m, 1), (1, m), (m, n), (n, m), (), (1,), (1, 1)]


# ------------------------------------------------------------------------------- in words


def _result(search: Search) -> BackpropCheck:
    names = list(search.given)
    wrong = [name for name in names if name not in search.right_names]
    if not wrong:
        verdicts = {name: _verdict(search, name, []) for name in names}
        summary = ALL_RIGHT
        return BackpropCheck(verdicts, summary, _notes(search))
    found = search.best()
    verdicts = {name: _verdict(search, name, found) for name in names}
    unexplained = [name for name in wrong if not verdicts[name].mistake]
    said = [SAME.join(dict.fromkeys(text for e in found if (text := _summary(search, e))))]
    if unexplained:
        said.append(_where_to_look(search, wrong, unexplained))
    return BackpropCheck(verdicts, "; ".join(filter(None, said)), _notes(search))


def _verdict(search: Search, name: str, found: Sequence[Explanation[Slip]]) -> Verdict:
    wanted = search.right_gradient(name)
    given = alike(search.given[name], wanted)
    right = name in search.right_names
    if given is None:
        error, worst = np.inf, f"shape {search.given[name].shape}, right is {wanted.x.shape}"
    else:
        ratio = over_bound(given, wanted)
        error, worst = float(np.max(ratio)), "" if right else _worst(given, wanted.x, ratio)
    texts = [] if right else [_mistake(name, e) for e in found]
    return Verdict(right, " or ".join(dict.fromkeys(filter(None, texts))), error, worst)


def _worst(given: np.ndarray, wanted: np.ndarray, ratio: np.ndarray) -> str:
    """Where the largest error is, and its size beside the largest element."""
    error = np.abs(given - wanted)
    i = np.unravel_index(int(np.argmax(error)), error.shape)
    size = error[i] / np.max(np.abs(wanted)) if wanted.any() else np.inf
    position = ", ".join(map(str, map(int, i)))
    return (
        f"off by up to {size:.2g} times its largest element, "
        f"at [{position}]: {given[i]:.6g}, right is {wanted[i]:.6g}"
    )


def _mistake(name: str, e: Explanation[Slip]) -> str:
    """What is wrong with one gradient; "" if it is not explained."""
    parts = e.parts[name]
    if parts is None:
        return ""
    spoilt = e.slip is not None and layer_of(name) <= max(e.slip.at)
    slip = [_slip(e.slip)] if e.slip and spoilt else []
    return " and ".join([*slip, *(part.text for part in _sorted(parts))])


def _slip(slip: Slip) -> str:
    return f"{_layers(slip.at)}: {slip.mistake.text.format(eta=slip.eta)}"


def _layers(at: Sequence[int]) -> str:
    return f"layer{'s' if len(at) > 1 else ''} {', '.join(map(str, at))}"


def _sorted(parts: frozenset[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: part.text)


def _summary(search: Search, e: Explanation[Slip]) -> str:
    """Each mistake once, with the right equation."""
    task = search.task
    said = []
    if e.slip:
        hint = e.slip.mistake.hint.format(**_symbols(task, e.slip.at))
        said.append(f"{_slip(e.slip)}: {hint}")
    for part in _sorted(e.every_part):
        names = [name for name, parts in e.parts.items() if parts and part in parts]
        whom = "every gradient" if len(names) == len(e.parts) else ", ".join(names)
        hint = part.hint.format(**_symbols(task, ()))
        said.append(f"{whom}: {part.text}: {hint}")
    return "; and ".join(said)


def _symbols(task: Task, at: Sequence[int]) -> dict[str, str]:
    """What stands in the right equations, for one layer or for any."""
    symbols = {
        "loss": task.loss.name,
        "scale": SCALES.get(task.loss.name, "scale"),
        "error": "delta^L" if task.loss.link else "dE/da^L",
        "top": "a^L",
        "forward": "z^l = a^(l-1) W^l^T + b^l",
    }
    if len(at) != 1:
        return symbols | {"l": "^l", "up": "^(l+1)", "e": "dE/da^l"}
    l = at[0] + 1
    e = f"dE/da^{l}" if at[0] == task.top else f"(delta^{l + 1} W^{l + 1})"
    return symbols | {"l": f"^{l}", "up": f"^{l + 1}", "e": e}


def _where_to_look(search: Search, wrong: Sequence[str], unexplained: Sequence[str]) -> str:
    """Errors flow down: the topmost wrong layer has a mistake of its own."""
    names = ", ".join(unexplained)
    if len(unexplained) < len(wrong):
        return f"{names}: not explained yet; mend that first, then check again"
    l, top = max(map(layer_of, wrong)), search.task.top
    above = "" if l == top else " and every gradient above it is right"
    start = f"no classic mistake explains {names}; the topmost wrong layer is {l}{above}: look "
    if f"{l}.b" in search.right_names:
        return start + f"at dE/dW^{l + 1} = delta^{l + 1}^T a^{l}, for dE/db^{l + 1} is right"
    if f"{l}.W" in search.right_names:
        return start + f"at dE/db^{l + 1}, the sum of delta^{l + 1} over the samples"
    if l == top:
        return start + "at the forward sweep, the loss and the output's delta"
    return start + f"at delta^{l + 1} = (delta^{l + 2} W^{l + 2}) * g'(z^{l + 1})"


def _notes(search: Search) -> tuple[str, ...]:
    """What these samples cannot tell."""
    notes = []
    if len(search.task.X) == 1:
        notes.append(ONE_SAMPLE)
    for name in search.right_names:
        wanted = search.right_gradient(name)
        if np.all(over_bound(np.zeros_like(wanted.x), wanted) <= 1):
            notes.append(f"{name} is 0 to within rounding: most mistakes cannot be seen there")
    return tuple(notes)
