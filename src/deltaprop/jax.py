"""A layered net as a function of JAX, with the forward and backward sweep of `equations.py`.

    f = mlp(net)
    params = params_of(net)
    outputs = f(params, X)
    gradients = jax.grad(lambda params: jnp.mean((f(params, X) - Y) ** 2))(params)

JAX calls back: for the outputs; for the gradients, with a forward sweep of their own, which is
cheaper than to carry z and a there and back; for dE/dX, if somebody asks for it. Callbacks give
NumPy's arrays: if JAX made some, it could wait for the thread that it calls back from. And it
flushes subnormal numbers to zero there, so the sweeps run in a thread of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deltaprop import equations
from deltaprop.devices.memory import NumpyArrays
from deltaprop.ensemble import Ensemble
from deltaprop.equations import Trace
from deltaprop.mlp import MLP
from deltaprop.parameters import Parameters
from deltaprop.scalar import DTYPES
from deltaprop.subnormals import require_subnormals

Params = Sequence[tuple[Any, Any]]
"""W (n, n_in) and b (n,) of each layer; b is None in a net without bias."""

_THREAD = ThreadPoolExecutor(1, "deltaprop.jax")


def mlp(net: MLP | Sequence[int], *args: Any, **options: Any) -> Callable[[Params, Any], Any]:
    """f(params, X) -> the outputs (..., n_out) for inputs X (..., n_in), a function of JAX.

    f works under `jit`, `grad`, `value_and_grad`, `vmap` and whatever else takes derivatives of
    first order in reverse. It computes on this machine's CPU; X, W and b are of one dtype, float32
    or float64. Outputs and gradients have the bits of `net.predict` and `net.pull_back`. f raises
    TypeError for another dtype, ValueError for another number of layers or another shape,
    NotImplementedError for a second derivative. `mlp` raises TypeError for an ensemble, in whose
    place `vmap` stands, and ValueError for a net on a GPU.

    Parameters
    ----------
    net, args, options
        A net whose sizes, activations and backend f takes; or the arguments of `MLP`, on the
        backend "cpu" if they name none. The net's numbers are not taken: f is a function of
        `params`, as `params_of` gives them.
    """
    if not isinstance(net, MLP):
        net = MLP(net, *args, **{"backend": "cpu", **options})
    elif args or options:
        raise TypeError("mlp takes a net, or the arguments of one, not both")
    if isinstance(net, Ensemble):
        raise TypeError("mlp takes one net, got an ensemble: vmap makes many of one")
    if not isinstance(net.kernels.arrays, NumpyArrays):
        raise ValueError(f"JAX calls back to the CPU, but net is on {net.backend!r}: net.to('cpu')")
    _THREAD.submit(require_subnormals).result()  # a thread begins as the one that starts it is
    host = Host(net)
    sweep = _differentiable(host)

    def f(params: Params, X: Any) -> Any:
        X = _checked(host.net, params, jnp.asarray(X))
        flat = jnp.concatenate([jnp.reshape(x, -1) for x in jax.tree.leaves(params)])
        outputs = sweep(flat[None], X.reshape(-1, host.net.inputs))
        return outputs.reshape(*X.shape[:-1], host.net.outputs)

    return f


def params_of(net: MLP) -> list[tuple[jax.Array, jax.Array | None]]:
    """(W, b) of every layer, copied to JAX's arrays; b is None in a net without bias.

    Those of a float64 net become float32 unless jax_enable_x64 is set.
    """
    there = net.kernels.arrays.to_numpy
    return [
        (jnp.array(there(W)), None if b is None else jnp.array(there(b))) for W, b, _ in net.layers
    ]


def set_params(net: MLP, params: Params) -> None:
    """The net's parameters become these.

    Raises ValueError for another number of layers or another shape, TypeError for another dtype.
    """
    _check_params(net, params, net.dtype)
    flat = np.concatenate([np.asarray(x).reshape(-1) for x in jax.tree.leaves(params)])
    net.parameters[...] = net.kernels.arrays.asarray(flat)


# ------------------------------------------------------------------------------- what JAX sees


def _differentiable(host: Host) -> Callable[[Any, Any], Any]:
    """f(flat (1, P), X (m, n_in)) with its derivative in reverse."""
    outputs, input_gradient = (
        _first_order(f, by_row=True) for f in (host.outputs, host.input_gradient)
    )
    pull_back = _first_order(host.pull_back, by_row=False)
    sizes = host.net.sizes

    def like(X: Any, n: int) -> Any:
        return jax.ShapeDtypeStruct((len(X), n), X.dtype)

    def f(flat: Any, X: Any) -> Any:
        return outputs(like(X, sizes[-1]), flat, X)

    def forward(flat: Any, X: Any) -> Any:
        return f(flat, X), (flat, X)

    def backward(seen: Any, upstream: Any) -> Any:
        flat, X = seen
        gradient, delta = pull_back((like(flat, flat.size), like(X, sizes[1])), *seen, upstream)
        return gradient, input_gradient(like(X, sizes[0]), flat, delta)

    differentiable: Callable[[Any, Any], Any] = jax.custom_vjp(f)
    differentiable.defvjp(forward, backward)  # type: ignore[attr-defined]
    return differentiable


def _first_order(host: Callable[..., Any], by_row: bool) -> Callable[..., Any]:
    """(shapes, *arrays) -> what `host` returns of them, at each place of vmap's axes."""
    mapped = _Mapped(host, by_row)

    def refuse(*_: Any) -> Any:
        raise NotImplementedError(
            "deltaprop.jax has derivatives of first order, in reverse, as jax.grad takes them"
        )

    def called_back(shapes: Any, *arrays: Any) -> Any:
        def call(*arrays: Any) -> Any:
            return jax.pure_callback(mapped, shapes, *arrays, vmap_method="expand_dims")

        once = jax.custom_jvp(call)
        once.defjvp(refuse)
        return once(*arrays)

    return called_back


def _checked(net: MLP, params: Params, X: Any) -> Any:
    """X, if it and params are what the net takes."""
    if X.dtype not in DTYPES.values():
        raise TypeError(f"X must be float32 or float64, got {X.dtype}")
    if X.ndim == 0 or X.shape[-1] != net.inputs or 0 in X.shape:
        raise ValueError(f"X must have shape (..., {net.inputs}), not empty, got {X.shape}")
    _check_params(net, params, X.dtype)
    return X


def _check_params(net: MLP, params: Params, dtype: Any) -> None:
    if len(params) != len(net.shapes):
        raise ValueError(f"params has {len(params)} layers, but the net has {len(net.shapes)}")
    for l, (layer, shapes) in enumerate(zip(params, net.shapes)):
        if not isinstance(layer, (tuple, list)) or len(layer) != 2:
            raise ValueError(f"params[{l}] must be (W, b), got {type(layer).__name__}")
        for name, x, shape in zip("Wb", layer, shapes):
            got = None if x is None else np.shape(x)
            if got != shape:
                raise ValueError(f"params[{l}].{name} must have shape {shape}, got {got}")
            kind = getattr(x, "dtype", type(x).__name__)
            if x is not None and kind != dtype:
                raise TypeError(f"params[{l}].{name} must be {dtype}, got {kind}")


# ------------------------------------------------------------------------------ what is computed


class Host:
    """The sweeps of nets like one, on NumPy's arrays; parameters are (1, P)."""

    def __init__(self, net: MLP) -> None:
        self.net = net
        self._of = {dtype: net.to(dtype=dtype) for dtype in DTYPES.values()}

    def outputs(self, flat: np.ndarray, X: np.ndarray) -> np.ndarray:
        """a^L (m, n_out)."""
        found: np.ndarray = self._with(flat)._predict(X)
        return found

    def pull_back(
        self, flat: np.ndarray, X: np.ndarray, upstream: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The gradient (1, P), and delta (m, n) of the first layer."""
        net, gradients = self._with(flat), Parameters(np.empty_like(flat[0]), self.net.shapes)
        trace = equations.forward(net.kernels, net.layers, X)
        deltas = equations.pull_back(net.kernels, net.layers, trace, upstream, gradients)
        return gradients.flat[None], deltas[0]

    def input_gradient(self, flat: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """dE/dX (m, n_in) of delta^1."""
        net = self._with(flat)
        unread = np.empty((len(delta), net.inputs), delta.dtype)
        trace = Trace((None,), (unread,))
        found: np.ndarray = equations.input_gradient(net.kernels, net.layers, trace, [delta])
        return found

    def _with(self, flat: np.ndarray) -> MLP:
        """The net of these parameters, and of their dtype."""
        return self._of[flat.dtype]._view(flat[0])


@dataclass(frozen=True)
class _Mapped:
    """A function of arrays of two axes, for others that have axes of vmap before them.

    `by_row` says that it takes each row of the last array by itself.
    """

    f: Callable[..., Any]
    by_row: bool

    def __call__(self, *arrays: Any) -> Any:
        here = [np.require(x, requirements="C") for x in arrays]
        return _THREAD.submit(self._everywhere, here).result()

    def _everywhere(self, arrays: Sequence[np.ndarray]) -> Any:
        axes = np.broadcast_shapes(*(x.shape[:-2] for x in arrays))
        if not axes:
            return self.f(*arrays)
        *shared, rows = arrays
        if self.by_row and all(max(x.shape[:-2]) == 1 for x in shared):
            once = [x.reshape(x.shape[-2:]) for x in shared]
            found = self.f(*once, rows.reshape(-1, rows.shape[-1]))
            return found.reshape(*axes, -1, found.shape[-1])
        found = [self.f(*_at(place, arrays)) for place in np.ndindex(axes)]
        return jax.tree.map(lambda *x: np.stack(x).reshape(*axes, *x[0].shape), *found)


def _at(place: tuple[int, ...], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays of two axes there; an axis of length 1 is shared by all places."""
    return [x[tuple(i % n for i, n in zip(place, x.shape[:-2]))] for x in arrays]
