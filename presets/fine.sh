#!/usr/bin/env bash
# Fine: the hash grid of instant.sh with tables twice as long, fitted for about a minute; 954,413 parameters.
# Usage: presets/fine.sh [MESH] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/impeller/impeller.stl" \
  --encoding hashgrid \
  --numLayers 1 \
  --layerWidth 64 \
  --hashBaseRes 8 \
  --hashTableLog2 16 \
  --num_points 2400000 \
  --importanceWeight 480 \
  --uniformRatio 0.02 \
  --numPairs 400000 \
  --epochs 38 \
  --batchSize 1536 \
  --optimizer adam \
  --learningRate 0.01 \
  --schedule cosine \
  --loss relative \
  --reconstructionRes 512 \
  --showVis 1 \
  -- "$@"
