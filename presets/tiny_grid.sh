#!/usr/bin/env bash
# Tiny grid: a hash grid with tables of 512 nodes before two layers of 32, written as packed whole numbers; 12,629
# parameters.
# Measured 2026-11-27 on eight public meshes (data/README.md), one thread beside other programs, one fit each: 14,100 to
# 15,424 bytes; surface error 0.00007 to 0.00086, median 0.00055; IoU 0.973 to 0.998; 25 to 44 s.
# Usage: presets/tiny_grid.sh [MESH] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/impeller/impeller.stl" \
  --encoding hashgrid \
  --numLayers 2 \
  --layerWidth 32 \
  --hashBaseRes 4 \
  --hashFinestRes 96 \
  --hashTableLog2 9 \
  --precision int8 \
  --num_points 1000000 \
  --importanceWeight 100 \
  --uniformRatio 0.2 \
  --numPairs 200000 \
  --epochs 10 \
  --batchSize 1536 \
  --optimizer adam \
  --learningRate 0.01 \
  --schedule cosine \
  --loss relative \
  --reconstructionRes 256 \
  --showVis 1 \
  -- "$@"
