"""The package, its data and its CUDA sources lie under the folder named, and nowhere else."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import deltaprop as dp
from deltaprop.devices.cache import kernels_folder

folder = Path(sys.argv[1]).resolve()
package = Path(dp.__file__).resolve().parent
for path in (package, kernels_folder().resolve()):
    assert path.is_relative_to(folder), f"{path} is not in {folder}"
for path in (package / "py.typed", package / "digits.npz", kernels_folder() / "hidden_delta.cu"):
    assert path.is_file(), f"{path} is missing"
assert dp.__version__ == version("deltaprop")
print(f"deltaprop {dp.__version__} in {package}")
