#!/usr/bin/env bash
# Backpropagation on real handwritten digits: every backend this machine has, side by side to
# the last bit, and then a net trained on them.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh" plot
echo
echo '$ deltaprop check'
deltaprop check
echo
echo '$ deltaprop train'
deltaprop train --save digits.safetensors --plot digits-loss.png
