"""In a browser: pages draw, cameras are linked, the gallery sorts and filters, and the console stays quiet."""

import json

import numpy as np
import pytest

from neuralparts.report import gallery_html, thumbnail_png
from neuralparts.report.curves import COLOURS
from tests.report.shown import (
    HOSTILE,
    has_colour,
    html_report,
    make_history,
    make_record,
    make_rows,
    signed_distance_to_torus,
    torus,
)

DRAWN = "document.documentElement.dataset.drawn === '{}'"


EYE = (
    "Object.values(document.getElementById('{}')._fullLayout.scene._scene.getCamera().eye)"
    ".map(x => x.toFixed(4)).join()"
)


def both_have_moved(browser, before):
    """Wait until both views are seen from the same place, and another one than before."""
    browser.until(f"{EYE.format('input')} !== {json.dumps(before)}")
    browser.until(f"{EYE.format('input')} === {EYE.format('reconstruction')}")


def shaded_fraction(pixels):
    """The fraction of pixels darker than any background of a page: a drawn surface, or text."""
    return (pixels.mean(axis=-1) < 215).mean()


def test_browser_draws_both_meshes(browser, tmp_path):
    vertices, faces = torus()
    mesh = vertices, faces
    page = html_report("drawn", make_record(), make_history(), mesh, mesh, lambda points: 0.1 * points[:, 0])
    browser.open(tmp_path / "drawn.html", page)
    browser.until(DRAWN.format("input reconstruction curves"))
    views = {view: browser.picture(f"#{view}") for view in ("input", "reconstruction")}
    curves = browser.picture("#curves")
    browser.open(tmp_path / "bare.html", html_report("bare", make_record(), {}, None, None))
    bare = browser.picture(".view")
    assert shaded_fraction(bare) < 0.05
    for view, pixels in views.items():
        assert shaded_fraction(pixels) > 0.15 and pixels.std() > 2 * bare.std(), view
        assert len(np.unique(pixels[100:-100, 100:-100].reshape(-1, 3) // 8, axis=0)) > 10, view  # it is lit
    yellowness = [(pixels[..., 0] - pixels[..., 2]).max() for pixels in views.values()]
    assert yellowness[0] < 20 and yellowness[1] > 60  # only the reconstruction wears the deviation scale
    assert has_colour(curves, COLOURS["loss"])


def test_browser_console_stays_quiet_and_cameras_are_linked(browser, tmp_path):
    mesh = torus()
    page = html_report(HOSTILE, make_record(), make_history(), mesh, mesh, signed_distance_to_torus)
    browser.open(tmp_path / "linked.html", page)
    browser.until(DRAWN.format("input reconstruction curves"))
    buttons = browser.value("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert len(buttons) >= 10 and not [title for title in buttons if "loud" in title or "hare" in title]
    before = browser.value(EYE.format("input"))
    assert before == browser.value(EYE.format("reconstruction"))
    browser.drag("#input", 90, 40)
    both_have_moved(browser, before)
    before = browser.value(EYE.format("input"))
    browser.value("document.getElementById('reconstruction').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.send("Input.dispatchKeyEvent", type=kind, key="ArrowLeft")
    both_have_moved(browser, before)
    assert browser.complaints() == []


def test_browser_shades_small_triangles_in_metres_as_large_ones_in_millimetres(browser, tmp_path):
    pictures = []
    for around, size in ((64, 1.0), (200, 1e-4)):
        vertices, faces = torus(around, around // 2)
        page = html_report("part", make_record(), {}, (vertices * size, faces), None)
        browser.open(tmp_path / f"size{around}.html", page)
        browser.until(DRAWN.format("input"))
        pictures.append(browser.picture("#input"))
    assert pictures[0].std() > 10
    # The facets of the coarse one differ from the fine surface by a few shades in 255; unlit, it would be 30.
    assert np.abs(pictures[0] - pictures[1]).mean() < 3


def test_browser_that_cannot_draw_says_so(browser, tmp_path):
    page = html_report("part", make_record(), make_history(), torus(), None)
    old = page.replace('new DecompressionStream("gzip")', "new StreamOfTheFuture()")
    assert old != page
    browser.open(tmp_path / "old.html", old)
    browser.until("document.querySelectorAll('.broken').length === 2")
    assert "tables are complete" in browser.value("document.querySelector('.broken').textContent")
    assert browser.complaints()  # the console names the reason; and this list can be other than empty


@pytest.fixture(scope="module")
def whole_page():
    """A page with everything on it: the reconstruction deviates by up to 0.004 of its size."""
    vertices, faces = torus()
    wavy = vertices * (1 + 0.004 * np.sin(5 * vertices[:, :1]))
    return html_report(
        "whole", make_record(), make_history(), (vertices, faces), (wavy, faces), signed_distance_to_torus
    )


def test_on_a_phone_a_swipe_scrolls_until_the_reader_asks_to_turn_the_part(browser, tmp_path, whole_page):
    browser.be_screen(390, touch=True)
    browser.open(tmp_path / "phone.html", whole_page)
    browser.until(DRAWN.format("input reconstruction curves"))
    assert browser.value("document.documentElement.scrollWidth") == 390
    before = browser.value(EYE.format("input"))
    browser.value("document.getElementById('input').scrollIntoView({block: 'center'})")
    start = browser.value("scrollY")
    browser.swipe("#input", 0, -150)
    browser.until(f"scrollY > {start} + 50")
    assert browser.value(EYE.format("input")) == before
    browser.value("document.querySelector('.drawing .touch').click()")
    browser.until("(before => before === (window.scrolled = scrollY))(window.scrolled)")  # it has come to rest
    start = browser.value("scrollY")
    browser.swipe("#input", 60, -40)
    both_have_moved(browser, before)
    assert browser.value("scrollY") == start
    colours_and_fractions_follow_the_tolerance(browser)
    browser.be_screen()
    assert browser.complaints() == []


def colours_and_fractions_follow_the_tolerance(browser):
    """Set tolerances on the whole page, and compare what it shows."""
    within, trace = "document.getElementById('within').textContent", "document.getElementById('reconstruction').data[0]"
    assert "within ±0.002 of" in browser.value(within)
    fractions = []
    for tolerance in ("0.001", "0.003", "1"):
        browser.value(f"document.getElementById('tolerance').value = '{tolerance}'")
        browser.value("document.getElementById('tolerance').dispatchEvent(new Event('input'))")
        browser.until(f"{trace}.cmax === {tolerance} && {trace}.cmin === -{tolerance}")
        assert f"within ±{tolerance} of" in browser.value(within)
        fractions.append(float(browser.value(within).split("%")[0]))
    assert 0 < fractions[0] < fractions[1] < fractions[2] == 100


def test_without_webgl_on_paper_and_without_javascript_a_picture_remains(browser, tmp_path, whole_page):
    without = "const get = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext ="
    without += "function (kind, ...more) { return kind.includes('webgl') ? null : get.call(this, kind, ...more); }"
    script = browser.send("Page.addScriptToEvaluateOnNewDocument", source=without)["identifier"]
    browser.open(tmp_path / "no_webgl.html", whole_page)
    browser.send("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    browser.until(DRAWN.format("curves"))
    assert "Without WebGL" in browser.value("document.querySelector('.message').textContent")
    pictures = still_pictures(browser)
    browser.media(prefers_color_scheme="dark")
    browser.until("document.getElementById('curves').layout.font.color === '#e6ebf1'")
    background = "getComputedStyle(document.body).backgroundColor"
    assert browser.value(background) == "rgb(18, 23, 29)"
    browser.media("print", prefers_color_scheme="dark")
    browser.value("dispatchEvent(new Event('beforeprint'))")
    assert browser.value("document.querySelectorAll('details:not([open])').length") == 0
    assert browser.value(background) == "rgb(255, 255, 255)"
    pictures += still_pictures(browser)
    browser.be_screen()
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    browser.send("Page.reload")
    browser.until("document.readyState === 'complete' && !document.documentElement.dataset.drawn")
    pictures += still_pictures(browser)
    assert browser.value("document.getElementById('tolerance').disabled")
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert len(pictures) == 6
    for picture in pictures:
        assert shaded_fraction(picture) > 0.15 and picture.std() > 20
    assert browser.complaints() == []


def still_pictures(browser):
    """The still pictures of the input and the reconstruction as the screen shows them."""
    return [browser.picture(f".drawing:has(#{view}) .still") for view in ("input", "reconstruction")]


def test_browser_sorts_and_filters_the_gallery(browser, tmp_path):
    rows = [{k: v for k, v in row.items() if row["name"] != HOSTILE or k != "thumbnail"} for row in make_rows()]
    picture = thumbnail_png(*torus(12, 8), 24)
    (tmp_path / "t").mkdir()
    for row in rows:
        if "thumbnail" in row:
            (tmp_path / row["thumbnail"]).write_bytes(picture)
    browser.open(tmp_path / "index.html", gallery_html(rows, "folder"))
    shown = "[...document.querySelectorAll('tbody tr')].filter(r => !r.hidden).map(r => r.cells[1].textContent)"
    button = "[...document.querySelectorAll('th button')].find(b => b.textContent === '{}').click()"
    browser.value(button.format("Surface error"))
    assert browser.value(shown)[:3] == ["good", "middling", "bad"]
    browser.value(button.format("Surface error"))
    assert browser.value(shown)[-3:] == ["bad", "middling", "good"]
    browser.value(button.format("Time"))
    assert browser.value(shown)[:2] == ["good", "bad"]  # 61 s before 3700 s, by number and not by word
    browser.value(button.format("Verdict"))
    assert browser.value(shown)[2:] == ["bad", "unscored", "middling", "good"]  # after the failures
    browser.value("document.querySelector('button[data-grade=fair]').click()")
    assert browser.value(shown) == ["middling"]
    browser.value("document.querySelector('button[data-grade=\"\"]').click()")
    assert len(browser.value(shown)) == len(rows)
    browser.value("document.getElementById('filter').value = 'TRIANG'")
    browser.value("document.getElementById('filter').dispatchEvent(new Event('input'))")
    browser.until(f"{shown}.length === 1")
    assert browser.value(shown)[0].startswith("refused")
    assert browser.complaints() == []


def test_browser_shows_a_long_name_on_two_lines_of_a_phone(browser, tmp_path):
    """390 pixels wide, light and dark: nothing is wider than the screen, every number has its label."""
    name = "gear_housing_left_rev_C_0012.v"  # 30 letters
    rows = [{"name": name, "status": "done", "verdict": "poor", "surface_within_99": 0.3, "iou": 0.001}]
    screen = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.send("Emulation.setDeviceMetricsOverride", **screen)
    grounds = []
    try:
        for scheme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            browser.send("Emulation.setEmulatedMedia", features=[feature])
            browser.open(tmp_path / f"{scheme}.html", gallery_html(rows, "folder"))
            cell = "document.querySelector('td.name')"
            height = f"{cell}.getBoundingClientRect().height / parseFloat(getComputedStyle({cell}).lineHeight)"
            assert browser.value(height) < 2.1
            assert browser.value("document.documentElement.scrollWidth") <= 390
            number = browser.value("getComputedStyle(document.querySelector('td.n'), '::before').content")
            assert number == '"99% within"'
            grounds.append(browser.picture("tbody tr").mean())
    finally:
        browser.send("Emulation.setEmulatedMedia", features=[])
        browser.send("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
    assert grounds[0] > 200 and grounds[1] < 90
    assert browser.complaints() == []
