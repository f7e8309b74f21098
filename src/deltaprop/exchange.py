"""What a layered net comes from and goes to, as methods; the work is done elsewhere."""

from __future__ import annotations

import os
from typing import Any, Self


class LayerExchange:
    """The conversions of an `MLP`. Each imports what it needs when it is called."""

    def to_graph(self) -> Any:
        """The same net as a `Graph` of units; all results have the same bits.

        Inputs are x1, x2, ...; unit i of hidden layer l is "h<l>.<i>"; outputs are y1, y2, ...
        """
        from deltaprop.graphs.convert import from_layers

        net: Any = self
        net._require_one("to_graph")
        return from_layers(net)

    def to_onnx(self, path: str | os.PathLike[str] | None = None) -> Any:
        """The net as an onnx.ModelProto of opset 20, written to `path` too if there is one.

        The model takes X (m, n_in) and gives outputs (m, n_out), of the net's dtype, for any m.
        Weights and biases keep their bits and their names, "0.W", "0.b", "1.W", ...; activations
        become ONNX's, one's own too, so a runtime computes what `predict` does but for rounding.
        Raises TypeError for an ensemble, ValueError for a net beyond ONNX's 2 GiB and for an
        activation with an operation that ONNX lacks, ImportError without onnx.
        """
        from deltaprop.onnx.export import to_onnx

        return to_onnx(self, path)

    @classmethod
    def from_onnx(cls, model: Any, backend: str | None = None) -> Self:
        """The net that an onnx.ModelProto or the file at a path describes; nothing is executed.

        It has to be a chain of layers: Gemm, or MatMul with or without Add, each followed by
        operations that are one of deltaprop's activations, or one's own as `to_onnx` writes it.
        `backend` is as of `MLP`.
        Raises `ModelFileError`, which names the node, for a model that is damaged or no such
        chain; TypeError for what is no model; FileNotFoundError where there is no file;
        ImportError without onnx.
        """
        from deltaprop.onnx.reading import from_onnx

        net: Any = from_onnx(cls, model, backend)
        return net  # type: ignore[no-any-return]
