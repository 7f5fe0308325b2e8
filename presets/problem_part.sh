#!/usr/bin/env bash
# The part of data/geometry_200 that has most flaws of a real export, at the high budget (30 million samples).
# Measured 2026-11-26: 24 minutes on one core, surface error 0.000057, IoU 0.989. The part's plates are thinner than half
# a cell of this grid; the log says which --reconstructionRes resolves them.
# Usage: presets/problem_part.sh [MESH] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/geometry_200/3437e68d-207a-46ec-9642-e9b0461fcdaa.stl" \
  --numLayers=10 \
  --epochs 6 \
  --batchSize 1024 \
  --learningRate 0.001 \
  --num_points 5000000 \
  --init he_uniform \
  --damArch 1 \
  --scaler StandardScaler \
  --validationRes 0 \
  --showVis 1 \
  --reconstructionRes 256 \
  -- "$@"
