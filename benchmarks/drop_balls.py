"""Balls dropped on a part that was exported to MuJoCo: whether they come to rest on its surface.

    export.py part.safetensors --to mujoco, build the plugin by the command printed, then
    python benchmarks/drop_balls.py part.xml libpart.so        # in an environment with mujoco

Prints for each ball its height over the surface and its speed, both over the radius of the part, and then as JSON the
largest distance between a ball's surface and what it lies on. Needs mujoco and numpy alone.
"""

import json
import sys
import time

import mujoco
import numpy as np

# Seconds, times the root of the part's radius in metres: enough for the balls to fall, roll and rest.
DURATION = 8.0
# Radius of a ball over that of the part, as the exported model has it.
BALL_RADIUS = 0.07


def heights(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Gap (balls,) between each ball and the nearest of part and floor, metres; negative where they overlap."""
    part, floor = model.geom("part").id, model.geom("floor").id
    gaps = []
    for body in range(1, model.nbody):
        ball = model.body_geomadr[body]
        contacts = [c.dist for c in data.contact if ball in c.geom and (part in c.geom or floor in c.geom)]
        gaps.append(min(contacts, default=np.inf))
    return np.array(gaps)


def main(model_path: str, library: str) -> None:
    """Drop the balls and print where they end."""
    mujoco.mj_loadPluginLibrary(library)
    start = time.time()
    model = mujoco.MjModel.from_xml_path(model_path)
    data = mujoco.MjData(model)
    radius = model.geom("ball1").size[0] / BALL_RADIUS
    print(f"{model_path}: compiled in {time.time() - start:.1f} s, {model.nmeshface} faces for drawing")
    start, steps = time.time(), 0
    while data.time < DURATION * np.sqrt(radius):
        mujoco.mj_step(model, data)
        steps += 1
    print(f"{steps} steps, {1e3 * (time.time() - start) / steps:.2f} ms a step")
    gaps = heights(model, data) / radius
    speeds = np.linalg.norm(data.cvel[1:, 3:], axis=1) / np.sqrt(9.81 * radius)
    floor = model.geom("floor").pos[2]
    for body, (gap, speed) in enumerate(zip(gaps, speeds, strict=True), 1):
        above = (data.xpos[body][2] - floor) / radius
        print(f"ball {body}: gap {gap:+.5f}, speed {speed:.5f}, {above:.3f} above the floor")
    print(json.dumps({"places": data.xpos[1:].tolist(), "gaps": gaps.tolist(), "speeds": speeds.tolist()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
