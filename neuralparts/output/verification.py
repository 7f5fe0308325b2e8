"""Whether the parts of an output folder, or of a packed one, are as their records or indexes say.

Every file is read again, nothing is written.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from neuralparts.errors import one_line
from neuralparts.output.part_files import PartFiles, is_model
from neuralparts.output.records import has_sizes_alone
from neuralparts.output.staging import StagedFiles
from neuralparts.output.summary import Summary, text
from neuralparts.packed import INDEX, PackedFolder, read_index


def verify_folder(folder: Path) -> Iterator[tuple[str, list[str], bool]]:
    """Yield (name, faults, hashed) for each part of an output folder, sorted by name.

    faults: what is damaged or missing, one phrase a file; [] for a part that is whole. hashed: False if its record is
    of an earlier version and names sizes alone. A part is known by its record, by a model without a record, or by a
    line of summary.csv that says done. Of a packed folder, see `PackedFolder.faults`. Raises OSError.
    """
    if read_index(folder / INDEX) is not None:
        yield from ((name, faults, True) for name, faults in PackedFolder(folder).faults())
        return
    names = os.listdir(folder)
    stems = {name.removesuffix(".json") for name in names if name.endswith(".json")}
    models = {stem for name in names if (stem := name.removesuffix(".safetensors")) != name}
    spelled = {text(stem): stem for stem in stems | models}
    done = {row[0] for row in Summary(folder).rows() if row[2] == "done"}
    stems |= {spelled.get(name, name) for name in done}
    for name in sorted(stems | models):
        files = PartFiles(folder, name)
        try:
            record = files.read_record()
            if record is None and not (is_model(files.model) or text(name) in done):
                continue  # a user's own file
            yield name, _faults(files, record), record is None or not has_sizes_alone(record)
        except OSError as error:
            yield name, [f"cannot be read: {one_line(error)}"], True


def _faults(files: PartFiles, record: dict | None) -> list[str]:
    """What is wrong with one part."""
    if StagedFiles(files).complete() is not None:
        return ["a process was killed while it replaced this part; the next fit of it moves the rest into place"]
    if record is None:
        return [f"{files.record.name} is {'damaged' if files.record.exists() else 'missing'}"]
    return files.faults(record)
