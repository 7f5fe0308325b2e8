"""The check of a GPU, in one command: `make bench-gpu`, or `python -m benchmarks.gpu` in a checkout.

    make bench-gpu                                     # all parts, in 10 minutes
    make bench-gpu ARGS="--budget 240"                 # as far as 240 seconds go
    make bench-gpu ARGS="--only machine,steps,high"    # some of them
    make bench-gpu ARGS="--device cpu --small 1"       # a rehearsal without a GPU: tiny sizes, no figure means anything

It prints a line for each finding as soon as it is known, then a table in Markdown, and keeps all in build/gpu.json. A
part that fails says so, and the others go on: they run in a second process, which is replaced if it dies or leaves the
GPU unusable. Nothing is asserted: the table has what was asked beside what was measured, which begins with "met" or
"MISSED" where a limit was asked for; the last line counts them.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# Import modules from the project's root, not from this folder.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

# The parts in their order: the module that has the function, and the least seconds that are worth beginning it.
PARTS = {
    "machine": ("gpu_fits", 5),
    "evaluation": ("gpu_commands", 10),
    "correct": ("gpu_fits", 15),
    "labels": ("gpu_commands", 15),
    "steps": ("gpu_fits", 15),
    "high": ("gpu_high", 20),
    "marching": ("gpu_commands", 10),
    "instant": ("gpu_commands", 15),
    "folder": ("gpu_commands", 30),
}
# Seconds that a process has to end after its budget.
GRACE = 15
# Exit codes of the process that runs the parts: it cannot use the device at all; an error made the device unusable.
NO_DEVICE, LOST = 2, 3


def main() -> int:
    """Run the parts, each as far as its time goes; print the table."""
    flags = command_line().parse_args()
    if flags.inside:
        with contextlib.suppress(KeyboardInterrupt):  # the parent says how it ends
            return inside(flags)
        return 130
    chosen = flags.only.split(",") if flags.only else list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        command_line().error(f"--only: no part {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    flags.until = time.time() + flags.budget
    flags.out.mkdir(parents=True, exist_ok=True)
    kept = flags.out / "gpu.json"
    kept.unlink(missing_ok=True)
    warming = warm_up(flags)
    try:
        code = run_all(flags, [name for name in PARTS if name in chosen], kept)
    except KeyboardInterrupt:
        code = 130
    if warming is not None and warming.poll() is None:
        stop(warming)
    rows = findings_in(kept)["rows"]
    print(table(rows), summary(rows), sep="\n\n")
    return code


def run_all(flags: argparse.Namespace, names: list[str], kept: Path) -> int:
    """Run these parts, in another process after each that ends before them; returns 1 if none can use the device."""
    while names:
        code = run_inside(flags, names)
        if code == NO_DEVICE:
            return 1
        found = findings_in(kept)
        names = [name for name in names if name not in found["ended"]]
        if names and code != LOST:
            row = {"part": names[0], "name": names[0], "asked": "", "measured": f"FAILED: process ended with {code}"}
            found["rows"].append(row)
            found["ended"].append(names.pop(0))
            kept.write_text(json.dumps(found, indent=1))
    return 0


def findings_in(kept: Path) -> dict[str, list]:
    """The rows of the table and the names of the parts that have ended."""
    return json.loads(kept.read_text()) if kept.exists() else {"rows": [], "ended": []}


def command_line() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="torch's name of the device (%(default)s)")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds for everything (%(default)g)")
    parser.add_argument("--only", default="", help=f"parts, comma between them: {', '.join(PARTS)} (all)")
    parser.add_argument("--small", type=int, choices=(0, 1), default=0, help="1: tiny sizes, for a rehearsal")
    parser.add_argument("--parts", type=int, default=40, help="parts of the folder (%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build", help="folder of gpu.json and of all results (build)"
    )
    shared = ROOT.parent / "shared/data/parts/featuretype.STL"
    parser.add_argument("--featuretype", type=Path, default=shared, help="that mesh (data/README.md); %(default)s")
    parser.add_argument("--inside", type=int, default=0, help=argparse.SUPPRESS)  # 1: the process that runs the parts
    parser.add_argument("--until", type=float, default=0.0, help=argparse.SUPPRESS)  # its end, seconds of the epoch
    return parser


def inside(flags: argparse.Namespace) -> int:
    """Run the parts of --only in this process."""
    from benchmarks import gpu_commands, gpu_fits, gpu_high
    from benchmarks.gpu_findings import Findings

    modules = {"gpu_fits": gpu_fits, "gpu_high": gpu_high, "gpu_commands": gpu_commands}
    if not gpu_fits.is_usable(flags.device):
        return NO_DEVICE
    findings = Findings(flags.out / "gpu.json", flags.until)
    for name in flags.only.split(","):
        module, least = PARTS[name]
        work = getattr(modules[module], name)
        if findings.seconds_left() < least and not flags.small:
            findings.run(name, lambda name=name: findings.tell(name, "left out: no time"))
        else:
            findings.run(name, lambda work=work: work(findings, flags))
        if not gpu_fits.is_usable(flags.device):
            return LOST
    return 0


def run_inside(flags: argparse.Namespace, names: list[str]) -> int:
    """Run these parts in a process of their own; returns its exit code."""
    words = [sys.executable, "-m", "benchmarks.gpu", "--inside", "1", "--until", str(flags.until)]
    words += ["--only", ",".join(names), "--device", flags.device, "--small", str(flags.small)]
    words += ["--parts", str(flags.parts), "--out", str(flags.out.resolve())]
    words += ["--featuretype", str(flags.featuretype.resolve())]
    process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return process.wait(max(1.0, flags.until - time.time()) + GRACE)
    except subprocess.TimeoutExpired:
        return 124
    finally:
        if process.poll() is None:
            stop(process)


def warm_up(flags: argparse.Namespace) -> subprocess.Popen | None:
    """Begin to compile whatever Numba compiles for a command, beside the first parts; its machine code is kept."""
    if flags.small or (flags.only and not {"instant", "folder"} & set(flags.only.split(","))):
        return None
    few = "--num_points 20000 --numPairs 4000 --epochs 1 --reconstructionRes 32 --gpu -1 --showVis 0 --overwrite 1"
    words = [str(ROOT / "presets/instant.sh"), *few.split(), "--outputDir", str(flags.out.resolve() / "gpu/warm")]
    with open(flags.out / "gpu_warm_up.log", "w") as log:
        return subprocess.Popen(
            words, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )


def stop(process: subprocess.Popen) -> None:
    """Ask a process and all that it started to end, then end them."""
    for kind, seconds in ((signal.SIGINT, GRACE), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, kind)
            process.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return


def summary(rows: list[dict]) -> str:
    """How many limits are met, and the findings that miss theirs or failed."""
    met = sum(row["measured"].startswith("met: ") for row in rows)
    bad = [row["name"] for row in rows if row["measured"].startswith(("MISSED: ", "FAILED: "))]
    return f"limits met: {met}; missed or failed: {len(bad)}" + f" ({'; '.join(bad)})" * bool(bad)


def table(rows: list[dict]) -> str:
    """The findings as a table in Markdown."""
    lines = ["", "| part | finding | asked | measured |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {r['part']} | {r['name']} | {r['asked']} | {r['measured']} |" for r in rows])


if __name__ == "__main__":
    sys.exit(main())
