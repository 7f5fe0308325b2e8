"""`neuralparts pack`: the finished parts of an output folder in tar shards: a million parts are two thousand files.

Exit code 0: every finished part is packed; 1: some are not, or their originals stay though --remove 1 was given.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from neuralparts.command_line import CommandLine
from neuralparts.commands import complain
from neuralparts.errors import UserError
from neuralparts.flags import add_flags
from neuralparts.packed import INDEX, PackedFolder, key_of, read_index
from neuralparts.wording import counted, listed, say, visible

if TYPE_CHECKING:
    from neuralparts.output import Packing

# What a shard holds of a part unless --outputs says more.
DEFAULT_OUTPUTS = "model,record"


def main(arguments: list[str] | None = None, program: str = "neuralparts pack") -> int:
    """Pack the finished parts of a folder, or list a packed one; returns the exit code."""
    parser = CommandLine(
        prog=program,
        description="Put the finished parts of an output folder into tar shards that the package webdataset reads as "
        "they are, with an index by part. The same command again goes on with the parts that are not packed yet.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="an output folder of a fit; with --list 1 a packed folder")
    add_flags(parser, "out", help="folder of the shards (default: FOLDER_packed)", metavar="FOLDER")
    packed = "what to pack of a part, such as model,mesh,record; the record is always packed"
    add_flags(parser, "outputs", help=packed, default=DEFAULT_OUTPUTS)
    add_flags(parser, "shardParts", "remove", "list")
    flags = parser.parse_args(arguments)
    folder = Path(flags.folder)
    try:
        if flags.list:
            list_parts(PackedFolder(folder))
            return 0
        return pack(folder, Path(flags.out or f"{folder.resolve()}_packed"), flags)
    except (UserError, OSError) as error:
        return complain(program, error)


def pack(folder: Path, out: Path, flags: argparse.Namespace) -> int:
    """Pack a folder, and print what became of its parts; returns the exit code. Raises UserError, OSError."""
    from neuralparts.output import pack_folder, prepare_folder
    from neuralparts.stage_bar import stage_bar

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the --outputDir of a fit")
    if read_index(folder / INDEX) is not None:
        raise UserError(f"{folder}: is packed already; --list 1 lists its parts")
    if out.exists() and out.samefile(folder):
        raise UserError(f"{out}: shards and parts need a folder each; choose another --out")
    prepare_folder(out)
    with stage_bar("pack") as show:
        done = pack_folder(folder, out, flags.outputs, flags.shardParts, bool(flags.remove), show)
    if not (done.packed or done.before or done.left):
        raise UserError(f"{folder}: no fitted part in this folder")
    print("\n".join(map(visible, report(done, out))))
    return 1 if done.left or done.refitted or done.kept else 0


def report(done: "Packing", out: Path) -> list[str]:
    """The lines on what became of the parts."""
    before = f" ({done.before:,} before)" if done.before else ""
    shards = counted(done.shards, "new shard")
    lines = [f"{counted(done.packed, 'part')} packed{before}, in {shards}: {out}"]
    if done.removed:
        lines.append(f"the originals of {counted(done.removed, 'part')} removed")
    for reason, names in done.kept.items():
        lines.append(f"the originals of {counted(len(names), 'part')} stay, because {reason}: {listed(names)}")
    if done.refitted:
        again = f"{counted(len(done.refitted), 'part')} fitted again since packed; the shards have the earlier fit"
        lines.append(f"{again}, another --out takes the new one: {listed(done.refitted)}")
    return lines + [f"not packed: {name}: {reason}" for name, reason in done.left.items()]


def list_parts(packed: PackedFolder) -> None:
    """Print a line for each part, tabs between: name, shard, and offset and bytes of its model, if that was packed."""
    for path, index in packed.shards():
        for name, files in index["parts"].items():
            place = files.get(f"{key_of(name)}.safetensors", {})
            print(visible(name), path.name, place.get("offset", ""), place.get("bytes", ""), sep="\t")
    say(f"{counted(packed.count, 'part')} in {counted(len(packed.index['shards']), 'shard')}")
