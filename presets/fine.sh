#!/usr/bin/env bash
# Fine, for scans and renders: the hash grid of instant.sh with tables twice as long, fitted to more samples, which lie
# nearer to the surface, and a mesh of 512^3; 954,413 parameters. Meant for a minute of two cores.
# Measured 2026-11-27, one fit each, on eight public meshes (data/README.md): surface error 0.000001 to 0.000041, median
# 0.000021; IoU 0.9992 to 0.9999, median 0.9997; grid error 0.0001 to 0.0006; the scan nefertiti 0.000052. From the
# command to its end on two cores featuretype 37 s (65 s of CPU), nefertiti 48 s (80 s).
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
  --numNear 1600000 \
  --importanceWeight 480 \
  --uniformRatio 0.02 \
  --numPairs 400000 \
  --epochs 20 \
  --batchSize 1536 \
  --optimizer adam \
  --learningRate 0.0025 \
  --schedule cosine \
  --loss relative \
  --reconstructionRes 512 \
  --showVis 1 \
  -- "$@"
