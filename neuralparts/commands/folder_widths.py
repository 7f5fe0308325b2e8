"""--damArch search on a folder: one network for all parts, of the widths that are found on a sample of them.

In: the inputs of a folder run and its flags. Out: the same flags with the widths given by hand. What was found is kept
in widths.json of the output folder, so that a later run with the same flags goes on with it.
"""

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from neuralparts.errors import Interrupted, UserError
from neuralparts.widths import mean_widths, most_parameters, parameters_of, widths_as_flags, widths_in, widths_text
from neuralparts.wording import counted, say

if TYPE_CHECKING:
    from neuralparts.fleet import Place

# Parts in which widths are searched for, drawn by the seed.
SAMPLE_PARTS = 3
# Parts that are drawn at most, if none can be used. Where half of the parts can, the chance of 30 bad ones is 1e-9.
MOST_DRAWN = 30
# Flags of the search, as those of a fit whose widths are given by hand have them.
FOUND = {"damArch": 0, "damParameters": 0, "damError": 0.0, "numLayers": None}


def with_folder_widths(
    inputs: list[Path],
    names: list[str],
    flags: argparse.Namespace,
    place: "Place",
    stop: Callable[[], bool],
) -> argparse.Namespace:
    """The flags of a folder run with the found widths instead of --damArch search.

    inputs, names: of all parts. place: where the search runs; its workers are ended. Raises Interrupted if
    `stop` is True, FleetError, OSError, and UserError if no part can be used or another run searches.
    """
    from neuralparts.output import WIDTHS_NAME, BusyError, locked, read_folder_widths, write_folder_widths

    folder = Path(flags.outputDir)
    settings = {key: value for key, value in vars(flags).items() if key != "input"}
    try:
        with locked(folder / f".{WIDTHS_NAME}.lock"):
            widths = read_folder_widths(folder, settings)  # with --overwrite 1 too: it may be a user's own file
            if flags.overwrite or not widths:
                by_part = _search(inputs, names, settings, place, stop)
                several = [widths_in(found) for found in by_part.values()]
                # For an error, the widths of the part that needs the most.
                needed = max(several, key=parameters_of) if flags.damError else None
                widths = widths_text(needed or mean_widths(several, most_parameters(flags)))
                write_folder_widths(folder, widths, by_part, settings)
    except BusyError as error:
        raise UserError(f"{folder}: another run searches for its widths; start this one after it") from error
    say(f"widths of all parts: {widths_as_flags(widths_in(widths))}")
    return argparse.Namespace(**vars(flags) | FOUND | {"widths": widths})


def _search(
    inputs: list[Path], names: list[str], settings: dict, place: "Place", stop: Callable[[], bool]
) -> dict[str, str]:
    """The widths found in SAMPLE_PARTS parts drawn by the seed, by name; in the next ones if none can be used, until
    MOST_DRAWN are drawn."""
    from neuralparts.fleet import run
    from neuralparts.stage_bar import stage_bar

    order = random.Random(settings["seed"]).sample(range(len(inputs)), len(inputs))[:MOST_DRAWN]
    found: dict[str, str] = {}
    reasons: list[str] = []

    def take(job: dict, result: dict) -> None:
        if result["status"] == "done":
            found[job["name"]] = result["widths"]
        else:
            reasons.append(result["reason"])

    try:
        for start in range(0, len(order), SAMPLE_PARTS):
            sample = order[start : start + SAMPLE_PARTS]
            jobs = [{"input": str(inputs[k]), "name": names[k], "flags": settings, "folder": True} for k in sample]
            with stage_bar(f"search widths in {counted(len(jobs), 'part')}"):
                run(jobs, place, take, should_stop=stop)
            if stop():
                raise Interrupted("stopped on request")
            if found:
                return {names[k]: found[names[k]] for k in sample if names[k] in found}  # in an order of their own
    finally:
        place.close()
    raise UserError(
        f"--damArch search: {counted(len(order), 'part')} drawn, none of which can be used, the first because "
        f"{reasons[0]}; --damArch 0 fits the folder without a search, and summary.csv then has every reason"
    )
