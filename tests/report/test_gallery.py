"""The gallery of a folder: its order, its links, and that hostile text stays text."""

import base64
import os
import re
import urllib.parse

import pytest

from neuralparts.report import gallery_html
from neuralparts.report.gallery import GALLERY_ROWS
from tests.report.shown import HOSTILE, HOSTILE_TEXTS, Tags, make_rows, pixels_of


def test_gallery_is_sorted_worst_first_and_shows_reasons():
    page = gallery_html(make_rows(), HOSTILE)
    page.encode("utf-8")
    shown = page.split("<tbody>")[1].split("<tr")[1:]
    marks = ("refused", "unscored", "bad<", "middling", "good", "alert")
    order = [next(mark for mark in marks if mark in row) for row in shown]
    assert order[2:] == ["unscored", "bad<", "middling", "good"] and set(order[:2]) == {"refused", "alert"}
    assert "no triangles" in page
    parsed = Tags(page)
    assert parsed.count("script") == 1 and parsed.count("tr") == 7


def test_gallery_links_and_pictures_stay_inside_the_folder():
    parsed = Tags(gallery_html(make_rows(), "folder"))
    links = [a["href"] for tag, a in parsed.tags if tag == "a"]
    assert "sub%20dir/50%25%20%231%3F.html" in links and "javascript%3Aalert%281%29" in links
    pictures = [a["src"] for tag, a in parsed.tags if tag == "img"]
    assert all(":" not in link and not link.startswith("/") for link in links)
    assert sum(source.startswith("data:image/png;base64,iVBORw0KGgo") for source in pictures) == 3
    assert "t/bad.png" in pictures and all(a["loading"] == "lazy" for tag, a in parsed.tags if tag == "img")
    inside = [source for source in pictures if source.startswith("data:")]
    assert all(pixels_of(base64.b64decode(source.split(",")[1])).std() > 5 for source in inside)


def test_gallery_of_more_parts_than_a_browser_likes_keeps_the_worst():
    rows = [{"name": f"part {k}", "surface_error": k / GALLERY_ROWS} for k in range(GALLERY_ROWS + 3)]
    page = gallery_html(rows, "folder")
    assert "worst 10,000 of 10,003 parts" in page
    assert ">part 3<" in page and ">part 2<" not in page


def hostile_gallery(text):
    """A gallery with a text in every place that a user, a file or a failure can fill."""
    full = dict.fromkeys(("name", "status", "reason", "report", "thumbnail"), text)
    return gallery_html([full, {"name": text, "surface_error": 0.5}], text)


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_hostile_text_stays_text(text):
    page = hostile_gallery(text)
    page.encode("utf-8")
    parsed, plain = Tags(page), Tags(hostile_gallery("harmless"))
    assert parsed.structure() == plain.structure()
    readable = text.encode("utf-8", "replace").decode()
    for tag in ("title", "h1", "a", "small", "td"):
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
