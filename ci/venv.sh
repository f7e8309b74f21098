#!/usr/bin/env bash
# Makes .venv with the project and the extras named, and puts it first on the PATH.
#   source ci/venv.sh sklearn,plot
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ ! -x .venv/bin/python ]; then
    "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "deltaprop needs Python 3.11 or newer; set PYTHON to one" >&2
        exit 1
    }
    "${PYTHON:-python3}" -m venv .venv || {
        echo "python3 cannot make a virtual environment: apt-get install python3-venv" >&2
        exit 1
    }
fi
export PATH="$PWD/.venv/bin:$PATH"
echo "installing deltaprop[$1] into .venv ..."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1 # Python compiles what is imported
python -m pip install --quiet --editable ".[$1]" 2> .venv/pip.log || {
    cat .venv/pip.log >&2
    exit 1
}
