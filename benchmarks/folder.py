"""Parts an hour and memory of a folder by the instant preset, and the packing of many parts: `make bench-folder`.

    make bench-folder               # 10 parts of data/geometry_200 by the flags of presets/instant.sh, two workers: an
                                    # earlier revision, this tree, this tree with --outputs model,record, in turn
    make bench-folder ARGS="pack"   # 10,000 small parts: packed, packed once more, their originals removed

The 10 parts are every 20th of the sorted names; of --count N parts, every 200/N-th. The second round runs in the
reverse order. The whole command counts, from its start to its end. One part beforehand compiles the loops, which are
kept, and is not counted. Ten parts take about five minutes on two quiet cores.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

# The modules of the project come before the benchmarks of the same names beside this file.
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.instant import EARLIER, checked_out
from neuralparts.machine import usable_processors
from neuralparts.output.records import describe, record_bytes

LEAN = ("--outputs", "model,record")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="parts", choices=("parts", "pack"))
    parser.add_argument(
        "--old", default=EARLIER, help="revision of git to compare with (%(default)s); '': this tree alone"
    )
    parser.add_argument("--count", type=int, help="parts (10; 10,000 to pack)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each tree (%(default)s)")
    parser.add_argument("--bytes", type=int, default=8_000, help="to pack: of a model (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (%(default)s)")
    flags = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {len(usable_processors())} CPUs, {platform.platform()}")
    with tempfile.TemporaryDirectory() as place:
        (parts if flags.what == "parts" else packing)(flags, Path(place))


# --------------------------------------------------------------------------------------------------- parts an hour


def preset_flags(tree):
    """The flags of a tree's presets/instant.sh, without --outputDir and --showVis."""
    text = (tree / "presets/instant.sh").read_text().partition('impeller.stl" \\')[2].partition("-- ")[0]
    words = text.replace("\\", " ").split()
    pairs = zip(words[::2], words[1::2], strict=True)
    return [word for pair in pairs if pair[0] not in ("--outputDir", "--showVis") for word in pair]


def parts(flags, place):
    """Run the folder by each tree in turn; print parts an hour, CPU and memory."""
    every = sorted((ROOT / "data/geometry_200").iterdir())
    count = min(flags.count or 10, len(every))
    inputs = every[:: len(every) // count][:count]
    trees = {"new": (ROOT, ()), "new, model and record": (ROOT, LEAN)}
    if flags.old:
        kept = ROOT / "results/bench-folder"
        kept.mkdir(parents=True, exist_ok=True)
        trees = {f"old ({flags.old})": (checked_out(flags.old, kept / flags.old), ()), **trees}
    workers = ("--workers", str(flags.workers))
    for tree in dict.fromkeys(tree for tree, _ in trees.values()):
        run_folder(tree, inputs[:1], place / "warm", workers)
    runs = {name: [] for name in trees}
    for number in range(flags.rounds):
        for name in list(trees)[:: 1 if number % 2 == 0 else -1]:
            tree, more = trees[name]
            runs[name].append(run_folder(tree, inputs, place / "out", (*more, *workers)))
            load = os.getloadavg()[0]
            print(f"{name}: {runs[name][-1]['seconds']:.1f} s for {count} parts, load {load:.1f}", flush=True)
    print_rates(runs, count * flags.rounds)


def print_rates(runs, count):
    """Of each tree: parts an hour and CPU seconds a part, with their ratios to the first; the largest worker; medians
    of the seconds of stages and of the surface error."""
    first = None
    for name, found in runs.items():
        rate, cpu = 3600 * count / sum(run["seconds"] for run in found), sum(run["cpu"] for run in found) / count
        first = first or (rate, cpu)
        records = [record for run in found for record in run["records"]]
        stages = ", ".join(
            f"{stage} {statistics.median(record['timings'][stage] for record in records):.2f}"
            for stage in records[0]["timings"]
        )
        error = statistics.median(record["metrics"]["surface_error"] for record in records)
        largest = " ".join(f"{run['memory'] / 2**20:,.0f}" for run in found)
        print(f"{name}: {rate:,.0f} parts an hour ({rate / first[0]:.2f}), {cpu:.2f} s of CPU a part", end="")
        print(f" ({cpu / first[1]:.2f}), the largest worker of each round {largest} MiB")
        print(f"    median seconds: {stages}; surface error {error:.6f}; {len(records)} parts done")


def run_folder(tree, inputs, out, more):
    """Fit some parts by the command line of a tree; returns seconds, CPU seconds, memory of a worker, records."""
    source = out.with_name("in")
    source.mkdir()
    for path in inputs:
        shutil.copy(path, source)
    words = [sys.executable, str(tree / "trainer.py"), str(source), "--outputDir", str(out), *preset_flags(tree), *more]
    start, cpu = time.perf_counter(), children_seconds()
    # Python's own compiled modules are kept, as for a user.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, cwd=tree, env=environment, **quiet)
    largest = [0]
    watcher = threading.Thread(target=watch_memory, args=(process, largest))
    watcher.start()
    process.wait()
    result = {"seconds": time.perf_counter() - start, "cpu": children_seconds() - cpu}
    watcher.join()
    records = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    shutil.rmtree(out)
    shutil.rmtree(source)
    return result | {"memory": largest[0], "records": records}


def children_seconds():
    """CPU seconds of the processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def watch_memory(process, largest):
    """Keep the largest resident memory that any child of a process has had, in bytes, until the process ends."""
    while process.poll() is None:
        for path in Path("/proc").glob("[0-9]*/status"):
            try:
                lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
            except (OSError, ValueError):
                continue
            if int(lines["PPid"]) == process.pid and "VmHWM" in lines:
                largest[0] = max(largest[0], int(lines["VmHWM"].split()[0]) * 1024)
        time.sleep(0.2)


# --------------------------------------------------------------------------------------------------------- packing


def packing(flags, place):
    """Pack stub parts in processes of their own; print seconds, files and memory of each run."""
    folder, count = place / "out", flags.count or 10_000
    folder.mkdir()
    for number in range(count):
        make_stub(folder, f"part_{number:07d}", flags.bytes)
    packed = place / "out_packed"
    for title, more in (("pack", ()), ("again", ()), ("--remove 1", ("--remove", "1")), ("verify", None)):
        words = ["verify", str(packed)] if more is None else ["pack", str(folder), *more]
        start = time.perf_counter()
        program = (
            f"import resource, sys; sys.path.insert(0, {str(ROOT)!r}); from neuralparts.commands import main; "
            + (f"code = main({words!r}); print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        seconds = time.perf_counter() - start
        code, memory = done.stdout.splitlines()[-1].split()
        files = [len(list(path.iterdir())) for path in (folder, packed)]
        print(f"{title}: exit code {code}, {seconds:.1f} s, {int(memory) / 1024:,.0f} MiB; {files[0]:,} files are")
        print(f"    {files[1]:,}, {sum(path.stat().st_size for path in packed.iterdir()) / 1e6:,.0f} MB", flush=True)


def make_stub(folder, name, size):
    """A finished part whose model is so many bytes that no other part has."""
    model = folder / f"{name}.safetensors"
    model.write_bytes((name.encode() * (size // len(name) + 1))[:size])
    record = {"input": f"{name}.stl", "content": "", "flags": {}, "timings": {}, "failure": ""}
    record |= {"metrics": {}, "diagnosis": {"notes": "x" * 3000}, "files": {model.name: describe(model)}}
    (folder / f"{name}.json").write_bytes(record_bytes(record))


if __name__ == "__main__":
    main()
