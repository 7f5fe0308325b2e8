"""`neuralparts pack --remove 1`, struck at its n-th file operation: a program for the tests, beside `injector.py`.

    LD_PRELOAD=SHIM FAULT_STATE=FILE python -m tests.faults.pack_strikes PLACE FAULT NUMBERS

PLACE holds finished parts in `out`. For each n, a child process packs a copy of it into `packed`, and its n-th file
operation fails, or the process is killed in front of it; another child process packs the rest. What is found in between
and afterwards is printed as JSON, a line for each n, until a command ends before its n-th operation.
"""

import json
import os
import shutil
import sys
from itertools import count
from pathlib import Path

from neuralparts.commands import pack
from neuralparts.errors import UserError
from neuralparts.packed import INDEX, PackedFolder, read_index
from tests.faults.injector import forked, read_state, set_state


def pack_in_child(place: Path, output: Path) -> int:
    """Pack in a child process that prints to a file; returns its exit code, negative for a signal."""
    words = ["out", "--out", "packed", "--shardParts", "2", "--remove", "1"]
    return forked(lambda: pack.main(words), place, output)


def lost_parts(place: Path, originals: dict[str, bytes]) -> list[str]:
    """The files of parts that are neither where they were nor in a shard, byte for byte."""
    packed = PackedFolder(place / "packed") if read_index(place / "packed" / INDEX) else None
    lost = []
    for name, data in originals.items():
        path = place / "out" / name
        if path.exists() and path.read_bytes() == data:
            continue
        try:
            whole = packed is not None and packed.read(path.stem, path.suffix[1:]) == data
        except UserError:
            whole = False
        lost += [] if whole else [name]
    return lost


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}


def strike(place: Path, originals: dict[str, bytes], fault: str, number: int) -> tuple[dict, dict[str, bytes]]:
    """Pack with a fault at the operation of this number, then without; returns what is found, and what is packed."""
    copy, output = place.with_name("copy"), place.with_name("output")
    state = Path(os.environ["FAULT_STATE"])
    shutil.copytree(place, copy)
    set_state(state, copy, fault, number)
    code = pack_in_child(copy, output)
    _, struck = read_state(state)
    set_state(state)
    result = {"n": number, "struck": struck, "code": code, "printed": output.read_text()}
    result["lost"] = lost_parts(copy, originals)
    result |= {"again": pack_in_child(copy, output), "printed again": output.read_text()}
    packed = PackedFolder(copy / "packed")
    result |= {"parts": packed.count, "faults": [row for row in packed.faults() if row[1]]}
    result |= {"lost at the end": lost_parts(copy, originals), "left": sorted(contents(copy / "out"))}
    found = contents(copy / "packed")
    shutil.rmtree(copy)
    return result, found


def main(place: Path, fault: str, numbers: str) -> None:
    """Print a line for each n, the last one that of a command that ended before its n-th operation."""
    originals = contents(place / "out")
    _, unharmed = strike(place, originals, "", 0)
    for number in count(1) if numbers == "all" else json.loads(numbers):
        result, found = strike(place, originals, fault, number)
        print(json.dumps(result | {"as unharmed": found == unharmed}), flush=True)
        if not result["struck"]:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
