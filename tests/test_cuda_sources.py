"""Every CUDA unit that the launch table asks for compiles, to nothing the specification forbids.

NVRTC needs no GPU. What it makes is searched as PTX: each operation there says how it rounds,
so the assembler behind it has nothing left to choose.
"""

import re
from types import SimpleNamespace

import cuda.core
import numpy as np
import pytest

import deltaprop as dp
from cuda_units import (
    ARCHITECTURES,
    IN_TABLE,
    RESOURCES,
    applied,
    compiled,
    every_unit,
    head,
    launches,
    row,
)
from deltaprop.backends.grids import TILES
from deltaprop.devices.cache import kernels_folder
from deltaprop.devices.nvrtc import compile_unit
from kernels.helpers import Text
from machine_code import assert_few_others

UNITS = every_unit()
PRODUCTS = [unit for unit in IN_TABLE if unit.tile]
DISASSEMBLED = ("sm_75", "sm_90", "sm_120")

# ------------------------------------------------------------------------------- the checker

EXACT = ("abs", "neg", "copysign", "mov", "ld", "st", "selp", "setp")
ROUNDED = ("add", "sub", "mul", "div", "fma", "sqrt", "rcp")
INSTRUCTION = re.compile(r"\s*(?:\{\s*)?(?:@!?%p\d+\s+)?([a-z]\w*(?:[.:]+\w+)*)")


def violations(ptx, real):
    """The instructions of a unit of "f32" or "f64" that the specification does not allow."""
    found = ((line, INSTRUCTION.match(line)) for line in ptx.splitlines())
    return [line.strip() for line, match in found if match and not _allowed(match[1], real)]


def _allowed(instruction, real):
    operation, *parts = re.split(r"[.:]+", instruction)
    if operation in ("call", "red", "atom"):
        return False
    floats = {part for part in parts if re.fullmatch(r"(b?f|e\dm\d)\d+(x\d+)?", part)}
    if not floats:
        return True
    if floats != {real} or {"ftz", "approx", "full", "sat"} & set(parts):
        return False
    if operation == "cvt":  # to the nearest integral number, or from an integer
        return "rni" in parts or ("rn" in parts and parts[-1][0] in "su")
    return operation in EXACT or (operation in ROUNDED and "rn" in parts)


def ptx_of(unit, arch):
    """What NVRTC makes before the assembler, which is not asked: the same PTX as with it."""
    return compile_unit(unit, arch.replace("sm_", "compute_")).ptx


def forbidden(ptx, dtype):
    return violations(ptx, {4: "f32", 8: "f64"}[dtype.itemsize])


# ----------------------------------------------------------------------------- every unit


def test_every_source_is_launched():
    stems = {path.stem for path in kernels_folder().glob("*.cu")}
    assert stems == {unit.kernel for unit, _ in UNITS.values()}


@pytest.mark.parametrize("name", UNITS)
def test_every_unit(name, tmp_path):
    """Nothing forbidden, no register kept in memory, as many blocks at once as its tile is for.

    Of products, an inner loop that multiplies and does little else.
    """
    unit, architectures = UNITS[name]
    for arch in architectures:
        cubin, ptx, takes = compiled(unit, arch)
        assert cubin[:4] == b"\x7fELF"
        assert f".target {arch}" in ptx
        wrong = forbidden(ptx, unit.dtype)
        assert not wrong, f"{unit.kernel}.cu for {arch}: {len(wrong)}, the first: {wrong[:5]}"
        assert takes.registers > 0 and takes.spilled == 0, f"{unit.kernel}.cu for {arch}: {takes}"
        if unit.tile:
            assert takes.registers * unit.tile.threads * unit.tile.blocks <= 65_536
        if unit in PRODUCTS and arch in DISASSEMBLED:
            assert_few_others(unit, arch, tmp_path)
    text = RESOURCES.read_text(encoding="utf-8")
    if unit in IN_TABLE and head() in text:  # written by this very compiler
        assert row(unit) in text, f"python tests/cuda_units.py; now {row(unit)}"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_forbidden_in_an_activation_of_ones_own(dtype):
    """A formula, with its derived slope, in every kernel that has one."""
    g = dp.activation(
        "own", "sqrt(abs(z)) * tanh(sin(z)) + select(z > 1, exp(-z**2), fma(z, z, 2))"
    )
    units = [unit for unit, *_ in launches(dtype, g=g) if unit.rules]
    assert {"apply", "dense_forward", "hidden_delta"} <= {unit.kernel for unit in units}
    for unit in (*units, applied(g.slope, dtype)):
        assert not forbidden(ptx_of(unit, "sm_90"), unit.dtype), unit.kernel
        assert unit.kernel != "apply" or not contracted(unit)


def opaque(unit):
    """The unit with the fma that is written made another instruction: one that rounds to zero."""
    renamed = "".join(f"#define __{f}_rn __{f}_rz\n" for f in ("fmaf", "fma"))
    return SimpleNamespace(kernel=unit.kernel, source=lambda: renamed + unit.source())


def contracted(unit):
    return re.findall(r"fma\.rn\S*", ptx_of(opaque(unit), "sm_120"))


# The smallest tile of each kernel: what might be contracted is the same in all of them.
CONTRACTED = [
    name
    for name, (unit, archs) in UNITS.items()
    if len(archs) == len(ARCHITECTURES) and unit.tile in (None, TILES[str(unit.dtype)][-1])
]


@pytest.mark.parametrize("name", CONTRACTED)
def test_no_contraction_that_is_not_written(name):
    unit, _ = UNITS[name]
    found = contracted(unit)
    assert not found, f"{unit.kernel}.cu: {len(found)} times {set(found)}"


def test_the_ptx_is_the_same_without_an_assembler():
    for unit in (unit for unit, *_ in launches("float32") if unit.kernel != "whole_sweep"):
        assert ptx_of(unit, "sm_120") == compiled(unit, "sm_120").ptx


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_unit_is_worked_out_once(dtype):
    """It is looked up at every launch, so it is the same object, and its hash is known."""
    first, second = ([unit for unit, *_ in launches(dtype)] for _ in range(2))
    assert all(x is y for x, y in zip(first, second, strict=True))
    assert len({hash(unit) for unit in first}) == len(set(first))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arguments_are_the_parameters(dtype):
    """As many, pointers and sizes of 64 bits, reals of the dtype."""
    real = {"float32": "f32", "float64": "f64"}[dtype]
    for unit, _, args in launches(dtype):
        ptx = compiled(unit, "sm_90").ptx
        parameters = re.findall(r"\.param \.(\w+)[^,]*?_param_\d+[,\n]", ptx)
        given = [real if isinstance(x, np.floating) else "u64" for x in args]
        assert parameters == given, unit.kernel


# ------------------------------------------------------------------------ negative controls

BODY = """
extern "C" __global__ void wrong(real* x) {{
    const int i = threadIdx.x;
    {}
}}
"""


def wrong_unit(statement, dtype="float32"):
    return Text("wrong", np.dtype(dtype), text=BODY.format(statement))


@pytest.mark.parametrize(
    ("statement", "dtype", "seen"),
    [
        ("x[i] = __expf(x[i]);", "float32", "ex2.approx"),
        ("x[i] = expf(x[i]);", "float32", "ex2.approx"),
        ("x[i] = __fdividef(x[0], x[i]);", "float32", "div.approx"),
        ("x[i] = rsqrt(x[i]);", "float64", "rsqrt.approx"),
        ("x[i] = __fmaf_rz(x[0], x[1], x[i]);", "float32", "fma.rz"),
        ("x[i] = x[i] + 1e-9;", "float32", "f64"),
        ("atomicAdd(x, x[i]);", "float32", "atom"),
        ("atomicAdd(x, x[i]);", "float64", "atom"),
        ("x[i] = __saturatef(x[i]);", "float32", "sat"),
        ("x[i] = sin(x[i]);", "float64", "call"),
    ],
)
def test_the_checker_sees(statement, dtype, seen):
    unit = wrong_unit(statement, dtype)
    wrong = forbidden(ptx_of(unit, "sm_90"), unit.dtype)
    assert any(re.search(rf"\b{seen}|\bred\b" if seen == "atom" else seen, w) for w in wrong), wrong


@pytest.mark.parametrize(
    ("option", "statement", "seen"),
    [
        ({"ftz": True}, "x[i] = x[0] + x[i];", "add.rn.ftz.f32"),
        ({"prec_div": False}, "x[i] = x[0] / x[i];", "div.full.f32"),
        ({"prec_sqrt": False}, "x[i] = sqrtf(x[i]);", "sqrt.approx.f32"),
    ],
)
def test_the_checker_sees_options(monkeypatch, option, statement, seen):
    """The options that NVRTC is given are what keeps these out."""
    unit = wrong_unit(statement)
    assert not forbidden(ptx_of(unit, "sm_90"), unit.dtype)
    with_option(monkeypatch, option)
    assert any(seen in w for w in forbidden(ptx_of(unit, "sm_90"), unit.dtype))


def test_the_checker_sees_contraction(monkeypatch):
    """What is written as a fused product is hidden from it, what is not is found."""
    written = wrong_unit("x[i] = fma_rn(x[0], x[1], x[i]);")
    unwritten = wrong_unit("x[i] = x[0] * x[1] + x[i];")
    assert "fma.rn.f32" in ptx_of(written, "sm_120")
    assert not contracted(unwritten)
    with_option(monkeypatch, {"fma": True})
    assert contracted(unwritten)
    assert not contracted(written)


def with_option(monkeypatch, option):
    options = cuda.core.ProgramOptions
    monkeypatch.setattr(cuda.core, "ProgramOptions", lambda **given: options(**given | option))
