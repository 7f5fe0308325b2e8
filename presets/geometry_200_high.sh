#!/usr/bin/env bash
# Fits the 200 parts of data/geometry_200 (made if missing) at the high budget with unscaled targets, one worker process
# per core or GPU. After a stop or a kill the same command resumes. docs/scale.md has the cost of a part. Not yet
# measured at its whole budget.
# Usage: presets/geometry_200_high.sh [FOLDER] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/geometry_200" \
  --numLayers=10 \
  --epochs 6 \
  --batchSize 1024 \
  --learningRate 0.001 \
  --num_points 5000000 \
  --init he_uniform \
  --damArch 1 \
  --validationRes 0 \
  --showVis 1 \
  --reconstructionRes 256 \
  -- "$@"
