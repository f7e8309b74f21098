"""How the house is built: what imports what, what stands beside what, and what is written down."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import deltaprop as dp
from deltaprop.contract import Kernels

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "deltaprop"

# Every module, each after all that it imports.
IN_ORDER = """
version
errors names scalar fma emulation subnormals periodic elementary math derivative formula activations
losses
contract foreign arrays schedules targets optimizers clipping steps equations units
devices devices.cache devices.memory devices.unit devices.nvrtc devices.host
devices.gpu devices.launched devices.cupy
backends.reference backends.numpy
backends.native backends.tiling backends.records backends.team backends.blocks backends.plans
backends.whole
backends.numba
backends.loops backends.loops.bare backends.loops.rules backends.loops.jit backends.loops.vectors
backends.loops.tiles backends.loops.products backends.loops.rows backends.loops.updates
backends.loops.sums
backends.loops.outputs backends.loops.team backends.loops.layers backends.loops.few
backends.loops.sweeps backends.loops.kernels
backends.loops.edges
backends.grids backends.launches backends.narrow backends.cuda backends.replays backends definition
chain parameters parts given bounds net exchange mlp ensemble
torch.tensors torch.sweeps torch.operators torch.transforms torch.calls torch.units
torch.modules torch
graphs graphs.topology graphs.blueprint
graphs.unit_arrays graphs.exchange graph graphs.convert graphs.genomes files
onnx onnx.nodes onnx.activations onnx.export onnx.graph_export
onnx.spellings onnx.forms onnx.model onnx.chain onnx.reading
training.history training.best training.samples training.run
training.checkpoints training.loop training.options training check
sklearn.targets sklearn.base sklearn.classifier sklearn.regressor sklearn
explain.paths explain.text explain.latex explain
diagnosis.rounded diagnosis.given diagnosis.mistakes diagnosis.search diagnosis.verdicts
diagnosis.unit_sweep diagnosis.unit_mistakes diagnosis.unit_search diagnosis.unit_diagnosis
diagnosis digests ahead ops jax plot.layout plot.drawing plot data bench roofline results
ceilings.clock ceilings.limits ceilings.calls ceilings.figures ceilings
peers.case peers.by_hand peers.by_torch peers.by_jax peers.scikit peers.rivals peers.answers
peers.rounds peers.machine peers.peak peers.allowance peers.figures peers.picture peers
__init__ cli_options cli_samples cli_explain cli_plot cli_train cli_warmup cli_kernels cli_bench
cli
"""
ORDER = IN_ORDER.split()

# A net's own methods that lead to modules built on nets; imported when they are called.
LATE = {
    ("net", "training"),
    ("net", "files"),
    ("net", "explain"),
    ("mlp", "ensemble"),
    ("exchange", "graphs.convert"),
    ("exchange", "onnx.export"),
    ("exchange", "onnx.reading"),
    ("graphs.exchange", "graphs.convert"),
    ("graphs.exchange", "graphs.genomes"),
    ("graphs.exchange", "onnx.graph_export"),
}


def module(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


FILES = {module(path): path for path in PACKAGE.rglob("*.py")}


def parsed(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def imported(statement: ast.AST) -> Iterator[str]:
    """The modules of the package that an import statement names."""
    names = []
    if isinstance(statement, ast.Import):
        names = [alias.name for alias in statement.names]
    elif isinstance(statement, ast.ImportFrom):
        assert statement.level == 0, "imports are absolute"
        for alias in statement.names:
            whole = f"{statement.module}.{alias.name}"
            is_module = whole.removeprefix("deltaprop.") in FILES
            names.append(whole if is_module else str(statement.module))
    for name in names:
        if name == "deltaprop":
            yield "__init__"
        elif name.startswith("deltaprop."):
            yield name.removeprefix("deltaprop.")


def test_every_module_has_its_place() -> None:
    assert sorted(ORDER) == sorted(FILES)


@pytest.mark.parametrize("name", ORDER)
def test_imports_lead_down(name: str) -> None:
    tree = parsed(name)
    at_the_top = {other for statement in tree.body for other in imported(statement)}
    anywhere = {other for statement in ast.walk(tree) for other in imported(statement)}
    allowed = set(ORDER[: ORDER.index(name)])
    assert at_the_top <= allowed
    assert anywhere - allowed == {other for this, other in LATE if this == name}


@pytest.mark.parametrize("name", ["equations", "units"])
def test_the_equations_name_no_array_library(name: str) -> None:
    tree = parsed(name)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else map(str, node.names))
    }
    allowed = {"__future__", "collections", "dataclasses", "functools", "typing", "deltaprop"}
    assert modules <= allowed
    assert not names & {"np", "numpy", "cupy", "numba"}


SOURCES = sorted((ROOT / "kernels").glob("*.cu"))
OTHER = ("name", "arrays", "replays", "sweeps")
CONTRACT = [f.name for f in dataclasses.fields(Kernels) if f.name not in OTHER]
BESIDE = ["tree_sum", "whole_sweep"]
"""Kernels that finish what those of the contract began, or take their place."""


def test_every_kernel_is_a_field_of_the_contract_or_stands_beside_them() -> None:
    assert [path.stem for path in SOURCES] == sorted(CONTRACT + BESIDE)
    for stem in BESIDE:
        assert (ROOT / "tests" / "kernels" / f"test_{stem}.py").is_file()


@pytest.mark.parametrize("stem", CONTRACT)
def test_every_kernel_has_a_source_a_test_and_a_benchmark(stem: str) -> None:
    source = (ROOT / "kernels" / f"{stem}.cu").read_text(encoding="utf-8")
    kernels = re.findall(r"__global__\s+void\s+(?:__launch_bounds__\([^)]+\)\s+)?(\w+)", source)
    assert kernels == [stem]
    for path in (f"tests/kernels/test_{stem}.py", f"benchmarks/bench_{stem}.py"):
        assert (ROOT / path).is_file(), f"{path} is missing"


TEXTS = [
    path
    for folder in ("src", "kernels", "tests", "benchmarks", "examples", "docs", "ci", ".ci")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.is_file() and path.suffix not in (".pyc", ".npz", ".png")
] + [ROOT / "README.md", ROOT / "pyproject.toml"]


def test_no_source_is_long() -> None:
    sources = [path for path in TEXTS if path.suffix in (".py", ".cu", ".cuh", ".h", ".cpp", ".sh")]
    assert len(sources) > 80
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources}
    assert {str(path): n for path, n in lines.items() if n > 400} == {}


def test_no_text_names_a_path_of_somebodys_machine() -> None:
    personal = re.compile(r"/(work|root|home|Users)/|[A-Z]:\\\\")
    found = {}
    for path in TEXTS:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if personal.search(line):
                found[f"{path.relative_to(ROOT)}:{number}"] = line.strip()
    assert found == {}


TABLES = ("ACTIVATIONS", "LOSSES")
PUBLIC = {
    **{f"deltaprop.{name}": getattr(dp, name) for name in dp.__all__ if name not in TABLES},
    **{f"deltaprop.ops.{name}": getattr(dp.ops, name) for name in dp.ops.__all__},
    **{
        f"{net.__name__}.{name}": getattr(net, name)
        for net in (dp.MLP, dp.Ensemble, dp.Graph)
        for name in dir(net)
        if not name.startswith("_")
    },
}


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_says_what_it_does(name: str) -> None:
    text = PUBLIC[name].__doc__ or ""
    assert text.strip(), f"{name} has no docstring"
    by_dataclass = inspect.isclass(PUBLIC[name]) and text.startswith(f"{PUBLIC[name].__name__}(")
    assert not by_dataclass, "this is what a dataclass writes"
    if name.startswith("deltaprop.ops."):
        assert re.search(r"\(m|shape", text), f"{name} tells no shapes"


def test_everything_public_is_named() -> None:
    here = {
        name
        for name, x in vars(dp).items()
        if not name.startswith("_")
        and getattr(x, "__module__", "").startswith("deltaprop")
        and not inspect.ismodule(x)
    }
    assert here <= set(dp.__all__)
