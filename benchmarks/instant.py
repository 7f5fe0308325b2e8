"""`presets/instant.sh` from command to exit, this tree against an earlier commit: `make bench-instant`.

Both run as whole processes in turn, on eight meshes. It prints, for each mesh and as medians: seconds and CPU seconds
of both with their ratios, surface error, IoU; then the seconds from the command to its first line, and from the last
file to the end of the process.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "../shared/data"
EIGHT = (
    "parts/featuretype.STL",
    "parts/1002_tray_bottom.STL",
    "parts/ADIS16480.STL",
    "parts/plate_holes.STL",
    "parts/octagonal_pocket.stl",
    "organic/fandisk.obj",
    "organic/rocker-arm.obj",
    "organic/homer.obj",
)
# The last commit before the training step was compiled as a whole.
EARLIER = "f65bfbc"


class Run(NamedTuple):
    """One process: seconds, CPU seconds, seconds to its first line and after its last file; figures of its record."""

    seconds: float
    cpu: float
    first_line: float
    after_files: float
    surface_error: float
    iou: float


# The runs of one mesh: those of the earlier tree, and those of this one in the same rounds.
Pair = tuple[list[Run], list[Run]]


def checked_out(commit: str, folder: Path) -> Path:
    """The tree of a commit, with this one's environment, in a folder that is kept for the next call."""
    if not folder.is_dir():
        packed = subprocess.run(["git", "-C", ROOT, "archive", commit], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def run(tree: Path, mesh: Path, out: Path) -> Run:
    """The preset of a tree on a mesh, into an output folder that is removed before."""
    shutil.rmtree(out, ignore_errors=True)  # a finished part would be skipped
    # Python's own compiled modules are kept, as for a user.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, start = cpu_seconds(), time.perf_counter()
    call = [tree / "presets/instant.sh", mesh, "--outputDir", out, "--showVis", "0"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as process:
        process.stdout.readline()
        first_line = time.perf_counter() - start
        said = process.stdout.read()
    seconds, ended = time.perf_counter() - start, time.time()
    if process.returncode:
        raise SystemExit(f"{tree}: {mesh.name}: exit code {process.returncode}\n{said.decode()}")
    metrics = json.loads((out / f"{mesh.stem}.json").read_text())["metrics"]
    last_file = max(path.stat().st_mtime for path in out.iterdir())
    cpu = cpu_seconds() - before
    return Run(seconds, cpu, first_line, ended - last_file, metrics["surface_error"], metrics["iou"])


def cpu_seconds() -> float:
    """User and system seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def of_median_mesh(meshes: Sequence[Pair], tree: int, figure: str) -> float:
    """The median over meshes of the median over the runs of a tree, 0 or 1."""
    return statistics.median(statistics.median(getattr(each, figure) for each in pair[tree]) for pair in meshes)


def ratio(meshes: Sequence[Pair], figure: str) -> float:
    """The median over meshes of the median over rounds of a figure now over that of the earlier tree."""
    return statistics.median(
        statistics.median(getattr(now, figure) / getattr(earlier, figure) for earlier, now in zip(*pair, strict=True))
        for pair in meshes
    )


def row(name: str, meshes: Sequence[Pair]) -> str:
    """A line of the table, on one mesh or several."""
    words = [f"{name:18}"]
    for figure in ("seconds", "cpu"):
        words += [f"{of_median_mesh(meshes, tree, figure):7.2f}" for tree in (0, 1)] + [f"{ratio(meshes, figure):6.2f}"]
    words += [f"{of_median_mesh(meshes, tree, 'surface_error'):.6f}" for tree in (0, 1)]
    return " ".join(words + [f"{of_median_mesh(meshes, tree, 'iou'):.4f}" for tree in (0, 1)])


def main() -> None:
    """Run both trees in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("meshes", nargs="*", type=Path, help="default: eight of ../shared/data")
    parser.add_argument("--against", default=EARLIER, help=f"the earlier commit (default {EARLIER})")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each tree on each mesh (default 3)")
    parser.add_argument("--out", type=Path, default=ROOT / "results/bench-instant", help="folder of the earlier tree")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    trees = checked_out(flags.against, (flags.out / flags.against).resolve()), ROOT
    meshes = [mesh.resolve() for mesh in flags.meshes or [DATA / name for name in EIGHT]]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {flags.against} against now")
    print(f"{'':18} {'seconds':^22} {'CPU seconds':^22} {'surface error':^17} {'IoU':^13}")
    print(f"{'':18} {'earlier     now  ratio ' * 2}{'earlier  now':^17} {'earlier  now':^13}")
    pairs = []
    with tempfile.TemporaryDirectory() as place:
        for tree in trees:
            run(tree, meshes[0], Path(place) / "out")  # compiles its loops, if they are not
        for mesh in meshes:
            pair = [], []
            for number in range(flags.rounds):
                for which in (0, 1) if number % 2 == 0 else (1, 0):
                    pair[which].append(run(trees[which], mesh, Path(place) / "out"))
            print(row(mesh.stem, [pair]), flush=True)
            pairs.append(pair)
    print(row("median", pairs))
    for figure, title in (("first_line", "command to first line"), ("after_files", "last file to end")):
        print(f"{title}, s: " + " ".join(f"{of_median_mesh(pairs, tree, figure):.2f}" for tree in (0, 1)))


if __name__ == "__main__":
    main()
