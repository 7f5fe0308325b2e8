#!/usr/bin/env bash
# Fine, for scans and renders: the hash grid of instant.sh with tables twice as long, fitted to more samples, which lie
# nearer to the surface, and a mesh of 512^3; 954,413 parameters. Meant for a minute of two cores.
# Measured 2026-11-27 on one mesh (data/README.md), one thread of two cores that much other work used too: homer 157 s
# of CPU from the command to its end, 324 s; surface error 0.000065, IoU 0.999, grid error 0.0006. Two quiet cores were
# not measured. On featuretype its fit, to 2 M points, had 0.68 of the surface error of a longer fit by the earlier flags
# of instant.sh (batches of 1,536) in equal CPU seconds.
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
