"""Settings of all tests."""

import pytest
import torch

from tests.fleet.runs import here  # noqa: F401 (a fixture)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small networks are slower on several threads, and much slower where other programs use the cores."""
    torch.set_num_threads(1)
