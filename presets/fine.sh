#!/usr/bin/env bash
# Fine, for scans and renders: the hash grid of instant.sh with tables twice as long, fitted to more samples, which lie
# nearer to the surface, and a mesh of 512^3; 954,413 parameters. Meant for a minute of two cores.
# Measured 2026-11-27, one fit each: surface error 0.000053 on the scan nefertiti, 0.000056 on stanford-bunny,
# 0.000034 on featuretype, 0.000022 on octagonal_pocket; IoU 0.9992 to 0.9996 (docs/log.md); nefertiti 57 s from the
# command to its end on two cores, other programs running, 94 s of CPU. With --numNear 0 --epochs 27, on eight public
# meshes (data/README.md): surface error 0.000002 to 0.000046, median 0.000029; IoU 0.9988 to 0.9998, median 0.9996;
# grid error 0.0001 to 0.0006; from the command to its end on two cores featuretype 38 s (64 s of CPU), nefertiti 48 s
# (75 s).
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
