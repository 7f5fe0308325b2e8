#!/usr/bin/env bash
# Instant: a hash grid before one layer of 64, fitted in seconds on an ordinary processor; 643,161 parameters.
# Usage: presets/instant.sh [MESH] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/impeller/impeller.stl" \
  --outputDir "$root/results/instant" \
  --encoding hashgrid \
  --numLayers 1 \
  --layerWidth 64 \
  --num_points 2000000 \
  --importanceWeight 120 \
  --uniformRatio 0.1 \
  --epochs 2 \
  --batchSize 4096 \
  --optimizer adam \
  --learningRate 0.01 \
  --schedule cosine \
  --loss relative \
  --reconstructionRes 256 \
  --showVis 1 \
  -- "$@"
