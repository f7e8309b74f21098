#!/usr/bin/env bash
# Everything that needs a GPU, in one call: what the machine is, the whole test suite with the GPU
# required, the fixed nets' digests, and timings as JSON in $OUT (default benchmarks/results/).
#   PYTHON=python3 ci/gpu.sh      an environment that has the packages already; nothing is installed
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
out=${OUT:-benchmarks/results}
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" DELTAPROP_REQUIRE_GPU=1
mkdir -p "$out"
failed=0
run() {
    echo
    echo "== $*"
    "$@" || { failed=1; echo "FAILED ($?): $*"; }
}
run nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
run "$python" -m deltaprop.cli info
run "$python" -m deltaprop.cli check --digest
run "$python" -m deltaprop.cli check
run "$python" -m pytest -n 8 -x tests
run "$python" -m deltaprop.cli bench --backend cuda --backend numba --backend numpy
run "$python" -m pytest benchmarks -k cuda --benchmark-json "$out/gpu.json"
exit "$failed"
