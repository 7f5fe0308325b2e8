"""Work in blocks and threads."""

import numpy as np
import pytest

from neuralparts.distance.blocks import in_blocks


@pytest.mark.parametrize("count, block", [(0, 7), (7, 7), (1000, 7)])
@pytest.mark.parametrize("threads", [1, 3])
def test_each_number_is_worked_on_once(count, block, threads):
    visits = np.zeros(count, dtype=int)

    def visit(part):
        assert part.stop - part.start <= block
        visits[part] += 1

    in_blocks(visit, count, block, threads)
    assert (visits == 1).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_a_block_is_raised(threads):
    def fail(part):
        if part.start == 14:
            raise ArithmeticError("in a block")

    with pytest.raises(ArithmeticError, match="in a block"):
        in_blocks(fail, 100, 7, threads)
