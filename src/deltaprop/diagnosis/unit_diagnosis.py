"""Gradients of a graph of units derived by hand: read, checked, and what was found in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deltaprop.arrays import as_input
from deltaprop.contract import Array
from deltaprop.diagnosis.given import named_gradients, unit_roundoff
from deltaprop.diagnosis.search import Parts
from deltaprop.diagnosis.unit_mistakes import right_delta, symbols
from deltaprop.diagnosis.unit_search import Found, UnitSearch
from deltaprop.diagnosis.unit_sweep import UnitTask, parameter_names
from deltaprop.diagnosis.verdicts import ALL_RIGHT, ONE_SAMPLE, SAME, BackpropCheck, Verdict
from deltaprop.explain import find_weight
from deltaprop.foreign import batch_to_numpy, to_numpy
from deltaprop.graph import Graph
from deltaprop.graphs.unit_arrays import GraphBack, UnitParameters
from deltaprop.losses import Loss

SHOWN = 8
"""How many gradients a sentence lists."""
STARTS = 3
"""In how many units it says that an error begins."""


def check_graph(
    my_grads: Any,
    net: Graph,
    X: Array,
    Y: Array,
    loss: str | Loss | None,
    sample_weight: Array | None,
) -> BackpropCheck:
    """As `check_backprop`, for a graph of units."""
    wide = net.to("numpy", "float64")
    X, Y, weights = batch_to_numpy(X, Y, sample_weight)
    X = as_input("X", X, wide.dtype, ("m", wide.inputs), wide.kernels)
    chosen, batch = wide._batch(Y, loss, weights, len(X))
    given = read(my_grads, wide)
    u = unit_roundoff(given.values())
    with np.errstate(all="ignore"):
        task = UnitTask(X, batch, chosen, u, wide.topology, wide._finished.wiring, wide.parameters)
        search = UnitSearch(task, np.array([float(x) for x in given.values()]))
        for i in np.flatnonzero(~np.isfinite(search.right_gradient.x)):
            name = search.names[i]
            raise ValueError(f"the right gradient of {name} is not finite: nothing can equal it")
        return _result(search)


# ------------------------------------------------------------------------------ what is given


def read(given: Any, net: Graph) -> dict[str, np.ndarray]:
    """The gradients by the names of the parameters, in their order, each of shape ()."""
    names = list(parameter_names(net.topology))
    if isinstance(given, GraphBack):
        given = given.gradients
    if isinstance(given, UnitParameters):
        own = (net._parameters.edges, net._parameters.biased)
        if (given.edges, given.biased) != own:
            raise ValueError(f"the gradients are those of another graph than {net!r}")
        given = given.flat
    if isinstance(given, Mapping):
        given = _by_name(given, net, names)
    return named_gradients(given, {name: () for name in names})


def _by_name(given: Mapping[Any, Any], net: Graph, names: Sequence[str]) -> dict[str, Any]:
    """By the name of the parameter that each key means; every number of shape ()."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = names[_position(key, net)]
        if name in found:
            raise ValueError(f"the gradient of {name} is given twice")
        number = to_numpy(value, f"the gradient of {name}")
        if np.size(number) != 1:
            raise ValueError(f"the gradient of {name} is one number, got {np.shape(number)}")
        found[name] = number if np.ndim(number) == 0 else number[(0,) * np.ndim(number)]
    lacking = [name for name in names if name not in found]
    if lacking:
        raise ValueError(f"the gradients lack {_listed(lacking)}")
    return found


def _position(key: Any, net: Graph) -> int:
    """The position of the parameter that a key means: ("x1", "h"), "x1 -> h", "h", "bias of h"."""
    known = key in net.topology.number if isinstance(key, str) else True
    if not known and key.startswith("bias of "):
        key = key.removeprefix("bias of ")
    source, target = find_weight(net, net, key)
    return net.topology.position(target if source is None else (source, target))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


# ------------------------------------------------------------------------------------ in words


def _result(search: UnitSearch) -> BackpropCheck:
    if not len(search.wrong):
        return BackpropCheck(_verdicts(search, []), ALL_RIGHT, _notes(search))
    found = search.best()
    verdicts = _verdicts(search, found)
    open_ones = [name for name, v in verdicts.items() if not v.right and not v.mistake]
    said = [SAME.join(dict.fromkeys(text for e in found if (text := _summary(search, e))))]
    if open_ones:
        said.append(_where_to_look(search, open_ones))
    return BackpropCheck(verdicts, "; ".join(filter(None, said)), _notes(search))


def _verdicts(search: UnitSearch, found: Sequence[Found]) -> dict[str, Verdict]:
    spoilt = [search.spoilt(e.slip) for e in found]
    verdicts = {}
    for i, (name, wanted) in enumerate(zip(search.names, search.right_gradient.x)):
        texts = []
        if not search.right[i]:
            texts = [_mistake(e, e.parts[name], bool(by[i])) for e, by in zip(found, spoilt)]
        verdicts[name] = Verdict(
            bool(search.right[i]),
            " or ".join(dict.fromkeys(filter(None, texts))),
            float(search.ratio[i]),
            "" if search.right[i] else f"it is {search.given[i]:.6g}, right is {wanted:.6g}",
        )
    return verdicts


def _mistake(e: Found, parts: Parts | None, spoilt: bool) -> str:
    """What is wrong with one gradient; "" if it is not explained."""
    if parts is None:
        return ""
    slip = [e.slip.text] if e.slip and spoilt else []
    return " and ".join([*slip, *sorted(part.text for part in parts)])


def _summary(search: UnitSearch, e: Found) -> str:
    """Each mistake once, with the right equation."""
    said = [f"{e.slip.text}: {e.slip.hint}"] if e.slip else []
    for part in sorted(e.every_part, key=lambda part: part.text):
        names = [name for name, parts in e.parts.items() if parts and part in parts]
        whom = "every gradient" if len(names) == len(search.names) else _listed(names)
        said.append(f"{whom}: {part.text}: {part.hint.format(**symbols(search.task, ()))}")
    return "; and ".join(said)


def _where_to_look(search: UnitSearch, unexplained: Sequence[str]) -> str:
    """Errors flow back: a wrong unit that leads to right ones alone has a mistake of its own."""
    if len(unexplained) < len(search.wrong):
        return f"{_listed(unexplained)}: not explained yet; mend that first, then check again"
    starts = [_start(search, row) for row in search.begins[::-1]]
    more = [f"and {len(starts) - STARTS} units more"] * (len(starts) > STARTS)
    said = [f"no classic mistake explains {_listed(unexplained)}", *starts[:STARTS], *more]
    return "; ".join(said)


def _start(search: UnitSearch, row: int) -> str:
    """What to look at where the error begins."""
    task = search.task
    name, into = task.name(row), task.entering[row]
    above = "the error begins at " + name
    if len(task.leaving[row]):
        above = f"every gradient of the units {name} leads to is right"
    wrong = [search.names[i] for i in into if not search.right[i]]
    if len(wrong) < len(into):
        return f"{above}, and of {name} only {_listed(wrong)} is wrong: look at dE/dw = delta a"
    if row in task.column and not len(task.leaving[row]):
        return f"{above}: look at the forward sweep, the loss and {right_delta(task, row)}"
    return f"{above}: look at delta of {name}, {right_delta(task, row)}"


def _notes(search: UnitSearch) -> tuple[str, ...]:
    """What these samples cannot tell."""
    notes = [ONE_SAMPLE] if len(search.task.X) == 1 else []
    zero = search.zeros()
    if zero:
        listed, are = _listed(zero), "is" if len(zero) == 1 else "are"
        notes.append(f"{listed} {are} 0 to within rounding: most mistakes cannot be seen there")
    return tuple(notes)
