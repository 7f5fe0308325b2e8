#!/usr/bin/env bash
# Tiny: 8 layers of 32, the published weight-encoded size, written as packed whole numbers; 7,553 parameters.
# Measured 2026-11-27, one thread beside other programs, one fit each (data/README.md): tray 11,960 bytes, surface error
# 0.00011; octagonal_pocket 11,516, 0.00051; homer 12,296, 0.00081; rocker-arm 11,436, 0.00090; 38 to 55 s. On featuretype,
# plate_holes, ADIS16480 and fandisk only with beta 120 and 3 epochs: 0.00166, 0.00040, 0.00074, 0.00092, 17 to 23 s.
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
