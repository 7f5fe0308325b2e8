"""Parts per hour, the driver's own time, a queue of a thousand nodes: `make bench-fleet`.

    make bench-fleet ARGS="parts"     # data/geometry_200 at a small budget: one process with all CPUs on a part at a
                                      # time, one worker per CPU, Ray on this machine; the same parts in one run
    make bench-fleet ARGS="stubs"     # 10,000 parts that cost nothing, in worker processes: the driver's own time
    make bench-fleet ARGS="nodes"     # the same loop, book and files with 1,000 simulated nodes
    make bench-fleet ARGS="stages"    # seconds by stage and bytes of a part, from the records of a folder

Start-up (processes, imports) does not count: the clock starts when as many parts have ended as the place has workers.
"""

import argparse
import heapq
import importlib.util
import json
import platform
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# The modules of the project come before the benchmarks of the same names beside this file.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from neuralparts.commands.fit import WORKERS, find_inputs, names_of, place_to_run
from neuralparts.flags import parse_fit_flags
from neuralparts.fleet import FolderBook, Processes, Ray, SharedFolder, run
from neuralparts.machine import resident_memory, settle_threads, usable_processors
from neuralparts.output import PartFiles, StagedFiles
from neuralparts.whole_file import write_whole

ROOT = Path(__file__).resolve().parents[1]
BUDGET = "--damArch 1 --scaler QuantileTransformer --num_points 30000 --epochs 1 --batchSize 512 --reconstructionRes 64"


def stub(job, should_stop):
    """A part that costs nothing, with a record as large as a real one."""
    metrics = dict.fromkeys(("surface_error", "surface_error_p99", "importance_error", "grid_error", "iou"), 0.001)
    record = {"metrics": metrics, "fit": {"ended_by": "epochs"}, "timings": {"total": 0.0}, "failure": ""}
    return {"status": "done", "reason": "", "record": record | {"diagnosis": {"notes": "x" * 2000}}}


def files_stub(job, should_stop):
    """A part whose fit costs nothing and whose files are as many and as large as a real part's."""
    files = PartFiles(Path(job["flags"]["outputDir"]), job["name"])
    with files.lock():
        staged = StagedFiles(files)
        staged.begin()
        for path, size in ((staged.model, 2_400_000), (staged.reconstruction, 2_000_000), (staged.page, 900_000)):
            write_whole(path, bytes(size))
        write_whole(staged.sheet, bytes(60_000))
        staged.write_thumbnail(bytes(4_000))
        staged.write_record(stub(job, should_stop)["record"] | {"input": "", "content": "", "flags": {}})
        staged.settle()
    return stub(job, should_stop)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="parts", choices=("parts", "stubs", "nodes", "stages"))
    parser.add_argument("--count", type=int, help="parts (40; 10,000 stubs; 100,000 in the simulation)")
    parser.add_argument(
        "--places", default="one,workers,ray", help="of parts: one, workers, ray, in this order (%(default)s)"
    )
    parser.add_argument("--budget", default=BUDGET, help="of parts: flags of the trainer (%(default)s)")
    parser.add_argument("--nodes", type=int, default=1000, help="of the simulation (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="mean of a simulated part (%(default)s)")
    parser.add_argument("--folder", type=Path, help="of stages: an output folder (results/geometry_200)")
    flags = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {len(usable_processors())} CPUs, {platform.platform()}")
    {"parts": parts, "stubs": stubs, "nodes": nodes, "stages": stages}[flags.what](flags)


class Book:
    """The book of a real folder, and the times at which parts ended."""

    def __init__(self, folder, names, flags):
        self.book, self.ends, self.bad = FolderBook(folder, names, vars(flags), fresh=True), [], []

    def take(self, job, result):
        self.ends.append(time.perf_counter())
        if result["status"] != "done":
            self.bad.append(result["reason"])
        self.book.take(job, result)


def go(place, inputs, flags, folder):
    """Fit inputs at a place; returns the book."""
    names = names_of(inputs, "")
    settings = {key: value for key, value in vars(flags).items() if key != "input"}
    jobs = (
        {"input": str(path), "name": name, "flags": settings, "folder": True}
        for path, name in zip(inputs, names, strict=True)
    )
    book = Book(folder, names, flags)
    run(jobs, place, book.take, book.book.progress.show)
    book.book.summary.finish(names, lambda name: None)
    return book


def parts(flags):
    """Fit the same parts at each place, one place after the other."""
    inputs = find_inputs(ROOT / "data/geometry_200")[: flags.count or 40]
    cores, rates = len(usable_processors()), {}
    for name in flags.places.split(","):
        with tempfile.TemporaryDirectory() as folder:
            words = [str(ROOT / "data/geometry_200"), "--outputDir", folder, *flags.budget.split()]
            words += {"one": ["--workers", "1"], "workers": ["--workers", str(cores)], "ray": ["--ray", "local"]}[name]
            settings = parse_fit_flags(words)
            settle_threads()
            start, cpu = time.perf_counter(), children_seconds()
            place = place_to_run(settings, len(inputs), lambda: False, WORKERS)
            slots = 1 if name == "one" else cores
            book = go(place, inputs, settings, Path(folder))
            place.close()
            ends = book.ends
            rates[name] = 3600 * (len(ends) - slots) / (ends[-1] - ends[slots - 1])
            used = f", {(children_seconds() - cpu) / len(ends):.2f} s of CPU time per part" * (name != "ray")
            print(
                f"{name}: {len(ends)} parts in {ends[-1] - start:.1f} s with start-up, {len(book.bad)} not done{used}"
            )
            print(f"{name}: {rates[name]:.0f} parts per hour without start-up", flush=True)
            for reason in book.bad:
                print(f"  {reason}")
    for name, other in (("workers", "one"), ("ray", "workers")):
        if name in rates and other in rates:
            print(f"{name} against {other}: {rates[name] / rates[other]:.2f} times the parts per hour")


def children_seconds():
    """CPU seconds of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def stubs(flags):
    """The driver's own CPU time and memory."""
    count = flags.count or 10_000
    report_stubs("worker processes", Processes("benchmarks.fleet:stub", 2), count)
    if "ray" in flags.places and importlib.util.find_spec("ray"):
        place = Ray("local", "benchmarks.fleet:stub", None, False, 0.0, 0, SharedFolder())
        place.connect()
        report_stubs("Ray", place, count // 10)


def report_stubs(name, place, count):
    """Print the driver's CPU time and memory for `count` stubs at a place."""
    with tempfile.TemporaryDirectory() as folder:
        given = vars(parse_fit_flags(["inputs", "--outputDir", folder]))
        names, occupied = [f"part_{k:07d}" for k in range(count)], []
        book = FolderBook(Path(folder), names, given, fresh=True)

        def take(job, result):
            book.take(job, result)
            if int(job["name"][5:]) % max(1, count // 5) == 0:
                occupied.append(resident_memory() / 2**20)

        start = time.process_time()
        run(({"input": n, "name": n, "flags": given} for n in names), place, take, book.progress.show)
        own = time.process_time() - start
        book.summary.finish(names, lambda name: None)
        book.write_gallery()
        everything = time.process_time() - start
        place.close()
        print(f"{name}, {count:,} stubs: {1000 * own / count:.3f} ms per part of the driver's CPU time,")
        print(f"with the last summary and gallery {1000 * everything / count:.3f} ms")
        print(f"resident MiB as the parts end: {', '.join(f'{m:.1f}' for m in occupied)}")


class Nodes:
    """A place of `count` simulated nodes with a simulated clock.

    A part takes as long as a random generator says; the driver's real time passes on the same clock.
    """

    def __init__(self, count, seconds, generator):
        self.count, self.seconds, self.generator = count, seconds, generator
        self.ends, self.now, self.looked, self.busy, self.number = [], 0.0, time.perf_counter(), 0.0, 0

    @property
    def running(self):
        return len(self.ends)

    @property
    def room(self):
        return len(self.ends) < self.count

    def submit(self, job):
        self._pass()
        takes = self.seconds * self.generator.lognormal(-0.125, 0.5)  # mean 1: most parts near it, some thrice
        self.busy += takes
        self.number += 1
        heapq.heappush(self.ends, (self.now + takes, self.number, job))

    def wait(self, seconds):
        self._pass()
        end, _, job = heapq.heappop(self.ends)
        self.now = max(self.now, end)
        result = stub(job, None)
        self.looked = time.perf_counter()
        return [(job, result)]

    def _pass(self):
        """Advance the clock by the real time that the driver took."""
        now = time.perf_counter()
        self.now += now - self.looked
        self.looked = now

    def stop(self):
        pass


def nodes(flags):
    """Run a queue on many nodes through the same loop and book."""
    count = flags.count or 100_000
    with tempfile.TemporaryDirectory() as folder:
        settings = parse_fit_flags(["inputs", "--outputDir", folder])
        names = [f"part_{k:07d}" for k in range(count)]
        book = FolderBook(Path(folder), names, vars(settings), fresh=True)
        place = Nodes(flags.nodes, flags.seconds, np.random.default_rng(0))
        start = time.process_time()
        given = vars(settings)
        run(({"input": n, "name": n, "flags": given} for n in names), place, book.take, book.progress.show)
        own, ideal = time.process_time() - start, place.busy / flags.nodes
        book.summary.finish(names, lambda name: None)
        final = time.process_time() - start - own
        print(f"{count:,} parts of {flags.seconds:g} s on {flags.nodes:,} nodes: {place.now / 3600:.2f} h, nodes busy")
        print(f"{ideal / place.now:.1%} of it; driver {1000 * own / count:.3f} ms per part, {final:.1f} s for the last")
        print(f"summary, {resident_memory() / 2**20:.0f} MiB")
    write_files(min(500, count))


def write_files(count):
    """Print how fast one process writes the files of parts here."""
    with tempfile.TemporaryDirectory(dir=ROOT / "results") as folder:
        start = time.perf_counter()
        for k in range(count):
            files_stub({"name": f"part_{k}", "flags": {"outputDir": folder}}, None)
        seconds = (time.perf_counter() - start) / count
        found = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
        size = sum(found) / count / 1e6
        print(f"files of a part: {len(found) / count:.0f}, {size:.1f} MB, written in {1000 * seconds:.1f} ms here")


def stages(flags):
    """Print the medians of the seconds, errors and bytes of the parts of a folder."""
    folder = flags.folder or ROOT / "results/geometry_200"
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if not records:
        print(f"{folder}: no records")
        return
    for stage in ("load", "label", "fit", "reconstruct", "evaluate", "total"):
        seconds = np.array([record["timings"][stage] for record in records])
        print(f"{stage:12} median {np.median(seconds):7.2f} s, worst {seconds.max():7.2f} s")
    for name in ("surface_error", "iou"):
        values = np.array([record["metrics"].get(name) or np.nan for record in records])
        print(f"{name:14} median {np.nanmedian(values):.5f} of {np.isfinite(values).sum()}")
    sizes = [sum(file["bytes"] for file in record["files"].values()) for record in records]
    print(f"files: median {np.median(sizes) / 1e6:.2f} MB per part, {sum(sizes) / 1e9:.2f} GB in all")
    print(f"disk: {free_fraction(folder)}")


def free_fraction(folder):
    """The fraction of the disk that is free, as text."""
    usage = shutil.disk_usage(folder)
    return f"{usage.free / usage.total:.0%} free"


if __name__ == "__main__":
    main()
