"""The network in the page: its payload, and in a browser its values, its picture, its section and its manners."""

import base64
import json

import numpy as np
import pytest
import torch

from neuralparts.network import HashGrid, NeuralSDF
from neuralparts.report import network_view
from neuralparts.report.network_view import doubled, volume_levels
from neuralparts.report.templating import template_text
from tests.export.cases import COMBINATIONS, a_model
from tests.export.formed_models import octahedron
from tests.report.shown import html_report, make_history, make_record, torus

# Largest differences from PyTorch, domain units: of float32 numbers, and of a hash grid's table as int16.
FLOAT_TOLERANCE, TABLE_TOLERANCE = 1e-5, 5e-5
SIDE = 120  # of the picture, pixels
SHOWN = "document.documentElement.dataset.shown === 'yes'"


def page_of(network, script=""):
    """A page with the view of a network alone. It marks the document when the picture is as fine as it gets."""
    style = template_text("network_view.css") + f":root {{ --line: #000; }} #network {{ width: {SIDE}px; }}"
    code = template_text("network_controls.js") + template_text("network_view.js")
    payload = json.dumps(network_view(network)).replace("<", "\\u003c")
    return f"""<!doctype html><meta charset="utf-8"><style>{style} .network-canvas {{ height: {SIDE}px; }}</style>
<div id="network"></div><div style="height: 4000px"></div><script>{code}
const moved = [], mark = () => {{ document.documentElement.dataset.shown = "yes"; }};
NetworkView.SMOOTH_TIME = 0; // pixels of the screen are fine enough
const again = () => {{ delete document.documentElement.dataset.shown; }};
{script}
const view = new NetworkView(document.getElementById("network"), {payload},
  {{onPicture: mark, onCamera: camera => moved.push(camera)}});</script>"""


def opened(browser, folder, network, until=SHOWN):
    """Open the page of a network and wait for its picture, or for something else."""
    browser.open(folder / "network.html", page_of(network))
    browser.until(f"view.fault !== null || {until}")
    assert browser.value("view.fault && String(view.fault)") is None


def redrawn(browser, script):
    """The pixels (H, W, 3) after a script that changes the picture."""
    browser.value(f"again(); {script}")
    browser.until(SHOWN)
    return browser.picture("canvas").astype(int)


def values_in_browser(browser, points):
    """The shader's values (N,) float32 at points (N, 3), domain."""
    given = base64.b64encode(np.asarray(points, "<f4").tobytes()).decode()
    numbers = f"new Float32Array(Uint8Array.from(atob('{given}'), c => c.charCodeAt(0)).buffer)"
    return np.array(browser.value(f"Array.from(view.values({numbers}))"), np.float32)


def worst_in_browser(browser, folder, network, count=4096):
    """The largest difference of the shader's values from the network's, at points of the cube, domain units."""
    opened(browser, folder, network, "view.program !== undefined && view.program !== null")
    browser.value("view.visible = false")  # the picture would take its time on a CPU
    points = np.random.default_rng(5).uniform(-1, 1, (count, 3)).astype(np.float32)
    return np.abs(values_in_browser(browser, points) - network.domain(points)).max()


def hash_grid_network():
    """A hash grid of the usual sizes with a drawn table, before one layer of 64."""
    network = NeuralSDF((64,), encoding=HashGrid(base_resolution=8))
    generator = torch.Generator().manual_seed(2)
    network.initialise("he_uniform", generator)
    with torch.no_grad():
        network.encoding.table.uniform_(-0.3, 0.3, generator=generator)
    return network


def small_network():
    """8 layers of 32 with drawn weights."""
    network = NeuralSDF((32,) * 8)
    network.initialise("he_uniform", torch.Generator().manual_seed(2))
    return network


def wide_octahedron():
    """The octahedron |x| + |y| + |z| = 0.2 by a network too wide to be evaluated in a page; other units are zero."""
    narrow = octahedron()
    wide = NeuralSDF((6, 4000), center=narrow.transform.center, scale=narrow.transform.scale)
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.zero_()
        wide.layers[0].weight.copy_(narrow.layers[0].weight)
        wide.layers[2].weight[:6] = torch.eye(6)
        wide.layers[4].weight[:, :6] = narrow.layers[2].weight
        wide.layers[4].bias.copy_(narrow.layers[2].bias * 0.2 / 0.7)
    return wide


def test_values_of_a_hash_grid_and_of_8_layers_of_32_are_the_networks(browser, tmp_path):
    assert worst_in_browser(browser, tmp_path, hash_grid_network()) <= TABLE_TOLERANCE
    assert worst_in_browser(browser, tmp_path, small_network()) <= FLOAT_TOLERANCE
    assert browser.complaints() == []


@pytest.mark.long
def test_values_of_all_combinations_are_the_networks(browser, tmp_path):
    for combination in COMBINATIONS:
        network = a_model(*combination)
        tolerance = FLOAT_TOLERANCE if network.encoding is None else 4 * TABLE_TOLERANCE  # its table is drawn from +-1
        assert worst_in_browser(browser, tmp_path, network) <= tolerance, combination


def test_a_volume_is_the_network_near_the_surface_and_doubled_coarse_values_elsewhere():
    network = octahedron()
    levels, unit = volume_levels(network)
    volume = levels[0]
    for level in levels[1:]:
        volume = doubled(volume) + level
    axis = np.linspace(-1, 1, len(volume), dtype=np.float32)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    distances = network.domain(np.stack([x, y, z], -1).reshape(-1, 3)).reshape(volume.shape)
    errors, cell = np.abs(volume * unit - distances), 2 / (len(volume) - 1)
    assert len(volume) == 129 and errors[np.abs(distances) < cell].max() <= 0.501 * unit
    assert errors.max() < 1 / 16  # half a cell of the coarsest grid: the function bends on the planes of symmetry
    assert (levels[-1] != 0).mean() < 0.2


def test_doubled_volumes_have_means_between_neighbours():
    line = np.array([0, 3, -4], np.int16)
    volume = np.broadcast_to(line, (3, 3, 3))
    assert np.array_equal(doubled(volume), np.broadcast_to([0, 1, 3, -1, -4], (5, 5, 5)))


def test_a_heavy_network_is_drawn_from_a_volume_and_the_page_says_so(browser, tmp_path):
    network = wide_octahedron()
    opened(browser, tmp_path, network)
    assert "129³ stored distances" in browser.value("document.querySelector('.network-note').textContent")
    near = np.random.default_rng(0).dirichlet((1, 1, 1), 1000) * 0.2  # on a face of the octahedron
    assert np.abs(values_in_browser(browser, near) - network.domain(near.astype(np.float32))).max() < 1e-3
    assert browser.complaints() == []


def on_screen(browser, places):
    """Places (N, 3), domain, in the picture: (N, 2), from -1 to 1 to the right and up."""
    camera = browser.value("view.vectors()")
    eye, ahead, right, up = (np.array(camera[key]) for key in ("eye", "ahead", "right", "up"))
    rays = np.asarray(places) - eye
    return np.stack([rays @ right, rays @ up], -1) / (rays @ ahead)[:, None] / np.tan(np.pi / 8)


def silhouette_of(browser, corners):
    """Which pixels (SIDE, SIDE) a convex body with corners (N, 3), domain, covers, by the camera of the view."""
    from scipy.spatial import ConvexHull

    middles = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    x, y = np.meshgrid(middles, -middles)
    sides = ConvexHull(on_screen(browser, corners)).equations  # (sides, 3)
    return np.all(sides[:, 0, None, None] * x + sides[:, 1, None, None] * y + sides[:, 2, None, None] <= 0, axis=0)


def test_the_picture_has_the_silhouette_of_the_mesh(browser, tmp_path):
    opened(browser, tmp_path, octahedron())
    corners = 0.7 * np.concatenate([np.eye(3), -np.eye(3)])
    for eye in ("{}", "{eye: {x: 0.3, y: 0.9, z: -1}}", "{eye: {x: 1, y: 0.5, z: 1}, up: {x: 0, y: 1, z: 0}}"):
        pixels = redrawn(browser, f"view.setCamera({eye})")
        drawn = np.abs(pixels - pixels[0, 0]).max(axis=-1) > 12
        expected = silhouette_of(browser, corners)
        assert 0.1 < expected.mean() < 0.6
        assert (drawn != expected).sum() < 0.04 * expected.sum()
    assert browser.value("moved.length") == 0 and browser.complaints() == []


def test_section_and_iso_lines_change_the_picture_and_points_have_their_distance(browser, tmp_path):
    network = octahedron()
    opened(browser, tmp_path, network)
    whole = redrawn(browser, "view.changed()")
    cut = redrawn(browser, "view.controls.axis.value = 1; view.controls.chooseAxis()")
    plain = redrawn(browser, "Object.defineProperty(view, 'lineStep', {value: 100}); view.changed()")
    assert (np.abs(cut - whole).max(axis=-1) > 12).mean() > 0.1
    assert 0.01 < (np.abs(cut - plain).max(axis=-1) > 12).mean() < 0.5
    # In the plane of the section, within and without the part; and beside the cube.
    pixels = (on_screen(browser, [(0.2, 0, 0.2), (0.6, 0, 0.6)]) * (1, -1) + 1) * SIDE / 2
    found = [browser.value(f"view.pick({x}, {y})") for x, y in [*pixels, (0, 0)]]
    for point in found[:2]:
        in_domain = network.transform.to_domain(np.array([point["place"]]))
        assert abs(in_domain[0, 1]) < 1e-5
        assert abs(point["distance"] * network.transform.scale - network.domain(in_domain.astype("f4"))[0]) < 1e-5
    assert found[0]["distance"] < 0 < found[1]["distance"] and found[2] is None
    on_surface = browser.value(f"view.setSection({{axis: -1}}), view.pick({SIDE / 2}, {SIDE / 2})")
    assert abs(on_surface["distance"]) * network.transform.scale < 2e-5


def test_hand_and_keys_move_the_camera_and_say_so(browser, tmp_path):
    opened(browser, tmp_path, octahedron())
    before = browser.value("view.camera.eye")
    browser.drag("canvas", 40, 20)
    after = browser.value("view.camera.eye")
    assert after != before and browser.value("moved.length") > 0 and browser.value("moved.at(-1).eye") == after
    assert np.linalg.norm(list(after.values())) == pytest.approx(np.linalg.norm(list(before.values())))
    browser.value("view.canvas.focus()")
    for key in ("+", "ArrowLeft"):
        browser.send("Input.dispatchKeyEvent", type="keyDown", key=key)
    nearer = browser.value("view.camera.eye")
    assert np.linalg.norm(list(nearer.values())) == pytest.approx(np.linalg.norm(list(after.values())) / 1.15)
    assert browser.value("getComputedStyle(view.canvas).touchAction") == "pan-y"
    assert "network" in browser.value("view.canvas.getAttribute('aria-label')")


def test_nothing_is_drawn_at_rest_or_off_screen_and_a_lost_context_comes_back(browser, tmp_path):
    opened(browser, tmp_path, octahedron())
    browser.value("var count = 0; const draw = view.draw; view.draw = (...a) => { count++; draw.apply(view, a); }")
    wait = "new Promise(done => setTimeout(done, {}))"
    browser.send("Runtime.evaluate", expression=wait.format(400), awaitPromise=True)
    assert browser.value("count") == 0
    browser.value("scrollTo(0, 3000)")
    browser.until("!view.visible")
    browser.value("view.setCamera({eye: {x: 1, y: 1, z: 1}})")
    browser.send("Runtime.evaluate", expression=wait.format(400), awaitPromise=True)
    assert browser.value("count") == 0
    browser.value("again(); scrollTo(0, 0)")
    browser.until(SHOWN)
    assert browser.value("count") > 0
    browser.value("again(); var lose = view.gl.getExtension('WEBGL_lose_context'); lose.loseContext()")
    browser.until("view.lost")
    browser.value("lose.restoreContext()")
    browser.until(SHOWN)
    pixels = browser.picture("canvas").astype(int)
    assert (np.abs(pixels - pixels[0, 0]).max(axis=-1) > 12).mean() > 0.1


def test_without_webgl_2_the_view_throws(browser, tmp_path):
    browser.open(tmp_path / "none.html", page_of(octahedron(), "HTMLCanvasElement.prototype.getContext = () => null;"))
    assert browser.value("typeof view") is None and "no WebGL 2" in json.dumps(browser.complaints())


def test_the_page_of_a_part_shows_its_network(browser, tmp_path):
    mesh = torus()
    page = html_report("part", make_record(), make_history(), mesh, mesh, network_view=network_view(octahedron()))
    browser.open(tmp_path / "part.html", page)
    browser.until("document.documentElement.dataset.drawn?.includes('network')")
    assert browser.value("!document.getElementById('panel-network').hidden")
    assert browser.complaints() == []
