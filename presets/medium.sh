#!/usr/bin/env bash
# Medium budget: 5 million points, 3 epochs, targets by their quantiles.
# 15 million samples in all, 11 minutes on one core.
# Usage: presets/medium.sh [MESH] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/impeller/impeller.stl" \
  --numLayers=10 \
  --outputDir "$root/results/impeller" \
  --epochs 3 \
  --batchSize 2048 \
  --learningRate 0.001 \
  --num_points 5000000 \
  --init he_uniform \
  --damArch 1 \
  --scaler QuantileTransformer \
  --validationRes 0 \
  --showVis 1 \
  --reconstructionRes 256 \
  -- "$@"
