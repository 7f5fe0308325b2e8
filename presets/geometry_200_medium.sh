#!/usr/bin/env bash
# Fits the 200 parts of data/geometry_200 (made if missing) at the medium budget, one worker process per core or GPU.
# After a stop or a kill the same command resumes. Not measured at its whole budget. Measured 2026-11-26 with
# --num_points 400000 --epochs 1: all 200 done in 2.9 hours of one core, surface error 0.0022, IoU 0.82 (medians).
# docs/scale.md has the cost of a part.
# Usage: presets/geometry_200_medium.sh [FOLDER] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/geometry_200" \
  --numLayers=10 \
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
