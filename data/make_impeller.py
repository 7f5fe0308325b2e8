"""Draw the bundled example: an open centrifugal impeller, one closed body, as a binary STL in millimetres.

In: the dimensions named below. Out: `data/impeller/impeller.stl` (axis = z, back of the plate at z = 0).

Hub and back plate are one body of revolution, the bell. A blade is a stack of closed contours, one for each layer; the
layers are surfaces parallel to the bell. Towards the bell a contour widens along a circular arc: that is the fillet.
It ends in half an ellipse: that is the rounded leading edge. Blades are drawn too long and too high and then cut to
size together with the plate, as on a lathe, so that rim and blade ends meet exactly.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from manifold3d import CrossSection, Manifold, Mesh64, OpType
from numpy.typing import ArrayLike

# All lengths in millimetres, all angles in degrees.
OUTER_RADIUS = 60.0
HUB_RADIUS = 15.0  # at the top of the bell
HUB_HEIGHT = 36.0  # where the bell begins; the nose stands on it
NOSE_HEIGHT = 40.0
NOSE_ROUND = 2.0
PLATE_THICKNESS = 5.0  # at the rim
RIM_CHAMFER = 0.8
BOSS_RADIUS = 21.0  # on the back of the plate
BOSS_DEPTH = 6.0
BOSS_ROUND = 3.0
BORE_RADIUS = 8.0
BORE_CHAMFER = 1.0
KEY_WIDTH = 5.0  # DIN 6885 for a 16 mm bore: 5 wide, 2.3 deep in the hub
KEY_DEPTH = 2.3
EYE_RADIUS = 34.0  # of the blade tips at the inlet
OUTLET_WIDTH = 9.0  # height of the blades above the plate at the rim
BLADES = 7
# Rotates the blades so that their edges miss the edges of the bell: 7 edges under 1e-3 mm are left instead of 42.
BLADE_PHASE = 0.6
HUB_THICKNESS = 3.0  # thickness of a blade at its foot
TIP_THICKNESS = 2.0
FILLET_RADIUS = 2.5
FILLET_CONTACT_ANGLE = 10.0  # between fillet and bell; at 0 the two faceted surfaces would graze and leave slivers
LEADING_EDGE_RATIO = 1.8  # of its ellipse: long over short half axis
# Where a blade begins, as a fraction of the way from inlet to rim.
LEADING_EDGE_HUB, LEADING_EDGE_TIP = 0.22, 0.05
# Between blade and circumference, at inlet and rim. Hub and tip differ, so the blade is twisted.
BLADE_ANGLES_HUB = (38.0, 34.0)
BLADE_ANGLES_TIP = (24.0, 30.0)

SEGMENTS = 24 * BLADES  # facets around the axis: the same number between any two blades
BELL_SEGMENTS = 28
BLADE_STATIONS = 38  # points along each side of a blade
EDGE_SEGMENTS = 10  # around the leading edge
FILLET_SEGMENTS = 5
SPAN_SEGMENTS = 6  # from the fillet to the tip
OVERSIZE = 0.08  # fraction by which blades pass rim and tip before they are cut to size
# Shorter edges go if possible. In mm: a tenth of a machining tolerance, 250 times the float32 spacing at 60 mm.
WELD = 1e-3


def bell_curve(m: np.ndarray, inlet_radius: float, outlet_height: float) -> np.ndarray:
    """Meridional curve, (..., 2) of r, z in mm: axial at the inlet (m = 0), radial at the rim (m = 1) and beyond."""
    angle = np.clip(m, 0.0, 1.0) * np.pi / 2
    beyond = np.maximum(m - 1.0, 0.0) * np.pi / 2
    radius = inlet_radius + (OUTER_RADIUS - inlet_radius) * (1.0 - np.cos(angle) + beyond)
    return np.stack([radius, HUB_HEIGHT - (HUB_HEIGHT - outlet_height) * np.sin(angle)], axis=-1)


def hub_curve(m: ArrayLike) -> np.ndarray:
    """Meridional curve of the bell, (..., 2) of r, z in mm."""
    return bell_curve(np.asarray(m, dtype=np.float64), HUB_RADIUS, PLATE_THICKNESS)


def tip_curve(m: ArrayLike) -> np.ndarray:
    """Meridional curve of the blade tips, (..., 2) of r, z in mm."""
    return bell_curve(np.asarray(m, dtype=np.float64), EYE_RADIUS, PLATE_THICKNESS + OUTLET_WIDTH)


def arc(center: ArrayLike, radius: float, start: float, stop: float, segments: int) -> np.ndarray:
    """Points of a circular arc, (segments + 1, 2); angles in degrees."""
    angles = np.radians(np.linspace(start, stop, segments + 1))
    return np.asarray(center) + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def turned(profile: list[ArrayLike]) -> Manifold:
    """The body of revolution about z of a counter-clockwise profile: pieces (N, 2) of r, z, one after another."""
    return Manifold.revolve(CrossSection([np.vstack(profile)]), SEGMENTS)


def hub_and_plate() -> Manifold:
    """Nose, bell, plate (too wide) and boss as one solid without the bore."""
    wide = 1.0 + OVERSIZE
    bell = hub_curve(np.linspace(0.0, 1.0, BELL_SEGMENTS + 1))[::-1]
    nose = arc((HUB_RADIUS - NOSE_ROUND, NOSE_HEIGHT - NOSE_ROUND), NOSE_ROUND, 0, 90, 6)
    back = arc((BOSS_RADIUS + BOSS_ROUND, -BOSS_ROUND), BOSS_ROUND, 180, 90, 6)
    chamfer = [(BOSS_RADIUS - 1.0, -BOSS_DEPTH), (BOSS_RADIUS, 1.0 - BOSS_DEPTH)]
    plate = [(OUTER_RADIUS * wide, 0.0), (OUTER_RADIUS * wide, PLATE_THICKNESS)]
    return turned([[(0.0, -BOSS_DEPTH)], chamfer, back, plate, bell, nose, [(0.0, NOSE_HEIGHT)]])


def turning_envelope() -> Manifold:
    """The solid of which nothing may stick out: the rim with its chamfer, the blade tips along the tip curve."""
    depth = BOSS_DEPTH + 4.0
    below = OUTER_RADIUS - RIM_CHAMFER - depth
    tip = tip_curve(np.linspace(0.0, 1.0, BELL_SEGMENTS + 1))[::-1]
    foot = [(0.0, -depth), (below, -depth), (OUTER_RADIUS, RIM_CHAMFER)]
    return turned([foot, tip, [(EYE_RADIUS, NOSE_HEIGHT + 5.0), (0.0, NOSE_HEIGHT + 5.0)]])


def keyed_bore() -> Manifold:
    """The solid to cut away: bore, keyway and the chamfers at both ends."""
    low, high, slack = -BOSS_DEPTH, NOSE_HEIGHT, 1.0
    c = BORE_CHAMFER + slack
    r = BORE_RADIUS
    steps = [(r + c, low - slack), (r, low + BORE_CHAMFER), (r, high - BORE_CHAMFER), (r + c, high + slack)]
    bore = turned([[(0.0, low - slack)], steps, [(0.0, high + slack)]])
    key = Manifold.cube((r + KEY_DEPTH, KEY_WIDTH, high - low + 2 * slack))
    return bore + key.translate((0.0, -KEY_WIDTH / 2, low - slack))


def layer_heights() -> tuple[np.ndarray, np.ndarray, float]:
    """In mm: heights (K,) of the lower layers above the bell, the fillet's flare at each (K,), the fillet's top."""
    angles = np.radians(np.linspace(90.0 - FILLET_CONTACT_ANGLE, 0.0, FILLET_SEGMENTS + 1))
    top = FILLET_RADIUS * np.sin(angles[0])
    heights = top - FILLET_RADIUS * np.sin(angles)
    flare = FILLET_RADIUS * (1.0 - np.cos(angles))
    under = 0.3  # the fillet continues straight below the bell, so that the two surfaces cross at an angle
    slope = 1.0 / np.tan(np.radians(FILLET_CONTACT_ANGLE))
    deep = flare[0] + under * slope
    return np.r_[-2.5, -under, heights], np.r_[deep, deep, flare], top


def layer_curve(m: np.ndarray, height: float, share: float) -> np.ndarray:
    """Meridional curve of a layer, (..., 2) of r, z in mm: `height` above the bell, then moved by the fraction `share`
    of the way to just past the tip.
    """
    foot, tip = hub_curve(m), tip_curve(m)
    span = tip - foot
    # Unit normal of the bell (..., 2), and the move along the span that gains one mm along it.
    tangent = hub_curve(m + 1e-5) - hub_curve(m - 1e-5 * (m > 1e-5))
    normal = np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    per_height = span / np.sum(span * normal, axis=-1, keepdims=True)
    start = foot + height * per_height
    return start + share * (foot + (1.0 + OVERSIZE) * span - start)


def wrap_angle(m: np.ndarray, curve: np.ndarray, span_share: float) -> np.ndarray:
    """Polar angle (S,) of the camber line in radians, 0 at the rim: d(angle) = dl / (r tan(blade angle)).

    m (S,) and curve (S, 2) are the meridional curve; `span_share` is the fraction of the way from hub to tip.
    """
    inlet, outlet = (
        np.radians(hub + (tip - hub) * span_share) for hub, tip in zip(BLADE_ANGLES_HUB, BLADE_ANGLES_TIP, strict=True)
    )
    blade_angle = inlet + (outlet - inlet) * np.clip(m, 0.0, 1.0)
    length = np.linalg.norm(np.diff(curve, axis=0), axis=1)
    rate = 1.0 / (curve[:, 0] * np.tan(blade_angle))
    # Trapezoidal rule along the curve, (S,).
    angle = np.r_[0.0, np.cumsum(length * (rate[1:] + rate[:-1]) / 2)]
    return angle - np.interp(1.0, m, angle)


def camber_line(height: float, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Middle line of a blade on a layer: m, polar angle, radius, mm of arc per unit of m, each (S,),
    and the unit tangent (S, 2) in the layer: meridional, circumferential."""
    # The line is integrated at 2001 stations and sampled at BLADE_STATIONS, denser towards the leading edge.
    dense = np.linspace(0.0, 1.0 + OVERSIZE, 2001)
    curve = layer_curve(dense, height, share)
    angle = wrap_angle(dense, curve, share)
    start = LEADING_EDGE_HUB + (LEADING_EDGE_TIP - LEADING_EDGE_HUB) * share
    m = start + (1.0 + OVERSIZE - start) * np.linspace(0.0, 1.0, BLADE_STATIONS) ** 1.2
    rates = [np.gradient(values, dense) for values in (curve[:, 0], curve[:, 1], angle)]
    radius_rate, height_rate, angle_rate = (np.interp(m, dense, rate) for rate in rates)
    radius, metric = np.interp(m, dense, curve[:, 0]), np.hypot(radius_rate, height_rate)
    tangent = np.stack([metric, radius * angle_rate], axis=1)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    return m, np.interp(m, dense, angle), radius, metric, tangent


def blade_contour(height: float, share: float, flare: float) -> np.ndarray:
    """One closed contour of a blade on its layer, (2 * BLADE_STATIONS + EDGE_SEGMENTS - 1, 3) in mm.

    `flare` is the mm by which the fillet widens it on each side.
    """
    m, angle, radius, metric, tangent = camber_line(height, share)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    blade_half = (HUB_THICKNESS + (TIP_THICKNESS - HUB_THICKNESS) * share) / 2
    half, edge_length = blade_half + flare, blade_half * LEADING_EDGE_RATIO + flare
    phi = np.linspace(0.0, np.pi, EDGE_SEGMENTS + 1)[1:-1, None]
    edge = np.cos(phi) * half * normal[0] - np.sin(phi) * edge_length * tangent[0]
    # One side from the rim inwards, the leading edge, the other side outwards: displacements from the camber line in mm
    # along the layer. Moving in layer coordinates keeps a wide foot on its curved layer.
    shift = np.vstack([(half * normal)[::-1], edge, -half * normal])
    stations = np.arange(BLADE_STATIONS)
    at = np.r_[stations[::-1], np.zeros(EDGE_SEGMENTS - 1, dtype=np.int64), stations]
    return on_layer(m[at] + shift[:, 0] / metric[at], angle[at] + shift[:, 1] / radius[at], height, share)


def on_layer(m: np.ndarray, theta: np.ndarray, height: float, share: float) -> np.ndarray:
    """Points (N, 3) in mm from layer coordinates m (N,) and the polar angle theta (N,) in radians."""
    curve = layer_curve(m, height, share)
    return np.stack([curve[:, 0] * np.cos(theta), curve[:, 0] * np.sin(theta), curve[:, 1]], axis=1)


def blade() -> Manifold:
    """One blade, too long and too high, with its foot below the surface of the bell."""
    heights, flares, top = layer_heights()
    shares = np.linspace(0.0, 1.0, SPAN_SEGMENTS + 1)[1:]
    layers = [blade_contour(h, 0.0, f) for h, f in zip(heights, flares, strict=True)]
    layers += [blade_contour(top, share, 0.0) for share in shares]
    return skin(np.stack(layers))


def skin(layers: np.ndarray) -> Manifold:
    """The solid through K closed contours of N points, (K, N, 3), N odd; strips from side to side close both ends."""
    count, size, _ = layers.shape
    # Two triangles for each quad between the first two contours: (2N, 3).
    here, after = np.arange(size), np.roll(np.arange(size), -1)
    first, second = np.stack([here, after, after + size], 1), np.stack([here, after + size, here + size], 1)
    wall = np.vstack([first, second])
    walls = [wall + k * size for k in range(count - 1)]
    # Point i and its opposite size - 1 - i are the two sides; a strip of triangles joins them.
    low, high = np.arange(size // 2), size - 1 - np.arange(size // 2)
    strip = [np.stack([low[:-1], high[:-1], low[1:]], 1), np.stack([high[:-1], high[1:], low[1:]], 1)]
    end = np.vstack([*strip, [[low[-1], high[-1], size // 2]]])
    return as_manifold(layers.reshape(-1, 3), np.vstack([*walls, end, end[:, ::-1] + (count - 1) * size]))


def as_manifold(vertices: np.ndarray, faces: np.ndarray) -> Manifold:
    """A manifold3d body of vertices (V, 3) and faces (F, 3); ValueError if they do not close."""
    solid = Manifold(Mesh64(np.ascontiguousarray(vertices), np.ascontiguousarray(faces.astype(np.uint64))))
    if solid.is_empty():
        raise ValueError(f"{len(faces)} triangles do not make a closed body: {solid.status()}")
    return solid


def impeller() -> Manifold:
    """The finished body."""
    one = blade()
    blades = [one.rotate((0.0, 0.0, 360.0 * k / BLADES + BLADE_PHASE)) for k in range(BLADES)]
    rough = Manifold.batch_boolean([hub_and_plate(), *blades], OpType.Add)
    return (rough ^ turning_envelope()) - keyed_bore()


def check(solid: Manifold) -> None:
    """ValueError unless the body is one piece with one hole through it and a plausible volume."""
    pieces, genus, volume = len(solid.decompose()), solid.genus(), solid.volume()
    disc = np.pi * OUTER_RADIUS**2 * PLATE_THICKNESS
    if pieces != 1 or genus != 1 or not disc < volume < 4 * disc:
        raise ValueError(f"this is not the impeller: {pieces} pieces, genus {genus}, volume {volume:.0f} mm3")


def stl_bytes(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """Binary STL of vertices (V, 3) in mm and faces (F, 3), counter-clockwise from outside."""
    corners = vertices.astype(np.float32)[faces]
    edges = corners.astype(np.float64)
    normal = np.cross(edges[:, 1] - edges[:, 0], edges[:, 2] - edges[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    record = np.zeros(len(faces), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    record["normal"], record["corners"] = normal, corners
    return b"centrifugal impeller, mm".ljust(80) + np.uint32(len(faces)).astype("<u4").tobytes() + record.tobytes()


def write_whole(path: str | Path, content: bytes) -> None:
    """Write bytes under another name in the same folder, then rename, so that no reader sees half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_bytes(content)
    partial.replace(path)


def rounded_mesh(solid: Manifold) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float64 rounded to float32, as in the STL, and faces (F, 3); ValueError if no longer closed."""
    mesh = solid.simplify(WELD).to_mesh64()
    vertices = np.asarray(mesh.vert_properties)[:, :3].astype(np.float32).astype(np.float64)
    faces = np.asarray(mesh.tri_verts).astype(np.int64)
    check(as_manifold(vertices, faces))
    if len(np.unique(vertices, axis=0)) != len(vertices):
        raise ValueError("two vertices became equal when rounded to float32: the STL would not be closed")
    return vertices, faces


def main() -> None:
    """Write the file and print one line about it."""
    parser = argparse.ArgumentParser(description="Write the impeller as a binary STL in millimetres.")
    default = Path(__file__).resolve().parent / "impeller" / "impeller.stl"
    parser.add_argument("--out", type=Path, default=default, help="file to write (default: %(default)s)")
    path = parser.parse_args().out
    solid = impeller()
    vertices, faces = rounded_mesh(solid)
    content = stl_bytes(vertices, faces)
    try:
        write_whole(path, content)
    except OSError as error:
        parser.error(f"cannot write {path}: {error.strerror}; choose another place with --out")
    facts = f"volume {solid.volume():.0f} mm3, one body, genus {solid.genus()}"
    print(f"{path}: {len(faces)} triangles, {len(content) / 1e6:.2f} MB, {facts}")


if __name__ == "__main__":
    main()
