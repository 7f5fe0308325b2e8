"""Mutations: a healthy file becomes one that somebody damaged, or wrote by a wrong program, or made on purpose.

Each takes bytes, another healthy file of the same kind, and a generator of random numbers; it returns the mutant. A
format that packs something (an archive, a header) is unpacked, changed within, and packed again, so that mutants get
past the checks at the door. `MUTATORS` names the mutation of each kind of file.
"""

import contextlib
import copy
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from random import Random

# A mutant is at most this long, bytes.
LONGEST = 300_000
NUMBERS = ["0", "1", "2", "3", "-1", "0.25", "8", "255", "256", "65535", "65536", "2147483647", "-2147483648"]
NUMBERS += ["4294967295", "1e308", "-1e308", "1e300", "1e-320", "1e-160", "1e20", "1e5", "NaN", "Infinity", "-inf"]
NUMBERS += ["9" * 15, "9" * 20, "9" * 5000, "1e999", "0x10", "1,5", "1_0", "--1", "", "null", "true", '"x"', "[]", "{}"]
WORDS = [*NUMBERS, "\x1b[31m", "a\nb", "\0", "é" * 5, "\u202e", "a" * 300, "../x", "/etc/passwd", "%s", "=1+1"]
# Values for a place in JSON.
VALUES = [0, 1, 2, 3, -1, 0.25, 255, 65536, 2**31, 2**32 - 1, 10**12, 10**20, 1e308, 1e-320, float("nan"), float("inf")]
VALUES += [None, True, False, "", "x", "\x1b[31m", "a\nb", "é", "a" * 300, [], {}, [0], [[]], {"a": 0}, [1e300] * 16]
VALUES += ["POSITION", "SCALAR", "VEC3", 5121, 5125, 5126, 4, 5, 6, [0, 0], [0.0] * 3, [0.0] * 16, "data:,x", "../x"]
# Numbers in binary: struct's code and values.
PATTERNS = [("B", (0, 1, 2, 3, 127, 255)), ("H", (0, 1, 3, 255, 32768, 65535)), ("I", (0, 1, 3, 2**31, 2**32 - 1))]
PATTERNS += [("I", (84, 100, 1000, 2**24)), ("Q", (0, 2**32, 2**63, 2**64 - 1))]
PATTERNS += [("f", (0.0, -1.0, 1e-40, 1e38, float("nan"), float("inf"))), ("d", (0.0, 1e-320, 1e308, float("nan")))]

Mutator = Callable[[bytes, bytes, Random], bytes]


def some_bytes(data: bytes, other: bytes, random: Random) -> bytes:
    """One to four changes anywhere: bits, bytes and numbers replaced, parts removed, doubled, moved, cut off, spliced
    with another file."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        if not changed:
            return bytes(changed)
        start, end = sorted((random.randrange(len(changed) + 1), random.randrange(len(changed) + 1)))
        place, short = min(start, len(changed) - 1), slice(start, min(end, start + 64))
        kind = random.randrange(16)
        if kind < 5:
            changed[place] ^= 1 << random.randrange(8)
        elif kind < 7:
            changed[place] = random.randrange(256)
        elif kind < 11:
            code, values = random.choice(PATTERNS)
            number = struct.pack(random.choice("<>") + code, random.choice(values))
            changed[place : place + len(number)] = number
        elif kind == 11:
            del changed[short]
        elif kind == 12:
            changed[place:place] = changed[short]
        elif kind == 13:
            changed[place:place] = bytes(random.randrange(1, 64))
        elif kind == 14:
            del changed[end:]
        else:
            changed[start:] = other[random.randrange(len(other) + 1) :]
    return bytes(changed[:LONGEST])


def some_text(data: bytes, other: bytes, random: Random) -> bytes:
    """One to four changes of words or lines: numbers replaced, words removed or moved, lines removed, doubled,
    shuffled, repeated, spliced with another file; rarely another encoding or line ending."""
    for _ in range(random.randint(1, 4)):
        kind = random.randrange(20)
        if kind < 10:
            data = _other_word(data, random)
        elif kind < 17:
            data = _other_lines(data, other, random)
        elif kind == 17:
            data = some_bytes(data, other, random)
        elif kind == 18:
            data = data.replace(b"\n", random.choice([b"\r\n", b"\r", b"\n\n", b" ", b"\n \n", b"\\\n", b"\x0b"]))
        else:
            data = random.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b" ", b"\n", b"#", b"\0"]) + data
    return data[:LONGEST]


def _other_word(data: bytes, random: Random) -> bytes:
    """Text with one word replaced, removed, doubled, or put in another's place."""
    words = [match.span() for match in re.finditer(rb"-?\d[\d.e+-]*|[\w|<>.]+", data)]
    if not words:
        return data + random.choice(NUMBERS).encode()
    (start, end), (first, last) = random.choice(words), random.choice(words)
    new = [random.choice(NUMBERS).encode(), random.choice(WORDS).encode(), b"", data[first:last]]
    return data[:start] + random.choice([*new, new[0], new[0], data[start:end] + b" " + data[start:end]]) + data[end:]


def _other_lines(data: bytes, other: bytes, random: Random) -> bytes:
    """Text with a block of lines removed, doubled, shuffled, moved, or spliced; rarely one line many times."""
    lines = data.splitlines(True) or [b""]
    start = random.randrange(len(lines))
    block = slice(start, start + random.randint(1, 1 + random.choice([1, 4, len(lines)])))
    kind = random.randrange(40)
    if kind < 10:
        del lines[block]
    elif kind < 18:
        lines[start:start] = lines[block]
    elif kind < 25:
        some = lines[block]
        random.shuffle(some)
        lines[block] = some
    elif kind < 31:
        some = lines[block]
        del lines[block]
        place = random.randrange(len(lines) + 1)
        lines[place:place] = some
    elif kind < 37:
        theirs = other.splitlines(True) or [b""]
        lines[start:] = theirs[random.randrange(len(theirs)) :]
    elif kind < 39:
        lines[block] = [line.rstrip() + b" " for line in lines[block]]
    else:
        lines[start:start] = [random.choice([lines[start], b"\n", b" ", b"0 "])] * random.choice([10, 300, 5000])
    return b"".join(lines)


def text_or_bytes(data: bytes, other: bytes, random: Random) -> bytes:
    """A file of which some dialects are text and others are binary below a header in text."""
    is_text = b"\0" not in data
    if random.randrange(5) == 0 or (not is_text and random.randrange(2)):
        return some_bytes(data, other, random)
    head, mark, rest = data.partition(b"end_header\n")
    if is_text or not mark:
        return some_text(data, other, random) if is_text else some_bytes(data, other, random)
    return some_text(head + mark, other.partition(b"end_header\n")[0], random) + rest


# ---------------------------------------------------------------------------------------------------------- JSON, glTF


def some_json(value: object, other: object, random: Random) -> object:
    """A copy of a JSON value with one to three places removed, doubled, replaced, or taken from elsewhere."""
    value = copy.deepcopy(value)
    for _ in range(random.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return random.choice(VALUES)
        owner, key = random.choice(places)
        kind = random.randrange(12)
        if kind == 0:
            del owner[key]
        elif kind == 1 and isinstance(owner, list):
            owner.insert(key, copy.deepcopy(owner[key]))
        elif kind == 2 and isinstance(owner, dict):
            owner[random.choice(["a", "sparse", "uri", "matrix", "mode", "skin", "weights", "children"])] = owner[key]
        elif kind in (3, 4):
            theirs, name = random.choice(list(_places(random.choice([value, other]))) or [([0], 0)])
            owner[key] = copy.deepcopy(theirs[name])
        elif kind in (5, 6, 7) and type(owner[key]) is int:
            owner[key] += random.choice([-1, 1, 1, 2, 4, 2**31])
        else:
            owner[key] = copy.deepcopy(random.choice(VALUES))
    return value


def _places(value: object) -> list[tuple[dict | list, str | int]]:
    """(container, key) of everything within a JSON value."""
    found, left = [], [value]
    while left:
        owner = left.pop()
        if isinstance(owner, dict | list):
            keys = list(owner) if isinstance(owner, dict) else range(len(owner))
            found += [(owner, key) for key in keys]
            left += [owner[key] for key in keys]
    return found


def gltf(data: bytes, other: bytes, random: Random) -> bytes:
    """A .gltf, changed as text or as JSON."""
    if random.randrange(4) == 0:
        return some_text(data, other, random)
    return json.dumps(some_json(json.loads(data), json.loads(other), random)).encode()[:LONGEST]


def glb(data: bytes, other: bytes, random: Random) -> bytes:
    """A .glb, changed as bytes, or in its JSON or its binary chunk, with the lengths that fit."""
    kind = random.randrange(6)
    if kind == 0:
        return some_bytes(data, other, random)
    (header, binary), (theirs, _) = glb_chunks(data), glb_chunks(other)
    if kind == 1:
        return pack_glb(header, some_bytes(binary, binary, random))
    if kind == 2:
        return pack_glb(some_text(header, theirs, random), binary)
    return pack_glb(json.dumps(some_json(json.loads(header), json.loads(theirs), random)).encode(), binary)


def glb_chunks(data: bytes) -> tuple[bytes, bytes]:
    """The JSON and the binary chunk of a healthy .glb."""
    length = int.from_bytes(data[12:16], "little")
    return data[20 : 20 + length], data[28 + length :]


def pack_glb(header: bytes, binary: bytes) -> bytes:
    """A .glb of the two chunks."""
    header, binary = header + b" " * (-len(header) % 4), binary + bytes(-len(binary) % 4)
    chunks = struct.pack("<I4s", len(header), b"JSON") + header + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


# ------------------------------------------------------------------------------------------------------------ archives


def unpacked(data: bytes) -> dict[str, bytes]:
    """The members of a healthy archive, by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: dict[str, bytes], compression: int) -> bytes:
    """An archive of these members, with right checksums and a fixed date."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, member in members.items():
            archive.writestr(zipfile.ZipInfo(name), member, compression)
    return file.getvalue()


def _repacked(data: bytes, other: bytes, random: Random, mutate: Mutator) -> bytes:
    """An archive with one member mutated, removed, renamed, or taken from another archive."""
    members = unpacked(data)
    name = random.choice(list(members))
    kind = random.randrange(20)
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[random.choice(["../x", "a" * 300, "3D/other.model", "\x1b.model", "train.npy"])] = members.pop(name)
    elif kind == 2:
        members |= unpacked(other)
    else:
        theirs = unpacked(other).get(name, members[name])
        members[name] = mutate(members[name], theirs, random)
    return packed(members, random.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))


def three_mf(data: bytes, other: bytes, random: Random) -> bytes:
    """A 3MF, changed as bytes, or in its members with one element a line, so that lines are elements."""

    def elements(data: bytes, other: bytes, random: Random) -> bytes:
        return some_text(data.replace(b"><", b">\n<"), other.replace(b"><", b">\n<"), random)

    if random.randrange(8) == 0:
        return some_bytes(data, other, random)
    return _repacked(data, other, random, elements)


def samples(data: bytes, other: bytes, random: Random) -> bytes:
    """An .npz, changed as bytes, or in the bytes, the header or the numbers of one member."""

    def array(data: bytes, other: bytes, random: Random) -> bytes:
        head, numbers = data[:128], data[128:]
        kind = random.randrange(4)
        if kind == 0:
            head = some_bytes(head, other, random)
        elif kind < 3:
            text = _other_word(head[10:], random)
            head = head[:8] + (len(text) % 65536).to_bytes(2, "little") + text
        else:
            numbers = some_bytes(numbers, other[128:], random)
        return head + numbers

    if random.randrange(4) == 0:
        return some_bytes(data, other, random)
    return _repacked(data, other, random, array)


def safetensors(data: bytes, other: bytes, random: Random) -> bytes:
    """A model or a checkpoint, changed as bytes, in its header, in the JSON inside it, or in its tensors."""
    (header, tensors), (theirs, their_tensors) = _split(data), _split(other)
    kind = random.randrange(8)
    if kind == 0:
        return some_bytes(data, other, random)
    if kind == 1:
        header = some_bytes(header, theirs, random)
    elif kind == 2:
        tensors = some_bytes(tensors, their_tensors, random)[: len(tensors)].ljust(len(tensors), b"\0")
    elif kind == 3:  # numbers of a wrong size
        changed = bytearray(tensors)
        for _ in range(random.randint(1, 3)):
            value = random.choice([float("nan"), float("inf"), 3e38, -3e38, 1e20, -1e20, 1e10, -1e5, 1e-40, 0, -1, 1])
            struct.pack_into("<f", changed, 4 * random.randrange(len(changed) // 4), value)
        tensors = bytes(changed)
    elif kind == 4:
        header = json.dumps(some_json(json.loads(header), json.loads(theirs), random)).encode()
    else:
        header = _with_other_metadata(json.loads(header), json.loads(theirs), random)
    return len(header).to_bytes(8, "little") + header + tensors


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The header and the tensors of a healthy safetensors file."""
    size = int.from_bytes(data[:8], "little")
    return data[8 : 8 + size], data[8 + size :]


def _with_other_metadata(header: dict, theirs: dict, random: Random) -> bytes:
    """The header with another text in its metadata, which is JSON as well."""
    texts, others = header["__metadata__"], theirs["__metadata__"]
    key = random.choice(list(texts))
    if random.randrange(3) == 0:
        texts[key] = some_text(texts[key].encode(), b"", random).decode("latin1")
    else:
        with contextlib.suppress(ValueError):
            texts[key] = json.dumps(some_json(json.loads(texts[key]), json.loads(others.get(key, "{}")), random))
    return json.dumps(header).encode()


MUTATORS: dict[str, Mutator] = {
    "stl": text_or_bytes,
    "obj": some_text,
    "ply": text_or_bytes,
    "off": some_text,
    "glb": glb,
    "gltf": gltf,
    "3mf": three_mf,
    "samples": samples,
    "model": safetensors,
    "checkpoint": safetensors,
}
