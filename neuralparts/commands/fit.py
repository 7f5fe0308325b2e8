"""`trainer.py`, `neuralparts fit`: fit one input in this process, or a folder of them.

Exit code 0: all done; 1: an input was refused or a fit failed; 2: the flags are wrong; 130, 143: stopped by Ctrl-C,
SIGTERM.
"""

import argparse
import difflib
import importlib.util
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from neuralparts.choices import (
    ENOUGH_FOR_A_GPU,
    MESH_SUFFIXES,
    PARTS_OF_A_GPU,
    PARTS_OF_A_WORKER,
    SAMPLES_SUFFIX,
    SEARCH,
    WIDEST_STACKED_ON_A_CPU,
)
from neuralparts.commands import complain, show
from neuralparts.commands.folder_widths import SAMPLE_PARTS, with_folder_widths
from neuralparts.errors import Interrupted, UserError, missing_package
from neuralparts.flags import parse_fit_flags
from neuralparts.machine import (
    allow_open_files,
    check_address_space,
    gpu_memory,
    process_seconds,
    settle_threads,
    usable_gpus,
    usable_memory,
    usable_processors,
)
from neuralparts.widths import given_widths
from neuralparts.wording import counted, say

if TYPE_CHECKING:
    from neuralparts.fleet import FolderBook, Place, Stop

# Memory set aside for a worker process when their number is chosen. It has a margin: docs/scale.md has measurements.
WORKER_BYTES, BYTES_PER_POINT = 2**30, 100
# Memory of a labelled sample in the process that trains: a point and its distance, float32.
BYTES_PER_SAMPLE = 16
# The GPUs of a process that shall see none.
NO_GPU = [""]
# Memory of a GPU that each process takes which computes there, and the fraction of the GPU that the workers may take.
CONTEXT_BYTES, CONTEXTS_FRACTION = 600 * 2**20, 0.25


class Workers(NamedTuple):
    """The worker functions, "module:function": of a part, of a job that carries its files, of a stage of a part, of a
    search for widths."""

    whole: str = "neuralparts.job:fit_one"
    sent: str = "neuralparts.job:fit_sent"
    stage: str = "neuralparts.staged_job:run_stage"
    widths: str = "neuralparts.width_job:find_one"


WORKERS = Workers()


def main(arguments: list[str] | None = None, program: str = "trainer.py") -> int:
    """Fit what the command line asks for; returns the exit code."""
    flags = parse_fit_flags(arguments, program)
    source, folder = Path(flags.input), Path(flags.outputDir)
    try:
        check_address_space()
        if "://" in flags.input and not source.exists():
            raise UserError(f"{flags.input}: an address, not a path; name the file itself, on this machine")
        inputs = find_inputs(source)
        check_folder_flags(source, folder, flags)
        if flags.logDir and importlib.util.find_spec("tensorboard") is None:
            raise missing_package("--logDir", "tensorboard", "log")
    except (UserError, OSError) as error:
        return complain(program, error)
    line = f"reading {source}" + (f": {counted(len(inputs), 'input')}" if source.is_dir() else "")
    say(line, sys.stderr if sys.stderr.isatty() else sys.stdout)  # in a log, standard error is for what goes wrong
    settle_threads()
    # The stages are imported only now, so that neither --help nor a wrong path waits for them.
    from neuralparts.stage_bar import stage_bar

    with stage_bar("load the libraries"):
        from neuralparts.output import FOLDER_NAMES, WIDTHS_NAME, check_folder_free, prepare_folder

    try:
        prepare_folder(folder)
        if source.is_dir():
            check_folder_free(folder)
    except (UserError, OSError) as error:
        return complain(program, error)
    is_searched = source.is_dir() and flags.damArch == SEARCH
    reserved = (*FOLDER_NAMES, *([WIDTHS_NAME] if is_searched else []))
    names = names_of(inputs, flags.suffix, reserved if source.is_dir() else ())
    if is_searched:
        flags = search_for_folder(inputs, names, flags, program)
        if isinstance(flags, int):
            return flags
    settings = {key: value for key, value in vars(flags).items() if key != "input"}
    if source.is_dir():
        jobs = (
            {"input": str(path), "name": name, "flags": settings, "folder": True}
            for path, name in zip(inputs, names, strict=True)
        )
        return fit_folder(jobs, names, settings, flags, program)
    return fit_single({"input": str(source), "name": names[0], "flags": settings}, folder, program)


# ----------------------------------------------------------------------------------------------------- the inputs


def find_inputs(source: Path) -> list[Path]:
    """The input itself, or a folder's meshes and samples, sorted by name. Raises UserError where there are none."""
    if not source.is_dir():
        if not source.exists():
            raise UserError(missing(source))
        return [source]
    known = (*MESH_SUFFIXES, SAMPLES_SUFFIX)
    with os.scandir(source) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and os.path.splitext(entry.name)[1].lower() in known
            and may_be_file(entry)
        )
    found = [source / name for name in names]
    if not found:
        raise UserError(f"{source}: no mesh and no samples in this folder; known suffixes: {' '.join(known)}")
    return found


def missing(source: Path) -> str:
    """The line on an input that does not exist; it names what may have been meant."""
    if source.is_symlink():
        return f"{source}: a link to {os.readlink(source)}, which is not there"
    kind = "file" if source.suffix else "file or folder"
    here = Path(*(name for name in source.parts if name != ".."))
    if source.parts[0] == ".." and here.exists():  # scripts of the original tool stand in a folder beside data
        return f"{source}: no such {kind}; from this folder it is {here}"
    hint = "check the spelling of the path"
    if "geometry_200" in source.parts:
        hint = "python data/make_geometry_200.py makes data/geometry_200"
        hint += " in this folder: leave out ../" if source.parts[0] == ".." else ""
    elif source.parent.is_dir():
        spelled = {name.lower(): name for name in os.listdir(source.parent)}
        nearest = difflib.get_close_matches(source.name.lower(), spelled, 1, 0.8)
        hint = f"did you mean {source.parent / spelled[nearest[0]]}?" if nearest else hint
    return f"{source}: no such {kind}; {hint}"


def may_be_file(entry: os.DirEntry) -> bool:
    """True for a file, and for a link to nowhere: fitting it reports what is wrong."""
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True


def names_of(inputs: list[Path], suffix: str, reserved: Iterable[str] = ()) -> list[str]:
    """A name for the files of each input: its stem and `suffix`; inputs of one stem get their file suffix in between.

    The names differ on file systems that ignore case too, and from the reserved ones, which a folder run needs.
    """
    stems = Counter(path.stem.casefold() for path in inputs)
    names, taken = [], {name.casefold() for name in reserved}
    for path in inputs:
        alone = stems[path.stem.casefold()] == 1 and (path.stem + suffix).casefold() not in taken
        name = path.stem if alone else f"{path.stem}_{path.suffix.lstrip('.').lower()}"
        while (name + suffix).casefold() in taken:
            name += "_"
        taken.add((name + suffix).casefold())
        names.append(name + suffix)
    return names


def check_folder_flags(source: Path, folder: Path, flags: argparse.Namespace) -> None:
    """Raise UserError for a folder's flags with a single file, and for an output folder that holds the inputs."""
    if source.is_dir():
        if folder.exists() and folder.samefile(source):
            raise UserError(f"{folder}: the results would be inputs of the next run; choose another --outputDir")
        return
    given = {name: getattr(flags, name) for name in ("workers", "ray", "partTimeout", "workerMemory")}
    given["partsPerBatch"] = flags.partsPerBatch > 1  # one part alone is what a single file is
    if wrong := [name for name, value in given.items() if value]:
        raise UserError(f"--{wrong[0]} is for a folder; {source} is fitted in this process alone: leave it out")


# ------------------------------------------------------------------------------------------------------- one input


def fit_single(job: dict, folder: Path, program: str) -> int:
    """Fit one input in this process; returns the exit code."""
    from neuralparts.fleet import Stop
    from neuralparts.job import fit_one
    from neuralparts.output import PartFiles, outputs_of, remove_leavings

    remove_leavings(folder, [job["name"]])
    with Stop("stopping at the next check of the fit; once more stops at once") as stop:
        result = fit_one(job, stop)
    stays = PartFiles(folder, job["name"], job["flags"]["outputFormat"]).says_that_it_stays(result)
    if result["status"] == "stopped":
        kept = (folder / f"{job['name']}.checkpoint").is_file()
        resume = "; the same command with --resume 1 continues from the checkpoint" if kept else ""
        say(f"stopped{stays}{resume}")
        return stop.exit_code
    if result["status"] != "done":
        return complain(program, result["reason"] + stays)
    if result.get("skipped"):
        say("done before, with these flags and this content; --overwrite 1 fits it again")
    for line in result["notes"] if result.get("skipped") else ():
        say(line)
    written = outputs_of(result["record"]["flags"])
    if not result.get("skipped") and (more := written - outputs_of(job["flags"])):
        say(f"made again because the earlier fit left them: {', '.join(sorted(more))}; remove them to leave them out")
    page = folder / f"{job['name']}.{'html' if 'page' in written else 'json'}"
    print_result(result["record"], page, not result.get("skipped"))
    if job["flags"]["showVis"] and "page" in written:
        show(page)
    return 0


def print_result(record: dict, page: Path, fitted: bool = True) -> None:
    """Print the last lines that a user reads. page, record: see `last_lines`. fitted: by this run, so that its seconds
    count."""
    from neuralparts.commands.last_lines import last_lines

    print("\n".join(last_lines(record, page, process_seconds() if fitted else None)))


# -------------------------------------------------------------------------------------------------------- a folder


def search_for_folder(
    inputs: list[Path], names: list[str], flags: argparse.Namespace, program: str
) -> argparse.Namespace | int:
    """The flags of a folder run with the widths that --damArch search finds, or the exit code if it finds none."""
    from neuralparts.fleet import Stop

    with Stop("stopping the search for widths; once more stops at once") as stop:
        place = place_to_search(flags, len(inputs), stop)
        stop.at_once = place.kill
        try:
            return with_folder_widths(inputs, names, flags, place, stop)
        except (UserError, OSError) as error:
            return complain(program, error)
        except Interrupted:
            return stop.exit_code


def fit_folder(
    jobs: Iterator[dict],
    names: list[str],
    settings: dict,
    flags: argparse.Namespace,
    program: str,
    workers: Workers = WORKERS,
) -> int:
    """Fit many inputs; returns the exit code.

    jobs, names: one for each input, in order. settings: the flags as the jobs and their records hold them.
    """
    from neuralparts.fleet import FolderBook, Stop
    from neuralparts.output import Running, remove_leavings
    from neuralparts.stage_bar import stage_bar

    folder = Path(flags.outputDir)
    allow_open_files()  # of each worker its pipe and its output, of each part in stages its lock
    stop = Stop("stopping: checkpoints are written; once more stops at once")
    with ExitStack() as held:
        try:
            running = held.enter_context(Running(folder))
            if running.alone:
                remove_leavings(folder, names)
            with stage_bar("start"):
                place = place_to_run(flags, len(names), stop, workers)
            book = FolderBook(folder, names, settings, fresh=running.alone)
        except (OSError, UserError) as error:
            return complain(program, error)
        stop.at_once = place.kill
        run_jobs(jobs, place, book, stop, program)
    if flags.showVis:
        show(folder / "index.html")
    return stop.exit_code if stop() else book.exit_code


def run_jobs(jobs: Iterator[dict], place: "Place", book: "FolderBook", stop: "Stop", program: str) -> None:
    """Run the jobs of a folder until they have ended or `stop` is True, then close the books."""
    from neuralparts.fleet import FleetError, run

    with stop:
        try:
            with book.progress:
                run(jobs, place, book.take, book.tick, stop)
                place.close()
        except FleetError as error:
            place.kill()
            complain(program, error)
        book.close(stopped=stop())


def place_to_run(flags: argparse.Namespace, parts: int, stop: Callable[[], bool], workers: Workers) -> "Place":
    """Where the parts of a folder are fitted: on Ray, in this process, or in worker processes. Raises FleetError.

    parts: their number. stop: should_stop of a part in this process.
    """
    from neuralparts.fleet import Here, Ray, Sender, SharedFolder, Staged, default_workers

    if flags.ray:
        sent = flags.rayTransfer == "bytes"
        function, carrier = (workers.sent, Sender()) if sent else (workers.whole, SharedFolder())
        ray = Ray(flags.ray, function, flags.workers, flags.gpu != -1, flags.partTimeout, flags.workerMemory, carrier)
        ray.connect()
        batch = flags.partsPerBatch or (parts_of_a_gpu(flags) if ray.gpus else 1)
        if sent or (batch == 1 and not ray.gpus):
            return ray
        ray.begin_stages(workers.stage)
        return Staged(ray, ray, ray.trainer_count, batch, ENOUGH_FOR_A_GPU if ray.gpus else None)
    if flags.workers is None and os.name == "nt":
        say("worker processes need Linux or macOS; the parts are fitted in this process")
    if flags.workers == 0 or os.name == "nt":
        return Here(workers.whole, stop)
    # Without --gpu the GPUs are divided among processes. With it, all use that one, or none.
    divided = usable_gpus() if flags.gpu is None else []
    counted = [name_of_gpu(flags.gpu)] if flags.gpu not in (None, -1) else divided
    count = flags.workers or default_workers(parts, WORKER_BYTES + BYTES_PER_POINT * flags.num_points)
    if count < min(parts, len(usable_processors())) and not flags.workers:
        say(f"worker processes: {count}, as many as memory holds")
    return processes(flags, parts, min(count, parts), counted, divided, workers)


def place_to_search(flags: argparse.Namespace, parts: int, stop: Callable[[], bool]) -> "Place":
    """Where widths are searched for in a sample of a folder's parts: on this machine, with --ray too.

    parts: their number. stop: should_stop of a part in this process.
    """
    from neuralparts.fleet import Here, Processes, default_workers

    if flags.workers == 0 or os.name == "nt":
        return Here(WORKERS.widths, stop)
    count = default_workers(min(SAMPLE_PARTS, parts), WORKER_BYTES + BYTES_PER_POINT * flags.num_points)
    gpus = usable_gpus() if flags.gpu is None else []
    limits = flags.partTimeout, flags.workerMemory
    return Processes(WORKERS.widths, min(count, flags.workers or count), gpus, *limits)


def name_of_gpu(number: int) -> str:
    """The name for CUDA_VISIBLE_DEVICES of the GPU that this process sees under a number."""
    names = usable_gpus() if "CUDA_VISIBLE_DEVICES" in os.environ else []
    return names[number] if number < len(names) else str(number)


def parts_of_a_gpu(flags: argparse.Namespace) -> int:
    """Parts that a GPU trains at once; with --timeBudget one, because beside others it has fewer steps in its time."""
    return 1 if flags.timeBudget else PARTS_OF_A_GPU


def parts_in_memory(flags: argparse.Namespace, trainers: int) -> int:
    """Parts whose samples each of so many processes on this machine can hold, if all fill half of the free memory."""
    free = usable_memory() or 2**63  # 0 is unknown
    samples = flags.num_points + flags.numNear + 2 * flags.numPairs
    return max(1, free // 2 // (trainers * BYTES_PER_SAMPLE * samples))


def parts_of_a_worker(flags: argparse.Namespace, parts: int, workers: int) -> int:
    """Parts that a worker without a GPU trains at once, as far as it pays."""
    is_plain = not flags.damArch and flags.encoding == "none"
    is_small = is_plain and max(given_widths(flags)) <= WIDEST_STACKED_ON_A_CPU
    if not is_small or flags.timeBudget:  # beside others, a part has fewer steps in these seconds
        return 1
    return max(1, min(PARTS_OF_A_WORKER, parts // workers))  # of few parts, each worker gets some


def processes(
    flags: argparse.Namespace, parts: int, count: int, gpus: list[str], divided: list[str], workers: Workers
) -> "Place":
    """`count` worker processes for so many parts, and with GPUs one more for each, which trains parts in batches.

    gpus: names of the GPUs in use. divided: those among which the processes for GPUs are divided; empty if the flags
    name one.
    """
    from neuralparts.fleet import Processes, Staged

    limits = flags.partTimeout, flags.workerMemory
    at_once = min(parts_of_a_gpu(flags), parts_in_memory(flags, len(gpus))) if gpus else 0
    batch = flags.partsPerBatch or at_once or parts_of_a_worker(flags, parts, count)
    if batch == 1 and not gpus:
        return Processes(workers.whole, count, [], *limits)
    if not gpus:
        place = Processes(workers.stage, count, [], *limits)
        return Staged(place, place, count, batch)
    trainers = Processes(workers.stage, len(gpus), divided, *limits)
    are_large = -(-count // len(gpus)) * CONTEXT_BYTES <= CONTEXTS_FRACTION * gpu_memory()
    processors = Processes(workers.stage, count, gpus if are_large else NO_GPU, *limits)
    return Staged(processors, trainers, len(gpus), batch, ENOUGH_FOR_A_GPU)
