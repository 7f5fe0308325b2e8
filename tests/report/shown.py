"""Meshes, records and hostile text to show, and readers of pages and pictures."""

import base64
import gzip
import io
import json
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from neuralparts import report

HOSTILE = "</title><script>alert(1)</script><b>&amp;\"'\udcff 车轮 $\\frac{$ \n\x07.stl"
# Texts that a name, a note or a reason may hold. Each means something to HTML, JavaScript, jinja2 or an encoder.
HOSTILE_TEXTS = [
    HOSTILE,
    "<b>bold</b>",
    '" onmouseover="alert(1)" x="',
    "' onmouseover='alert(1)' x='",
    "</script><script>alert(1)</script>",
    "</style><style>* { display: none }</style>",
    "<!-- ]]> -->",
    "{{ 7 * 7 }} {% raw %} {# #}",
    "javascript:alert(1)",
    "&lt;b&gt; &amp;#60;",
    "one\ntwo\r\nthree\ttab",
    "no UTF-8: \udcff\udc80",
]
VOID_TAGS = {"meta", "input", "img", "br"}


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


def signed_distance_to_torus(points, major=1.0, minor=0.4):
    """(N, 3) points -> (N,) signed distance to the smooth torus, negative inside."""
    ring = np.hypot(points[:, 0], points[:, 1]) - major
    return np.hypot(ring, points[:, 2]) - minor


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
        "diagnosis": {"triangles": 2304, "closed": True, "changes": ["Merged 3 vertices.", "Flipped 1 body."]},
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
    """The tags of a page with their attributes, and its texts by innermost tag. Tags left open fail."""

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

    def structure(self):
        """Tags and names of attributes, in order; no text may change them."""
        return [(tag, list(attributes)) for tag, attributes in self.tags]


def unpacked(page, element):
    """The text that a page carries compressed."""
    packed = page.split(f'id="{element}">')[1].split("</script>")[0]
    return gzip.decompress(base64.b64decode(packed)).decode("utf-8")


def figures_of(page):
    """The figures of a page by their id."""
    return json.loads(unpacked(page, "figures"))


def array(packed):
    """An array (N,) as plotly reads it."""
    return np.frombuffer(base64.b64decode(packed["bdata"]), np.dtype(packed["dtype"]).newbyteorder("<"))


def mesh_of(trace):
    """vertices (V, 3) and faces (F, 3) of a trace."""
    vertices = np.stack([array(trace[axis]) for axis in "xyz"], axis=1)
    return vertices, np.stack([array(trace[corner]) for corner in "ijk"], axis=1)


def has_colour(pixels, colour):
    """True if more than 20 pixels have about this colour, #rrggbb."""
    wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return (np.abs(pixels - wanted).max(axis=-1) < 12).sum() > 20


def pixels_of(png):
    """The picture as (H, W, 3) float64, 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float64)


def make_rows():
    """Parts of a folder, for the gallery; the last one has hostile text everywhere."""
    good = {
        "name": "good",
        "status": "done",
        "verdict": "good",
        "surface_error": 1e-4,
        "iou": 0.999,
        "chamfer": 1e-4,
        "seconds": 61.0,
    }
    bad = {"name": "bad", "status": "done", "verdict": "poor", "surface_error": 9e-3, "iou": 0.9, "seconds": 3700}
    middling = {
        "name": "middling",
        "status": "done",
        "verdict": "fair",
        "surface_error": 2e-3,
        "iou": float("nan"),
        "chamfer": None,
    }
    unscored = {"name": "unscored", "status": "done", "surface_error": float("nan")}
    return [
        {**good, "report": "sub dir/50% #1?.html", "thumbnail": "t/100% good.png"},
        {**bad, "thumbnail": "t/bad.png"},
        {**middling, "thumbnail": "t/middling.png"},
        {"name": "refused", "status": "failed", "reason": "no triangles", "surface_error": None},
        {**unscored, "report": "javascript:alert(1)", "thumbnail": "t/#unscored?.png"},
        dict.fromkeys(("name", "status", "reason", "report", "thumbnail"), HOSTILE),
    ]


def html_report(name, record, history, input_mesh, reconstruction, signed_distance=None, network_view=None, files=()):
    """The page of a part, drawn and written."""
    drawing = report.draw_page(history, input_mesh, reconstruction, signed_distance)
    return report.page_html(name, record, drawing, network_view, files)


def sheet_png(name, history, record, input_mesh=None, reconstruction=None, deviation=None, section=None):
    """The sheet of pictures, drawn and written."""
    missing = record.get("failure") or "none was made"
    return report.sheet_png(
        report.draw_sheet(name, history, missing, input_mesh, reconstruction, deviation, section), record
    )
