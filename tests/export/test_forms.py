"""Forms and suffixes: which file has which form, and what is refused."""

import pytest

from neuralparts.choices import EXPORT_FORMS
from neuralparts.errors import UserError
from neuralparts.export import export_model, form_of
from neuralparts.export.forms import GRID_WRITERS, WRITERS
from tests.export.cases import a_model

MODEL = a_model("none", "relu", "none")


def test_every_form_has_a_writer_and_a_suffix_of_its_own():
    assert [*WRITERS, *GRID_WRITERS] == list(EXPORT_FORMS)
    assert [form_of(f"part{suffix.upper()}") for suffix in EXPORT_FORMS.values()] == list(EXPORT_FORMS)


def test_a_model_exports_itself_by_the_suffix(tmp_path):
    written = MODEL.export(tmp_path / "part.c")
    assert [path.name for path in written] == ["part.c", "part.h", "part.xml"]
    assert sorted(tmp_path.iterdir()) == sorted(written)


def test_what_is_no_form_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"part\.txt: no form has the suffix '\.txt'; use one of \.h \(c\)"):
        MODEL.export(tmp_path / "part.txt")
    with pytest.raises(UserError, match=r"the form c is written to a file with the suffix \.h"):
        export_model(MODEL, "c", tmp_path / "part.py")
    with pytest.raises(ValueError, match="unknown form 'fortran'"):
        export_model(MODEL, "fortran", tmp_path / "part.f")
    assert list(tmp_path.iterdir()) == []
