#!/usr/bin/env bash
# Tiny: 8 layers of 32, the published weight-encoded size, written as packed whole numbers; 7,553 parameters.
# Measured 2026-11-27 on eight public meshes (data/README.md), one thread beside other programs, one fit each: 11,436 to
# 13,252 bytes; surface error 0.00011 to 0.00093, median 0.00054; IoU 0.85 to 0.996; 33 to 55 s. It misses thin walls: 8% of
# featuretype, 5% of octagonal_pocket, where tiny_grid.sh misses 0.7% of both.
# Usage: presets/tiny.sh [MESH] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/impeller/impeller.stl" \
  --numLayers 8 \
  --layerWidth 32 \
  --precision int8 \
  --num_points 1000000 \
  --importanceWeight 180 \
  --uniformRatio 0.1 \
  --epochs 8 \
  --optimizer soap \
  --scaler StandardScaler \
  --reconstructionRes 256 \
  --showVis 1 \
  -- "$@"
