#!/usr/bin/env bash
# At home where it is used: each home has a fresh virtual environment with the wheel, the extra of
# that name and pytest, and runs tests/homes/<home>. `docs` builds the documentation, where a
# warning is an error. `wheel` proves the distribution on each Python from 3.11 to 3.14 that is here.
# `together` is one environment with all libraries, for every CI run: the tests of all homes.
#
#   ci/homes.sh [sklearn|torch|jax|onnx|docs|wheel|together ...]     each alone without arguments
#
# $TORCH is what pip installs as PyTorch, $PYTHON the interpreter. Exit status 1 if a home fails.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
python=${PYTHON:-python3}
scratch=$(mktemp -d) || exit 1
set -m # each home is a group of processes, which ends with the script
trap 'for job in $(jobs -rp); do kill -- "-$job"; done; wait; rm -rf "$scratch"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 MPLCONFIGDIR="$scratch/matplotlib"
unset PYTHONPATH DELTAPROP_BACKEND

# environment FOLDER PYTHON REQUIREMENT...
environment() {
    "$2" -m venv "$1" &&
        "$1/bin/python" -m pip install --quiet --no-compile "${@:3}" 2> "$1/pip.log" || {
        cat "$1/pip.log" >&2
        return 1
    }
}

# home NAME COMMAND...: a row of the table; the environment is $scratch/NAME, until then. Two homes
# at a time, each of which prints when it has ended.
home() {
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
    prove "$@" &
}

prove() {
    local name=$1 start=$SECONDS verdict=passed
    "${@:2}" > "$scratch/$name.log" 2>&1 || verdict=$(fault "$name")
    row "$name" "$verdict" $((SECONDS - start)) "$(du -sm "$scratch/$name" | cut -f 1)"
    echo "== $name"
    cat "$scratch/$name.log"
    rm -rf "${scratch:?}/$name"
}

# fault NAME: a Python for which a dependency has no wheel yet is no failure of this library.
fault() {
    local missing
    missing=$(sed -n 's/.*No matching distribution found for \([^ ]*\).*/\1/p' "$scratch/$1/pip.log")
    [[ $1 = wheel-* && -n $missing ]] && echo "no wheel: $missing" || echo FAILED
}

row() { printf '%-12s %-20s %8s %8s\n' "$@" >> "$scratch/table"; }

# tested NAME: the tests of a home, in an environment of the wheel and the extra of that name.
tested() {
    local library=()
    [ "$1" != torch ] || library=("${TORCH:-torch==2.13.0}")
    environment "$scratch/$1" "$python" "${library[@]}" "$wheel[$1]" pytest &&
        "$scratch/$1/bin/python" -m pytest -p no:cacheprovider "tests/homes/$1"
}

# pages NAME: the documentation of that environment; its reference imports all that it is of.
pages() { "$scratch/$1/bin/python" -m sphinx -q -W --keep-going docs "$scratch/html-$1"; }

documented() {
    environment "$scratch/docs" "$python" "${TORCH:-torch==2.13.0}" "$wheel[docs,jax,onnx]" pytest &&
        pages docs && "$scratch/docs/bin/python" -m pytest -p no:cacheprovider tests/homes/docs
}

together() {
    environment "$scratch/together" "$python" "${TORCH:-torch==2.13.0}" "$wheel[docs,jax,onnx]" \
        pytest pytest-xdist &&
        pages together &&
        "$scratch/together/bin/python" -m pytest -p no:cacheprovider -n 2 --dist worksteal \
            tests/homes/{sklearn,torch,jax,onnx,docs}
}

# The wheel is made from the sdist, which holds what the repository holds.
distribution() {
    environment "$scratch/build" "$python" build &&
        "$scratch/build/bin/python" -m build --outdir "$scratch/dist" > "$scratch/build.log" 2>&1 || {
        cat "$scratch/build.log" >&2
        return 1
    }
    tar -tzf "$scratch"/dist/*.tar.gz | sed 's|^[^/]*/||' | grep -v '^PKG-INFO$' | sort |
        diff <(git ls-files | sort) - || {
        echo "the sdist (>) does not hold the files of the repository (<)" >&2
        return 1
    }
}

# interpreter VERSION: the first that can make a virtual environment.
interpreter() {
    local path
    for path in $(type -ap "python$1") ~/.pyenv/versions/"$1".*/bin/python; do
        "$path" -c 'import ensurepip, venv' 2> /dev/null && echo "$path" && return
    done
    return 1
}

# installed VERSION PYTHON [mypy]: the wheel away from the checkout, its bits, its types; then
# editable.
installed() {
    local folder="$scratch/wheel-$1" away="$scratch/away-$1"
    local bin="$folder/bin"
    environment "$folder" "$2" --only-binary :all: "$wheel" "${@:3}" || return
    mkdir "$away" && cp examples/*.py tests/homes/wheel/*.py "$away" && (
        cd "$away" &&
            "$bin/deltaprop" check --digest --backend numba --backend cuda-host &&
            "$bin/python" use.py && "$bin/python" where.py "$folder" &&
            { [ $# -lt 3 ] || "$bin/mypy" --strict --no-incremental --config-file= .; } &&
            "$bin/python" -m pip install --quiet --no-deps --force-reinstall --editable "$root" &&
            "$bin/python" use.py && "$bin/python" where.py "$root"
    )
}

# The types are the same on all: the first Python here checks them.
wheels() {
    local version path types=(mypy)
    for version in 3.11 3.12 3.13 3.14; do
        if ! path=$(interpreter "$version"); then
            row "wheel-$version" "no python$version here" - -
        else
            home "wheel-$version" installed "$version" "$path" "${types[@]}"
            types=()
        fi
    done
}

distribution || exit 1
wheel=$(echo "$scratch"/dist/*.whl)
[ $# -gt 0 ] || set -- docs jax torch sklearn onnx wheel
for name in "$@"; do
    case $name in
        sklearn | torch | jax | onnx) home "$name" tested "$name" ;;
        docs) home docs documented ;;
        together) home together together ;;
        wheel) wheels ;;
        *)
            echo "no home $name; there are sklearn, torch, jax, onnx, docs, wheel, together" >&2
            exit 2
            ;;
    esac
done
wait
printf '\n%-12s %-20s %8s %8s\n' home result seconds MB
cat "$scratch/table"
! grep -q FAILED "$scratch/table"
