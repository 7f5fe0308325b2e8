"""NAME.png: what the sheet of pictures shows, and the section through a network."""

import numpy as np
import pytest

from neuralparts.report import cut_section, section_png
from neuralparts.report.curves import COLOURS
from neuralparts.report.section_picture import OUTLINE_COLOUR, outline
from neuralparts.report.sheet import BORDER, GAP, PANEL, PANEL_TOP
from neuralparts.report.ticks import linear_ticks, log_ticks, round_step, short
from tests import shapes
from tests.report.shown import HOSTILE, has_colour, make_history, make_record, pixels_of, sheet_png, sphere, torus

BALL_BOUNDS = np.array([[-1.0, -1, -1], [1, 1, 1]])


def panel(pixels, index):
    """The pixels of a panel of the sheet, from 0 to 2."""
    left = BORDER + index * (PANEL + GAP)
    return pixels[PANEL_TOP : PANEL_TOP + PANEL, left : left + PANEL]


def ball(points):
    return shapes.sphere(points, 1.0)


def test_sheet_shows_input_reconstruction_section_and_curves():
    mesh = sphere()
    section = cut_section(ball, BALL_BOUNDS, mesh, 64)
    deviation = np.where(mesh[0][:, 2] > 0, 1.0, 0.0)  # the upper half is wrong
    smaller = 0.8 * mesh[0], mesh[1]
    pixels = pixels_of(sheet_png("part", make_history(), make_record(), mesh, smaller, deviation, section))
    plain, coloured, cut = (panel(pixels, index) for index in range(3))
    assert np.abs(plain - coloured)[60:120, 150:190].mean() > 60
    large, small = ((part < 255).any(axis=2).sum() for part in (plain, coloured))
    assert small == pytest.approx(0.8**2 * large, rel=0.02)  # framed alike
    assert has_colour(cut, OUTLINE_COLOUR) and not has_colour(plain, OUTLINE_COLOUR)
    for key in ("loss", "held_out", "validation", "learning_rate"):
        assert has_colour(pixels, COLOURS[key]), key
    only_loss = {key: make_history()[key] for key in ("samples", "loss")}
    less = pixels_of(sheet_png("part", only_loss, make_record()))
    assert has_colour(less, COLOURS["loss"]) and not has_colour(less, COLOURS["held_out"])


def test_sheet_says_why_a_panel_is_empty():
    without, other = (
        pixels_of(sheet_png("part", make_history(), make_record(failure=reason)))
        for reason in ("no sign change in the grid: all values are positive", "another reason")
    )
    assert panel(without, 0).min() < 150 and panel(without, 1).min() < 150
    assert np.array_equal(panel(without, 0), panel(other, 0)) and not np.array_equal(panel(without, 1), panel(other, 1))
    assert panel(without, 2).min() == 255


def test_a_name_that_the_font_cannot_draw_is_left_out():
    none, boxes, drawn = (pixels_of(sheet_png(name, {}, make_record())) for name in ("", "Gehäuse 零件", "part"))
    assert np.array_equal(boxes, none) and not np.array_equal(drawn, none)


@pytest.mark.parametrize("history", [{}, {"samples": [], "loss": []}, {"samples": [1.0], "loss": [np.nan]}])
def test_sheet_of_hostile_name_and_no_history(history, recwarn):
    pixels = pixels_of(sheet_png(HOSTILE, history, {"failure": HOSTILE}))
    assert pixels.std() > 1 and not has_colour(pixels, COLOURS["loss"])
    assert not recwarn.list


@pytest.mark.parametrize("samples", [[5.0], [1e3, 2e3]])
def test_a_curve_of_few_points_or_of_one_value_is_drawn(samples):
    history = {"samples": np.array(samples), "loss": np.full(len(samples), 0.01)}
    assert has_colour(pixels_of(sheet_png("part", history, make_record())), COLOURS["loss"])


def test_section_of_a_ball_is_a_disk_with_its_distances():
    section = cut_section(ball, BALL_BOUNDS, sphere(), 200)
    inside = (section.values < 0).mean() * section.side**2
    assert inside == pytest.approx(np.pi, rel=0.01)
    # The outline of the ball of triangles lies just inside that of the ball.
    radii = np.hypot(*section.outline.reshape(-1, 2).T)
    assert len(radii) and radii.min() > 0.99 and radii.max() <= 1.0
    row = section.values[100]
    assert row[0] > 0 > row[100] and np.allclose(np.abs(np.diff(row[:80])), section.side / 200, rtol=0.02)


def test_section_has_its_second_axis_upwards():
    section = cut_section(lambda points: shapes.sphere(points - [0.5, 0.6, 0], 0.3), BALL_BOUNDS, None, 100)
    assert section.axis == 2
    assert (section.values < 0)[:50, 50:].sum() == (section.values < 0).sum() > 200  # right of and above the middle


def test_section_takes_the_plane_that_shows_most_of_the_mesh():
    vertices, faces = torus()
    bounds = np.stack([vertices.min(axis=0), vertices.max(axis=0)])
    for axis in range(3):
        rolled = np.roll(vertices, axis + 1, axis=1)  # the axis of the torus, z, becomes x, y, z

        def distance(points, axis=axis):
            return shapes.torus(np.roll(points, -axis - 1, axis=1), 1.0, 0.4)

        section = cut_section(distance, np.roll(bounds, axis + 1, axis=1), (rolled, faces), 100)
        assert section.axis == axis
        # A ring between the radii 0.6 and 1.4.
        assert (section.values < 0).mean() * section.side**2 == pytest.approx(np.pi * (1.4**2 - 0.6**2), rel=0.02)
    assert cut_section(distance, bounds, None, 10).axis == 2


def test_outline_of_a_closed_mesh_is_closed():
    lines = outline(*torus(), 0, 0.13)
    ends, uses = np.unique(lines.reshape(-1, 3).round(9), axis=0, return_counts=True)
    assert len(ends) > 40 and np.all(uses == 2) and np.allclose(ends[:, 0], 0.13)


def test_section_of_values_that_are_no_numbers_is_drawn():
    section = cut_section(lambda points: np.where(points[:, 0] > 0, np.nan, -np.inf), BALL_BOUNDS, None, 20)
    assert pixels_of(section_png(section, 40)).shape == (40, 40, 3)


def test_ticks_are_round_and_cover_the_range():
    assert [round_step(length) for length in (1, 1.9, 2, 4.99, 0.05, 7e-9)] == [1, 1, 2, 2, 0.05, 5e-9]
    for high in (1, 3, 900, 2_695_680, 1e7):
        ticks = linear_ticks(high)
        assert ticks[0] == 0 and 4 <= len(ticks) <= 11 and ticks[-1] <= high < ticks[-1] + 1.0001 * ticks[1]
    assert log_ticks(1e-4, 0.2) == [1e-4, 1e-3, 1e-2, 0.1]
    assert log_ticks(0.003, 0.06) == [0.005, 0.01, 0.02, 0.05]
    assert [short(value) for value in (0, 500, 5e5, 1.5e6, 3e9)] == ["0", "500", "500k", "1.5M", "3G"]
