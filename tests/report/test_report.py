"""Pages, curves and thumbnails: what they hold, what hostile names do, and that a browser draws them."""

import base64
import fcntl
import gzip
import io
import json
import os
import select
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralparts.report import pages as report

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "</title><script>alert(1)</script><b>&amp;\"'\udcff 车轮 $\\frac{$ \n\x07.stl"
VOID_TAGS = {"meta", "input", "img", "br"}


# ----------------------------------------------------------------------------------------------------
# Shapes and records to show


def torus(around=48, across=24, major=1.0, minor=0.4):
    """A closed torus about the z axis: vertices (V, 3), faces (F, 3), normals outward."""
    u, v = np.meshgrid(np.arange(around), np.arange(across), indexing="ij")
    a, b = 2 * np.pi * u / around, 2 * np.pi * v / across
    ring = major + minor * np.cos(b)
    vertices = np.stack([ring * np.cos(a), ring * np.sin(a), minor * np.sin(b)], axis=-1).reshape(-1, 3)

    def corner(i, j):
        return ((u + i) % around * across + (v + j) % across).ravel()

    first = np.stack([corner(0, 0), corner(1, 0), corner(1, 1)], axis=1)
    second = np.stack([corner(0, 0), corner(1, 1), corner(0, 1)], axis=1)
    return vertices, np.concatenate([first, second])


def sphere(radius=1.0):
    """A ball of 5,120 triangles: vertices (V, 3), faces (F, 3)."""
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def make_record(**changes):
    record = {
        "input": "parts/torus.stl",
        "flags": {
            "epochs": 4,
            "learningRate": 0.00123456,
            "scaler": None,
            "damArch": 1,
            "reconstructionRes": 64,
        },
        "diagnosis": {"triangles": 2304, "closed": True, "changes": ["Merged 3 vertices.", "Turned 1 body."]},
        "parameters": 589790,
        "timings": {
            "load": 0.25,
            "label": 3.5,
            "fit": 75.0,
            "reconstruct": 2.0,
            "evaluate": 4.25,
            "total": 85.0,
        },
        "metrics": {
            "surface_error": 0.000512,
            "iou": 0.9931,
            "chamfer": 0.0007,
            "hausdorff": 0.0123,
            "extra": 7.5,
        },
        "fit": {"ended_by": "all epochs done", "samples": 8000000},
        "transform": {"center": [1.0, 2.0, 3.0], "scale": 0.02},
    }
    return {**record, **changes}


def make_history(count=300):
    samples = np.linspace(1e4, 3e6, count)
    held_out = np.where(np.arange(count) % 30 == 0, 2.0 / samples**0.5, np.nan)
    rate = np.linspace(1e-3, 1e-6, count)
    validation = np.array([3e-3, 1e-3, 5e-4])
    return {
        "samples": samples,
        "loss": 1 / samples**0.5,
        "held_out": held_out,
        "learning_rate": rate,
        "validation": validation,
    }


class Tags(HTMLParser):
    """What a page is made of: tags with their attributes, text by innermost tag; fails on tags left open."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(page)
        self.close()
        assert self.open == [], f"tags left open: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes what is not open"

    def handle_data(self, data):
        if self.open:
            self.texts.append((self.open[-1], data))

    def text(self, tag):
        return [text for innermost, text in self.texts if innermost == tag]

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def unpacked(page, element):
    """The text that a page carries compressed."""
    packed = page.split(f'id="{element}">')[1].split("</script>")[0]
    return gzip.decompress(base64.b64decode(packed)).decode("utf-8")


def figures_of(page):
    return json.loads(unpacked(page, "figures"))


def array(packed):
    return np.frombuffer(base64.b64decode(packed["bdata"]), np.dtype(packed["dtype"]).newbyteorder("<"))


def mesh_of(trace):
    vertices = np.stack([array(trace[axis]) for axis in "xyz"], axis=1)
    return vertices, np.stack([array(trace[corner]) for corner in "ijk"], axis=1)


def pixels_of(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float64)


# ----------------------------------------------------------------------------------------------------
# The page of a part


def test_page_loads_nothing_from_outside():
    mesh = torus()
    page = report.html_report("torus", make_record(), make_history(), mesh, mesh, np.zeros(len(mesh[0])))
    parsed = Tags(page)
    for tag, attributes in parsed.tags:
        assert not {"src", "href", "srcset", "action"} & attributes.keys(), (tag, attributes)
    style = "".join(parsed.text("style"))
    assert "url(" not in style and "@import" not in style
    policy = next(a["content"] for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';") and "http" not in policy
    assert "http" not in unpacked(page, "figures")


def test_page_shows_every_figure_in_domain_and_file_units():
    parsed = Tags(report.html_report("torus", make_record(), make_history(), torus(), None))
    cells = parsed.text("td")
    assert {"0.000512", "0.9931", "0.0007", "0.0123", "7.5"} <= set(cells)
    assert {"0.0256", "0.035", "0.615"} <= set(cells)  # 0.000512, 0.0007 and 0.0123 over the scale 0.02
    assert {"0.00123456", "yes", "75 s", "85 s", "1, 2, 3", "0.02"} <= set(cells)
    assert {"Merged 3 vertices.", "Turned 1 body."} <= set(cells)
    assert {"0.000512", "589,790", "85 s"} <= set(parsed.text("strong"))
    assert "0.0256 file units" in parsed.text("small") and "all epochs done" in parsed.text("span")


def test_page_without_transform_shows_domain_units_only():
    record = make_record()
    del record["transform"], record["fit"]
    cells = Tags(report.html_report("torus", record, {}, None, None)).text("td")
    assert "0.000512" in cells and "0.0256" not in cells


@pytest.mark.parametrize(
    ("resolution", "failure", "words"),
    [(0, "", "was asked for (--reconstructionRes 0)"), (64, "a bound of <1 MiB>", "a bound of &lt;1 MiB&gt;")],
)
def test_page_says_why_there_is_no_reconstruction(resolution, failure, words):
    record = make_record(flags={"reconstructionRes": resolution}, failure=failure)
    page = report.html_report("torus", record, make_history(), torus(), None)
    assert words in page
    assert set(figures_of(page)) == {"input", "curves"}


def test_page_without_meshes_and_history_carries_no_library():
    page = report.html_report("samples", make_record(), {}, None, None)
    assert "No input mesh to draw" in page and "No loss was recorded" in page
    assert len(page) < 20_000 and Tags(page).count("script") == 0


def test_missing_metrics_show_as_a_dash():
    metrics = {
        "surface_error": float("nan"),
        "iou": None,
        "chamfer": float("inf"),
        "grid_error": np.float32(0.25),
    }
    page = report.html_report("part", make_record(metrics=metrics, timings={}), {}, None, None)
    parsed = Tags(page)
    assert not {"nan", "None", "inf"} & set(parsed.text("td") + parsed.text("strong"))
    assert parsed.text("strong")[:3] == ["\N{EN DASH}"] * 3
    assert "0.25" in parsed.text("td")


def test_hostile_text_stays_text():
    record = make_record(
        input=HOSTILE,
        flags={HOSTILE: HOSTILE},
        diagnosis={"changes": [HOSTILE], "nested": {HOSTILE: [HOSTILE]}},
    )
    record["fit"] = {"ended_by": HOSTILE}
    record["metrics"][HOSTILE] = HOSTILE
    record["timings"][HOSTILE] = 1.0
    record["other"] = HOSTILE
    page = report.html_report(HOSTILE, record, make_history(), torus(), None)
    page.encode("utf-8")  # a lone surrogate of an undecodable file name must not stop the writer
    parsed = Tags(page)
    assert parsed.count("script") == 3 and parsed.count("title") == 1
    readable = HOSTILE.replace("\udcff", "?")
    assert parsed.text("h1") == [readable] and parsed.text("title") == [readable]
    assert parsed.text("td").count(readable) >= 3


def test_meshes_on_the_page_are_the_meshes_given():
    vertices, faces = torus()
    moved = vertices * 1.01
    distance = np.linspace(0.0, 0.5, len(vertices))
    figures = figures_of(report.html_report("torus", make_record(), {}, (vertices, faces), (moved, faces), distance))
    for key, expected in (("input", vertices), ("reconstruction", moved)):
        shown_vertices, shown_faces = mesh_of(figures[key]["data"][0])
        assert np.array_equal(shown_vertices, expected.astype(np.float32))
        assert np.array_equal(shown_faces, faces)
    coloured = figures["reconstruction"]["data"][0]
    assert np.array_equal(array(coloured["intensity"]), distance.astype(np.float32))
    assert coloured["cmin"] == 0 and 0.49 < coloured["cmax"] <= 0.5
    assert figures["input"]["layout"]["scene"] == figures["reconstruction"]["layout"]["scene"]
    assert "intensity" not in figures["input"]["data"][0]


def test_large_mesh_is_simplified_and_says_so(monkeypatch):
    monkeypatch.setattr(report, "PAGE_TRIANGLES", 1000)
    vertices, faces = sphere(radius=3.0)
    page = report.html_report("ball", make_record(), {}, (vertices, faces), (vertices, faces), 3.0 + vertices[:, 2])
    trace = figures_of(page)["reconstruction"]["data"][0]
    shown_vertices, shown_faces = mesh_of(trace)
    assert len(shown_faces) <= 1000 and shown_faces.max() < len(shown_vertices)
    assert f"{len(faces):,} triangles (drawn simplified to {len(shown_faces):,})" in page
    # 1,000 triangles of a sphere: edges of 0.5 by area, so about 0.5^2 / (8 * 3) = 0.01 off the surface
    assert np.abs(np.linalg.norm(shown_vertices, axis=1) - 3.0).max() < 0.05
    # The colour is that of the nearest original vertex, whose edges are 0.2 long.
    assert np.abs(array(trace["intensity"]) - (3.0 + shown_vertices[:, 2])).max() < 0.2


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_a_mesh_is_simplified_alike_in_any_unit(scale):
    vertices, faces = sphere(radius=3.0)
    fewer, kept = report.simplified(scale * vertices, faces, 1000)
    assert len(kept) <= 1000
    assert np.abs(np.linalg.norm(fewer / scale, axis=1) - 3.0).max() < 0.05


def test_part_far_from_its_origin_is_drawn_about_its_centre():
    vertices, faces = torus()
    far = np.array([1e7, -2e7, 3e7])
    page = report.html_report("far", make_record(), {}, (vertices + far, faces), (vertices + far, faces))
    shown = mesh_of(figures_of(page)["input"]["data"][0])[0]
    # What is left is the rounding of float64 at 3e7 (4e-9) and of float32 at 1 (6e-8); at 3e7, float32 has 2.
    assert np.abs(shown - vertices).max() < 1e-6
    assert "relative to 10000000, -20000000, 30000000" in page


@pytest.mark.parametrize(
    "arguments",
    [
        {"input_mesh": (np.zeros((4, 2)), np.zeros((1, 3), int)), "reconstruction": None},
        {"input_mesh": None, "reconstruction": (np.zeros((4, 3)), np.zeros((1, 4), int))},
        {"input_mesh": None, "reconstruction": torus(), "vertex_distance": np.zeros(5)},
        {"input_mesh": None, "reconstruction": torus(), "vertex_distance": np.full(48 * 24, np.nan)},
    ],
)
def test_arrays_of_another_shape_are_refused(arguments):
    with pytest.raises(ValueError, match="needs"):
        report.html_report("part", make_record(), {}, **arguments)


# ----------------------------------------------------------------------------------------------------
# Curves


def test_curve_keeps_what_can_be_drawn_and_the_last_point():
    count = 10 * report.CURVE_POINTS + 7
    samples = np.arange(1.0, count + 1)
    loss = 1 / samples
    loss[:5] = [np.nan, np.inf, 0.0, -1.0, 1.0]
    shown_samples, shown_loss = report._curve({"samples": samples, "loss": loss}, "loss")
    assert len(shown_samples) <= report.CURVE_POINTS and np.all(np.diff(shown_samples) > 0)
    assert shown_samples[-1] == count and shown_loss[-1] == loss[-1]
    assert set(shown_samples) <= set(samples[4:])
    assert report._curve({"samples": samples, "loss": np.full(count, np.nan)}, "loss") is None


def test_curve_of_one_value_an_epoch_is_spread_over_the_samples():
    samples, _ = report._curve(make_history(), "validation")
    assert np.allclose(samples, [1e6, 2e6, 3e6])


def test_curves_on_the_page_are_the_history():
    history = make_history()
    traces = {
        t["name"]: t for t in figures_of(report.html_report("p", make_record(), history, None, None))["curves"]["data"]
    }
    assert np.array_equal(array(traces["training loss"]["y"]), history["loss"])
    assert np.array_equal(array(traces["held-out error"]["x"]), history["samples"][::30])
    assert traces["learning rate"]["yaxis"] == "y2"


def has_colour(pixels, colour):
    wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return (np.abs(pixels - wanted).max(axis=-1) < 12).sum() > 20


def test_curves_picture_draws_what_there_is():
    history = make_history()
    full = pixels_of(report.curves_png("part", history, make_record()))
    only_loss = {key: history[key] for key in ("samples", "loss")}
    less = pixels_of(report.curves_png("part", only_loss, make_record()))
    assert full.shape[0] > 300 and full.shape[1] > 600
    for key in ("loss", "held_out", "validation", "learning_rate"):
        assert has_colour(full, report.COLOURS[key]), key
    assert has_colour(less, report.COLOURS["loss"]) and not has_colour(less, report.COLOURS["held_out"])


@pytest.mark.parametrize("history", [{}, {"samples": [], "loss": []}, {"samples": [1.0], "loss": [np.nan]}])
def test_curves_picture_of_hostile_name_and_no_history(history, recwarn):
    pixels = pixels_of(report.curves_png(HOSTILE, history, {}))
    assert pixels.std() > 1 and not has_colour(pixels, report.COLOURS["loss"])
    assert not recwarn.list


def test_heavy_libraries_wait_until_asked_for_and_pyplot_for_ever():
    script = (
        "import sys, report;"
        "heavy = {'matplotlib', 'plotly', 'torch', 'scipy', 'PIL', 'fast_simplification'};"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys();"
        "report.curves_png('n', {'samples': [1, 2], 'loss': [2, 1]}, {});"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------------------------------
# Thumbnails


def rasterised_slowly(corners, side):
    """The slow twin of `rasterised`: each triangle against each pixel centre by barycentric coordinates."""
    face, depth = np.full((side, side), -1), np.full((side, side), -np.inf)
    x, y = np.meshgrid(np.arange(side) + 0.5, side - 0.5 - np.arange(side))
    for index, (a, b, c) in enumerate(corners):
        (e, f), (g, h) = (b - a)[:2], (c - a)[:2]
        area = e * h - f * g
        s = ((x - a[0]) * h - (y - a[1]) * g) / area
        t = ((y - a[1]) * e - (x - a[0]) * f) / area
        nearness = a[2] + s * (b - a)[2] + t * (c - a)[2]
        front = (s >= 0) & (t >= 0) & (s + t <= 1) & (nearness > depth)
        face[front], depth[front] = index, nearness[front]
    return face, depth


@pytest.mark.parametrize("seed", range(5))
def test_rasteriser_agrees_with_its_slow_twin(seed):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(-8, 40, (30, 3, 3))  # some reach beyond the picture of 32 by 32
    face, depth = report.rasterised(corners, 32)
    expected_face, expected_depth = rasterised_slowly(corners, 32)
    assert np.array_equal(face, expected_face)
    covered = face >= 0
    assert np.allclose(depth[covered], expected_depth[covered], atol=1e-9)  # rounding of coordinates up to 40
    assert 0.2 < covered.mean() < 1


def test_rasteriser_leaves_no_gap_between_triangles():
    face, _, _ = report._rendered(*sphere(), 200)
    rows = [np.flatnonzero(row >= 0) for row in face]
    assert all(len(row) == row[-1] - row[0] + 1 for row in rows if len(row))
    # The silhouette of a ball that fills 0.96 of the side; a pixel of the outline is 0.5% of the diameter.
    assert (face >= 0).mean() == pytest.approx(np.pi / 4 * 0.96**2, rel=0.01)


def test_thumbnail_of_a_ball_is_lit_from_above_whichever_way_its_triangles_face():
    vertices, faces = sphere()
    picture = report.thumbnail_png(vertices, faces, 64)
    pixels = pixels_of(picture)
    assert pixels.shape == (64, 64, 3)
    assert np.all(pixels[0, 0] == 255) and pixels.std() > 20
    assert pixels[12, 26:38].mean() > pixels[52, 26:38].mean() + 40
    assert report.thumbnail_png(vertices, faces[:, ::-1], 64) == picture
    moved = pixels_of(report.thumbnail_png(vertices * 1e3 - 5e4, faces, 64))
    assert np.abs(moved - pixels).mean() < 1  # rounding moves a pixel or two of an edge


def test_thumbnail_shows_the_hole_of_a_torus_and_edges_of_a_box():
    pixels = pixels_of(report.thumbnail_png(*torus(minor=0.2), 96))
    assert np.all(pixels[48, 48] == 255) and np.any(pixels[48, :20] < 255)
    import trimesh

    box = trimesh.creation.box()
    shades = pixels_of(report.thumbnail_png(box.vertices, box.faces, 96)).reshape(-1, 3)
    values, counts = np.unique(shades, axis=0, return_counts=True)
    assert (counts > 96 * 96 // 20).sum() == 4  # ground and three sides, each its own shade
    assert values.sum(axis=1).min() < 0.7 * np.sort(values[counts > 96 * 96 // 20].sum(axis=1))[0]  # darker edges


def test_thumbnail_of_nothing_is_white_and_of_a_flat_mesh_is_drawn():
    assert np.all(pixels_of(report.thumbnail_png(np.zeros((0, 3)), np.zeros((0, 3), int), 32)) == 255)
    flat = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]], float)
    assert pixels_of(report.thumbnail_png(flat, np.array([[0, 1, 2], [0, 0, 0]]), 32)).std() > 10
    with pytest.raises(ValueError, match="needs"):
        report.thumbnail_png(np.zeros((3, 2)), np.zeros((1, 3), int))


# ----------------------------------------------------------------------------------------------------
# The gallery


def make_rows():
    png = report.thumbnail_png(*torus(12, 8), 24)
    good = {
        "name": "good",
        "status": "done",
        "surface_error": 1e-4,
        "iou": 0.999,
        "chamfer": 1e-4,
        "seconds": 61.0,
    }
    bad = {"name": "bad", "status": "done", "surface_error": 9e-3, "iou": 0.9, "seconds": 3700}
    middling = {
        "name": "middling",
        "status": "done",
        "surface_error": 2e-3,
        "iou": float("nan"),
        "chamfer": None,
    }
    unscored = {"name": "unscored", "status": "done", "surface_error": float("nan")}
    return [
        {**good, "report": "sub dir/50% #1?.html", "thumbnail": png},
        {**bad, "thumbnail": "t/bad.png"},
        {**middling, "thumbnail": base64.b64encode(png)},
        {"name": "refused", "status": "failed", "reason": "no triangles", "surface_error": None},
        {**unscored, "report": "javascript:alert(1)", "thumbnail": base64.b64encode(png).decode()},
        dict.fromkeys(("name", "status", "reason", "report", "thumbnail"), HOSTILE),
    ]


def test_gallery_is_sorted_worst_first_and_shows_reasons():
    page = report.gallery_html(make_rows(), HOSTILE)
    page.encode("utf-8")
    shown = page.split("<tbody>")[1].split("<tr")[1:]
    marks = ("refused", "unscored", "bad<", "middling", "good", "alert")
    order = [next(mark for mark in marks if mark in row) for row in shown]
    assert order[2:] == ["unscored", "bad<", "middling", "good"] and set(order[:2]) == {"refused", "alert"}
    assert "no triangles" in page
    parsed = Tags(page)
    assert parsed.count("script") == 1 and parsed.count("tr") == 7


def test_gallery_links_and_pictures_stay_inside_the_folder():
    parsed = Tags(report.gallery_html(make_rows(), "folder"))
    links = [a["href"] for tag, a in parsed.tags if tag == "a"]
    assert "sub%20dir/50%25%20%231%3F.html" in links and "javascript%3Aalert%281%29" in links
    pictures = [a["src"] for tag, a in parsed.tags if tag == "img"]
    assert all(":" not in link and not link.startswith("/") for link in links)
    assert sum(source.startswith("data:image/png;base64,iVBORw0KGgo") for source in pictures) == 3
    assert "t/bad.png" in pictures and all(a["loading"] == "lazy" for tag, a in parsed.tags if tag == "img")
    inside = [source for source in pictures if source.startswith("data:")]
    assert all(pixels_of(base64.b64decode(source.split(",")[1])).std() > 5 for source in inside)


def test_gallery_of_more_parts_than_a_browser_likes_keeps_the_worst(monkeypatch):
    monkeypatch.setattr(report, "GALLERY_ROWS", 3)
    page = report.gallery_html(make_rows(), "folder")
    assert "worst 3 of 6 parts" in page and "unscored" in page and "middling" not in page


def test_gallery_of_nothing_is_a_page():
    assert Tags(report.gallery_html([], "empty")).count("table") == 1


# ----------------------------------------------------------------------------------------------------
# In a browser


class Browser:
    """Chromium without a display, driven through its debugging pipe: JSON messages ending in a zero byte."""

    # Software WebGL needs no display and no GPU; the rest keeps the browser from calling anyone.
    FLAGS = (
        *("--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe"),
        *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
        *(
            "--disable-quic",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ),
    )
    PATIENCE = 60.0  # seconds that a busy machine may take for one answer

    def __init__(self, program, folder):
        command_end, self.commands = os.pipe()
        self.answers, answer_end = os.pipe()
        # Chromium reads file descriptor 3 and writes 4: keep ours clear of those until the child has its own.
        child = [fcntl.fcntl(end, fcntl.F_DUPFD, 64) for end in (command_end, answer_end)]
        shell = ["/bin/bash", "-c", f'exec "$@" 3<&{child[0]} 4>&{child[1]}', "-", program]
        arguments = [*self.FLAGS, f"--user-data-dir={folder}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([*shell, *arguments], pass_fds=child, **quiet)
        for end in (command_end, answer_end, *child):
            os.close(end)
        self.number, self.session, self.buffer, self.events = 0, None, b"", []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.send("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def receive(self):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], self.PATIENCE)
            received = os.read(self.answers, 1 << 20) if ready else b""
            assert received, "Chromium gives no answer"
            self.buffer += received
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def send(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def value(self, expression):
        return self.send("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def until(self, expression):
        """Wait until an expression is true in the page."""
        end = time.monotonic() + self.PATIENCE
        while not self.value(expression):
            assert time.monotonic() < end, f"never came true: {expression}\n{self.complaints()}"
            time.sleep(0.05)

    def open(self, path, page):
        path.write_text(page, encoding="utf-8")
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        self.until(f"location.href === {json.dumps(path.as_uri())} && document.readyState === 'complete'")

    def box(self, element):
        place = f"document.querySelector('{element}').getBoundingClientRect()"
        return json.loads(self.value(f"JSON.stringify({place})"))

    def picture(self, element):
        """The pixels (H, W, 3) of an element as they are on the screen."""
        box = json.loads(self.value(f"JSON.stringify(document.querySelector('{element}').getBoundingClientRect())"))
        clip = {key: box[key] for key in ("x", "y", "width", "height")}
        shot = self.send("Page.captureScreenshot", clip={**clip, "scale": 1}, captureBeyondViewport=True)
        return pixels_of(base64.b64decode(shot["data"]))

    def drag(self, element, right, down):
        box = json.loads(self.value(f"JSON.stringify(document.querySelector('{element}').getBoundingClientRect())"))
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse = {"button": "left", "buttons": 1, "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **mouse)
        for step in np.linspace(0.1, 1.0, 10):
            self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x + right * step, y=y + down * step, **mouse)
            time.sleep(0.05)  # one drawn frame each, as a hand would
        mouse["buttons"] = 0
        self.send("Input.dispatchMouseEvent", type="mouseReleased", x=x + right, y=y + down, **mouse)

    def complaints(self):
        """Errors in the console, uncaught exceptions, dialogs, and requests for anything but files."""
        found = []
        for event in self.events:
            parameters, method = event["params"], event["method"]
            if method in ("Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
                found.append(parameters)
            if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                found.append(parameters)
            if method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
                found.append(parameters)
            if method == "Network.requestWillBeSent":
                address = parameters["request"]["url"]
                found += [address] if not address.startswith(("file:", "data:", "blob:")) else []
        return found

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.commands)
        os.close(self.answers)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    running = Browser(program, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


DRAWN = "document.documentElement.dataset.drawn === '{}'"


def shaded_share(pixels):
    """The share of pixels darker than any background of a page: a drawn surface, or text."""
    return (pixels.mean(axis=-1) < 215).mean()


def test_browser_draws_both_meshes(browser, tmp_path):
    vertices, faces = torus()
    mesh, distance = (vertices, faces), 0.1 * np.maximum(vertices[:, 0], 0)
    page = report.html_report("drawn", make_record(), make_history(), mesh, mesh, distance)
    browser.open(tmp_path / "drawn.html", page)
    browser.until(DRAWN.format("input reconstruction curves"))
    views = {view: browser.picture(f"#{view}") for view in ("input", "reconstruction")}
    curves = browser.picture("#curves")
    browser.open(tmp_path / "bare.html", report.html_report("bare", make_record(), {}, None, None))
    bare = browser.picture(".view")
    assert shaded_share(bare) < 0.05
    for view, pixels in views.items():
        assert shaded_share(pixels) > 0.15 and pixels.std() > 2 * bare.std(), view
        assert len(np.unique(pixels[100:-100, 100:-100].reshape(-1, 3) // 8, axis=0)) > 10, view  # it is lit
    redness = [(pixels[..., 0] - pixels[..., 2]).max() for pixels in views.values()]
    assert redness[0] < 20 and redness[1] > 100  # only the reconstruction wears the deviation scale
    assert has_colour(curves, report.COLOURS["loss"])


def test_browser_console_stays_quiet_and_cameras_are_linked(browser, tmp_path):
    mesh = torus()
    page = report.html_report(HOSTILE, make_record(), make_history(), mesh, mesh, np.zeros(len(mesh[0])))
    browser.open(tmp_path / "linked.html", page)
    browser.until(DRAWN.format("input reconstruction curves"))
    buttons = browser.value("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert len(buttons) >= 10 and not [title for title in buttons if "loud" in title or "hare" in title]
    eye = (
        "Object.values(document.getElementById('{}')._fullLayout.scene._scene.getCamera().eye)"
        ".map(x => x.toFixed(4)).join()"
    )
    before = browser.value(eye.format("input"))
    assert before == browser.value(eye.format("reconstruction"))
    browser.drag("#input", 90, 40)
    browser.until(f"{eye.format('input')} !== {json.dumps(before)}")
    browser.until(f"{eye.format('input')} === {eye.format('reconstruction')}")
    assert browser.complaints() == []


def test_browser_shades_small_triangles_in_metres_as_large_ones_in_millimetres(browser, tmp_path):
    pictures = []
    for around, size in ((64, 1.0), (200, 1e-4)):
        vertices, faces = torus(around, around // 2)
        page = report.html_report("part", make_record(), {}, (vertices * size, faces), None)
        browser.open(tmp_path / f"size{around}.html", page)
        browser.until(DRAWN.format("input"))
        pictures.append(browser.picture("#input"))
    assert pictures[0].std() > 10
    # The facets of the coarse one differ from the fine surface by a few shades in 255; unlit, it would be 30.
    assert np.abs(pictures[0] - pictures[1]).mean() < 3


def test_browser_says_so_where_it_cannot_draw(browser, tmp_path):
    page = report.html_report("part", make_record(), make_history(), torus(), None)
    old = page.replace('new DecompressionStream("gzip")', "new StreamOfTheFuture()")
    assert old != page
    browser.open(tmp_path / "old.html", old)
    browser.until("document.querySelectorAll('.broken').length === 2")
    assert "figures below are complete" in browser.value("document.querySelector('.broken').textContent")
    assert browser.complaints()  # the console names the reason; and this list can be other than empty


def test_browser_sorts_and_filters_the_gallery(browser, tmp_path):
    rows = [{k: v for k, v in row.items() if row["name"] != HOSTILE or k != "thumbnail"} for row in make_rows()]
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "bad.png").write_bytes(rows[0]["thumbnail"])
    browser.open(tmp_path / "index.html", report.gallery_html(rows, "folder"))
    shown = "[...document.querySelectorAll('tbody tr')].filter(r => !r.hidden).map(r => r.cells[1].textContent)"
    button = "[...document.querySelectorAll('th button')].find(b => b.textContent === '{}').click()"
    browser.value(button.format("Surface error"))
    assert browser.value(shown)[:3] == ["good", "middling", "bad"]
    browser.value(button.format("Surface error"))
    assert browser.value(shown)[-3:] == ["bad", "middling", "good"]
    browser.value(button.format("Time"))
    assert browser.value(shown)[:2] == ["good", "bad"]  # 61 s before 3700 s, by number and not by word
    browser.value("document.getElementById('filter').value = 'TRIANG'")
    browser.value("document.getElementById('filter').dispatchEvent(new Event('input'))")
    browser.until(f"{shown}.length === 1")
    assert browser.value(shown)[0].startswith("refused")
    assert browser.complaints() == []
