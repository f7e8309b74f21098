"""deltaprop bench --kernels: every kernel beside the ceilings of its machine."""

from __future__ import annotations

import math
import time
from pathlib import Path

import click

from deltaprop import results
from deltaprop.backends import load


def kernels(
    backend: str, dtype: str, largest: float, budget: float | None, out: str | None
) -> None:
    """Prints a line for each kernel; figures are written after each."""
    from deltaprop.ceilings import figures, limits
    from deltaprop.ceilings.clock import clock_of
    from deltaprop.peers import machine

    end = time.perf_counter() + (math.inf if budget is None else budget)
    k = load(backend)
    works = figures.works(k, dtype, largest)
    if not works:
        raise click.UsageError(f"no kernel has {largest:g} operations or fewer")
    clock = clock_of(k)
    ceiling = limits.measure(k, clock, dtype)
    where = machine.of(backend)
    found = figures.Figures(backend, dtype, ceiling, where, machine.versions())
    products = ", ".join(
        f"{rate / 1e12:.3g} TFLOP/s at {n}" for n, rate in ceiling.flops_by_side.items()
    )
    click.echo(
        f"{backend}, {dtype}: a copy moves {ceiling.bytes / 1e9:,.0f} GB/s; "
        f"the library's products: {products}\n\n{figures.HEAD}"
    )
    cache = int(where.get("gpu", {}).get("l2_bytes", 0))
    for work in works:
        if time.perf_counter() > end:
            found.not_reached.append(f"{work.kernel} {work.size}")
            continue
        found.rows.append(figures.measure(work, k, clock, dtype, cache))
        click.echo(figures.line(found.rows[-1], ceiling))
        if out:
            results.write(found.as_json(), Path(out))
    if out:
        results.write(found.as_json(), Path(out))
    for name in found.not_reached:
        click.echo(f"not reached: {name}")
    if found.failures:
        raise click.ClickException("; ".join(found.failures))
