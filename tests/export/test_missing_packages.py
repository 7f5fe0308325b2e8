"""A form whose package is missing says in one line which to install."""

import sys

import pytest

from neuralparts.errors import UserError
from neuralparts.export import export_model
from tests.export.formed_models import formed_model


@pytest.mark.parametrize(("form", "package", "extra"), [("onnx", "onnx", "export"), ("nvdb", "warp", "volume")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, form, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"^[^\n]*neuralparts\[{extra}\]$"):
        export_model(formed_model(), form, tmp_path / f"part.{form}")
    assert list(tmp_path.iterdir()) == []
