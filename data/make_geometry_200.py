"""Make a folder of varied mechanical parts as STL files, some with the flaws that real exports have.

In: the index of a part. Out: its name, vertices in millimetres and faces; one index gives the same part in every run.
Twelve families alternate, every third part has one flaw, and part `PROBLEM_INDEX` has all the hard flaws at once.

`clean_part(index)` is the part as designed: closed, consistently oriented bodies that do not overlap.
`generate_part(index)` is the part as exported, flaws included; `part_bytes(index)` is its file.
"""

import argparse
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from manifold3d import CrossSection, FillRule, JoinType, Manifold, Mesh64, OpType
from numpy.typing import ArrayLike

# Vertices (V, 3) float64 in mm and faces (F, 3) int64.
Mesh = tuple[np.ndarray, np.ndarray]

SEED = 200
PART_COUNT = 200
NAMESPACE = uuid.UUID("9a1cf7c4-2c55-5d0e-9b53-2f1f3f7d5a10")
PROBLEM_NAME = "3437e68d-207a-46ec-9642-e9b0461fcdaa"
PROBLEM_INDEX = 4
# In mm. Float32 values are 0.002 apart at this offset: a hundredth of the thinnest wall.
PROBLEM_OFFSET = (25400.0, -14250.0, 8100.0)
PROBLEM_WALL = 0.25  # mm; a cell of a 256^3 grid around this part is over 0.7 mm
# In mm. Shorter edges are collapsed. It is 60 times the spacing of float32 at 200 mm, so rounding merges no vertices.
WELD = 1e-3


# Building blocks ----------------------------------------------------------------------------------


def polygon(points: ArrayLike) -> CrossSection:
    """The cross-section bounded by one closed outline (N, 2), in mm."""
    return CrossSection([np.asarray(points, dtype=np.float64)], FillRule.NonZero)


def rounded_plate(length: float, width: float, height: float, corner: float) -> Manifold:
    """A plate centred on the z axis, standing on z = 0, its vertical edges rounded with radius `corner`."""
    core = CrossSection.square((length - 2 * corner, width - 2 * corner), True)
    return core.offset(corner, JoinType.Round, 2.0, 32).extrude(height)


def cylinder(radius: float, low: float, high: float, at: ArrayLike = (0.0, 0.0), segments: int = 48) -> Manifold:
    """A cylinder along z, from z = low to z = high; its axis goes through the point `at` of the xy plane."""
    return Manifold.cylinder(high - low, radius, radius, segments).translate((at[0], at[1], low))


def along_x(solid: Manifold) -> Manifold:
    """The solid rotated so that its z axis points along x."""
    return solid.rotate((0.0, 90.0, 0.0))


def along_y(solid: Manifold) -> Manifold:
    """The solid rotated so that its z axis points along y."""
    return solid.rotate((-90.0, 0.0, 0.0))


def turned(points: ArrayLike, segments: int = 72) -> Manifold:
    """The body of revolution about z of an outline (N, 2) of radius and height."""
    return Manifold.revolve(polygon(points), segments)


def circle_of(count: int, radius: float, phase: float = 0.0) -> np.ndarray:
    """`count` evenly spaced points on a circle, (count, 2); the first at the angle `phase` in radians."""
    angles = phase + 2.0 * np.pi * np.arange(count) / count
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def union(solids: Iterable[Manifold]) -> Manifold:
    """All solids united."""
    return Manifold.batch_boolean(list(solids), OpType.Add)


def cut(solid: Manifold, tools: Iterable[Manifold]) -> Manifold:
    """`solid` minus all of the tools."""
    return Manifold.batch_boolean([solid, *tools], OpType.Subtract)


def keyed_bore(radius: float, low: float, high: float) -> Manifold:
    """The solid to cut away for a bore along z with a keyway on its +x side."""
    key = Manifold.cube((1.28 * radius, 0.55 * radius, high - low))
    return cylinder(radius, low, high) + key.translate((0.0, -0.275 * radius, low))


def sweep(path: np.ndarray, across: np.ndarray, radius: float, segments: int = 24) -> Manifold:
    """A round bar along a path (K, 3); `across` (K, 3), roughly normal to the path, keeps the bar from twisting."""
    # Unit vectors (K, 3) along the path and across it.
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    across = across - tangent * np.sum(across * tangent, axis=1, keepdims=True)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    up = np.cross(tangent, across)
    circle = circle_of(segments, radius)  # (segments, 2)
    # One circle in the plane normal to each point of the path: (K, segments, 3).
    rings = path[:, None] + circle[None, :, :1] * across[:, None] + circle[None, :, 1:] * up[:, None]
    return tube_of_rings(rings)


def tube_of_rings(rings: np.ndarray) -> Manifold:
    """The solid through K convex rings of N points, (K, N, 3), closed by a fan of triangles at both ends."""
    count, size, _ = rings.shape
    # Two triangles for each quad between the first two rings: (2N, 3).
    here, after = np.arange(size), np.roll(np.arange(size), -1)
    first, second = np.stack([here, after, after + size], 1), np.stack([here, after + size, here + size], 1)
    wall = np.vstack([first, second])
    # A ring's triangles about its first point: (N - 2, 3).
    fan = np.stack([np.zeros(size - 2, dtype=np.int64), here[1:-1], here[2:]], 1)
    walls = [wall + k * size for k in range(count - 1)]
    return as_manifold(rings.reshape(-1, 3), np.vstack([*walls, fan[:, ::-1], fan + (count - 1) * size]))


def as_manifold(vertices: np.ndarray, faces: np.ndarray) -> Manifold:
    """A manifold3d body of vertices (V, 3) and faces (F, 3); ValueError if they do not close."""
    solid = Manifold(Mesh64(np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.uint64)))
    if solid.is_empty():
        raise ValueError(f"{len(faces)} triangles do not make a closed body: {solid.status()}")
    return solid


# Families: each draws one part's sizes from a generator and returns its bodies, which do not touch -


def bracket(rng: np.random.Generator) -> list[Manifold]:
    """An angle bracket with a fillet, a gusset and holes in both legs."""
    length, height, width = rng.uniform(50, 120), rng.uniform(45, 100), rng.uniform(35, 75)
    thick = rng.uniform(3, 8)
    inner = rng.uniform(3, 9)
    bend = np.radians(np.linspace(270, 180, 9))
    fillet = np.array([thick + inner, thick + inner]) + inner * np.stack([np.cos(bend), np.sin(bend)], axis=1)
    outline = [(0, 0), (length, 0), (length, thick), *fillet, (thick, height), (0, height)]
    body = polygon(outline).extrude(width).rotate((90, 0, 0)).translate((0, width / 2, 0))
    if rng.random() < 0.7:
        across, up = rng.uniform(0.4, 0.7) * length, rng.uniform(0.3, 0.45) * height
        rib_width = rng.uniform(2, 6)
        rib = polygon([(1, 1), (across, 1), (across, thick), (thick, up), (1, up)]).extrude(rib_width)
        body += rib.rotate((90, 0, 0)).translate((0, rib_width / 2, 0))
    hole, side = rng.uniform(2.5, 4.5), width / 2 - 9
    base = [cylinder(hole, -1, thick + 1, (x, y)) for x in (length * 0.5, length - 8) for y in (-side, side)]
    large = along_x(cylinder(rng.uniform(4, 0.2 * height), -1, thick + 1)).translate((0, 0, height * 0.68))
    slots = [along_x(cylinder(hole, -1, thick + 1)).translate((0, y, height - 8)) for y in (-side, side)]
    return [cut(body, [*base, *([large] if rng.random() < 0.4 else slots)])]


def flange(rng: np.random.Generator) -> list[Manifold]:
    """A pipe flange with a neck, a raised face and a bolt circle."""
    radius, thick = rng.uniform(35, 90), rng.uniform(8, 18)
    bore, neck = rng.uniform(0.2, 0.4) * radius, rng.uniform(10, 40)
    wall = rng.uniform(3, 8)
    face = min(0.62 * radius, bore + wall + 8)
    outline = [(bore, 0), (face, 0), (face, 2), (radius, 2), (radius, thick), (bore + 1.9 * wall, thick)]
    outline += [(bore + wall, thick + 0.6 * neck), (bore + wall, thick + neck), (bore, thick + neck)]
    bolts = int(rng.integers(4, 13))
    circle = (max(face, bore + 1.9 * wall) + radius) / 2
    room = min((radius - circle) * 0.7, circle * np.sin(np.pi / bolts) * 0.6)
    holes = [cylinder(room * rng.uniform(0.7, 0.8), 0, thick + 1, at) for at in circle_of(bolts, circle)]
    if rng.random() < 0.4:
        holes += [cylinder(room * 0.95, thick - 2, thick + 1, at) for at in circle_of(bolts, circle)]
    return [cut(turned(outline, 96), holes)]


def gear_outline(teeth: int, module: float) -> np.ndarray:
    """The outline (N, 2) of a spur gear with involute flanks at 20 degrees, in the unit of the module."""
    pitch = teeth * module / 2
    base, tip, root = pitch * np.cos(np.radians(20)), pitch + module, pitch - 1.25 * module
    radii = np.linspace(max(base, root + 0.2 * module), tip, 7)
    pressure = np.arccos(np.minimum(base / radii, 1.0))
    slack = 0.02  # backlash, as a fraction of the tooth
    involute = np.tan(pressure) - pressure - (np.tan(np.radians(20)) - np.radians(20))
    half = np.pi / (2 * teeth) * (1 - slack) - involute
    foot = min(half[0] * 1.15, np.pi / teeth * 0.9)
    # One tooth, then all: the tooth's angles and radii (16,), rotated to (teeth, 16).
    angle = np.r_[-foot, -half, half[::-1], foot]
    radius = np.r_[root, radii, radii[::-1], root]
    angles = angle + 2 * np.pi * np.arange(teeth)[:, None] / teeth
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=2).reshape(-1, 2)


def gear(rng: np.random.Generator) -> list[Manifold]:
    """A spur or helical gear with a hub, a keyed bore, a thinner web and lightening holes."""
    teeth, module = int(rng.integers(14, 46)), rng.uniform(1.5, 3.5)
    width, root = rng.uniform(8, 25), (teeth / 2 - 1.25) * module
    twist = float(rng.choice([0.0, 0.0, 12.0, -12.0])) * 20 / root
    body = polygon(gear_outline(teeth, module)).extrude(width, 6 if twist else 0, twist)
    bore = rng.uniform(0.2, 0.28) * root
    hub, web = 1.9 * bore, 0.82 * root
    tools = [keyed_bore(bore, -5, width + 10)]
    if teeth > 22:
        ring = cylinder(web, -1, 0.3 * width) - cylinder(hub, -2, width)
        tools += [ring, ring.mirror((0, 0, 1)).translate((0, 0, width))]
        holes = int(rng.integers(4, 8))
        room = min((web - hub) / 2, (web + hub) / 2 * np.sin(np.pi / holes)) * 0.75
        tools += [cylinder(room, -1, width + 1, at, 32) for at in circle_of(holes, (web + hub) / 2, 0.3)]
    if rng.random() < 0.5:
        body += cylinder(hub, 0.2 * width, width + rng.uniform(2, 8))
    return [cut(body, tools)]


def shaft(rng: np.random.Generator) -> list[Manifold]:
    """A stepped shaft with chamfers, keyways and a groove for a ring."""
    steps = int(rng.integers(3, 7))
    lengths, radii = rng.uniform(15, 45, steps), rng.uniform(8, 20, steps)
    ends = np.r_[0.0, np.cumsum(lengths)]
    chamfer = 1.0
    outline = [(0, 0)]
    for low, high, radius in zip(ends[:-1], ends[1:], radii, strict=True):
        outline += [(radius - chamfer, low), (radius, low + chamfer)]
        outline += [(radius, high - chamfer), (radius - chamfer, high)]
    body = turned([*outline, (0, ends[-1])])
    tools = []
    for k in rng.permutation(steps)[:2]:
        radius, middle = radii[k], (ends[k] + ends[k + 1]) / 2
        key, reach = 0.28 * radius, 0.3 * lengths[k]
        slot = CrossSection.square((2 * reach, 2e-3), True).offset(key, JoinType.Round, 2.0, 32)
        tools.append(along_x(slot.extrude(radius)).translate((0.68 * radius, 0, middle)))
    groove = ends[-1] - 5.0
    tools.append(cylinder(30, groove, groove + 1.3) - cylinder(radii[-1] - 1.2, groove - 1, groove + 3))
    if rng.random() < 0.6:
        drill = turned([(0, -1), (2.0, -1), (2.0, 4), (0, 6)], 32)
        tools += [drill, drill.mirror((0, 0, 1)).translate((0, 0, ends[-1]))]
    return [cut(body, tools).rotate((0, -90, 0))]


def housing(rng: np.random.Generator) -> list[Manifold]:
    """An open box with thin walls, screw posts, ribs, vents and a port."""
    length, width, height = rng.uniform(60, 150), rng.uniform(45, 100), rng.uniform(20, 60)
    wall, corner = rng.uniform(0.8, 2.2), rng.uniform(6, 10)
    outer = rounded_plate(length, width, height, corner)
    inner = rounded_plate(length - 2 * wall, width - 2 * wall, height, corner - wall).translate((0, 0, wall))
    post, screw = rng.uniform(3.0, 4.5), rng.uniform(1.0, 1.8)
    x, y = length / 2 - wall - post, width / 2 - wall - post
    places = [(-x, -y), (-x, y), (x, -y), (x, y)]
    body = union([outer - inner, *(cylinder(post, wall / 2, height - 2, at, 32) for at in places)])
    ribs = int(rng.integers(0, 5))
    for x in np.linspace(-0.3, 0.3, ribs) * length:
        rib = Manifold.cube((wall, width - wall, 0.4 * height))
        body += rib.translate((x - wall / 2, -(width - wall) / 2, wall / 2))
    port = along_x(cylinder(rng.uniform(0.12, 0.25) * height, 0, length)).translate((0, 0, 0.55 * height))
    tools = [port, *(cylinder(screw, 4, height, at, 24) for at in places)]
    vents = int(rng.integers(0, 9))
    for y in np.linspace(-0.25, 0.25, vents) * width:
        tools.append(Manifold.cube((0.2 * length, 1.5, 3 * wall)).translate((0.16 * length, y - 0.75, -wall)))
    return [cut(body, tools)]


def manifold_block(rng: np.random.Generator) -> list[Manifold]:
    """A valve block: a lengthwise gallery, crossed by bores from above and from the side that widen into ports."""
    length, width, height = rng.uniform(70, 150), rng.uniform(35, 60), rng.uniform(35, 60)
    body = rounded_plate(length, width, height, 3.0).translate((0, 0, -height / 2))
    gallery = rng.uniform(5, 8)
    tools = [along_x(cylinder(gallery, -0.38 * length, length))]
    tools.append(along_x(cylinder(1.5 * gallery, length / 2 - 9, length)))
    ports = int(rng.integers(2, 6))
    spacing = 0.7 * length / ports
    for x in (np.arange(ports) - (ports - 1) / 2) * spacing:
        bore = min(rng.uniform(0.5, 0.95) * gallery, 0.3 * spacing)
        depth = rng.uniform(0.0, 0.8) * gallery
        drill = union([cylinder(bore, -depth, height), cylinder(1.4 * bore, height / 2 - 8, height)])
        side = rng.random() < 0.4
        drill = along_y(drill).translate((0, (width - height) / 2, 0)) if side else drill
        tools.append(drill.translate((x, 0, 0)))
    x, y = length / 2 - 6, width / 2 - 6
    corners = [(-x, -y), (-x, y), (x, -y), (x, y)]
    tools += [cylinder(2.2, -height, height, at, 24) for at in corners]
    return [cut(body, tools)]


def spring(rng: np.random.Generator) -> list[Manifold]:
    """A compression spring with closed and ground ends."""
    wire, coil = rng.uniform(1.2, 4.0), rng.uniform(10, 25)
    turns, pitch = rng.uniform(4, 9), wire * rng.uniform(1.8, 3.2)
    closed = 1.25  # coils at each end that almost touch
    turn = np.linspace(0.0, turns + 2 * closed, int(40 * (turns + 2 * closed)))
    knots = [closed, closed + 0.5, turns + closed - 0.5, turns + closed]
    rate = np.interp(turn, knots, [1.06 * wire, pitch, pitch, 1.06 * wire])  # mm of rise per coil
    rise = np.r_[0.0, np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(turn))]
    angle = 2 * np.pi * turn * rng.choice([-1.0, 1.0])
    spoke = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    bar = sweep(coil * spoke + rise[:, None] * np.array([0.0, 0.0, 1.0]), spoke, wire / 2, 20)
    return [bar.trim_by_plane((0, 0, 1), 0.1 * wire).trim_by_plane((0, 0, -1), -rise[-1] + 0.1 * wire)]


def bearing(rng: np.random.Generator) -> list[Manifold]:
    """A ball bearing: two grooved rings and the balls between them, with running clearance."""
    ball, balls = rng.uniform(2.5, 6), int(rng.integers(7, 13))
    pitch = ball * 1.15 / np.sin(np.pi / balls)
    wide, clear = 2.6 * ball, 1.04
    race = polygon(circle_of(32, clear * ball) + np.array([pitch, 0.0])).revolve(96)

    def ring(low, high):
        c = 0.12 * ball
        edge = wide / 2
        outline = [(low + c, -edge), (high - c, -edge), (high, c - edge), (high, edge - c)]
        return turned([*outline, (high - c, edge), (low + c, edge), (low, edge - c), (low, c - edge)], 96) - race

    rings = [ring(pitch - 1.9 * ball, pitch - 0.4 * ball), ring(pitch + 0.4 * ball, pitch + 1.8 * ball)]
    sphere = Manifold.sphere(ball, 28)
    return [*rings, *(sphere.translate((x, y, 0)) for x, y in circle_of(balls, pitch))]


def bolted_joint(rng: np.random.Generator) -> list[Manifold]:
    """Two plates with bolts, washers and nuts; each is a body of its own, with clearance to the others."""
    length, width = rng.uniform(60, 130), rng.uniform(35, 70)
    lower, upper, bolt = rng.uniform(4, 10), rng.uniform(4, 10), rng.uniform(2.5, 4)
    gap = 0.1
    columns = int(rng.integers(2, 4))
    rows = np.linspace(-0.35, 0.35, columns) * length
    places = [(x, y) for x in rows for y in (-0.28 * width, 0.28 * width)]
    holes = [cylinder(1.12 * bolt, -lower - 1, upper + gap + 1, at, 32) for at in places]
    bottom = rounded_plate(length, width, lower, 5).translate((0, 0, -lower))
    plates = [
        cut(bottom, holes),
        cut(rounded_plate(0.94 * length, width, upper, 5).translate((0, 0, gap)), holes),
    ]
    top, washer = upper + 2 * gap, 0.4 * bolt
    disc = cylinder(2.1 * bolt, top, top + washer, segments=40) - cylinder(1.1 * bolt, top - 1, top + 9, segments=32)
    seat = top + washer + gap
    head = Manifold.cylinder(1.3 * bolt, 1.85 * bolt, 1.85 * bolt, 6).translate((0, 0, seat))
    screw = union([head, cylinder(bolt, -lower - 3.2 * bolt, seat + 0.5, segments=32)])
    nut = Manifold.cylinder(1.6 * bolt, 1.85 * bolt, 1.85 * bolt, 6).translate((0, 0, -lower - gap - 1.6 * bolt))
    nut = nut - cylinder(1.05 * bolt, -lower - 9 * bolt, 0, segments=32)
    return plates + [solid.translate((x, y, 0)) for x, y in places for solid in (disc, screw, nut)]


def heat_sink(rng: np.random.Generator) -> list[Manifold]:
    """A base plate with thin fins; in half of the parts cross slots cut the fins into pins."""
    length, width, base = rng.uniform(40, 100), rng.uniform(40, 90), rng.uniform(3, 8)
    height, fin = rng.uniform(15, 40), rng.uniform(0.7, 1.8)
    fins = int(rng.integers(7, 18))
    body = rounded_plate(length, width, base, 2.0)
    lean = rng.uniform(0.0, 0.25) * fin  # the fins taper towards the top
    top = base + height
    blade = polygon([(-fin / 2, base - 1), (fin / 2, base - 1), (fin / 2 - lean, top), (lean - fin / 2, top)])
    blade = blade.extrude(width - 5).rotate((90, 0, 0)).translate((0, (width - 5) / 2, 0))
    places = np.linspace(3 - length / 2, length / 2 - 3, fins)
    between = (places[0] + places[1]) / 2
    hole = min(2.0, 0.35 * (places[1] - places[0]))
    edge = width / 2 - 6
    spots = [(-between, -edge), (-between, edge), (between, -edge), (between, edge)]
    tools = [cylinder(hole, -1, base + 1, at, 24) for at in spots]
    if rng.random() < 0.5:
        for y in np.linspace(-0.3, 0.3, int(rng.integers(2, 6))) * width:
            tools.append(Manifold.cube((2 * length, 3.0, height + 1)).translate((-length, y - 1.5, base)))
    return [cut(union([body, *(blade.translate((x, 0, 0)) for x in places)]), tools)]


def pipe_elbow(rng: np.random.Generator) -> list[Manifold]:
    """A bent pipe with a bolted flange at each end."""
    bore, wall = rng.uniform(8, 20), rng.uniform(1.5, 4)
    radius, bend = bore + wall, np.radians(rng.uniform(40, 100))
    curve, straight = rng.uniform(1.8, 3.0) * radius, rng.uniform(1.3, 2.2) * radius
    angles = np.linspace(0, bend, 25)
    arc = np.stack([curve * (1 - np.cos(angles)), 0 * angles, curve * np.sin(angles)], axis=1)
    heading = np.array([np.sin(bend), 0.0, np.cos(bend)])

    def pipe(size, extra):
        path = np.vstack([[0, 0, -straight - extra], arc, arc[-1] + (straight + extra) * heading])
        return sweep(path, np.tile([0.0, 1.0, 0.0], (len(path), 1)), size, 40)

    bolts, thick = int(rng.integers(4, 9)), rng.uniform(4, 8)
    bolt = min(0.16 * radius, 4.0)
    holes = [cylinder(bolt, -1, thick + 1, at, 24) for at in circle_of(bolts, radius + 2.2 * bolt, 0.2)]
    disc = cut(cylinder(radius + 4.4 * bolt, 0, thick), holes)
    far = disc.mirror((0, 0, 1)).rotate((0, np.degrees(bend), 0)).translate(arc[-1] + straight * heading)
    return [union([pipe(radius, -0.5), disc.translate((0, 0, -straight)), far]) - pipe(bore, 1.0)]


def pulley(rng: np.random.Generator) -> list[Manifold]:
    """A belt pulley with grooves, windows in its web and a keyed bore."""
    grooves, depth, pitch = int(rng.integers(1, 5)), rng.uniform(4, 9), rng.uniform(9, 14)
    radius, width = rng.uniform(35, 80), grooves * pitch + 4
    rim = radius - depth - rng.uniform(4, 7)
    bore = rng.uniform(0.14, 0.2) * radius
    hub, web = 1.8 * bore, rng.uniform(0.2, 0.45) * width
    outside = [(radius, -width / 2)]
    for k in range(grooves):
        middle = (k - (grooves - 1) / 2) * pitch
        outside += [(radius, middle - 0.42 * pitch), (radius - depth, middle - 0.18 * pitch)]
        outside += [(radius - depth, middle + 0.18 * pitch), (radius, middle + 0.42 * pitch)]
    face = [(rim, width / 2), (rim, web / 2), (hub, web / 2), (hub, width / 2 + 3), (0, width / 2 + 3)]
    back = [(0, -width / 2), (hub, -width / 2), (hub, -web / 2), (rim, -web / 2), (rim, -width / 2)]
    body = turned([*back, *outside, (radius, width / 2), *face], 96)
    windows = int(rng.integers(3, 8))
    room = min((rim - hub) / 2, (rim + hub) / 2 * np.sin(np.pi / windows)) * 0.75
    tools = [cylinder(room, -width, width, at) for at in circle_of(windows, (rim + hub) / 2)]
    return [cut(body, [*tools, keyed_bore(bore, -width, width)])]


FAMILIES = {
    "bracket": bracket,
    "flange": flange,
    "gear": gear,
    "shaft": shaft,
    "housing": housing,
    "manifold": manifold_block,
    "spring": spring,
    "bearing": bearing,
    "bolted_joint": bolted_joint,
    "heat_sink": heat_sink,
    "pipe_elbow": pipe_elbow,
    "pulley": pulley,
}


# Flaws: each takes vertices (V, 3), faces (F, 3) and a generator, and returns the flawed mesh ------


def duplicated_triangles(vertices: np.ndarray, faces: np.ndarray, rng: np.random.Generator) -> Mesh:
    """A tenth of the triangles occur twice, the copy with its corners in another order."""
    again = faces[rng.permutation(len(faces))[: max(4, len(faces) // 10)]]
    return vertices, np.vstack([faces, np.roll(again, 1, axis=1)])


def unmerged_vertices(vertices: np.ndarray, faces: np.ndarray, rng: np.random.Generator) -> Mesh:
    """Faces on the two sides of a plane share no vertices: their corners are some 1e-5 of the part's size apart."""
    size = np.linalg.norm(np.ptp(vertices, axis=0))
    axis = int(rng.integers(3))
    middle = np.median(vertices[:, axis])
    # Faces (F,) beyond the plane use a second, slightly displaced copy of all vertices.
    moved = vertices[faces].mean(axis=1)[:, axis] > middle
    shift = rng.uniform(-1e-5, 1e-5, vertices.shape) * size
    faces = np.where(moved[:, None], faces + len(vertices), faces)
    return drop_unused(np.vstack([vertices, vertices + shift]), faces)


def open_hole(vertices: np.ndarray, faces: np.ndarray, rng: np.random.Generator) -> Mesh:
    """A patch of triangles is missing."""
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    # A random small triangle and the small ones near it go: faces (F,) to leave out.
    small = area < 0.005 * area.sum()  # not half of the part
    seed = rng.choice(np.flatnonzero(small))
    away = np.linalg.norm(corners.mean(axis=1) - corners[seed].mean(axis=0), axis=1)
    missing = small & (away <= 0.04 * np.linalg.norm(np.ptp(vertices, axis=0)))
    return drop_unused(vertices, faces[~missing])


def inside_out_body(vertices: np.ndarray, faces: np.ndarray, rng: np.random.Generator) -> Mesh:
    """One body is inside out."""
    body = body_of_faces(len(vertices), faces)
    turned_body = body == body[rng.integers(len(faces))]
    return vertices, np.where(turned_body[:, None], faces[:, ::-1], faces)


def overlapping_bodies(vertices: np.ndarray, faces: np.ndarray, rng: np.random.Generator) -> Mesh:
    """A ball sits half inside the part and is not united with it."""
    at = vertices[faces[rng.integers(len(faces))]].mean(axis=0)
    size = np.linalg.norm(np.ptp(vertices, axis=0))
    return joined([(vertices, faces), arrays_of(Manifold.sphere(0.08 * size, 28).translate(at))])


def far_from_origin(vertices: np.ndarray, faces: np.ndarray, rng: np.random.Generator) -> Mesh:
    """The part lies metres from the origin, as in the coordinates of a whole plant."""
    return vertices + rng.uniform(2e3, 9e3, 3) * rng.choice([-1.0, 1.0], 3), faces


def ascii_file(vertices: np.ndarray, faces: np.ndarray, rng: np.random.Generator) -> Mesh:
    """The mesh is sound; only its file is unusual: STL as text."""
    return vertices, faces


def degenerate_triangles(vertices: np.ndarray, faces: np.ndarray, rng: np.random.Generator) -> Mesh:
    """Edges split on one side only, with a triangle of no area in the gap; and triangles with a corner twice."""
    chosen = rng.permutation(len(faces))[: max(4, len(faces) // 50)]
    a, b, c = faces[chosen].T
    # A new vertex halfway along a b of each chosen triangle: two halves, a flat triangle, and one with b twice.
    middle = len(vertices) + np.arange(len(chosen))
    split = np.vstack([np.stack([a, middle, c], 1), np.stack([middle, b, c], 1), np.stack([a, b, middle], 1)])
    collapsed = np.stack([a, b, b], 1)
    kept = np.delete(faces, chosen, axis=0)
    return np.vstack([vertices, (vertices[a] + vertices[b]) / 2]), np.vstack([kept, split, collapsed])


def flipped_triangles(vertices: np.ndarray, faces: np.ndarray, rng: np.random.Generator) -> Mesh:
    """One triangle in twenty faces inwards."""
    flipped = rng.random(len(faces)) < 0.05
    return vertices, np.where(flipped[:, None], faces[:, ::-1], faces)


FLAWS = {
    "duplicated_triangles": duplicated_triangles,
    "inside_out_body": inside_out_body,
    "open_hole": open_hole,
    "overlapping_bodies": overlapping_bodies,
    "degenerate_triangles": degenerate_triangles,
    "far_from_origin": far_from_origin,
    "ascii_file": ascii_file,
    "unmerged_vertices": unmerged_vertices,
    "flipped_triangles": flipped_triangles,
}


def drop_unused(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    """The mesh without vertices that no face uses."""
    used, inverse = np.unique(faces, return_inverse=True)
    return vertices[used], inverse.reshape(faces.shape)


def body_of_faces(vertex_count: int, faces: np.ndarray) -> np.ndarray:
    """A label (F,) for each face: the lowest vertex index of its connected body."""
    label = np.arange(vertex_count)
    # Each round the corners take the lowest label of their face, then each vertex the label of its label.
    while True:
        lowest = label[faces].min(axis=1)
        before = label.copy()
        np.minimum.at(label, faces.ravel(), np.repeat(lowest, 3))
        label = label[label]
        if np.array_equal(label, before):
            return label[faces[:, 0]]


def joined(meshes: list[Mesh]) -> Mesh:
    """Several meshes as one; nothing is united."""
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in meshes)])
    faces = [faces + start for (_, faces), start in zip(meshes, starts, strict=False)]
    return np.vstack([vertices for vertices, _ in meshes]), np.vstack(faces)


# The problem part ---------------------------------------------------------------------------------


def problem_bodies() -> list[Manifold]:
    """The problem part as designed: a thin tray with fins, a lug and a pin in one wall, a pipe in another, a boss."""
    wall = PROBLEM_WALL
    inside = rounded_plate(130 - 2 * wall, 90 - 2 * wall, 45, 6 - wall).translate((0, 0, wall))
    tray = rounded_plate(130, 90, 45, 6) - inside
    fins = [Manifold.cube((0.6 * wall, 70, 30)).translate((x, -35, wall / 2)) for x in (-35.0, -20.0, -5.0)]
    pipe = along_x(cut(union([cylinder(9, 0, 40), cylinder(16, 32, 40)]), [cylinder(7.5, -1, 41)]))
    boss = cylinder(10, wall / 2, 25, (25.0, -18.0)) - cylinder(6, -1, 30, (25.0, -18.0))
    lug = rounded_plate(26, 20, 12, 3).translate((-65, 0, 15))
    pin = cylinder(4, 5, 40, (-70, 0))
    return [tray, *fins, lug, pin, pipe.translate((45, 10, 22)), boss]


def problem_part(rng: np.random.Generator) -> Mesh:
    """The problem part as exported, with every flaw that stops a naive tool."""
    *sound, pipe, boss = (arrays_of(body) for body in problem_bodies())
    pipe = open_hole(*pipe, rng)
    boss = inside_out_body(*boss, rng)
    mesh = degenerate_triangles(*joined([*sound, pipe, boss]), rng)
    vertices, faces = duplicated_triangles(*mesh, rng)
    return vertices + np.array(PROBLEM_OFFSET), faces


# Parts by index -----------------------------------------------------------------------------------


def family_of(index: int) -> str:
    """The name of the part's family, or "problem"."""
    if index == PROBLEM_INDEX:
        return "problem"
    return list(FAMILIES)[turn_of(index) % len(FAMILIES)]


def flaw_of(index: int) -> str | None:
    """The name of the part's one flaw; None for a sound part, "all" for the problem part."""
    if index == PROBLEM_INDEX:
        return "all"
    turn = turn_of(index)
    lap = turn // len(FAMILIES)  # shifts the flaws by one part each lap, so that no family is always sound
    return list(FLAWS)[turn // 3 % len(FLAWS)] if (turn + lap) % 3 == 1 else None


def turn_of(index: int) -> int:
    """The position of a part in the sequence without the problem part; ValueError for a negative index."""
    if index < 0:
        raise ValueError(f"a part's index is 0 or more, not {index}")
    return index - (index > PROBLEM_INDEX)


def part_name(index: int) -> str:
    """The UUID that names the part's file; ValueError for a negative index."""
    return PROBLEM_NAME if index == PROBLEM_INDEX else str(uuid.uuid5(NAMESPACE, f"part {turn_of(index)}"))


def arrays_of(solid: Manifold) -> Mesh:
    """Vertices (V, 3) float64 that are exact in float32, and faces (F, 3) int64, of a manifold3d body."""
    mesh = solid.simplify(WELD).to_mesh64()
    vertices = np.asarray(mesh.vert_properties)[:, :3].astype(np.float32).astype(np.float64)
    # Vertices that rounding made equal become one; faces that lose a corner by it go.
    vertices, merged = np.unique(vertices, axis=0, return_inverse=True)
    faces = merged.reshape(-1)[np.asarray(mesh.tri_verts).astype(np.int64)]
    a, b, c = faces.T
    return vertices, faces[(a != b) & (b != c) & (c != a)]


def drawn_part(index: int, rng: np.random.Generator) -> Mesh:
    """A part of a family, without flaws; one in four is rotated at random, as in an assembly."""
    bodies = FAMILIES[family_of(index)](rng)
    if rng.random() < 0.25:
        angles = rng.uniform(-180, 180, 3)
        bodies = [body.rotate(angles) for body in bodies]
    return joined([arrays_of(body) for body in bodies])


def clean_part(index: int) -> Mesh:
    """The part without flaws, each body closed: vertices (V, 3) float64 in mm, faces (F, 3) int64."""
    if index == PROBLEM_INDEX:
        return arrays_of(union(problem_bodies()))
    return drawn_part(index, np.random.default_rng([SEED, index]))


def generate_part(index: int) -> tuple[str, np.ndarray, np.ndarray]:
    """The part as exported: name, vertices (V, 3) float64 in mm, exact in float32, and faces (F, 3) int64."""
    rng = np.random.default_rng([SEED, index])
    if index == PROBLEM_INDEX:
        vertices, faces = problem_part(rng)
    else:
        vertices, faces = drawn_part(index, rng)
        flaw = flaw_of(index)
        vertices, faces = FLAWS[flaw](vertices, faces, rng) if flaw else (vertices, faces)
    return part_name(index), vertices.astype(np.float32).astype(np.float64), faces


# Files --------------------------------------------------------------------------------------------


def face_normals(corners: np.ndarray) -> np.ndarray:
    """Unit normals (F, 3) of triangles with corners (F, 3, 3); zero for a triangle of no area."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), np.finfo(np.float64).tiny)


def binary_stl(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """Binary STL of vertices (V, 3) and faces (F, 3)."""
    corners = vertices[faces]
    record = np.zeros(len(faces), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    record["normal"], record["corners"] = face_normals(corners), corners
    return b"generated part, mm".ljust(80) + np.array(len(faces), dtype="<u4").tobytes() + record.tobytes()


def ascii_stl(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """STL as text, with enough digits to read back each float32 exactly."""
    corners = vertices[faces]
    facet = "facet normal %.9g %.9g %.9g\nouter loop\n" + 3 * "vertex %.9g %.9g %.9g\n" + "endloop\nendfacet"
    rows = np.hstack([face_normals(corners), corners.reshape(-1, 9)])
    return "\n".join(["solid part", *(facet % tuple(row) for row in rows), "endsolid part\n"]).encode()


def part_bytes(index: int) -> tuple[str, bytes]:
    """Name and content of a part's STL file."""
    name, vertices, faces = generate_part(index)
    return name, (ascii_stl if flaw_of(index) == "ascii_file" else binary_stl)(vertices, faces)


def write_whole(path: Path, content: bytes) -> None:
    """Write bytes under another name in the same folder, then rename, so that no reader sees half a file."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_bytes(content)
    partial.replace(path)


def write_parts(folder: Path, count: int) -> int:
    """Write the first `count` parts into a folder, which is made if missing; returns their size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    size = 0
    for index in range(count):
        name, content = part_bytes(index)
        write_whole(folder / f"{name}.stl", content)
        size += len(content)
    return size


def main() -> None:
    """Write the folder and print one line about it."""
    parser = argparse.ArgumentParser(description="Write a folder of mechanical parts as STL files in millimetres.")
    default = Path(__file__).resolve().parent / "geometry_200"
    parser.add_argument("--out", type=Path, default=default, help="folder to write to (default: %(default)s)")
    parser.add_argument("--count", type=int, default=PART_COUNT, help="number of parts to write (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.count < 1:
        parser.error(f"--count must be at least 1, not {arguments.count}")
    try:
        size = write_parts(arguments.out, arguments.count)
    except OSError as error:
        parser.error(f"cannot write to {arguments.out}: {error.strerror}; choose another folder with --out")
    print(f"{arguments.out}: {arguments.count} parts, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
