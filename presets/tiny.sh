#!/usr/bin/env bash
# Tiny: 8 layers of 32, the published weight-encoded size, written as packed whole numbers; 7,553 parameters.
# Measured MEASURED
# Usage: presets/tiny.sh [MESH] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/impeller/impeller.stl" \
  --numLayers 8 \
  --layerWidth 32 \
  --precision int8 \
  --num_points 1000000 \
  --epochs 3 \
  --optimizer soap \
  --scaler StandardScaler \
  --reconstructionRes 256 \
  --showVis 1 \
  -- "$@"
