"""What a person looks at: the curves, the 3-D page of a part, the gallery of a folder, a thumbnail.

In: the record of a fit (the dict that becomes NAME.json), its history (arrays), meshes in file units.
Out: text and bytes. This module writes no file and opens no window; every page works offline, from file://,
with everything that it needs inside. Errors and distances in `record["metrics"]` are in domain units, as in
NAME.json; a page shows lengths in file units beside them.
"""

import base64
import gzip
import html
import io
import json
import math
import os
import urllib.parse
import warnings
from functools import lru_cache

import numpy as np

from neuralparts.metric_names import METRIC_NAMES

# Triangles of a mesh on a page; above it the drawing (not the result) is simplified. So many are finer than
# the pixels of half a screen and add half a megabyte to the page.
PAGE_TRIANGLES = 40_000
# Size, in its own units, at which a mesh is simplified.
SIMPLIFIED_SIZE = 100.0
# Points of a curve on a page or in NAME.png: more than a screen has columns of pixels.
CURVE_POINTS = 2_000
# Rows of a gallery; summary.csv has them all. Chromium sorts so many in 0.6 s, drawing included, on two
# cores.
GALLERY_ROWS = 10_000
# A mesh further from its origin than this many times its own size is drawn about its own centre, for a
# browser draws in float32: 2^-24 * 1000 of the size is a tenth of a pixel.
FAR_FROM_ORIGIN = 1_000.0

# Dark where a curve or a title is, so that a page prints well; the deviation scale is light where the fit is
# good and darkens steadily, so that it reads without colour vision too.
COLOURS = {
    "ink": "#1c2733",
    "loss": "#2b6cb0",
    "held_out": "#d9622b",
    "validation": "#2f855a",
    "learning_rate": "#8894a3",
}
DEVIATION_SCALE = [[0.0, "#dbe4ee"], [0.25, "#f4dc9b"], [0.55, "#ee8f3c"], [0.8, "#c93a26"], [1.0, "#6d0a1c"]]
INPUT_COLOUR = "#a9bdd2"
COORDINATES = "x %{x:.5g}<br>y %{y:.5g}<br>z %{z:.5g}"

# From where the eye looks at first, as a part is usually drawn: front, right, above; z up.
EYE = np.array([0.52, -0.72, 0.46])
# In plotly's units, where the sphere around a part has radius 1/2. It fits a square view from 0.5 / sin(22.5
# degrees) = 1.31, half of what the camera sees; a little further off it fits a narrower one too.
EYE_DISTANCE = 1.5
# Where plotly's lamp stands, far away: on the left of that eye and above, so that top, front and side differ.
SUN = (-25_000.0, -70_000.0, 80_000.0)
COLOUR_BAR_WIDTH = 92  # pixels, with its title and six figures
CLEAR = "rgba(0,0,0,0)"

CURVES = (("loss", "training loss"), ("held_out", "held-out error"), ("validation", "validation grid"))
TABLES = (
    ("How the fit ended", "fit"),
    ("Flags", "flags"),
    ("Diagnosis of the input", "diagnosis"),
    ("Domain = (file \N{MINUS SIGN} center) \N{MULTIPLICATION SIGN} scale", "transform"),
)
DASH, DOT = "\N{EN DASH}", " \N{MIDDLE DOT} "


# ----------------------------------------------------------------------------------------------------
# Words and numbers


def _text(value):
    """Any value as text that is safe inside HTML and can always be written as UTF-8."""
    readable = str(value).encode("utf-8", "replace").decode("utf-8")
    return html.escape(readable, quote=True)


def _is_finite(value):
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)


def _number(value):
    """A number with four significant digits; an en dash for None, NaN and what is no number."""
    if not _is_finite(value) or isinstance(value, bool):
        return DASH
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{float(value):.4g}"


def _value(value):
    """A flag or a finding as text safe in HTML: yes and no, numbers, sentences one below the other, pairs."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if value is None or (isinstance(value, (float, np.floating)) and not math.isfinite(value)):
        return DASH
    if isinstance(value, (float, np.floating)):
        return f"{value:.8g}"  # a flag shows as it was given
    if isinstance(value, dict):
        return "; ".join(f"{_text(key)} {_value(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        between = "<br>" if any(isinstance(item, (str, dict)) for item in value) else ", "
        return between.join(map(_value, value)) or "none"
    return _text(value)


def _duration(seconds):
    """Seconds as a person says them."""
    if not _is_finite(seconds):
        return DASH
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _file_length(record, length):
    """A length of the domain in file units, or None where the record has no transform or no such figure."""
    scale = (record.get("transform") or {}).get("scale")
    return length / scale if _is_finite(length) and _is_finite(scale) and scale > 0 else None


# ----------------------------------------------------------------------------------------------------
# Curves


def _curve(history, key):
    """One curve as (samples (k,), values (k,)) float64, finite and at most CURVE_POINTS long, or None.

    An array as long as `samples` goes with it; a shorter one (`validation`: one an epoch) is spread evenly up
    to the last sample.
    """
    values = np.asarray(history.get(key, ()), np.float64).reshape(-1)
    samples = np.asarray(history.get("samples", ()), np.float64).reshape(-1)
    if not len(values):
        return None
    if len(samples) != len(values):
        last = samples[-1] if len(samples) else len(values)
        samples = np.linspace(0, last, len(values) + 1)[1:]
    usable = np.isfinite(values) & np.isfinite(samples) & (values > 0)
    samples, values = samples[usable], values[usable]
    stride = max(1, math.ceil(len(values) / CURVE_POINTS))
    return (samples[::-stride][::-1], values[::-stride][::-1]) if len(values) else None


def curves_png(name, history, record):
    """Loss and errors over samples, and the learning rate, as a picture.

    name: title, any text. history: dict of arrays (`samples (n,)`, `loss (n,)`, perhaps `held_out (n,)`,
    `learning_rate (n,)`, `validation (m,)`). record: the dict of NAME.json. Returns the bytes of a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(9, 5), dpi=110)
    FigureCanvasAgg(figure)
    errors, rate = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    # Fixed margins, with room for a caption of two lines and ticks such as 2 x 10^-4: a layout engine draws twice.
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.1, top=0.9, hspace=0.12)
    for key, label in CURVES:
        _draw_curve(errors, _curve(history, key), COLOURS[key], label, "o" if key == "validation" else None)
    _draw_curve(rate, _curve(history, "learning_rate"), COLOURS["learning_rate"], None, None)
    errors.set_ylabel("error")
    rate.set(ylabel="learning rate", xlabel="samples seen")
    rate.xaxis.set_major_formatter(EngFormatter(sep=""))
    errors.set_title(_caption(name, record), loc="left", fontsize=11, color=COLOURS["ink"], parse_math=False)
    if errors.lines:
        errors.legend(frameon=False)
    else:
        errors.text(0.5, 0.5, "no loss was recorded", transform=errors.transAxes, ha="center", color="grey")
    picture = io.BytesIO()
    with warnings.catch_warnings():  # a name in a script that the font lacks shows as boxes; that is no news
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(picture, format="png")
    return picture.getvalue()


def _draw_curve(axes, curve, colour, label, marker):
    axes.grid(True, which="major", color="#e3e8ee")
    axes.spines[["top", "right"]].set_visible(False)
    if curve is not None:
        axes.plot(*curve, color=colour, label=label, marker=marker, linewidth=1.4, markersize=4)
        axes.set_yscale("log")


def _caption(name, record):
    metrics = record.get("metrics") or {}
    figures = [
        f"{label.lower() if key != 'iou' else label} {_number(metrics.get(key))}"
        for key, (label, _, _) in METRIC_NAMES.items()
        if key in ("surface_error", "iou", "chamfer") and _is_finite(metrics.get(key))
    ]
    readable = str(name).encode("utf-8", "replace").decode("utf-8").replace("\n", " ")
    return f"{readable[:80]}\n{DOT.join(figures)}" if figures else readable[:80]


def _curves_figure(history):
    """The curves as a plotly figure (dict), or None where there is nothing to draw."""
    traces = []
    for key, label in (*CURVES, ("learning_rate", "learning rate")):
        curve = _curve(history, key)
        if curve is None:
            continue
        is_rate = key == "learning_rate"
        line = {"color": COLOURS[key], "width": 1.5, "dash": "dot" if is_rate else "solid"}
        mode = "lines+markers" if key == "validation" else "lines"
        trace = {
            "type": "scatter",
            "mode": mode,
            "name": label,
            "line": line,
            "yaxis": "y2" if is_rate else "y",
        }
        traces.append({**trace, "x": _packed(curve[0], "f8"), "y": _packed(curve[1], "f8")})
    return {"data": traces, "layout": {**_plain_layout(), **_curves_layout(history)}} if traces else None


def _decades(history, keys):
    """plotly's ticks for a log axis over some curves: powers of ten, and 2 and 5 where there are few of those."""
    values = [curve[1] for curve in (_curve(history, key) for key in keys) if curve is not None]
    low, high = (min(map(np.min, values)), max(map(np.max, values))) if values else (1, 1)
    return {"dtick": 1 if high > 100 * low else "D2"}


def _curves_layout(history):
    axis = {"type": "log", "gridcolor": "#e6ebf1", "exponentformat": "power", "zeroline": False}
    second = {"overlaying": "y", "side": "right", "showgrid": False, "title": {"text": "learning rate"}}
    return {
        "margin": {"l": 64, "r": 64, "t": 8, "b": 48},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": {"title": {"text": "samples seen"}, "gridcolor": "#e6ebf1", "zeroline": False},
        "yaxis": {**axis, **_decades(history, [key for key, _ in CURVES]), "title": {"text": "error"}},
        "yaxis2": {**axis, **second, **_decades(history, ["learning_rate"])},
        "hovermode": "x unified",
    }


# ----------------------------------------------------------------------------------------------------
# The 3-D views


def _plain_layout():
    font = {"family": "system-ui, sans-serif", "size": 12, "color": COLOURS["ink"]}
    bar = {"bgcolor": CLEAR, "color": "#a3afbc", "activecolor": COLOURS["ink"]}
    return {"autosize": True, "font": font, "paper_bgcolor": CLEAR, "plot_bgcolor": CLEAR, "modebar": bar}


def _packed(array, dtype):
    """An array as plotly's typed array: base64 of little-endian numbers instead of digits."""
    little_endian = np.ascontiguousarray(array, dtype=np.dtype(dtype).newbyteorder("<"))
    return {"dtype": dtype, "bdata": base64.b64encode(little_endian.tobytes()).decode("ascii")}


def _checked_mesh(mesh, what):
    vertices, faces = np.asarray(mesh[0], np.float64), np.asarray(mesh[1], np.int64)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"{what}: needs vertices (V, 3) and faces (F, 3), got {vertices.shape} and {faces.shape}")
    return vertices, faces


def _checked_distance(vertex_distance, vertices):
    distance = np.asarray(vertex_distance, np.float64)
    if distance.shape != (len(vertices),) or not np.isfinite(distance).all():
        raise ValueError(f"vertex_distance: needs ({len(vertices)},) finite numbers, got {distance.shape}")
    return distance


def simplified(vertices, faces, triangles):
    """The mesh with at most about so many triangles, to look at (Garland and Heckbert 1997, quadric errors).

    vertices (V, 3) float64, faces (F, 3) integer; returns the same kind, unchanged where it is small enough.
    Ripples of the surface cost quadric error, so what a deviation map shows is kept where it is.
    """
    if len(faces) <= triangles:
        return vertices, faces
    import fast_simplification

    # Its thresholds of error are lengths: they fit a part of some hundred units.
    center, scale = vertices.mean(axis=0), SIMPLIFIED_SIZE / max(np.ptp(vertices, axis=0).max(), 1e-30)
    local = (vertices - center) * scale
    fewer, kept = fast_simplification.simplify(local, faces.astype(np.int32), target_count=triangles)
    return np.asarray(fewer, np.float64) / scale + center, np.asarray(kept, np.int64)


def _mesh_trace(vertices, faces, origin):
    """A mesh (file units) as a plotly Mesh3d trace (dict), flat shaded so that edges are crisp."""
    local = vertices - origin
    index_type = "u2" if len(vertices) < 2**16 else "u4"
    return {
        "type": "mesh3d",
        **{axis: _packed(local[:, k], "f4") for k, axis in enumerate("xyz")},
        **{corner: _packed(faces[:, k], index_type) for k, corner in enumerate("ijk")},
        "flatshading": True,
        "lighting": {
            "ambient": 0.58,
            "diffuse": 0.6,
            "specular": 0.08,
            "roughness": 0.6,
            "fresnel": 0.0,
            # by default plotly leaves triangles unlit that are small beside the view, as in any fine mesh
            "facenormalsepsilon": 0,
        },
        "lightposition": dict(zip("xyz", SUN, strict=True)),
        "hovertemplate": f"{COORDINATES}<extra></extra>",
    }


def _view(trace, center, radius):
    """A plotly figure (dict) of one mesh without axes, framed to stay in the picture however turned.

    center (3,), radius: of the sphere around all that is shown, the same for each view so that cameras can be
    shared.
    """
    hidden = {"visible": False, "showspikes": False}
    axes = {
        f"{axis}axis": {**hidden, "range": [float(middle - radius), float(middle + radius)]}
        for axis, middle in zip("xyz", center, strict=True)
    }
    eye = dict(zip("xyz", (EYE / np.linalg.norm(EYE) * EYE_DISTANCE).tolist(), strict=True))
    scene = {**axes, "aspectmode": "cube", "dragmode": "orbit", "camera": {"eye": eye}}
    bar = COLOUR_BAR_WIDTH if "colorbar" in trace else 0
    layout = {"margin": {"l": 0, "r": bar, "t": 0, "b": 0}, "scene": scene}
    return {"data": [trace], "layout": {**_plain_layout(), **layout}}


def _deviation(vertices, shown_vertices, distance):
    """The part of a trace that colours a mesh by distance (V,) (file units), with its colour bar."""
    shown_distance = distance
    if shown_vertices is not vertices:
        from scipy.spatial import cKDTree

        shown_distance = distance[cKDTree(vertices).query(shown_vertices)[1]]
    # One stray vertex must not turn everything else into one colour; what is above shows as the darkest.
    top = float(np.percentile(distance, 99.5)) or float(distance.max()) or 1.0
    bar = {"title": {"text": "distance<br>(file units)"}, "x": 1.0, "xanchor": "left", "len": 0.86}
    return {
        "intensity": _packed(shown_distance, "f4"),
        "cmin": 0.0,
        "cmax": top,
        "colorscale": DEVIATION_SCALE,
        "colorbar": {**bar, "thickness": 11, "tickformat": ".2~g", "outlinewidth": 0, "nticks": 6},
        "hovertemplate": f"{COORDINATES}<br>distance %{{intensity:.3g}}<extra></extra>",
    }


def _frame(meshes):
    """The sphere around meshes and where to put their origin: center (3,), radius, origin (3,), file units.

    The origin is zero for a part near its own, else its centre, for float32 would shake what is far from
    zero.
    """
    vertices = np.concatenate([mesh[0][np.unique(mesh[1])] for mesh in meshes])
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    center = (low + high) / 2
    radius = max(float(np.linalg.norm(vertices - center, axis=1).max()), np.finfo(np.float32).tiny)
    return center, radius, center if np.abs(center).max() > FAR_FROM_ORIGIN * radius else np.zeros(3)


def _drawn(what, mesh, frame, vertex_distance):
    """One mesh, coloured where distances are given, as (figure, caption)."""
    center, radius, origin = frame
    shown = simplified(*mesh, PAGE_TRIANGLES)
    trace = {**_mesh_trace(*shown, origin), "color": INPUT_COLOUR}
    caption = f"<b>{what.capitalize()}</b>{DOT}{len(mesh[1]):,} triangles"
    if len(shown[1]) < len(mesh[1]):
        caption += f" (drawn simplified to {len(shown[1]):,})"
    if vertex_distance is not None:
        distance = _checked_distance(vertex_distance, mesh[0])
        trace.update(_deviation(mesh[0], shown[0], distance))
        caption += f"{DOT}colour: distance to the input, at most {_number(distance.max())} at a vertex"
    return _view(trace, center - origin, radius), caption


# ----------------------------------------------------------------------------------------------------
# The page of a part


def html_report(name, record, history, input_mesh, reconstruction, vertex_distance=None):
    """The page of one part: what came out, in 3-D, in curves and in figures; for a browser of 2023 or later.

    name: title, any text. record: the dict of NAME.json (`input flags diagnosis parameters timings metrics`,
    perhaps `fit` and `transform`); figures that are missing, None or NaN show as a dash. history: dict of
    arrays as in `curves_png`. input_mesh, reconstruction: (vertices (V, 3) float64 in file units, faces (F,
    3) integer), or None where there is none (a samples file; nothing crossed zero). vertex_distance (V,):
    distance of each vertex of the reconstruction to the input, in file units, or None. Returns the text of
    the page. Raises ValueError for arrays of another shape.
    """
    figures, panels, note = _views(input_mesh, reconstruction, vertex_distance, record)
    curves = _curves_figure(history)
    if curves:
        figures["curves"] = curves
    body = "".join(
        (
            _header(name, record),
            f'<section class="cards">{_cards(record)}</section>',
            f'<section class="views">{panels}</section><p class="note">{note}</p>',
            _curves_section(curves, history),
            f'<section class="tables">{_tables(record)}</section>',
        )
    )
    return _page(_text(name), PAGE_STYLE, body, _packed_scripts(figures))


def _views(input_mesh, reconstruction, vertex_distance, record):
    """The two 3-D panels: ({id: figure}, their HTML, the note below)."""
    meshes = {
        what: _checked_mesh(mesh, what)
        for what, mesh in (("input", input_mesh), ("reconstruction", reconstruction))
        if mesh is not None and len(mesh[1])
    }
    figures, captions = {}, {"input": _no_input(), "reconstruction": _no_reconstruction(record)}
    frame = _frame(meshes.values()) if meshes else None
    for what, mesh in meshes.items():
        distance = vertex_distance if what == "reconstruction" else None
        figures[what], captions[what] = _drawn(what, mesh, frame, distance)
    note = "Drag to turn, scroll to zoom, right-drag to move; the two views move together." if figures else ""
    if frame and frame[2].any():
        note += f" Coordinates under the pointer are relative to {_value(frame[2].tolist())}."
    return figures, "".join(_panel(key, captions[key], key in figures) for key in captions), note


def _panel(key, caption, drawn):
    if drawn:
        return f'<figure><div class="view" id="{key}"></div><figcaption>{caption}</figcaption></figure>'
    return f'<figure><div class="view empty"><p>{caption}</p></div></figure>'


def _no_input():
    return "<b>No input mesh to draw.</b> The fit started from labelled samples."


def _no_reconstruction(record):
    if (record.get("flags") or {}).get("reconstructionRes") == 0:
        return "<b>No reconstruction</b> was asked for (--reconstructionRes 0)."
    return f"<b>No reconstruction:</b> {_text(record.get('failure') or 'none was made')}."


def _header(name, record):
    ended = (record.get("fit") or {}).get("ended_by")
    badge = f'<span class="badge">{_text(ended)}</span>' if ended else ""
    lines = [line for line in (record.get("failure"), *(record.get("notes") or [])) if line]
    told = "".join(f"<p>{_text(line)}</p>" for line in lines)
    return f"<header><h1>{_text(name)}</h1><p>{_value(record.get('input'))} {badge}</p>{told}</header>"


def _cards(record):
    metrics, timings = record.get("metrics") or {}, record.get("timings") or {}
    surface_error, chamfer = metrics.get("surface_error"), metrics.get("chamfer")
    cards = [
        ("Surface error", _number(surface_error), _file_note(record, surface_error)),
        ("IoU", _number(metrics.get("iou")), "of the insides"),
        ("Chamfer", _number(chamfer), _file_note(record, chamfer)),
        ("Parameters", _number(record.get("parameters")), "numbers in the network"),
        ("Total time", _duration(timings.get("total")), f"fit {_duration(timings.get('fit'))}"),
    ]
    return "".join(
        f'<div class="card"><span>{label}</span><strong>{value}</strong><small>{note}</small></div>'
        for label, value, note in cards
    )


def _file_note(record, length):
    in_file = _file_length(record, length)
    return "domain units" if in_file is None else f"{_number(in_file)} file units"


def _curves_section(curves, history):
    if curves is None:
        return '<section><h2>Training</h2><p class="note">No loss was recorded.</p></section>'
    count = max(len(np.atleast_1d(history.get(key, ()))) for key, _ in CURVES)
    note = f'<p class="note">{CURVE_POINTS:,} of {count:,} points.</p>' if count > CURVE_POINTS else ""
    return f'<section><h2>Training</h2><div id="curves"></div>{note}</section>'


def _tables(record):
    sections = [("Metrics", _metrics_table(record)), ("Timings", _timings_table(record.get("timings") or {}))]
    for title, key in TABLES:
        if record.get(key):
            sections.append((title, _pairs_table(record[key])))
    known = {"input", "parameters", "timings", "metrics", *(key for _, key in TABLES)}
    others = {key: value for key, value in record.items() if key not in known}
    if others:
        sections.append(("Other entries of the record", _pairs_table(others)))
    return "".join(f"<section><h2>{title}</h2>{table}</section>" for title, table in sections)


def _metrics_table(record):
    metrics = record.get("metrics") or {}
    rows = []
    for key in [*METRIC_NAMES, *(key for key in metrics if key not in METRIC_NAMES)]:
        label, meaning, is_length = METRIC_NAMES.get(key, (_text(key), "", False))
        in_file = _number(_file_length(record, metrics.get(key))) if is_length else ""
        value = _number(metrics.get(key)) if key in METRIC_NAMES else _value(metrics[key])
        figures = f"<td class=n>{value}</td><td class=n>{in_file}</td>"
        rows.append(f"<tr><th>{label}<small>{meaning}</small></th>{figures}</tr>")
    head = "<thead><tr><th></th><th class=n>domain</th><th class=n>file units</th></tr></thead>"
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


def _timings_table(timings):
    total = timings.get("total")
    rows = []
    for stage, seconds in timings.items():
        share = 100 * seconds / total if _is_finite(seconds) and _is_finite(total) and total > 0 else 0.0
        bar = f'<i style="width:{min(share, 100):.1f}%"></i>' if stage != "total" else ""
        rows.append(f"<tr><th>{_text(stage)}</th><td class=n>{_number(seconds)} s</td><td class=bar>{bar}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _pairs_table(pairs):
    if not isinstance(pairs, dict):
        return f"<p>{_value(pairs)}</p>"
    rows = (f"<tr><th>{_text(key)}</th><td>{_value(value)}</td></tr>" for key, value in pairs.items())
    return f"<table>{''.join(rows)}</table>"


# ----------------------------------------------------------------------------------------------------
# The shell of a page


def _compressed(text):
    return base64.b64encode(gzip.compress(text.encode("utf-8"), 9, mtime=0)).decode("ascii")


@lru_cache(maxsize=1)
def _plotly_compressed():
    """plotly.js, compressed: 2 MB of page instead of 4.8; once a process, it takes a third of a second."""
    from plotly.offline import get_plotlyjs

    return _compressed(get_plotlyjs())


def _packed_scripts(figures):
    """The drawing library, the figures and the few lines that draw them; nothing where there is no figure."""
    if not figures:
        return ""
    data = _compressed(json.dumps(figures, allow_nan=False))
    return (
        f'<script type="text/plain" id="library">{_plotly_compressed()}</script>'
        f'<script type="text/plain" id="figures">{data}</script><script>{PAGE_SCRIPT}</script>'
    )


def _page(title, style, body, scripts):
    """A whole page. title and body are HTML already. The policy forbids loading anything from anywhere."""
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; "
        "img-src data: blob:; worker-src blob:"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head>\n<body><main>{body}</main>\n{scripts}</body></html>\n"
    )


COMMON_STYLE = """
:root { --ink: #1c2733; --soft: #5d6b7a; --line: #e1e7ee; --page: #f4f6f9; --accent: #2b6cb0;
  --bad: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { margin: 0; font-size: 26px; font-weight: 650; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 0 0 10px; font-size: 15px; font-weight: 650; }
header p { margin: 4px 0 0; color: var(--soft); overflow-wrap: anywhere; }
small { color: var(--soft); font-size: 12.5px; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.note { color: var(--soft); font-size: 13px; margin: 8px 2px 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px;
  margin: 20px 0; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.card span { display: block; color: var(--soft); font-size: 13px; }
.card strong { display: block; font-size: 24px; font-weight: 650; font-variant-numeric: tabular-nums; }
"""

PAGE_STYLE = (
    COMMON_STYLE
    + """
.badge { display: inline-block; padding: 1px 10px; margin-left: 6px; border-radius: 99px; background: #e3ecf6;
  color: #1f4e86; font-size: 13px; }
.views { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 12px; }
figure, main > section:not(.cards, .views, .tables), .tables section { margin: 0; background: #fff;
  border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
figcaption { padding: 10px 16px; border-top: 1px solid var(--line); font-size: 13.5px; }
.view { height: min(62vh, 520px, 84vw); background: linear-gradient(#fdfdfe, #edf1f6); }
.empty { display: flex; align-items: center; justify-content: center; height: 100%; min-height: 240px;
  padding: 32px; color: var(--soft); text-align: center; }
main > section:not(.cards, .views, .tables) { margin-top: 16px; padding: 16px; }
#curves { height: 340px; }
.tables { columns: 2 480px; column-gap: 16px; margin-top: 16px; }
.tables section { break-inside: avoid; padding: 16px; margin-bottom: 16px; }
table { width: 100%; border-collapse: collapse; font-size: 14px; }
tr + tr > *, tbody > tr:first-child > * { border-top: 1px solid var(--line); }
table > tbody:first-child > tr:first-child > * { border-top: 0; }
th { text-align: left; font-weight: 500; vertical-align: top; min-width: 9em; }
th, td { padding: 6px 10px 6px 0; overflow-wrap: anywhere; }
th small { display: block; font-weight: 400; }
thead th { min-width: 0; color: var(--soft); font-size: 12.5px; padding-top: 0; }
td.bar { width: 40%; } td.bar i { display: block; height: 8px; border-radius: 4px; background: #9dbbe0; }
.broken { padding: 24px; color: var(--bad); }
@media print { .view { height: 320px; } body { background: #fff; } }
"""
)

PAGE_SCRIPT = """
"use strict";
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}
function linkCameras(views) {
  let turning = false;
  for (const view of views) for (const moved of ["plotly_relayouting", "plotly_relayout"])
    view.on(moved, change => {
      const camera = change["scene.camera"];
      if (!camera || turning) return;
      turning = true;
      const others = views.filter(other => other !== view);
      Promise.all(others.map(other => Plotly.relayout(other, {"scene.camera": camera})))
        .finally(() => { turning = false; });
    });
}
async function draw() {
  const library = document.createElement("script");
  library.textContent = await unpacked("library");
  document.head.append(library);
  const figures = JSON.parse(await unpacked("figures"));
  // No button that sends a part to plotly's cloud: somebody's design stays on this machine.
  const settings = {responsive: true, displaylogo: false, plotlyServerURL: "", modeBarButtonsToRemove:
    ["sendChartToCloud", "tableRotation", "resetCameraLastSave3d", "hoverClosest3d", "select2d", "lasso2d"]};
  const charts = {};
  for (const [id, figure] of Object.entries(figures))
    charts[id] = await Plotly.newPlot(id, figure.data, figure.layout,
      {...settings, scrollZoom: id !== "curves"});
  linkCameras(["input", "reconstruction"].filter(id => charts[id]).map(id => charts[id]));
  document.documentElement.dataset.drawn = Object.keys(charts).join(" ");
}
draw().catch(error => {
  console.error(error);
  for (const place of document.querySelectorAll(".view:not(.empty), #curves")) {
    const message = document.createElement("p");
    message.className = "broken";
    message.textContent = "This browser could not draw it (" + error + "). The figures below are complete.";
    place.replaceChildren(message);
  }
});
"""


# ----------------------------------------------------------------------------------------------------
# Thumbnails: a small software renderer, for a folder is fitted on machines without OpenGL

LIGHT = np.array([-0.45, 0.66, 0.60])  # in the view: right, up, towards the eye
OVERSAMPLING = 2  # rendered so many times larger and averaged down, which smooths the edges
THUMBNAIL_COLOURS = 32  # of the PNG's palette: shades of one colour, so more do not show
# Neighbouring pixels whose normals differ by more than 30 degrees, or whose depths differ by more than 4
# hundredths of the size of the part, have an edge between them.
CREASE_COSINE = math.cos(math.radians(30))
DEPTH_STEP = 0.04


def thumbnail_png(vertices, faces, size=144):
    """A small shaded picture of a mesh.

    vertices (V, 3) float64 in any unit, faces (F, 3) integer, size: pixels of a side. Returns the bytes of a
    PNG (white ground, a palette of few colours: 2 to 5 KB). Either orientation of a triangle is lit.
    """
    from PIL import Image

    vertices, faces = _checked_mesh((vertices, faces), "thumbnail")
    pixels = _shaded(*_rendered(vertices, faces, size * OVERSAMPLING))
    small = pixels.reshape(size, OVERSAMPLING, size, OVERSAMPLING, 3).mean(axis=(1, 3))
    picture = io.BytesIO()
    image = Image.fromarray(np.round(small).astype(np.uint8), "RGB")
    image.quantize(THUMBNAIL_COLOURS, dither=Image.Dither.NONE).save(picture, "PNG", optimize=True)
    return picture.getvalue()


def _rendered(vertices, faces, side):
    """What each pixel sees: face (side, side) int64, -1 for nothing; depth (side, side); normals (F, 3)."""
    seen = _in_view(vertices, faces)
    corners = seen[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    corners[:, :, :2] = (corners[:, :, :2] * 0.5 + 0.5) * side
    face, depth = rasterised(corners, side)
    return face, depth, normals


def _in_view(vertices, faces):
    """Vertices as the eye sees them: right, up, towards the eye, in [-0.96, 0.96]."""
    forward = EYE / np.linalg.norm(EYE)
    right = np.cross([0.0, 0.0, 1.0], forward)
    right /= np.linalg.norm(right)
    seen = vertices @ np.stack([right, np.cross(forward, right), forward], axis=1)
    used = seen[np.unique(faces)] if len(faces) else np.zeros((1, 3))
    low, high = used.min(axis=0), used.max(axis=0)
    half = max((high - low)[:2].max() / 2, np.finfo(float).tiny)
    return (seen - (low + high) / 2) / half * 0.96


def rasterised(corners, side):
    """Which triangle each pixel of a square picture sees, by scan lines and a depth buffer.

    corners (F, 3, 3) float64: for each corner x, y in pixels from the lower left, and depth towards the eye.
    Returns (face (side, side) int64, -1 where there is none; depth (side, side) float64, -inf there); row 0
    is the top.
    """
    face = np.full(side * side, -1, np.int64)
    depth = np.full(side * side, -np.inf)
    triangle, row = _rows(corners[:, :, 1].min(axis=1), corners[:, :, 1].max(axis=1), side)
    left, right = _span(corners[triangle, :, :2], row + 0.5)
    line, column = _rows(left, right, side)
    triangle, row = triangle[line], row[line]
    nearness = _depth_at(corners, triangle, column + 0.5, row + 0.5)
    pixel = (side - 1 - row) * side + column
    np.maximum.at(depth, pixel, nearness)
    front = nearness == depth[pixel]
    face[pixel[front]] = triangle[front]
    return face.reshape(side, side), depth.reshape(side, side)


def _rows(low, high, side):
    """For each interval the pixels whose centres it covers: (which interval (K,), pixel (K,)), both int64."""
    first = np.clip(np.ceil(low - 0.5), 0, side).astype(np.int64)
    last = np.clip(np.floor(high - 0.5), -1, side - 1).astype(np.int64)
    count = np.maximum(last - first + 1, 0)
    owner = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return owner, first[owner] + within


def _span(corners, y):
    """Where the line at height y (K,) enters and leaves each triangle (K, 3, 2): (left (K,), right (K,))."""
    left, right = np.full(len(y), np.inf), np.full(len(y), -np.inf)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        ax, ay, bx, by = corners[:, a, 0], corners[:, a, 1], corners[:, b, 0], corners[:, b, 1]
        height = by - ay
        crossed = (np.minimum(ay, by) <= y) & (y <= np.maximum(ay, by)) & (height != 0)
        x = ax + np.divide(y - ay, height, out=np.zeros_like(y), where=crossed) * (bx - ax)
        left = np.where(crossed, np.minimum(left, x), left)
        right = np.where(crossed, np.maximum(right, x), right)
    return left, right


def _depth_at(corners, triangle, x, y):
    """Depth of the triangles' planes at pixels (K,), kept within what the triangle spans (edge-on ones)."""
    first, second, third = corners[:, 0], corners[:, 1], corners[:, 2]
    normal = np.cross(second - first, third - first)
    steepness = np.divide(-normal[:, :2], normal[:, 2:], out=np.zeros((len(normal), 2)), where=normal[:, 2:] != 0)
    base = first[:, 2] - (steepness * first[:, :2]).sum(axis=1)
    depth = base[triangle] + steepness[triangle, 0] * x + steepness[triangle, 1] * y
    low, high = corners[:, :, 2].min(axis=1), corners[:, :, 2].max(axis=1)
    return np.clip(depth, low[triangle], high[triangle])


def _shaded(face, depth, normals):
    """Pixels (side, side, 3) float64 in 0..255: lit from above left, edges drawn darker, white ground."""
    covered = face >= 0
    normal = np.concatenate([normals, np.zeros((1, 3))])[face]  # face -1, nothing, is the last row
    normal = np.where(normal[..., 2:] < 0, -normal, normal)
    light = LIGHT / np.linalg.norm(LIGHT)
    brightness = 0.30 + 0.78 * np.clip(normal @ light, 0, 1)
    brightness = brightness * np.where(_edges(covered, depth, normal), 0.55, 1.0)
    colour = np.clip(brightness[..., None] * np.array([176.0, 199.0, 224.0]), 0, 255)
    return np.where(covered[..., None], colour, 255.0)


def _edges(covered, depth, normal):
    """Pixels (side, side) bool at an outline or a crease."""
    near = np.where(covered, depth, -1e3)
    edges = np.zeros(covered.shape, bool)
    for axis in (0, 1):
        here, there = [slice(None)] * 2, [slice(None)] * 2
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        here, there = tuple(here), tuple(there)
        crease = (normal[here] * normal[there]).sum(axis=-1) < CREASE_COSINE
        step = near[here] - near[there]
        both = covered[here] & covered[there]
        edges[here] |= (both & crease) | (step > DEPTH_STEP)
        edges[there] |= -step > DEPTH_STEP
    return edges & covered


# ----------------------------------------------------------------------------------------------------
# The gallery of a folder

GALLERY_COLUMNS = (
    ("name", "Part"),
    ("status", "Status"),
    ("surface_error", "Surface error"),
    ("iou", "IoU"),
    ("chamfer", "Chamfer"),
    ("seconds", "Time"),
)


def gallery_html(rows, title):
    """The page of a folder: a row a part, the worst first, columns to sort, each part linked to its page.

    rows: dicts with `name` and what is known of `status`, `reason` (of a failure), `surface_error`, `iou`,
    `chamfer` (domain units), `seconds`, `report` (path relative to the page), `thumbnail` (PNG as bytes or
    base64 text, or a path relative to the page). Parts without a surface error (the failures) come first,
    then by surface error, largest first; beyond GALLERY_ROWS the page keeps the first of that order and says
    how many there are. Returns the text.
    """
    ordered = sorted(rows, key=_worst_first)
    shown = ordered[:GALLERY_ROWS]
    head = "".join(
        f'<th{" class=n" if k > 1 else ""}><button data-column="{k + 1}">{label}</button></th>'
        for k, (_, label) in enumerate(GALLERY_COLUMNS)
    )
    more = ""
    if len(shown) < len(ordered):
        more = f'<p class="note">The worst {len(shown):,} of {len(ordered):,} parts; summary.csv lists all.</p>'
    body = (
        f"<header><h1>{_text(title)}</h1></header>"
        f'<section class="cards">{_gallery_cards(ordered)}</section>{more}'
        '<input id="filter" type="search" placeholder="Filter by name, status or reason" aria-label="Filter">'
        f"<table><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{''.join(map(_gallery_row, shown))}</tbody></table>"
    )
    return _gallery_page(_text(title), body)


def _worst_first(row):
    error = row.get("surface_error")
    name = str(row.get("name", ""))
    return (1, -error, name) if _is_finite(error) else (0, not row.get("reason"), name)


def _gallery_cards(rows):
    errors = np.array([row["surface_error"] for row in rows if _is_finite(row.get("surface_error"))])
    cards = [
        ("Parts", f"{len(rows):,}", "worst first"),
        (
            "Refused or failed",
            f"{sum(bool(row.get('reason')) for row in rows):,}",
            "with the reason below",
        ),
        ("Median surface error", _number(float(np.median(errors)) if len(errors) else None), "domain units"),
        ("Worst surface error", _number(float(errors.max()) if len(errors) else None), "domain units"),
    ]
    return "".join(
        f'<div class="card"><span>{label}</span><strong>{value}</strong><small>{note}</small></div>'
        for label, value, note in cards
    )


def _gallery_row(row):
    name = _text(row.get("name", ""))
    label = f'<a href="{_relative_link(row["report"])}">{name}</a>' if row.get("report") else name
    reason = f"<small>{_text(row['reason'])}</small>" if row.get("reason") else ""
    figures = "".join(
        f'<td class=n data-value="{_sort_value(row.get(key))}">{_number(row.get(key))}</td>'
        for key in ("surface_error", "iou", "chamfer")
    )
    seconds = row.get("seconds")
    return (
        f"<tr{' class=bad' if row.get('reason') else ''}><td>{_thumbnail(row.get('thumbnail'))}</td>"
        f"<td>{label}{reason}</td>"
        f"<td>{_text(row.get('status') or '')}</td>{figures}"
        f'<td class=n data-value="{_sort_value(seconds)}">{_duration(seconds)}</td></tr>\n'
    )


def _sort_value(value):
    return repr(float(value)) if _is_finite(value) else ""


def _relative_link(path):
    """A path relative to the page as a link, special characters escaped: it can name no scheme, no host."""
    return html.escape(urllib.parse.quote(os.fsencode(path).lstrip(b"/")), quote=True)


def _thumbnail(picture):
    if not picture:
        return ""
    if isinstance(picture, bytes):
        is_png = picture.startswith(b"\x89PNG")
        source = "data:image/png;base64," + (base64.b64encode(picture) if is_png else picture).decode("ascii")
    elif picture.startswith("iVBORw0KGgo"):  # base64 of the first bytes of any PNG
        source = "data:image/png;base64," + picture
    else:
        source = _relative_link(picture)
    source = html.escape(source, quote=True)
    return f'<img src="{source}" width=72 height=72 alt="" loading="lazy" decoding="async">'


def _gallery_page(title, body):
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{GALLERY_STYLE}</style></head>\n<body><main>{body}</main>\n"
        f"<script>{GALLERY_SCRIPT}</script></body></html>\n"
    )


GALLERY_STYLE = (
    COMMON_STYLE
    + """
#filter { width: 100%; max-width: 420px; padding: 8px 12px; margin-bottom: 12px;
  border: 1px solid var(--line); border-radius: 8px; font: inherit; }
table, thead, tbody { display: block; }
table { background: #fff; border: 1px solid var(--line); border-radius: 10px; font-size: 14px; }
thead { position: sticky; top: 0; z-index: 1; background: #fff; border-bottom: 2px solid var(--line);
  border-radius: 10px 10px 0 0; }
tr { display: grid; grid-template-columns: 98px minmax(0, 1fr) 110px repeat(4, 112px); align-items: center; }
tr[hidden] { display: none; }
tbody tr { min-height: 90px; border-top: 1px solid var(--line); content-visibility: auto;
  contain-intrinsic-size: auto 91px; }
th { text-align: left; }
th.n { text-align: right; }
th button { all: unset; cursor: pointer; color: var(--soft); font-weight: 600; font-size: 13px; }
th button:hover, th button:focus-visible { color: var(--accent); text-decoration: underline; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
th, td { padding: 8px 12px; overflow-wrap: anywhere; }
td a { color: var(--accent); font-weight: 550; text-decoration: none; }
td a:hover { text-decoration: underline; }
td small { display: block; } .bad small, .bad td:nth-child(3) { color: var(--bad); }
tbody tr:hover { background: #f7fafd; }
img { display: block; }
@media (max-width: 760px) { tr { grid-template-columns: 98px minmax(0, 1fr) 110px 112px; }
  th:nth-child(n+5), td:nth-child(n+5) { display: none; } }
"""
)

GALLERY_SCRIPT = """
"use strict";
const body = document.querySelector("tbody");
const heads = [...document.querySelectorAll("th")];
function key(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.value === undefined) return cell.textContent.toLowerCase();
  return cell.dataset.value === "" ? Infinity : Number(cell.dataset.value);
}
for (const button of document.querySelectorAll("button[data-column]")) button.onclick = () => {
  const column = Number(button.dataset.column), head = heads[column];
  const sign = head.ariaSort === "ascending" ? -1 : 1;
  for (const other of heads) other.ariaSort = null;
  head.ariaSort = sign === 1 ? "ascending" : "descending";
  const rows = [...body.rows].map(row => [key(row, column), row]);
  rows.sort((a, b) => sign * (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  body.append(...rows.map(pair => pair[1]));
};
let waiting = 0;
document.getElementById("filter").oninput = event => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    const wanted = event.target.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  }, 120);
};
"""
