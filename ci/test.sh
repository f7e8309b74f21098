#!/usr/bin/env bash
# Style, types, and the test suite with coverage. Arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh" dev
ruff check .
ruff format --check .
mypy
python -m pytest --numprocesses 2 --dist worksteal --cov --cov-report term:skip-covered "$@"
