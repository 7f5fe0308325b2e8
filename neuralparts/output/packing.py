"""Packing: the files of finished parts, in shards; `packed.py` describes the folder that comes out, and reads it.

A shard is written whole under another name, synced, and renamed, its index just before it; then it is entered in
index.json. So each of these files is whole whenever the process is killed, and the next run goes on behind the last
shard that is there. Originals are removed only after that, shard by shard, after the shard was read again.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO

from neuralparts.errors import UserError, one_line
from neuralparts.output.locks import BusyError, OutputError, locked
from neuralparts.output.part_files import PartFiles, outputs_of
from neuralparts.output.records import LARGEST_RECORD, agrees, describe, is_regular, is_there, record_in
from neuralparts.packed import FORMAT, INDEX, SHARD, digest, key_of, read_index, shard_name
from neuralparts.whole_file import sync_folder, whole_file

# Held by the process that packs into a folder.
PACK_LOCK = ".pack.lock"
# A shard, or the index of one.
SHARD_FILE = re.compile(r"parts-(?P<number>[0-9]{6,})\.(?:tar|json)")
# An unfinished file of a packed folder, as `whole_file` names it.
UNFINISHED = re.compile(r"\.(?:index\.json|parts-[0-9]{6,}\.(?:tar|json))\.[0-9a-f]{8}\.part")

Members = dict[str, bytes]


@dataclass
class Packing:
    """What became of the parts of a folder: how many are packed now, were before, in how many new shards, and of how
    many the originals were removed.

    left: name -> why the part was not packed. refitted: names of parts packed before and fitted again since. kept: why
    originals stay -> names.
    """

    packed: int = 0
    before: int = 0
    shards: int = 0
    removed: int = 0
    left: dict[str, str] = field(default_factory=dict)
    refitted: list[str] = field(default_factory=list)
    kept: dict[str, list[str]] = field(default_factory=dict)


def pack_folder(
    folder: Path,
    out: Path,
    outputs: str,
    shard_parts: int,
    remove: bool = False,
    show: Callable[[float], None] = lambda fraction: None,
) -> Packing:
    """Pack the finished parts of `folder` that `out` does not hold yet, at most `shard_parts` in a shard.

    outputs: which of their files, as --outputs has it. remove: remove the files of packed parts. show: takes the
    fraction done. Raises OSError; BusyError if another process packs into `out`; UserError for a folder that cannot be
    used, and for a shard that is damaged, before anything of its parts is removed.
    """
    done = Packing()
    with locked(out / PACK_LOCK):
        index = _open_index(out, outputs)
        packed = set()
        for shard in index["shards"]:
            packed |= _take_earlier(folder, out / shard, index["shards"][shard], remove, done)
        names = _candidates(folder, packed)
        parts = _finished_parts(folder, names, outputs_of({"outputs": outputs}), done, show)
        while (first := next(parts, None)) is not None:
            path = out / f"{shard_name(len(index['shards']))}.tar"
            described = _write_shard(path, first, islice(parts, shard_parts - 1))
            _enter(out, index, path, described)
            done.packed, done.shards = done.packed + len(described["parts"]), done.shards + 1
            if remove:
                _remove_originals(folder, path, described, done)
    return done


def _open_index(out: Path, outputs: str) -> dict:
    """The content of index.json, a new one where there is none; shards that it does not list yet are entered.

    What a killed run left unfinished is removed. Raises UserError for files that no packing left, and if the folder was
    packed with other outputs.
    """
    for path in out.iterdir():
        if UNFINISHED.fullmatch(path.name) and is_regular(path):
            path.unlink()
    if (index := read_index(out / INDEX)) is None:
        if is_there(out / INDEX):
            raise OutputError(f"{out / INDEX}: damaged, or no packing left it; remove it to have it made again")
        index = {"format": FORMAT, "outputs": outputs, "shards": {}}
    if index.get("outputs") != outputs:
        raise UserError(f"{out}: was packed with --outputs {index.get('outputs')}; give the same, or another --out")
    while is_there(path := out / f"{shard_name(len(index['shards']))}.tar"):
        described = read_index(path.with_suffix(".json"))
        if described is None or digest(path) != (described["bytes"], described["sha256"]):
            raise OutputError(f"{path}: damaged, or no packing left this file; move it, or choose another --out")
        _enter(out, index, path, described)
    _check_free(out, len(index["shards"]))
    return index


def _check_free(out: Path, count: int) -> None:
    """Raise OutputError if a new shard would overwrite a file: a shard behind a missing one, or a user's own.

    count: shards that the index lists. The index of a shard that was not renamed before a kill may be overwritten.
    """
    for path in sorted(out.iterdir()):
        if (named := SHARD_FILE.fullmatch(path.name)) is None or int(named["number"]) < count:
            continue
        if path.suffix == ".tar":
            missing = f"{shard_name(count)}.tar"
            raise OutputError(f"{path}: {missing} in front of it is missing; put it back, or choose another --out")
        if read_index(path) is None:
            raise OutputError(f"{path}: damaged, or no packing left this file; move it, or choose another --out")


def _enter(out: Path, index: dict, path: Path, described: dict) -> None:
    """Enter a shard in index.json. Raises OSError."""
    names = list(described["parts"])
    row = {"parts": len(names), "first": min(names), "last": max(names)}
    index["shards"][path.name] = row | {key: described[key] for key in ("bytes", "sha256")}
    _write_json(out / INDEX, index)


def _take_earlier(folder: Path, path: Path, described: dict, remove: bool, done: Packing) -> set[str]:
    """The names of the parts in a shard of an earlier run; those that were fitted again since are noted.

    Raises UserError if its index is missing.
    """
    index = read_index(path.with_suffix(".json"))
    if index is None:
        raise UserError(f"{path.with_suffix('.json')}: the index of this shard is missing or damaged")
    done.before += len(index["parts"])
    here = {}
    for name, files in index["parts"].items():
        record = PartFiles(folder, name).record
        if is_regular(record):
            here[name] = files
            if not agrees(record, _described(files[f"{key_of(name)}.json"])):
                done.refitted.append(name)
    if remove and here:
        _remove_originals(folder, path, index | {"parts": here}, done)
    return set(index["parts"])


def _candidates(folder: Path, packed: Collection[str]) -> list[str]:
    """The names of JSON files that may be records of parts not packed yet, sorted. Raises OSError."""
    with os.scandir(folder) as entries:
        names = (entry.name.removesuffix(".json") for entry in entries if entry.name.endswith(".json"))
        return sorted(name for name in names if name and name not in packed)


def _finished_parts(
    folder: Path, names: list[str], outputs: set[str], done: Packing, show: Callable[[float], None]
) -> Iterator[tuple[str, Members]]:
    """(name, files by member name) of the parts that are done and whole; the others are noted in `done.left`."""
    for count, name in enumerate(names):
        show(count / len(names))
        try:
            members = _members(PartFiles(folder, name), outputs)
        except (OSError, UserError) as error:
            done.left[name] = one_line(error)
            continue
        if members is not None:
            yield name, members


def _members(files: PartFiles, outputs: set[str]) -> Members | None:
    """The files of a part by their names in a shard; None for a JSON file that is no record.

    All are read before any is written, and compared with the record, so that no shard holds half a part. Raises
    OSError; UserError for a part that is not done or not whole.
    """
    if not is_regular(files.record) or files.record.stat().st_size > LARGEST_RECORD:
        return None
    data = files.record.read_bytes()
    if (record := record_in(data)) is None:
        return None
    if record["failure"] or files.is_unfinished():
        raise UserError(record["failure"] or "its fit with --overwrite 1 is not complete")
    key, members = key_of(files.name), {}
    for path, described in files.named(record).items():
        if files.output_of(path) not in outputs:
            continue
        content = path.read_bytes() if is_regular(path) else b""
        found = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if described not in (found, len(content)):  # records of earlier versions name the size alone
            raise UserError(f"{files.relative(path)} is damaged or missing")
        suffix = "thumbnail.png" if path == files.thumbnail else path.name.removeprefix(f"{files.name}.")
        members[f"{key}.{suffix}"] = content
    return members | {f"{key}.json": data}


class _Hashed:
    """A file as tarfile writes to it, with the SHA-256 and the number of the bytes so far."""

    def __init__(self, file: IO[bytes]):
        self.file, self.sha, self.count = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        """Write all of it."""
        self.sha.update(data)
        self.count += len(data)
        return self.file.write(data)

    def tell(self) -> int:
        """The number of bytes written."""
        return self.count


def _write_shard(path: Path, first: tuple[str, Members], others: Iterator[tuple[str, Members]]) -> dict:
    """Write a shard and its index, and have the disk hold them; returns the index. Raises OSError.

    The same parts give the same bytes: files have no time and no owner, and come in the order of their names.
    """
    with whole_file(path) as file:
        hashed, parts = _Hashed(file), {}
        with tarfile.open(fileobj=hashed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, members in chain([first], others):
                parts[name] = {member: _add(tar, member, data) for member, data in sorted(members.items())}
        file.flush()
        os.fsync(file.fileno())
        index = {"format": FORMAT, "bytes": hashed.count, "sha256": hashed.sha.hexdigest(), "parts": parts}
        _write_json(path.with_suffix(".json"), index)
    sync_folder(path.parent)
    return index


def _add(tar: tarfile.TarFile, member: str, data: bytes) -> dict[str, int | str]:
    """Add a file to a shard; returns its place: offset, bytes, sha256."""
    entry = tarfile.TarInfo(member)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
    offset = tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE  # the data are filled up to blocks
    return {"offset": offset, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _write_json(path: Path, value: dict) -> None:
    """Write an index, and have the disk hold it. Raises OSError."""
    with whole_file(path) as file:
        file.write(json.dumps(value, separators=(",", ":")).encode())
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _remove_originals(folder: Path, path: Path, index: dict, done: Packing) -> None:
    """Remove the files of the parts of a shard from the folder they were packed from, after reading the shard again.

    Raises OSError; UserError if the shard is not as its index says.
    """
    if not SHARD.fullmatch(path.name) or digest(path) != (index["bytes"], index["sha256"]):
        raise UserError(f"{path}: does not hold what was packed; nothing of its parts was removed")
    for name, files in index["parts"].items():
        home = PartFiles(folder, name)
        try:
            with home.lock():
                reason = _remove_part(home, files)
        except BusyError:
            reason = "another process works on them"
        if reason:
            done.kept.setdefault(reason, []).append(name)
        else:
            done.removed += 1


def _remove_part(home: PartFiles, files: dict) -> str:
    """Remove the files of a part, its record last; returns '', or why they stay. files: its places in a shard."""
    key = key_of(home.name)
    if not agrees(home.record, _described(files[f"{key}.json"])) or (record := home.read_record()) is None:
        return "they were fitted again since they were packed"
    present = [path for path in home.named(record) if is_there(path)]
    packed = [_described(place) for place in files.values()]
    for path in present:
        if not is_regular(path) or describe(path) not in packed:
            return "they have files that are not packed (--outputs), or that were changed"
    for path in present:
        path.unlink()
    home.record.unlink()
    if home.thumbnail in present:
        with suppress(OSError):  # the last thumbnail leaves an empty folder
            home.thumbnail.parent.rmdir()
    return ""


def _described(place: dict) -> dict:
    """A place in a shard as a record describes a file."""
    return {"bytes": place["bytes"], "sha256": place["sha256"]}
