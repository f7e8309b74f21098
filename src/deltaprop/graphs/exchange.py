"""What a graph of units comes from and goes to, as methods; the work is done elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

from deltaprop.activations import Activation
from deltaprop.names import Name


class Exchange:
    """The conversions of a `Graph`. Each imports what it needs when it is called."""

    @classmethod
    def from_arrays(cls, source: Any, target: Any, weight: Any = None, **options: Any) -> Self:
        """A graph from edges, units being numbers: see `deltaprop.graphs.convert.from_arrays`.

        Options: inputs, outputs, activation, output, bias, seed, dtype, backend.
        """
        from deltaprop.graphs.convert import from_arrays

        graph: Any = from_arrays(source, target, weight, **options)
        return graph  # type: ignore[no-any-return]

    @classmethod
    def from_networkx(
        cls,
        G: Any,
        *,
        inputs: Sequence[Name] | None = None,
        outputs: Sequence[Name] | None = None,
        seed: int = 0,
        dtype: Any = None,
        backend: str | None = None,
    ) -> Self:
        """A graph from a networkx.DiGraph: see `deltaprop.graphs.convert.from_networkx`.

        Edges may have a "weight", nodes an "activation", a "bias" and a "role".
        """
        from deltaprop.graphs.convert import from_networkx

        graph: Any = from_networkx(
            G, inputs=inputs, outputs=outputs, seed=seed, dtype=dtype, backend=backend
        )
        return graph  # type: ignore[no-any-return]

    def to_networkx(self) -> Any:
        """The same graph as a networkx.DiGraph, from which `from_networkx` makes it again.

        Raises ImportError without networkx.
        """
        from deltaprop.graphs.convert import to_networkx

        return to_networkx(self)

    def to_onnx(self, path: str | os.PathLike[str] | None = None) -> Any:
        """The graph as an onnx.ModelProto of opset 20, written to `path` too if there is one.

        The model takes X (m, inputs) and gives outputs (m, outputs), of the graph's dtype, for any
        m. Units of one level and activation are a dense layer, with a 0 where there is no edge: so
        the model's size is not that of the edges.
        Raises ValueError for more than ONNX's 2 GiB and for an activation with an operation that
        ONNX lacks, ImportError without onnx.
        """
        from deltaprop.onnx.graph_export import to_onnx

        return to_onnx(self, path)

    @classmethod
    def from_neat(
        cls,
        genome: Any,
        config: Any,
        *,
        activations: Mapping[str, str | Activation] | None = None,
        dtype: Any = "float64",
        backend: str | None = None,
    ) -> Self:
        """What a feed-forward genome of neat-python computes: see `deltaprop.graphs.genomes`.

        Units are named by the genome's keys. Raises `GraphError` for a genome that has another
        meaning than a graph of units, ImportError without neat-python.
        """
        from deltaprop.graphs.genomes import from_neat

        graph: Any = from_neat(
            genome, config, activations=activations, dtype=dtype, backend=backend
        )
        return graph  # type: ignore[no-any-return]

    def to_neat(
        self,
        genome: Any,
        config: Any,
        *,
        activations: Mapping[str, str | Activation] | None = None,
    ) -> None:
        """Writes weights and biases into the genome that the graph was made from.

        `activations` as they were given to `from_neat`. Raises `GraphError` for another genome.
        """
        from deltaprop.graphs.genomes import to_neat

        to_neat(self, genome, config, activations=activations)
