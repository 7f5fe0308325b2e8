"""The gallery of a folder: its order, its links, and that hostile text stays text."""

import os
import re
import urllib.parse

import pytest

from neuralparts.report import gallery_html
from neuralparts.report.gallery import GALLERY_ROWS
from tests.report.shown import HOSTILE, HOSTILE_TEXTS, Tags, make_rows


def test_gallery_is_sorted_worst_first_and_shows_reasons():
    page = gallery_html(make_rows(), HOSTILE)
    page.encode("utf-8")
    shown = page.split("<tbody>")[1].split("<tr")[1:]
    marks = ("refused", "unscored", "bad<", "middling", "good", "alert")
    order = [next(mark for mark in marks if mark in row) for row in shown]
    assert order[2:] == ["bad<", "unscored", "middling", "good"] and set(order[:2]) == {"refused", "alert"}
    assert "no triangles" in page
    parsed = Tags(page)
    assert parsed.count("script") == 1 and parsed.count("tr") == 7


def graded(name, verdict, within=None, **more):
    return {"name": name, "status": "done", "verdict": verdict, "surface_within_99": within, **more}


GRADED = [
    graded("good_near", "good", 0.001, iou=0.999),
    graded("fair", "fair", 0.04),
    graded("poor_far", "poor", 0.3, iou=0.001, surface_error=0.00001),
    graded("unknown", "", surface_error=0.5),
    graded("poor_near", "poor", 0.02, missed_surface=0.945),
    graded("good_far", "good", 0.004),
    {"name": "refused", "status": "refused", "reason": "no mesh"},
]


def test_gallery_is_sorted_by_the_verdict_and_names_the_poor_parts():
    page = gallery_html(GRADED, "folder")
    body = page.split("<tbody>")[1]
    order = ["refused", "poor_far", "poor_near", "unknown", "fair", "good_far", "good_near"]
    assert re.findall(r'<td class="name">(\w+)', body) == order
    assert re.findall(r'<b class="(\w+)">(\w+)</b>', body) == [
        (grade, grade) for grade in ("poor", "poor", "fair", "good", "good")
    ]
    (poor,) = re.findall(r"<span>Poor</span><strong>(\d+)</strong><small>(.*?)</small>", page)
    assert poor == ("2", "poor_far, poor_near") and "94.5%" in body
    assert re.findall(r">(\w+ \d+)</button>", page) == ["poor 2", "fair 1", "good 2"]


def test_gallery_links_and_pictures_stay_inside_the_folder():
    parsed = Tags(gallery_html(make_rows(), "folder"))
    links = [a["href"] for tag, a in parsed.tags if tag == "a"]
    assert "sub%20dir/50%25%20%231%3F.html" in links and "javascript%3Aalert%281%29" in links
    pictures = [a["src"] for tag, a in parsed.tags if tag == "img"]
    assert all(":" not in link and not link.startswith("/") for link in links)
    assert {"t/100%25%20good.png", "t/bad.png", "t/middling.png", "t/%23unscored%3F.png"} < set(pictures)
    assert all(":" not in source and not source.startswith("/") for source in pictures)
    assert all(a["loading"] == "lazy" for tag, a in parsed.tags if tag == "img")


def test_gallery_of_more_parts_than_a_browser_likes_keeps_the_worst():
    rows = [{"name": f"part {k}", "surface_error": k / GALLERY_ROWS} for k in range(GALLERY_ROWS + 3)]
    page = gallery_html(rows, "folder")
    assert "worst 10,000 of 10,003 parts" in page
    assert ">part 3<" in page and ">part 2<" not in page


def hostile_gallery(text):
    """A gallery with a text in every place that a user, a file or a failure can fill."""
    full = dict.fromkeys(("name", "status", "reason", "report", "thumbnail"), text)
    return gallery_html([full, {"name": text, "surface_error": 0.5, "verdict": "poor"}], text)


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_hostile_text_stays_text(text):
    page = hostile_gallery(text)
    page.encode("utf-8")
    parsed, plain = Tags(page), Tags(hostile_gallery("harmless"))
    assert parsed.structure() == plain.structure()
    readable = text.encode("utf-8", "replace").decode()
    for tag in ("title", "h1", "a", "small", "span", "td"):
        shown, expected = ["".join(page.text(tag)) for page in (parsed, plain)]
        assert shown.split() == expected.replace("harmless", readable).split(), tag


@pytest.mark.parametrize("name", HOSTILE_TEXTS)
def test_addresses_lead_to_the_file_whatever_its_name(name):
    parsed = Tags(hostile_gallery(name))
    addresses = [a.get("href") or a["src"] for tag, a in parsed.tags if tag in ("a", "img")]
    assert len(addresses) == 2
    for address in addresses:
        assert not re.search(r"[:#?\s]", address)
        assert urllib.parse.unquote_to_bytes(address) == os.fsencode(name)


def test_gallery_of_nothing_is_a_page():
    assert Tags(gallery_html([], "empty")).count("table") == 1
