"""Graphs built in any sequence of steps, beside a dict that says what must have come of it."""

from __future__ import annotations

import copy
import itertools
import pickle
import tempfile
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import deltaprop as dp
from conftest import assert_same_bits

pytestmark = pytest.mark.filterwarnings("ignore:no output is reached from unit")

INPUTS, OUTPUTS = ["x", 1], ["y", 7]
NAMES = [*INPUTS, "h", "k", 2, 3, *OUTPUTS]
X = np.array([[0.5, -1.0], [0.25, 2.0], [-3.0, 0.125]])
Y = np.array([[1.0, 0.0], [-0.5, 0.25], [0.0, 2.0]])

names = st.sampled_from(NAMES)
forward = st.sampled_from(list(itertools.combinations(NAMES, 2)))
numbers = st.floats(-2, 2, width=32)
special = st.sampled_from([np.nan, np.inf, -np.inf, -0.0, 1e-45, 5e-324])


class Building(RuleBasedStateMachine):
    """`units` has (activation, bias or None), `edges` weights; a weight of None is to be drawn."""

    @initialize(
        dtype=st.sampled_from(["float32", "float64"]), units=st.permutations(NAMES[len(INPUTS) :])
    )
    def begin(self, dtype: str, units: list[Any]) -> None:
        self.g = dp.Graph(INPUTS, OUTPUTS, dtype=dtype, backend="numpy")
        self.units: dict[Hashable, tuple[str, Any]] = {}
        self.edges: dict[tuple[Hashable, Hashable], Any] = {}
        for i, name in enumerate(units):
            self.unit(name, "tanh", 0.5 + i)
        for i, ends in enumerate(itertools.combinations(NAMES, 2)):
            if ends[1] not in INPUTS:
                self.edge(ends, 0.25 * i)

    # ------------------------------------------------------------------- what the steps do

    @rule(name=names, g=st.sampled_from(["tanh", "identity", "relu"]), bias=st.none() | numbers)
    def unit(self, name: Any, g: str, bias: float | None) -> None:
        if name in INPUTS or name in self.units:
            self.refused("already", self.g.unit, name, g, bias)
        else:
            self.g.unit(name, g, bias)
            self.units[name] = (g, bias)

    @rule(ends=forward | forward | st.tuples(names, names), weight=st.none() | numbers)
    def edge(self, ends: tuple[Any, Any], weight: float | None) -> None:
        source, target = ends
        known = {*INPUTS, *self.units}
        if not {source, target} <= known:
            self.refused("unknown unit", self.g.edge, source, target, weight)
        elif target in INPUTS:
            self.refused("into an input", self.g.edge, source, target, weight)
        elif ends in self.edges:
            self.refused("there twice", self.g.edge, source, target, weight)
        else:
            self.g.edge(source, target, weight)
            self.edges[ends] = weight

    @rule(name=names)
    def remove_unit(self, name: Any) -> None:
        if name not in self.units:
            self.refused("is an input|unknown unit", self.g.remove_unit, name)
        else:
            self.g.remove_unit(name)
            del self.units[name]
            self.edges = {ends: w for ends, w in self.edges.items() if name not in ends}

    @rule(data=st.data())
    def remove_edge(self, data: Any) -> None:
        ends = data.draw(st.sampled_from([*self.edges, ("x", 1)]))
        if ends not in self.edges:
            self.refused("no edge leads", self.g.remove_edge, *ends)
        else:
            self.g.remove_edge(*ends)
            del self.edges[ends]

    @rule()
    def mend(self) -> None:
        """Whatever is wrong: no edges back, every output there, every unit with an input."""
        for source, target in list(self.edges):
            if NAMES.index(source) >= NAMES.index(target):
                self.g.remove_edge(source, target)
                del self.edges[source, target]
        for name in OUTPUTS:
            if name not in self.units:
                self.unit(name, "identity", None)
        for name in self.units:
            if ("x", name) not in self.edges:
                self.edge(("x", name), 0.5)
        assert self.computes()

    def refused(self, words: str, call: Any, *args: Any) -> None:
        with pytest.raises(dp.GraphError, match=words):
            call(*args)

    # ------------------------------------------------------------- what computes the graph

    @rule()
    def train_step(self) -> None:
        if self.computes():
            self.check()
            self.g.train_step(X.astype("f4"), Y.astype("f4"), learning_rate=0.5)
            self.read()

    @rule(value=special, data=st.data())
    def a_number_becomes_special(self, value: float, data: Any) -> None:
        """As training may make it."""
        if self.computes():
            self.check()
            i = data.draw(st.integers(0, len(self.g.parameters) - 1))
            self.g.parameters[i] = value
            self.read()

    @rule(dtype=st.sampled_from([None, "float32", "float64"]))
    def to(self, dtype: str | None) -> None:
        if self.computes():
            self.check()
            old, self.g = self.g, self.g.to("reference" if dtype else None, dtype)
            old.parameters[...] = 9
            old.unit("another")  # which takes the nines into the blueprint

    @rule(way=st.sampled_from([copy.copy, copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))]))
    def a_copy_takes_its_place(self, way: Any) -> None:
        """Whether it computes or not."""
        old, self.g = self.g, way(self.g)
        for ends in self.edges:
            old.remove_edge(*ends)

    @rule()
    def save_and_load(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph"
            if self.computes():
                self.check()
                self.g.save(path)
                self.g = dp.load(path, "numpy")
            else:
                self.refused("cycle|no path|no input|no unit", self.g.save, path)
                assert not path.exists()

    # -------------------------------------------------------------------------- what holds

    def computes(self) -> bool:
        """Whether the graph has a sweep: found by taking units that all sources are known of."""
        if not all(name in self.units for name in OUTPUTS):
            return False
        done, fed = set(INPUTS), set(INPUTS)
        for _, name in itertools.product(range(len(self.units)), self.units):
            sources = {i for i, j in self.edges if j == name}
            if sources <= done:
                done.add(name)
                if sources & fed:
                    fed.add(name)
        return {*self.units} <= fed

    def check(self) -> None:
        """Every parameter is what it was, rounded to the dtype; drawn ones are in range."""
        wanted: dict[Any, Any] = dict(self.edges)
        wanted |= {name: bias for name, (_, bias) in self.units.items() if bias is not None}
        numbers = self.g._parameters
        assert {*numbers.edges, *numbers.biased} == set(wanted)
        for key, value in wanted.items():
            if value is None:
                assert abs(self.g[key]) <= np.sqrt(3)
            else:
                assert_same_bits(np.float64(self.g[key]), np.float64(self.g.dtype.type(value)))
        graph = self.g.topology
        kinds = [g.name for g in graph.activations]
        assert dict(zip(graph.names[2:], kinds)) == {n: g for n, (g, _) in self.units.items()}
        assert graph.named(graph.outputs) == OUTPUTS
        self.read()

    def read(self) -> None:
        """Takes the numbers for those that must stay."""
        self.edges = {ends: self.g[ends] for ends in self.edges}
        self.units = {
            name: (g, None if bias is None else self.g[name])
            for name, (g, bias) in self.units.items()
        }

    @rule()
    def look(self) -> None:
        if self.computes():
            self.check()

    @invariant()
    def it_computes_or_says_why_not(self) -> None:
        """Only looks at the shape of a copy: the graph itself is left as far as it is."""
        if hasattr(self, "g") and not self.computes():
            with pytest.raises(dp.GraphError):
                copy.copy(self.g).predict(X.astype("f4"))

    def teardown(self) -> None:
        if hasattr(self, "g") and self.computes():
            self.check()


Building.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestBuilding = Building.TestCase
