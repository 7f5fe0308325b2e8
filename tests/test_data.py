"""The bundled impeller and the 200 parts have the properties that data/README.md lists, measured independently."""

import itertools
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
import trimesh
from manifold3d import Manifold, Mesh64

from data import make_geometry_200 as parts

ROOT = Path(__file__).resolve().parent.parent
IMPELLER = ROOT / "data" / "impeller" / "impeller.stl"
FIRST = 13  # the first parts, which show every family and the problem part
FLAWS_SHOWN = 28  # the first parts, which show every flaw
# A triangle lower than this counts as one without area. In mm: twice the float32 spacing at 25 m; real ones have 0.05.
NO_HEIGHT = 4e-3


# Measuring ----------------------------------------------------------------------------------------


def solid_of(vertices, faces):
    """A manifold3d body; empty unless the mesh is closed and consistently oriented."""
    return Manifold(Mesh64(np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.uint64)))


def merged(corners):
    """Vertices and faces of triangle corners (F, 3, 3); corners equal to the bit become one vertex."""
    vertices, faces = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
    return vertices, faces.reshape(-1, 3)


def read_stl(content):
    """Corners (F, 3, 3) of a binary STL, read without trimesh, which might change them."""
    count = int(np.frombuffer(content, "<u4", 1, 80)[0])
    assert len(content) == 84 + 50 * count
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    return np.frombuffer(content, record, count, 84)["corners"].astype(np.float64)


def sliver_count(vertices, faces):
    """Number of triangles whose three corners differ but lie on one line."""
    faces = faces[[len(set(face)) == 3 for face in faces.tolist()]]
    a, b, c = vertices[faces].transpose(1, 0, 2)
    longest = np.max([np.linalg.norm(edge, axis=1) for edge in (b - a, c - b, a - c)], axis=0)
    return int(np.sum(np.linalg.norm(np.cross(b - a, c - a), axis=1) < NO_HEIGHT * longest))


def duplicate_count(faces):
    """Number of triangles that repeat an earlier one, in any order of corners."""
    return len(faces) - len(np.unique(np.sort(faces, axis=1), axis=0))


def repeated_corner_count(faces):
    """Number of triangles that have a corner twice."""
    return int(np.sum([len(set(face)) < 3 for face in faces.tolist()]))


def open_edge_count(faces):
    """Number of edges that triangles do not use equally often in both directions."""
    ends = np.vstack([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = ends[ends[:, 0] != ends[:, 1]]
    _, group = np.unique(np.sort(ends, axis=1), axis=0, return_inverse=True)
    return int(np.sum(np.bincount(group.reshape(-1), np.sign(ends[:, 1] - ends[:, 0])) != 0))


def distinct(faces):
    """Faces without copies and without repeated corners; a face and its flipped copy both stay."""
    faces = faces[[len(set(face)) == 3 for face in faces.tolist()]]
    first = np.argmin(faces, axis=1)
    rotated = np.take_along_axis(faces, (first[:, None] + np.arange(3)) % 3, axis=1)  # the lowest corner first
    return np.unique(rotated, axis=0)


def bodies_of(vertices, faces):
    """The connected bodies as trimesh meshes."""
    return trimesh.Trimesh(vertices, faces, process=False).split(only_watertight=False, repair=False)


def nearest_hit(origins, directions, vertices, faces, least):
    """Distance (N,) along each ray to the first triangle farther than `least`, by brute force (Möller 1997)."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    found = np.full(len(origins), np.inf)
    for k, (origin, direction) in enumerate(zip(origins, directions, strict=True)):
        across = np.cross(direction, c - a)
        determinant = np.sum((b - a) * across, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            u = np.sum((origin - a) * across, axis=1) / determinant
            up = np.cross(origin - a, b - a)
            v, t = up @ direction / determinant, np.sum((c - a) * up, axis=1) / determinant
            hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > least)
        found[k] = np.min(t[hit], initial=np.inf)
    return found


# The impeller -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impeller():
    return merged(read_stl(IMPELLER.read_bytes()))


def ring(low, high, inner, outer):
    """A tube about the z axis between two heights and two radii."""
    tube = Manifold.cylinder(high - low, outer, outer, 256) - Manifold.cylinder(high - low, inner, inner, 256)
    return tube.translate((0, 0, low))


def test_the_impeller_is_one_closed_body_with_one_hole(impeller):
    mesh = trimesh.Trimesh(*impeller, process=False)
    assert IMPELLER.stat().st_size < 2_000_000
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.body_count == 1
    assert mesh.euler_number == 0  # 2 - 2 genus, genus 1: the bore
    assert mesh.volume == pytest.approx(147_000, rel=0.01)
    assert mesh.extents[:2] == pytest.approx([120, 120], abs=0.1)
    assert mesh.area_faces.min() > 1e-7


def test_the_impeller_has_no_inner_walls(impeller):
    igl = pytest.importorskip("igl", reason="libigl is not installed")
    vertices, faces = impeller
    points = np.random.default_rng(0).uniform(vertices.min(axis=0), vertices.max(axis=0), (500, 3))
    winding = igl.winding_number(vertices, faces.astype(np.int64), points)
    assert set(np.round(winding, 6)) == {0.0, 1.0}


def test_the_bore_and_the_keyway_go_right_through(impeller):
    solid = solid_of(*impeller)
    bore = Manifold.cylinder(100, 7.95, 7.95, 64, True)
    key = Manifold.cube((2.2, 4.9, 100)).translate((8.0, -2.45, -50))
    assert (solid ^ bore).is_empty() and (solid ^ key).is_empty()
    assert not (solid ^ key.translate((0, 5, 0))).is_empty()


def test_the_seven_blades_are_equal_and_curved_and_have_a_wide_foot(impeller):
    solid = solid_of(*impeller)
    blades = (solid ^ ring(9, 12, 48, 58)).decompose()
    assert len(blades) == 7
    assert np.ptp([blade.volume() for blade in blades]) < 1e-3 * blades[0].volume()

    def direction(inner):
        """Polar angle of a blade at a radius, in radians, modulo the angle between blades."""
        low, high = np.reshape((solid ^ ring(9, 12, inner, inner + 2)).decompose()[0].bounding_box(), (2, 3))
        angle = np.arctan2(low[1] + high[1], low[0] + high[0])
        return angle % (2 * np.pi / 7)

    # A blade's polar angle changes by many degrees in 8 mm; that of straight vanes would not change.
    change = (direction(56) - direction(48) + np.pi / 7) % (2 * np.pi / 7) - np.pi / 7
    assert abs(np.degrees(change)) > 8
    foot, middle = ((solid ^ ring(z, z + 0.2, 54, 58)).volume() for z in (5.4, 9))
    assert foot > 1.4 * middle  # fillets on both sides


def test_the_impeller_script_writes_the_same_bytes_each_time(tmp_path):
    for name in ("one.stl", "two.stl"):
        run_script("make_impeller.py", "--out", tmp_path / name)
    assert (tmp_path / "one.stl").read_bytes() == (tmp_path / "two.stl").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_the_script_makes_the_committed_impeller(tmp_path, impeller):
    made = tmp_path / "new" / "impeller.stl"
    run_script("make_impeller.py", "--out", made)
    # Not byte by byte: another CPU may round sines differently and keep other vertices.
    old, new = solid_of(*impeller), solid_of(*merged(read_stl(made.read_bytes())))
    assert (old - new).volume() + (new - old).volume() < 1e-4 * old.volume()
    assert new.volume() == pytest.approx(old.volume(), rel=1e-5)
    assert new.genus() == 1


def run_script(name, *arguments):
    command = [sys.executable, ROOT / "data" / name, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)


# The 200 parts ------------------------------------------------------------------------------------


def test_names_are_stable_unique_uuids():
    names = [parts.part_name(index) for index in range(200)]
    assert len(set(names)) == 200
    assert [str(uuid.UUID(name)) for name in names] == names
    first = ["5151701c-a9a9-59d3-9a50-e0211c6b0383", "258b6d05-6815-56f5-bf7f-fd7d19fbc486"]
    assert names[:2] == first  # these names must never change
    assert names[parts.PROBLEM_INDEX] == "3437e68d-207a-46ec-9642-e9b0461fcdaa"


def test_the_first_13_parts_show_every_family_and_the_first_28_every_flaw():
    families = [parts.family_of(index) for index in range(FIRST)]
    assert set(families) == {*parts.FAMILIES, "problem"}
    assert {parts.flaw_of(index) for index in range(FLAWS_SHOWN)} == {None, "all", *parts.FLAWS}
    flawed = [parts.flaw_of(index) for index in range(200)]
    assert 50 <= sum(flaw is not None for flaw in flawed) <= 100
    pairs = {(parts.family_of(index), parts.flaw_of(index)) for index in range(200)}
    for family in parts.FAMILIES:
        assert (family, None) in pairs and sum(name == family for name, _ in pairs) > 3
    with pytest.raises(ValueError, match="-1"):
        parts.part_name(-1)


def test_the_script_writes_exactly_the_files_of_part_bytes(tmp_path):
    run_script("make_geometry_200.py", "--out", tmp_path, "--count", FIRST)
    names = {f"{parts.part_name(index)}.stl" for index in range(FIRST)}
    assert {path.name for path in tmp_path.iterdir()} == names
    for index in range(FIRST):
        name, content = parts.part_bytes(index)
        assert (tmp_path / f"{name}.stl").read_bytes() == content


def test_a_part_does_not_depend_on_the_parts_made_before_it():
    alone = parts.part_bytes(17)
    parts.generate_part(3)
    assert parts.part_bytes(17) == alone


@pytest.mark.parametrize("index", [*range(FIRST), 29, 67, 103, 151, 199])
def test_clean_parts_are_closed_bodies_that_do_not_overlap(index):
    vertices, faces = parts.clean_part(index)
    assert vertices.dtype == np.float64 and faces.dtype == np.int64
    assert np.array_equal(vertices, vertices.astype(np.float32))
    mesh = trimesh.Trimesh(*merged(vertices[faces]), process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent
    bodies = [solid_of(body.vertices, body.faces) for body in bodies_of(mesh.vertices, mesh.faces)]
    assert min(body.volume() for body in bodies) > 1.0
    assert mesh.area_faces.min() > 1e-7
    together = Manifold.batch_boolean(bodies, parts.OpType.Add)
    assert together.volume() == pytest.approx(mesh.volume, rel=1e-6)
    assert len(together.decompose()) == len(bodies)


def test_assemblies_have_many_bodies_and_valve_blocks_crossing_bores():
    index = {parts.family_of(index): index for index in range(FIRST)}
    assert len(bodies_of(*parts.clean_part(index["bearing"]))) >= 9
    assert len(bodies_of(*parts.clean_part(index["bolted_joint"]))) >= 12
    genus = solid_of(*parts.clean_part(index["manifold"])).genus()
    assert genus > 4  # four screw holes give 4; only bores that meet give more


@pytest.mark.parametrize("flaw", [flaw for flaw in parts.FLAWS if flaw != "ascii_file"])
def test_each_flaw_is_in_the_exported_part_and_not_in_the_clean_one(flaw):
    index = next(index for index in range(200) if parts.flaw_of(index) == flaw)
    clean, flawed = parts.clean_part(index), parts.generate_part(index)[1:]
    assert not MEASURES[flaw](*clean, *clean)
    assert MEASURES[flaw](*flawed, *clean)


# Measures of a flaw: each takes a mesh (vertices, faces) and its clean twin, and says whether the mesh has the flaw.


def lies_far_away(vertices, faces, *clean):
    """The centre is more than ten sizes from the origin."""
    return np.linalg.norm(vertices.mean(axis=0)) > 10 * np.linalg.norm(np.ptp(vertices, axis=0))


def has_another_body(vertices, faces, *clean):
    """One body more than the clean mesh has, and two bodies that overlap."""
    bodies, sound = bodies_of(vertices, faces), bodies_of(*clean)
    if len(bodies) != len(sound) + 1:
        return False
    solids = [solid_of(body.vertices, body.faces) for body in bodies]
    return any((a ^ b).volume() > 1.0 for a, b in itertools.combinations(solids, 2))


def has_cracks(vertices, faces, *clean):
    """Open edges, each end of which has another end very near but not equal to it."""
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    ends = np.unique(mesh.edges[trimesh.grouping.group_rows(mesh.edges_sorted, require_count=1)])
    if len(ends) == 0:
        return False
    size = np.linalg.norm(np.ptp(vertices, axis=0))
    away = np.linalg.norm(vertices[ends, None] - vertices[None, ends], axis=2)
    np.fill_diagonal(away, np.inf)
    return 0 < away.min(axis=1).max() < 1e-4 * size


MEASURES = {
    "duplicated_triangles": lambda v, f, *clean: duplicate_count(f) >= 4 and open_edge_count(distinct(f)) == 0,
    "inside_out_body": lambda v, f, *clean: min(body.volume for body in bodies_of(v, f)) < 0,
    "open_hole": lambda v, f, *clean: open_edge_count(f) >= 3 and len(f) > 0.8 * len(clean[1]),
    "overlapping_bodies": has_another_body,
    "degenerate_triangles": lambda v, f, *clean: repeated_corner_count(f) >= 4 and sliver_count(v, f) >= 4,
    "far_from_origin": lies_far_away,
    "unmerged_vertices": has_cracks,
    "flipped_triangles": lambda v, f, *clean: open_edge_count(f) > 0.02 * len(f),
}


def test_a_text_file_has_the_same_triangles_as_the_part():
    index = next(index for index in range(200) if parts.flaw_of(index) == "ascii_file")
    content = parts.part_bytes(index)[1]
    assert content.startswith(b"solid ")
    rows = [line.split()[1:] for line in content.decode().splitlines() if line.startswith("vertex")]
    _, vertices, faces = parts.generate_part(index)
    assert np.array_equal(np.array(rows, dtype=np.float32).reshape(-1, 3, 3), vertices[faces].astype(np.float32))


# The problem part ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problem():
    """Vertices and faces of the problem part, read from its file."""
    name, content = parts.part_bytes(parts.PROBLEM_INDEX)
    assert name == "3437e68d-207a-46ec-9642-e9b0461fcdaa"
    return merged(read_stl(content))


@pytest.fixture(scope="module")
def problem_bodies(problem):
    """The bodies of the problem part, without duplicated triangles and triangles with a corner twice."""
    vertices, faces = problem
    return bodies_of(vertices, distinct(faces))


def test_problem_part_has_degenerate_and_duplicated_triangles(problem):
    vertices, faces = problem
    assert repeated_corner_count(faces) >= 4
    assert sliver_count(vertices, faces) >= 4
    assert duplicate_count(distinct(faces)) == 0 and duplicate_count(faces) >= 50


def test_problem_part_lies_far_from_the_origin(problem):
    vertices, _ = problem
    assert np.linalg.norm(vertices.mean(axis=0)) > 100 * np.linalg.norm(np.ptp(vertices, axis=0))


def test_problem_part_has_a_hole_in_one_body(problem_bodies):
    holed = [body for body in problem_bodies if not body.is_watertight]
    assert len(holed) == 1
    edges = holed[0].edges_sorted[trimesh.grouping.group_rows(holed[0].edges_sorted, require_count=1)]
    assert np.max(np.ptp(holed[0].vertices[np.unique(edges)], axis=0)) > 2.0  # mm: an opening, not a crack


def test_problem_part_has_an_inside_out_body_that_is_not_a_void(problem_bodies):
    closed = [body for body in problem_bodies if body.is_watertight]
    inverted = [body for body in closed if body.volume < 0]
    assert len(inverted) == 1
    for body in closed:
        if body is not inverted[0]:
            cover = solid_of(body.vertices, body.faces) ^ solid_of(inverted[0].vertices, inverted[0].faces[:, ::-1])
            assert cover.volume() < 0.1 * -inverted[0].volume


def test_problem_part_has_bodies_that_overlap(problem_bodies):
    solids = [solid_of(body.vertices, body.faces) for body in problem_bodies if body.is_watertight]
    solids = [solid for solid in solids if solid.volume() > 0]
    common = [(a ^ b).volume() for a, b in itertools.combinations(solids, 2)]
    assert np.sum(np.array(common) > 0.5) >= 5 and max(common) > 400  # mm3


def test_problem_part_has_walls_thinner_than_a_grid_cell(problem, problem_bodies):
    vertices, _ = problem
    center = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    cell = 2 / 256 * np.linalg.norm(vertices - center, axis=1).max() / 0.9
    tray = max(problem_bodies, key=lambda body: np.prod(body.extents))
    real = tray.area_faces > 0.5
    origins, inwards = tray.triangles_center[real] - center, -tray.face_normals[real]
    thickness = nearest_hit(origins, inwards, tray.vertices - center, tray.faces, least=0.02)
    thin = tray.area_faces[real][thickness < 0.5 * cell].sum()
    assert thin > 0.9 * tray.area


def test_the_clean_problem_part_is_one_piece_with_the_same_bounds(problem):
    vertices, faces = parts.clean_part(parts.PROBLEM_INDEX)
    moved = vertices + np.array(parts.PROBLEM_OFFSET)
    assert moved.min(axis=0) == pytest.approx(problem[0].min(axis=0), abs=0.01)
    assert moved.max(axis=0) == pytest.approx(problem[0].max(axis=0), abs=0.01)
    assert len(solid_of(vertices, faces).decompose()) == 1


@pytest.mark.parametrize("count", ["0", "-3", "many"])
def test_a_count_that_is_not_a_positive_number_is_refused(count, tmp_path):
    folder = tmp_path / "parts"
    command = [sys.executable, ROOT / "data" / "make_geometry_200.py", "--out", folder, "--count", count]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 2 and "--count" in answer.stderr and not folder.exists()
