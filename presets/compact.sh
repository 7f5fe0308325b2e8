#!/usr/bin/env bash
# Compact: the hash grid of instant.sh with tables an eighth as long, fitted on twenty times as many samples and written
# as packed whole numbers; 86,501 parameters.
# Measured 2026-11-27 on two meshes (data/README.md), one thread, other programs running: cheburashka 73 kB, surface error
# 0.000134, IoU 0.998, 32 s; featuretype.STL 78 kB, 0.000128, 0.998, 71 s (31 s on two cores that others used too).
# instant.sh with all its 2.2 MB, when it had 5 epochs: featuretype.STL 0.000141.
# Usage: presets/compact.sh [MESH] [further flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fit "$root/data/impeller/impeller.stl" \
  --encoding hashgrid \
  --numLayers 1 \
  --layerWidth 64 \
  --hashBaseRes 8 \
  --hashTableLog2 12 \
  --precision int8 \
  --num_points 4000000 \
  --importanceWeight 180 \
  --uniformRatio 0.02 \
  --numPairs 400000 \
  --epochs 14 \
  --batchSize 1536 \
  --optimizer adam \
  --learningRate 0.01 \
  --schedule cosine \
  --loss relative \
  --reconstructionRes 256 \
  --showVis 1 \
  -- "$@"
