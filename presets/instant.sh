#!/usr/bin/env bash
# Instant: a hash grid before one layer of 64, fitted in seconds on an ordinary CPU; 548,521 parameters.
# Measured 2026-11-25 on two cores and eight meshes of ../shared/data (make bench-instant): 9 to 12 s from the command to
# the report, 4 to 5 s of them fitting; surface error 0.00004 to 0.00025, median 0.00015; IoU 0.992 to 0.999; grid error
# about 0.002.
# Usage: presets/instant.sh [MESH] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/impeller/impeller.stl" \
  --outputDir "$root/results/instant" \
  --encoding hashgrid \
  --numLayers 1 \
  --layerWidth 64 \
  --hashBaseRes 8 \
  --num_points 900000 \
  --importanceWeight 180 \
  --uniformRatio 0.02 \
  --numPairs 160000 \
  --epochs 3 \
  --batchSize 1536 \
  --optimizer adam \
  --learningRate 0.01 \
  --schedule cosine \
  --loss relative \
  --reconstructionRes 256 \
  --showVis 1 \
  -- "$@"
