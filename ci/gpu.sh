#!/usr/bin/env bash
# Proves the GPU kernels on the GPU at hand, in one call of at most nine minutes.
#
#   ci/gpu.sh                 figures as JSON and a log go to $OUT (default benchmarks/results/)
#   ci/gpu.sh cuda-host       a rehearsal without a GPU: the same stages, on small sizes
#
# $LARGEST bounds the operations of what is timed, $TOTAL the seconds of all stages together.
#
# Nothing is installed: $PYTHON (default python3) has what is needed, the sources are used as they
# are. Each stage has a time of its own; what it leaves unused goes to the comparison with other
# libraries. Of the test suite, what runs on the GPU comes first; the rest, which every other CI run
# covers, comes last and takes the time that is left. The stand-in for a GPU is left out: its C++
# would be compiled for minutes, and here is what it stands for. Exit status 1 if a check fails.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
backend=${1:-cuda}
python=${PYTHON:-python3}
total=${TOTAL:-530}
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

export PYTHONPATH="$PWD/src:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export PATH="$PATH:/usr/local/cuda/bin"
# What is compiled is kept for the later stages, wherever the home directory is.
export DELTAPROP_CACHE="$scratch/deltaprop" CUPY_CACHE_DIR="$scratch/cupy"
export CUDA_CACHE_PATH="$scratch/cuda"
export TORCHINDUCTOR_CACHE_DIR="$scratch/inductor" TRITON_CACHE_DIR="$scratch/triton"
export MPLCONFIGDIR="$scratch/matplotlib"
# float32 is float32, for every library; JAX leaves the others room on the GPU.
export CUPY_TF32=0 NVIDIA_TF32_OVERRIDE=0 XLA_PYTHON_CLIENT_PREALLOCATE=false
unset DELTAPROP_BACKEND DELTAPROP_HOST_FLAGS

# A GPU's machine seldom has neat-python, or what the snippets of pages import; what else is missing
# stops no other test.
pytest=(-p no:cacheprovider --continue-on-collection-errors)
for name in genomes readme pages; do pytest+=(--ignore "tests/test_$name.py"); done
pytest+=(--maxfail 40 -n)
if [ "$backend" = cuda ]; then
    export DELTAPROP_REQUIRE_GPU=1
    largest=${LARGEST:-1e14} out=${OUT:-benchmarks/results}
    pytest+=("$(($(nproc) < 16 ? $(nproc) : 14))")
    digests=60
    # Sources are compiled for every architecture where there is no GPU, too.
    tests=(--ignore tests/test_cuda_sources.py -k "(cuda or gpu) and not host" tests)
    name=gpu-$("$python" -c 'from deltaprop.peers.machine import slug; print(slug())') || name=gpu
else
    largest=${LARGEST:-2e6} out=${OUT:-$scratch}
    pytest+=(2)
    digests=400 # of C++
    tests=(-k cuda-host tests/kernels/test_add.py)
    name=rehearsal
fi
mkdir -p "$out" || exit 1
result() { echo "$out/$name$1"; }

verdicts=() failed=0
# stage NAME SECONDS COMMAND...: within its time and that of the whole; 0 if it went well.
stage() {
    local title=$1 most=$2 left=$((total - SECONDS)) begin=$SECONDS code
    shift 2
    [ "$most" -le "$left" ] || most=$left
    echo
    echo "== $title ($most s): $*"
    if [ "$most" -lt 5 ]; then
        verdicts+=("$title: NOT REACHED")
        return 124
    fi
    timeout --kill-after=5 "$most" "$@"
    code=$?
    case $code in
        0) verdicts+=("$title: passed, $((SECONDS - begin)) s") ;;
        124 | 137) verdicts+=("$title: CUT OFF after $((SECONDS - begin)) s") ;;
        *) verdicts+=("$title: FAILED ($code), $((SECONDS - begin)) s") ;;
    esac
    return "$code"
}
check() { stage "$@" || failed=1; }
# What is measured may run out of time, but not fail.
measure() {
    stage "$@"
    case $? in 0 | 124 | 137) ;; *) failed=1 ;; esac
}

# Every kernel under a tool of compute-sanitizer, if that sees a fault that is there: the tool, and
# what it says of one.
sanitizer() {
    local run=(compute-sanitizer --tool "$1" --error-exitcode 9 "$python" tests/sanitized.py)
    local log=$scratch/$1.log
    if [ "$backend" != cuda ] || ! command -v compute-sanitizer > /dev/null; then
        verdicts+=("$1: no compute-sanitizer here")
        return
    fi
    timeout --kill-after=5 25 "${run[@]}" "gpu-$1" > "$log" 2>&1
    if grep -qE "$2" "$log"; then
        check "$1" 60 "${run[@]}" gpu
    else
        tail -n 5 "$log"
        verdicts+=("$1: sees no planted fault here: $(grep -m1 -iE 'not supported|error' "$log")")
    fi
}

main() {
    echo "deltaprop on $backend, $(date -u +%FT%TZ), $(uname -sr), $(nproc) cores"
    [ "$backend" != cuda ] || timeout 20 nvidia-smi || echo "nvidia-smi: failed"
    "$python" -c 'import sys; print(sys.version)'
    check "environment" 40 "$python" -m deltaprop.cli info
    check "digits, bit for bit" 60 "$python" -m deltaprop.cli check \
        --backend reference --backend numba --backend "$backend"
    check "tests on $backend" 150 env DELTAPROP_NUM_THREADS=2 OMP_NUM_THREADS=2 \
        OPENBLAS_NUM_THREADS=2 "$python" -m pytest "${pytest[@]}" "${tests[@]}"
    # The tests have compiled what these need.
    check "digests of fixed nets" "$digests" \
        "$python" -m deltaprop.cli check --digest --backend "$backend"
    local bench=("$python" -m deltaprop.cli bench --backend "$backend" --largest "$largest")
    measure "kernels, float32" 60 "${bench[@]}" --kernels --budget 40 \
        --out "$(result -kernels.json)"
    # The other libraries have what is left but for the sanitizer, and most of it for a step.
    local left=$((total - SECONDS - 120))
    left=$((left < 120 ? 120 : left))
    local step=$((left * 2 / 3)) other=$((left / 6))
    measure "steps" "$step" "${bench[@]}" --peers --seconds 0 --budget $((step - 30)) \
        --out "$(result .json)"
    measure "steps, float64" "$other" "${bench[@]}" --peers --seconds 0 --dtype float64 \
        --budget $((other - 15)) --out "$(result -float64.json)"
    measure "predictions" "$other" "${bench[@]}" --peers --seconds 0 --inference \
        --budget $((other - 15)) --out "$(result -inference.json)"
    sanitizer memcheck 'Invalid __global__ write'
    sanitizer racecheck 'Race reported|SUMMARY: [1-9][0-9]* hazard'
    measure "kernels, float64" 30 "${bench[@]}" --kernels --dtype float64 --budget 15 \
        --out "$(result -kernels-float64.json)"
    [ "$backend" != cuda ] || measure "the rest of the tests" "$total" \
        "$python" -m pytest "${pytest[@]}" -k "not cuda and not gpu and not host" tests
    echo
    echo "================ $name"
    # What matters most comes last: of a long output often only the end is kept.
    "$python" ci/summary.py "$(result -kernels-float64.json)" "$(result -kernels.json)" \
        "$(result -inference.json)" "$(result -float64.json)" "$(result .json)"
    printf '%s\n' "${verdicts[@]}"
    if [ "$failed" -eq 0 ]; then echo "all checks passed"; else echo "SOME CHECKS FAILED"; fi
    return "$failed"
}
main 2>&1 | tee "$(result -log.txt)"
exit "${PIPESTATUS[0]}"
