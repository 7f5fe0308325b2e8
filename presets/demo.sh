#!/usr/bin/env bash
# First look: fits the bundled impeller by both recipes, the hash grid of instant.sh and then the DAM network at a small
# budget, and prints their figures side by side. The results are in results/NAME/demo/instant and
# results/NAME/demo/dam of the checkout.
# Measured 2026-11-26 on two cores of an EPYC, the DAM network alone: 43 s, surface error 0.00078, IoU 0.984.
# Usage: presets/demo.sh [MESH] [further flags, for both fits]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
mesh=$root/data/impeller/impeller.stl
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then mesh=$1; shift; fi
name=$(basename "${mesh%.*}")
out=$root/results/$name/demo

"$root/presets/instant.sh" "$mesh" "$@" --outputDir "$out/instant"
(fit "$mesh" \
  --damArch 1 \
  --scaler StandardScaler \
  --num_points 1000000 \
  --epochs 1 \
  --reconstructionRes 256 \
  --showVis 1 \
  -- "$@" --outputDir "$out/dam")
PYTHONPATH=$root exec "$python" -m neuralparts compare "$out/instant/$name.json" "$out/dam/$name.json"
