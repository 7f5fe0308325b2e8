"""The page of a part: what it shows, that it loads nothing, and that hostile text stays text."""

import json
import re

import numpy as np
import pytest

from neuralparts.report import FileLink
from neuralparts.report.without_folders import file_name
from neuralparts.verdict import verdict
from tests.report.shown import (
    HOSTILE_TEXTS,
    Tags,
    array,
    figures_of,
    html_report,
    make_history,
    make_record,
    mesh_of,
    signed_distance_to_torus,
    torus,
    unpacked,
)


def test_page_loads_nothing_from_outside():
    mesh = torus()
    files = [FileLink("torus.stl", "the marched mesh"), FileLink("50% #1?.json", "the record")]
    page = html_report("torus", make_record(), make_history(), mesh, mesh, signed_distance_to_torus, files=files)
    parsed = Tags(page)
    for tag, attributes in parsed.tags:
        assert not {"srcset", "action"} & attributes.keys(), (tag, attributes)
        assert "src" not in attributes or attributes["src"].startswith("data:image/webp;base64,"), (tag, attributes)
    assert [a["href"] for tag, a in parsed.tags if "href" in a] == ["torus.stl", "50%25%20%231%3F.json"]
    style = "".join(parsed.text("style"))
    assert "url(" not in style and "@import" not in style
    policy = next(a["content"] for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';") and "http" not in policy
    assert "http" not in unpacked(page, "figures")


def test_page_shows_every_figure_in_domain_and_file_units():
    parsed = Tags(html_report("torus", make_record(), make_history(), torus(), None))
    cells = parsed.text("td")
    assert {"0.000512", "0.9931", "0.0007", "0.0123", "7.5"} <= set(cells)
    assert {"0.0256", "0.035", "0.615"} <= set(cells)  # 0.000512, 0.0007 and 0.0123 over the scale 0.02
    assert {"0.00123456", "yes", "75 s", "85 s", "1, 2, 3", "0.02"} <= set(cells)
    assert {"Merged 3 vertices.", "Flipped 1 body."} <= set(cells)
    assert {"0.0256", "589,790", "85 s"} <= set(parsed.text("strong"))
    assert "file units \N{MIDDLE DOT} 0.000512 domain units" in parsed.text(
        "small"
    ) and "all epochs done" in parsed.text("span")


def test_page_shows_errors_by_distance_where_they_were_measured():
    band = {"from": 0.003, "to": 0.01, "points": 5, "mean_error": 0.00042, "overestimated": 0.0125}
    bands = [band | {"gradient_within": 0.875}, {**band, "from": 0.1, "to": None, "gradient_within": None}]
    errors = {"bands": bands, "overestimated": 0.0031, "gradient_within": 0.92}
    parsed = Tags(html_report("torus", make_record(off_surface=errors), make_history(), torus(), None))
    assert {"0.00042", "1.25%", "87.50%", "0.31%", "92.00%"} <= set(parsed.text("td"))
    assert {"0.003 to 0.01", "beyond 0.1", "the whole cube"} <= set(parsed.text("th"))
    for none in ({}, None):
        page = html_report("torus", make_record(off_surface=none), make_history(), torus(), None)
        assert "Off the surface" not in page


def test_page_without_transform_shows_domain_units_only():
    record = make_record()
    del record["transform"], record["fit"]
    cells = Tags(html_report("torus", record, {}, None, None)).text("td")
    assert "0.000512" in cells and "0.0256" not in cells


@pytest.mark.parametrize(
    ("resolution", "failure", "words"),
    [(0, "", "was asked for (--reconstructionRes 0)"), (64, "a bound of <1 MiB>", "a bound of &lt;1 MiB&gt;")],
)
def test_page_says_why_there_is_no_reconstruction(resolution, failure, words):
    record = make_record(flags={"reconstructionRes": resolution}, failure=failure)
    page = html_report("torus", record, make_history(), torus(), None)
    assert words in page
    assert set(figures_of(page)) == {"input", "curves"}


def test_page_without_meshes_and_history_carries_no_library():
    page = html_report("samples", make_record(), {}, None, None)
    assert "No input mesh to draw" in page and "No loss was recorded" in page
    assert len(page) < 40_000 and Tags(page).count("script") == 1


def test_missing_metrics_show_as_a_dash():
    metrics = {
        "surface_error": float("nan"),
        "iou": None,
        "chamfer": float("inf"),
        "grid_error": np.float32(0.25),
    }
    page = html_report("part", make_record(metrics=metrics, timings={}), {}, None, None)
    parsed = Tags(page)
    assert not {"nan", "None", "inf"} & set(parsed.text("td") + parsed.text("strong"))
    assert parsed.text("strong")[:3] == ["\N{EN DASH}"] * 3
    assert "0.25" in parsed.text("td")


def hostile_page(text):
    """A page with a text in every place that a user, a file or a failure can fill."""
    record = make_record(
        input=text,
        flags={text: text, "list": [text, text]},
        diagnosis={"changes": [text], "nested": {text: [text]}},
        fit={"ended_by": text},
        failure=text,
        notes=[text, text],
        other=text,
        sentences=[text, {text: text}],
    )
    record["metrics"] |= {text: text, "iou": text}
    record["timings"] |= {text: 1.0, "fit": text}
    record["transform"]["center"] = text
    return html_report(text, record, make_history(), torus(), None)


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_hostile_text_stays_text(text):
    page = hostile_page(text)
    page.encode("utf-8")  # a lone surrogate of an undecodable file name must not stop the writer
    parsed, plain = Tags(page), Tags(hostile_page("harmless"))
    assert parsed.structure() == plain.structure()
    readable = text.encode("utf-8", "replace").decode()
    for tag in ("title", "h1", "span", "th", "td", "b"):
        shown, expected = ["".join(page.text(tag)) for page in (parsed, plain)]
        assert shown.split() == expected.replace("harmless", readable).split(), tag
    # The input is shown by its name, without folders.
    shown, expected = ["".join(page.text("p")) for page in (parsed, plain)]
    assert shown.split() == expected.replace("harmless", file_name(readable), 1).replace("harmless", readable).split()
    assert json.loads(unpacked(page, "figures")).keys() == {"input", "curves"}


def test_page_is_filled_from_files_that_the_package_holds():
    parsed = Tags(html_report("torus", make_record(), make_history(), torus(), None))
    assert "main {" in parsed.text("style")[0] and "DecompressionStream" in parsed.text("script")[-1]
    assert not re.search(r"{{|{%|{#", "".join(parsed.text("style") + parsed.text("script")[2:]))


def test_meshes_on_the_page_are_the_meshes_given():
    vertices, faces = torus()
    moved = vertices * 1.01
    page = html_report("torus", make_record(), {}, (vertices, faces), (moved, faces), signed_distance_to_torus)
    figures = figures_of(page)
    for key, expected in (("input", vertices), ("reconstruction", moved)):
        shown_vertices, shown_faces = mesh_of(figures[key]["data"][0])
        assert np.array_equal(shown_vertices, expected.astype(np.float32))
        assert np.array_equal(shown_faces, faces)
    coloured = figures["reconstruction"]["data"][0]
    assert np.array_equal(array(coloured["intensity"]), signed_distance_to_torus(moved).astype(np.float32))
    assert coloured["cmax"] == -coloured["cmin"] == 0.002  # near a thousandth of 2.9, which the torus measures
    assert figures["input"]["layout"]["scene"] == figures["reconstruction"]["layout"]["scene"]
    assert "intensity" not in figures["input"]["data"][0]


def test_part_far_from_its_origin_is_drawn_about_its_centre():
    vertices, faces = torus()
    far = np.array([1e7, -2e7, 3e7])
    page = html_report("far", make_record(), {}, (vertices + far, faces), (vertices + far, faces))
    shown = mesh_of(figures_of(page)["input"]["data"][0])[0]
    # The rest is the rounding of float64 at 3e7 (4e-9) and of float32 at 1 (6e-8); at 3e7, float32 has 2.
    assert np.abs(shown - vertices).max() < 1e-6
    assert "relative to 10000000, -20000000, 30000000" in page


@pytest.mark.parametrize(
    "arguments",
    [
        {"input_mesh": (np.zeros((4, 2)), np.zeros((1, 3), int)), "reconstruction": None},
        {"input_mesh": None, "reconstruction": (np.zeros((4, 3)), np.zeros((1, 4), int))},
        {"input_mesh": None, "reconstruction": torus(), "signed_distance": lambda points: np.zeros(5)},
        {"input_mesh": None, "reconstruction": torus(), "signed_distance": lambda points: np.full(len(points), np.nan)},
    ],
)
def test_arrays_of_another_shape_are_refused(arguments):
    with pytest.raises(ValueError, match="expected"):
        html_report("part", make_record(), {}, **arguments)


def paragraphs(page):
    """The text of a page, on one line."""
    return " ".join("".join(text for _, text in Tags(page).texts).split())


def test_page_begins_with_the_verdict():
    record = make_record()
    record["metrics"] |= {"surface_within_99": 0.0011, "reconstruction_within_99": 0.0012, "missed_surface": 0.0}
    page = html_report("torus", record, {}, torus(), torus(), signed_distance_to_torus)
    judged = verdict(record)
    assert judged.grade and judged.sentence
    shown = paragraphs(page.split("<main>")[1].split("</main>")[0])
    assert shown.startswith(f"torus torus.stl all epochs done {judged.grade}: {judged.sentence}")


def test_ids_are_unique_labels_lead_somewhere_and_headings_follow_each_other():
    mesh = torus()
    page = html_report("t", make_record(), make_history(), mesh, mesh, signed_distance_to_torus)
    tags = Tags(page).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in tags:
        for key in ("for", "aria-labelledby", "aria-describedby", "aria-controls"):
            assert attributes.get(key, ids[0]) in ids, attributes
    assert all(attributes["alt"] for tag, attributes in tags if tag == "img")
    headings = [tag for tag, _ in tags if tag in ("h1", "h2", "h3")]
    assert headings[0] == "h1" and set(headings[1:]) == {"h2"}
    assert all(attributes.get("scope") for tag, attributes in tags if tag == "th")


def test_page_names_no_folder_of_the_disk():
    record = make_record(
        input="/home/jane doe/parts/torus.stl",
        input_path="/home/jane doe/parts/torus.stl",
        failure="/tmp/scratch/torus.stl: no surface",
        notes=["/home/jane doe/out/torus.stl: STL stores float32", "see C:\\Users\\jane\\torus.log"],
    )
    record["notes"] += ["--logDir /home/jane doe/log: no space", "seen [/home/jane/torus.stl]"]
    record["flags"] |= {"outputDir": "/home/jane doe/out", "ray": "/home/jane doe/ray", "logDir": "/home/jane doe/log/"}
    page = html_report("torus", record, {}, None, None)
    assert not re.search("jane|/tmp|/home|scratch", page)
    shown = paragraphs(page)
    for line in (
        "torus.stl: STL stores float32",
        "torus.stl: no surface",
        "see torus.log",
        "--logDir log: no space",
        "seen [torus.stl]",
        "python trainer.py torus.stl",
    ):
        assert line in shown


def test_page_says_a_failure_once_and_that_nothing_was_measured():
    record = make_record(failure="a flat function", notes=["seen"])
    shown = paragraphs(html_report("torus", record, {}, None, None)).split("Figures")[0]
    assert "poor: a flat function seen" in shown
    shown = paragraphs(html_report("torus", make_record(failure="", metrics={}), {}, None, None))
    assert "No verdict: too little was measured." in shown
