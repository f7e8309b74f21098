"""The table of times that CUDA kernels cannot beat: it is current, and no kernel is missing."""

from __future__ import annotations

import pytest

from cuda_roofline import ROOFLINE, page
from deltaprop.activations import ACTIVATIONS
from deltaprop.devices.cache import kernels_folder
from deltaprop.roofline import instructions, table


def test_the_page_is_current():
    assert ROOFLINE.read_text(encoding="utf-8") == page(), "python tests/cuda_roofline.py"


def test_every_kernel_has_a_row():
    assert {work.kernel for work in table()} == {p.stem for p in kernels_folder().glob("*.cu")}


@pytest.mark.parametrize("work", table(), ids=lambda work: f"{work.kernel} {work.size}")
def test_nothing_asks_for_less_than_it_must_move(work):
    assert work.asked >= work.least > 0
    assert work.instructions > 0


def test_float64_has_every_kernel_but_no_net_that_does_not_fit():
    kernels = {work.kernel for work in table("float64")}
    assert kernels == {work.kernel for work in table()}
    sweeps = [work.shape for work in table("float64") if work.kernel == "whole_sweep"]
    assert sweeps and all(max(shape[1:]) == 64 for shape in sweeps)


def test_instructions_of_rules():
    assert instructions(lambda x: x) == 0
    assert instructions(lambda x: x * x - 1) == 2
    assert instructions(lambda x: x / (x + 1)) == 9
    assert 15 < instructions(ACTIVATIONS["logistic"].value) < 60
