#!/usr/bin/env bash
# High budget: 5 million points, 6 epochs, standardised targets.
# 30 million samples in all. Not measured whole; low.sh, 8 million, takes 7.6 minutes on one core.
# Usage: presets/high.sh [MESH] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/impeller/impeller.stl" \
  --numLayers=10 \
  --outputDir "$root/results/impeller" \
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
