"""The checks of the project catch the classic mistakes of backpropagation.

Each mistake is made in a copy: of a rule, for all backends; of a kernel, in one backend; of a
line of the CUDA sources. A check that still passes then would be worth nothing.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
import test_equations
from conftest import EXACT, HERE, sample
from deltaprop.backends import cuda as table
from deltaprop.backends import load, narrow
from deltaprop.contract import Kernels
from deltaprop.devices import cache as disk
from deltaprop.devices import host
from deltaprop.devices.host import HostDevice
from deltaprop.devices.unit import Unit
from graphs import two_paths
from kernels.helpers import hostile
from tasks import use
from test_ordered_gemm import assert_as_reference as assert_product
from test_ordered_gemm import calls as product_calls

# ----------------------------------------------------------------------------- the checks

# Five samples where they fit, and a layer as square as its batch: the two mistakes that change
# no shape there are seen in numbers.
SIZES, M = (3, 5, 5, 2), 5


def batch(m: int = M) -> tuple[np.ndarray, np.ndarray, str]:
    return sample((m, SIZES[0]), "float64", 1), sample((m, SIZES[-1]), "float64", 2), "half_mse"


def gradcheck(backend: str) -> bool:
    net = dp.MLP(SIZES, "logistic", dtype="float64", backend=backend)
    _, gradients = net.value_and_grad(*batch())
    return bool(dp.gradcheck(net.to("numpy"), *batch(), gradients=gradients))


def crosscheck(backend: str, m: int = M) -> bool:
    net = dp.MLP(SIZES, "logistic", dtype="float64", backend="reference")
    return bool(dp.crosscheck(net, *batch(m), backends=[backend]))


def crosscheck_of_many(backend: str) -> bool:
    """Five leaves of samples: enough that the shape of their tree shows."""
    return crosscheck(backend, m=300)


def a_block_for_all(backend: str) -> bool:
    """Eleven leaves of samples, as one block of whole_sweep.cu takes them."""
    net = dp.MLP(SIZES, "logistic", dtype="float64", backend=backend)
    X, Y, loss = batch(700)
    wanted = net.to("reference").value_and_grad(X, Y, loss)[1].flat
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(narrow, "run_of", lambda *_: 16)
        return net.value_and_grad(X, Y, loss)[1].flat.tobytes() == wanted.tobytes()


def epoch(backend: str) -> bool:
    """Steps of 16 samples, the last one of 6, as whole_sweep.cu takes them all in one launch."""
    X, Y, loss = batch(70)
    nets = [dp.MLP(SIZES, "logistic", dtype="float64", backend=b) for b in ("reference", backend)]
    losses = [net.fit(X, Y, loss, epochs=1, batch_size=16).loss for net in nets]
    same = losses[0] == losses[1]
    return same and nets[0].parameters.tobytes() == nets[1].parameters.tobytes()


def optimizer(backend: str) -> bool:
    """Steps of Adam have the bits that they have on the reference."""
    X, Y, loss = batch()
    nets = [dp.MLP(SIZES, "logistic", dtype="float64", backend=b) for b in ("reference", backend)]
    for net in nets:
        net.fit(X, Y, loss, epochs=3, optimizer=dp.Adam(0.1))
    return nets[0].parameters.tobytes() == nets[1].parameters.tobytes()


def crosscheck_of_a_graph(backend: str) -> bool:
    """An output that leads on, two paths, units with several edges."""
    g = two_paths()
    g.unit("p", "tanh", bias=0.25)
    for source, target, w in (("y1", "p", -1.25), ("x2", "p", 0.5), ("p", "y2", 1.5)):
        g.edge(source, target, w)
    X, Y, loss = sample((300, 2), "float64", 1), sample((300, 2), "float64", 2), "half_mse"
    return bool(dp.crosscheck(g, X, Y, loss, backends=[backend]))


def products(backend: str) -> bool:
    """Each kernel that is a product, where its last sums are -0 and its threads in any order."""
    k = table.kernels(HostDevice("random"), backend) if backend == "cuda-host" else load(backend)
    numbers = partial(hostile, "vanishing")
    calls = [*product_calls("float32", 33, 36, 5, numbers), *product_calls("float32", 40, 33, 300)]
    try:
        for call in calls:
            assert_product(k, *call)
    except AssertionError:
        return False
    return True


def elementwise(backend: str) -> bool:
    """A kernel that goes along arrays: in chunks, one by one, at the end."""
    k = load(backend)
    for n in (1, 4099):
        w, g = sample(n, "float32", 1).copy(), sample(n, "float32", 2)
        wanted = w + g
        k.add(w, g)
        if w.tobytes() != wanted.tobytes():
            return False
    return True


def column_sums(backend: str) -> bool:
    """Leaves of narrow and wide arrays in parts, of threads in any order."""
    k, wanted, got = table.kernels(HostDevice("random"), backend), load("reference"), []
    for m, n in ((700, 3), (130, 132)):
        d, s, db = sample((m, n), "float32", 1), sample((m, n), "float32", 2), np.zeros((2, n))
        for i, backend_ in enumerate((k, wanted)):
            sums = db[i].astype(np.float32)
            delta = backend_.fused_delta(d, s, dp.ACTIVATIONS["tanh"], sums)
            got.append(delta.tobytes() + sums.tobytes())
    return got[0] == got[1] and got[2] == got[3]


def rows(backend: str) -> bool:
    """A softmax of several rows a block, of threads in any order."""
    k = table.kernels(HostDevice("random"), backend)
    wanted = load("reference")
    return all(
        k.softmax(z).tobytes() == wanted.softmax(z).tobytes()
        for z in (sample((70, 10), "float32"), sample((7, 600), "float32"))
    )


def equations(backend: str) -> bool:
    """The worked equations, all of them."""
    try:
        for name, worked in vars(test_equations).items():
            if name.startswith("test_"):
                worked(backend)
    except AssertionError:
        return False
    return True


CHECKS = (gradcheck, crosscheck, crosscheck_of_many, crosscheck_of_a_graph, equations)


@pytest.mark.parametrize("check", CHECKS)
def test_without_a_mistake_every_check_passes(check, backend):
    assert check(backend)


# ------------------------------------------------------------------- mistakes in the rules


def change_activation(patch: pytest.MonkeyPatch, **rules: Any) -> None:
    patch.setitem(dp.ACTIVATIONS, "logistic", replace(dp.ACTIVATIONS["logistic"], **rules))


def change_losses(patch: pytest.MonkeyPatch, **changes: Any) -> None:
    for name in ("half_sse", "half_mse"):
        patch.setitem(dp.LOSSES, name, replace(dp.LOSSES[name], **changes))


RULES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a (1 - a) became a": lambda patch: change_activation(patch, slope=lambda a: a),
    "1/m dropped": lambda patch: change_losses(patch, delta_scale=lambda m, n: 1.0),
    "y - a for a - y": lambda patch: change_losses(patch, residual=lambda a, y: y - a),
    "slope at z for slope at a": lambda patch: change_activation(
        patch, slope=lambda z: z * (1 - z)
    ),
}


@pytest.mark.parametrize("check", [gradcheck, equations])
@pytest.mark.parametrize("mistake", RULES)
def test_a_mistake_in_a_rule_is_caught(mistake, check, backend, monkeypatch):
    RULES[mistake](monkeypatch)
    assert not check(backend)


# ------------------------------------------------------------------ mistakes in a kernel


def transposed(k: Kernels, x: Any) -> Any:
    return k.arrays.asarray(np.ascontiguousarray(k.arrays.to_numpy(x).T))


def w_not_transposed(k: Kernels) -> dict[str, Any]:
    def hidden_delta(delta: Any, W: Any, s: Any, g: Any) -> Any:
        square = W.shape[0] == W.shape[1]
        return k.hidden_delta(delta, transposed(k, W) if square else W, s, g)

    return {"hidden_delta": hidden_delta}


def bias_over_outputs(k: Kernels) -> dict[str, Any]:
    def bias_gradient(delta: Any, out: Any) -> Any:
        square = delta.shape[0] == delta.shape[1]
        return k.bias_gradient(transposed(k, delta) if square else delta, out)

    return {"bias_gradient": bias_gradient}


def update_uphill(k: Kernels) -> dict[str, Any]:
    return {"update": lambda w, g, s, rules, c: k.update(w, g, s, rules, [-x for x in c])}


KERNELS = [
    (w_not_transposed, gradcheck),
    (w_not_transposed, crosscheck),
    (bias_over_outputs, gradcheck),
    (bias_over_outputs, crosscheck),
    (update_uphill, equations),
]


@pytest.mark.parametrize(("mistake", "check"), KERNELS)
def test_a_mistake_in_a_kernel_is_caught(mistake, check, backend, monkeypatch):
    use(monkeypatch, backend, **mistake(load(backend)))
    # What a wrong reference gives away is that the others differ from it.
    watched = EXACT[0] if check is crosscheck and backend == "reference" else backend
    assert not check(watched)


# ------------------------------------------------------------- mistakes in the CUDA sources

# file, text, what it is replaced by, the check that must see it
LINES = [
    ("hidden_delta.cu", "x.v[q] * slope(at.v[q])", "x.v[q] * at.v[q]", crosscheck),
    ("hidden_delta.cu", "Columns{W_next, n, n}", "Rows{W_next, n, n_next}", crosscheck),
    ("dense_forward.cu", "x.v[q] + b[j + q]", "x.v[q] + b[j]", products),
    ("output_delta.cu", "residual(a_ij, y_ij) * c", "residual(a_ij, y_ij)", crosscheck),
    ("output_delta.cu", "residual(a_ij, y_ij)", "residual(y_ij, a_ij)", crosscheck),
    ("fused_delta.cu", "d_ij * slope(s_ij)", "d_ij * s_ij", column_sums),
    ("column_sums.cuh", "begin + terms < m ? begin + terms : m", "m", column_sums),
    ("column_sums.cuh", "? lines.pitch : lines.columns", "? lines.columns : n", column_sums),
    ("column_sums.cuh", "__syncthreads();\n        const int rest", "const int rest", column_sums),
    ("column_sums.cuh", "__syncthreads();\n        if (leaf == 0)", "if (leaf == 0)", column_sums),
    ("rows.cuh", "__syncthreads();\n        for", "for", rows),
    ("rows.cuh", "__syncthreads();\n        if (owner())", "if (owner())", rows),
    ("rows.cuh", "found;\n        __syncthreads();", "found;", rows),
    ("rows.cuh", "        wait_for_copies();", "", rows),
    ("rows.cuh", "(row * leaves + k / LEAF_FEATURES) * pitch", "row * leaves * pitch", rows),
    ("grid.cuh", "map_packs<1>(chunks, n, y, f, x...);", "", elementwise),
    ("grid.cuh", "map_packs<CHUNK>(0, chunks, y, f, x...);", "", elementwise),
    ("grid.cuh", "q * int64(blockDim.x)", "q", elementwise),
    ("weight_gradient.cu", "Columns{delta + first * n, n, n}", "Rows{delta, n, m}", crosscheck),
    ("weight_gradient.cu", "a_in + first * n_in", "a_in", crosscheck_of_many),
    ("tree_sum.cu", "first + run < count ? first + run : count", "count", crosscheck_of_many),
    ("update.cu", "x.v[q] = OF(new_w)", "x.v[q] = dx.v[q]", equations),
    ("update.cu", "t.v[q] = OF(new_s1)", "t.v[q] = OF(new_s0)", optimizer),
    ("update.cu", "write(s0 + i, s, count)", "write(s0 + i, x, count)", optimizer),
    ("whole_sweep.cu", "* slope(s.v[q])", "* s.v[q]", crosscheck),
    ("whole_sweep.cu", "Columns{parameters", "Rows{parameters", crosscheck),
    ("whole_sweep.cu", "fma_rn(-eta", "fma_rn(eta", equations),
    ("whole_sweep.cu", "order ? order[first + sample] : first", "first", epoch),
    ("whole_sweep.cu", "? last_scale : scale", "? scale : scale", epoch),
    ("whole_sweep.cu", "errors_ += members;", "", epoch),
    ("whole_sweep.cu", "sum[0] + e[i]", "sum[0] + e[0]", equations),
    ("whole_sweep.cu", ": real(-0.0);", ": real(1);", crosscheck),
    ("whole_sweep.cu", "delta = real(-0.0)", "delta = 1", crosscheck),
    ("whole_sweep.cu", "here ? a : real(0)", "here ? a : real(1) / 0", crosscheck),
    ("whole_sweep.cu", "if (leaf >> higher & 1)", "", a_block_for_all),
    ("edge_forward.cu", "b ? sum + b[j] : sum", "sum", crosscheck_of_a_graph),
    ("edge_delta.cu", "own ? own[k] + through_edges", "own ? through_edges", crosscheck_of_a_graph),
    ("edge_delta.cu", "sum * slope(s[k])", "sum", crosscheck_of_a_graph),
    ("edge_gradient.cu", "source[first + r]", "target[first + r]", crosscheck_of_a_graph),
    ("edge_gradient.cu", "__syncthreads();", "", crosscheck_of_a_graph),
    ("edges.cuh", "w[e], x[", "w[first], x[", crosscheck_of_a_graph),
    # The bits alone: a product rounded before it is added, and leaves added one after another.
    ("scalar.cuh", "return __fma_rn(x, y, z);", "return x * y + z;", crosscheck),
    ("tree.cuh", "!(count & 1)", "top > 0", crosscheck_of_many),
    # A product with 0 in place of what lies beyond the last term.
    ("ordered_gemm.cuh", "real(-0.0)", "real(0)", products),
    # A barrier that is missing, and a stage that is read before it is there.
    ("ordered_gemm.cuh", "__syncthreads();", "", products),
    ("ordered_gemm.cuh", "wait_for_copies();", "", products),
    ("ordered_gemm.cuh", "next % LEAF == 0", "next % DEPTH == 0", products),
]


@pytest.fixture
def kernels_copy(tmp_path, monkeypatch):
    """A copy of the CUDA sources. Units with a file that differs there are compiled from it, into
    a cache for them alone; the others are those of the sources themselves.
    """
    folder, sources, usual = tmp_path / "kernels", disk.kernels_folder(), host._entry
    shutil.copytree(sources, folder)
    host._runtime()

    def differs(name: str) -> bool:
        text = (folder / name).read_text(encoding="utf-8")
        if text != (sources / name).read_text(encoding="utf-8"):
            return True
        return any(differs(included) for included in re.findall(r'^#include "(.+)"', text, re.M))

    @cache
    def entry(unit: Unit) -> Any:
        if not any(differs(name) for name in ("scalar.cuh", f"{unit.kernel}.cu")):
            return usual(unit)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DELTAPROP_CACHE", str(tmp_path / "cache"))
            for module in (disk, host):
                patch.setattr(module, "kernels_folder", lambda: folder)
            patch.setattr(disk, "_sources", disk._sources.__wrapped__)
            return usual.__wrapped__(unit)

    monkeypatch.setattr(host, "_entry", entry)
    return folder


def change_line(path: Path, text: str, other: str) -> None:
    source = path.read_text(encoding="utf-8")
    assert text in source, f"{path.name} has no {text!r} any more: change this test with it"
    path.write_text(source.replace(text, other), encoding="utf-8")


needs_compiler = pytest.mark.skipif("cuda-host" not in HERE, reason="no C++ compiler")


@needs_compiler
@pytest.mark.parametrize(("file", "text", "other", "check"), LINES)
def test_a_mistake_in_a_cuda_source_is_caught(file, text, other, check, kernels_copy, monkeypatch):
    """In whole_sweep.cu where it is for whole sweeps, else layer by layer."""
    change_line(kernels_copy / file, text, other)
    if file != "whole_sweep.cu":
        monkeypatch.setattr(table, "is_narrow", lambda *_: False)
    assert not check("cuda-host")


@needs_compiler
def test_the_copy_of_the_cuda_sources_is_what_runs(kernels_copy, tmp_path):
    """With other words of comment it passes; empty it does not compile."""
    change_line(kernels_copy / "whole_sweep.cu", "\n//", "\n// of the copy:")
    assert crosscheck("cuda-host")
    assert {path.name.partition("-")[0] for path in tmp_path.glob("cache/*.so")} == {"whole_sweep"}
    (kernels_copy / "whole_sweep.cu").write_text("")
    host._entry.cache_clear()
    with pytest.raises(RuntimeError, match="whole_sweep"):
        crosscheck("cuda-host")
