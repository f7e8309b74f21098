"""Layered nets as ONNX models, and back."""

try:
    import onnx  # noqa: F401
except ImportError as error:
    raise ImportError("onnx is missing: pip install 'deltaprop[onnx]'") from error
