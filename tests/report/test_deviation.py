"""The signed deviation: its tolerance, colours, fractions and histogram."""

import numpy as np
import pytest

from neuralparts.report.deviation import (
    HEIGHT,
    QUANTILES,
    SCALE,
    WIDTH,
    Deviation,
    absolute_quantiles,
    colour_of,
    default_tolerance,
    deviation_of,
    fraction_within,
    histogram,
)


@pytest.mark.parametrize(
    ("diameter", "tolerance"),
    [(120, 0.1), (176, 0.2), (1000, 1), (3100, 2), (3300, 5), (8e-5, 1e-7), (7000, 5), (7200, 10)],
)
def test_tolerance_is_the_round_number_nearest_to_a_thousandth_of_the_part(diameter, tolerance):
    assert default_tolerance(diameter) == tolerance


def test_colours_lighten_from_inside_to_outside_and_end_at_the_tolerance():
    ratios = np.linspace(-1, 1, 101)
    luminance = (colour_of(ratios) / 255) ** 2.2 @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(luminance) > 0)
    ends = colour_of(np.array([-1.0, 1.0, -7.0, 7.0]))
    assert np.array_equal(ends[:2], ends[2:])
    red, green, blue = colour_of(np.array([0.0]))[0]
    assert max(red, green, blue) - min(red, green, blue) < 8  # grey where nothing deviates
    assert ends[0][2] > ends[0][0] + 60 and ends[1][0] > ends[1][2] + 60  # blue inside, yellow outside
    assert [place for place, _ in SCALE] == sorted(place for place, _ in SCALE)


def test_a_vertex_counts_by_the_area_about_it():
    vertices = np.array([[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 4.0]])
    faces = np.array([[0, 1, 2], [0, 1, 3]])  # areas 3 and 6
    deviation = deviation_of(vertices, faces, np.arange(4.0))
    assert np.allclose(deviation.fractions, np.array([9, 9, 3, 6]) / 27)
    flat = deviation_of(vertices, np.array([[0, 1, 1]]), np.arange(4.0))
    assert np.allclose(flat.fractions, 0.25)


def made_deviation(count=4000):
    generator = np.random.default_rng(5)
    fractions = generator.uniform(0.5, 1.5, count)
    return Deviation(generator.normal(0.02, 0.1, count), fractions / fractions.sum())


def test_quantiles_give_the_fraction_within_any_tolerance():
    deviation = made_deviation()
    quantiles = absolute_quantiles(deviation)
    assert len(quantiles) == QUANTILES and np.all(np.diff(quantiles) >= 0)
    for tolerance in (0.01, 0.1, 0.3):
        counted = sum(f for v, f in zip(*deviation, strict=True) if abs(v) <= tolerance)
        assert fraction_within(deviation, tolerance) == pytest.approx(counted)
        assert np.interp(tolerance, quantiles, np.linspace(0, 1, QUANTILES)) == pytest.approx(counted, abs=0.003)


def test_histogram_has_the_whole_surface_in_its_bars():
    deviation = made_deviation()
    drawn = histogram(deviation, 0.05)
    assert drawn.end == 0.5  # 99.5% within 0.29
    assert max(bar.height for bar in drawn.bars) == HEIGHT and drawn.bars[-1].x + drawn.bars[-1].width <= WIDTH
    # The mean of the bars' places, weighted by their heights, is the mean deviation.
    places = np.array([(bar.x + bar.width / 2) / WIDTH * 2 - 1 for bar in drawn.bars]) * drawn.end
    heights = np.array([bar.height for bar in drawn.bars])
    assert (places * heights).sum() / heights.sum() == pytest.approx(
        (deviation.values * deviation.fractions).sum(), abs=0.002
    )


def test_histogram_keeps_a_stray_vertex_in_its_last_bar():
    values, fractions = np.zeros(1000), np.full(1000, 1e-3)
    values[0] = 40.0
    drawn = histogram(Deviation(values, fractions), 0.1)
    assert drawn.end == 0.2
    assert [bar.text for bar in drawn.bars] == [
        "\N{MINUS SIGN}0.00328 to +0.00328: 99.9% of the surface",
        "above +0.193: 0.1% of the surface",
    ]


def test_a_perfect_mesh_has_a_histogram():
    drawn = histogram(Deviation(np.zeros(3), np.full(3, 1 / 3)), 0.1)
    assert len(drawn.bars) == 1 and drawn.end == 0.2
