"""Parts an hour and memory of a folder by the instant preset, and the packing of many parts: `make bench-folder`.

    make bench-folder ARGS="--old REVISION"   # 40 parts of data/geometry_200 by the flags of presets/instant.sh: the
                                              # old revision, this tree, this tree with --outputs model,record, in turn
    make bench-folder ARGS="pack"             # 10,000 small parts: packed, packed once more, their originals removed

The 40 parts are every fifth of the sorted names. Each round takes 20 of them; the second runs in the reverse order. The
whole command counts, from its start to its end. One part beforehand compiles the loops and is not counted.
"""

import argparse
import json
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

from neuralparts.machine import usable_processors
from neuralparts.output.records import describe, record_bytes

LEAN = ("--outputs", "model,record")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="parts", choices=("parts", "pack"))
    parser.add_argument("--old", help="revision of git to compare with; left out: this tree alone")
    parser.add_argument("--count", type=int, help="parts (40; 10,000 to pack)")
    parser.add_argument("--bytes", type=int, default=8_000, help="to pack: of a model (%(default)s)")
    parser.add_argument("--workers", help="worker processes (the trainer's own number)")
    flags = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {len(usable_processors())} CPUs, {platform.platform()}")
    with tempfile.TemporaryDirectory() as place:
        (parts if flags.what == "parts" else packing)(flags, Path(place))


# --------------------------------------------------------------------------------------------------- parts an hour


def preset_flags():
    """The flags of presets/instant.sh, without --showVis."""
    text = (ROOT / "presets/instant.sh").read_text().partition('impeller.stl" \\')[2].partition("-- ")[0]
    words = text.replace("\\", " ").split()
    place = words.index("--showVis")
    return words[:place] + words[place + 2 :]


def parts(flags, place):
    """Run the folder by each revision in turn, in two rounds; print parts an hour, CPU and memory."""
    inputs = sorted((ROOT / "data/geometry_200").iterdir())[::5][: flags.count or 40]
    trees = {"new": (ROOT, ()), "new, model and record": (ROOT, LEAN)}
    if flags.old:
        (place / "old").mkdir()
        archive = subprocess.run(["git", "archive", flags.old], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "x", "-C", place / "old"], input=archive, check=True)
        trees = {f"old ({flags.old})": (place / "old", ()), **trees}
    workers = ("--workers", flags.workers) if flags.workers else ()
    for tree in dict.fromkeys(tree for tree, _ in trees.values()):
        run_folder(tree, inputs[:1], place / "warm", ())
    half = (len(inputs) + 1) // 2
    runs = {name: [] for name in trees}
    for chunk, order in ((inputs[:half], list(trees)), (inputs[half:], list(trees)[::-1])):
        for name in order:
            tree, more = trees[name]
            runs[name].append(run_folder(tree, chunk, place / "out", (*more, *workers)))
            print(f"{name}: {runs[name][-1]['seconds']:.1f} s for {len(chunk)} parts", flush=True)
    print_rates(runs, len(inputs))


def print_rates(runs, count):
    """Parts an hour of each revision, against the first; CPU seconds a part; the largest worker; medians of stages."""
    first = None
    for name, found in runs.items():
        rate = 3600 * count / sum(run["seconds"] for run in found)
        first = first or rate
        cpu, memory = sum(run["cpu"] for run in found) / count, max(run["memory"] for run in found)
        records = [record for run in found for record in run["records"]]
        stages = ", ".join(
            f"{stage} {statistics.median(record['timings'][stage] for record in records):.2f}"
            for stage in records[0]["timings"]
        )
        error = statistics.median(record["metrics"]["surface_error"] for record in records)
        print(f"{name}: {rate:,.0f} parts an hour ({rate / first:.2f}), {cpu:.2f} s of CPU a part, the largest worker")
        print(f"    {memory / 2**20:,.0f} MiB; seconds {stages}; surface error {error:.6f}; {len(records)} parts done")


def run_folder(tree, inputs, out, more):
    """Fit some parts by the command line of a tree; returns seconds, CPU seconds, memory of a worker, records."""
    source = out.with_name("in")
    source.mkdir()
    for path in inputs:
        shutil.copy(path, source)
    words = [sys.executable, str(tree / "trainer.py"), str(source), "--outputDir", str(out), *preset_flags(), *more]
    start, cpu = time.perf_counter(), children_seconds()
    process = subprocess.Popen(words, cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
