"""Why there is no surface, in one line: a collapsed fit, a level that is not reached, a feature that is too thin."""

import re

import numpy as np
import pytest

from neuralparts.marching import NoSurfaceError, march, march_dense
from tests.marching.surfaces import box, sphere


def test_a_constant():
    with pytest.raises(NoSurfaceError, match=r"0\.25 everywhere; the fit has collapsed"):
        march(lambda points: np.full(len(points), 0.25, np.float32), 32)


@pytest.mark.parametrize("sign", [1, -1])
def test_nearly_a_constant(sign):
    with pytest.raises(NoSurfaceError, match=r"nearly constant, the fit has collapsed"):
        march(lambda points: sign * (0.01 + 0.001 * points[:, 0]), 32)


def test_a_level_that_is_not_reached():
    with pytest.raises(NoSurfaceError, match=r"nothing between them is nearer than 0\.3.*does not reach the level"):
        march(lambda points: np.linalg.norm(points, axis=1) + 0.3, 32)


@pytest.mark.parametrize("run", [march, march_dense])
@pytest.mark.parametrize("thin", [sphere(0.004, (0.31, 0.22, 0.13)), box((0.6, 0.6, 0.003), (0, 0, 0.015))])
def test_a_feature_thinner_than_the_grid_is_seen_from_the_resolution_named(run, thin):
    with pytest.raises(NoSurfaceError, match="thinner than the cell") as caught:
        run(thin, 32)
    seen = int(re.search(r"seen from about (\d+) on", str(caught.value)).group(1))
    assert 32 < seen < 1500 and "\n" not in str(caught.value)
    assert len(march(thin, seen).faces) > 0
