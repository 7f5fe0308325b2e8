"""The stage is light to import: the driver of a folder needs only its gallery."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_heavy_libraries_wait_until_asked_for():
    script = (
        "import sys, neuralparts.report;"
        "heavy = {'plotly', 'torch', 'numba', 'scipy', 'PIL', 'fast_simplification'};"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys();"
        "neuralparts.report.draw_sheet('n', {'samples': [1, 2], 'loss': [2, 1]});"
        "assert 'PIL' in sys.modules and not {'torch', 'matplotlib'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
