#!/usr/bin/env bash
# Style, types, and the test suite. Arguments go to pytest: --cov shows what no test reaches, and
# doubles the time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh" dev
ruff check .
ruff format --check .
mypy
python -m pytest --numprocesses 2 --dist worksteal "$@"
# The benchmarks' answers; their times are for another day.
python -m pytest benchmarks --benchmark-disable -k "not 65536 and not 784 and not 1024 and not 2048"
