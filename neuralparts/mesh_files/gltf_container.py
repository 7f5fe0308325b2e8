"""The outside of a glTF: its JSON, alone or in the first chunk of a GLB, and the addresses of its buffers."""

import base64
import binascii
import json
import urllib.parse

from neuralparts.wording import quoted

MAGIC = b"glTF"  # the first bytes of a GLB
JSON_CHUNK, BINARY_CHUNK = b"JSON", b"BIN\0"


def read_header(data: bytes) -> tuple[dict, bytes]:
    """A .gltf or .glb -> its JSON object and the bytes of its binary chunk, b'' if it has none.

    Raises ValueError for a damaged file or glTF 1.0, RecursionError for JSON that is nested too deeply.
    """
    binary = b""
    if data[:4] == MAGIC:
        if int.from_bytes(data[4:8], "little") == 1:
            raise ValueError("glTF 1.0 is not read; convert it to glTF 2.0")
        chunks = _chunks(data)
        data, binary = chunks.get(JSON_CHUNK, b""), chunks.get(BINARY_CHUNK, b"")
    header = json.loads(data)
    if not isinstance(header, dict):
        raise ValueError("its JSON is not an object")
    asset = header.get("asset")
    version = asset.get("version", "") if isinstance(asset, dict) else ""
    if str(version).startswith("1.") or isinstance(header.get("accessors"), dict):
        raise ValueError("glTF 1.0 is not read; convert it to glTF 2.0")
    return header, binary


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """The first chunk of each kind of a GLB. Raises ValueError for a file that is cut short."""
    chunks, at, end = {}, 12, int.from_bytes(data[8:12], "little")
    if end > len(data):
        raise ValueError(f"the header says {end:,} bytes and the file has {len(data):,}: the file is cut short")
    while at + 8 <= end:
        after = at + 8 + int.from_bytes(data[at : at + 4], "little")
        if after > end:
            raise ValueError("a chunk is longer than the file: it is cut short or damaged")
        chunks.setdefault(data[at + 4 : at + 8], data[at + 8 : after])
        at = after
    return chunks


def items(header: dict, kind: str) -> list[dict]:
    """A list of objects of the JSON, [] if it is missing. Raises ValueError for anything else."""
    found = header.get(kind, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"'{kind}' is not a list of objects")
    return found


def buffer_names(header: dict) -> list[str]:
    """Names of the files that hold buffers, as the file system spells them, in order. Raises ValueError."""
    # An address may spell a space as %20.
    return [urllib.parse.unquote(uri) for uri in map(_address, items(header, "buffers")) if uri and not _is_data(uri)]


def buffer_bytes(header: dict, binary: bytes, beside: dict[str, bytes]) -> list[bytes | None]:
    """The bytes of every buffer; None for one that has none. Raises ValueError for data that do not decode.

    binary: the chunk of a GLB, which is the first buffer. beside: the files that `buffer_names` names.
    """
    found = []
    for index, buffer in enumerate(items(header, "buffers")):
        uri = _address(buffer)
        if not uri:
            found.append(binary if index == 0 and binary else None)
        else:
            found.append(_decoded(uri) if _is_data(uri) else beside.get(urllib.parse.unquote(uri)))
    return found


def _address(buffer: dict) -> str:
    """The address of a buffer, or ''. Raises ValueError."""
    uri = buffer.get("uri") or ""
    if not isinstance(uri, str):
        raise ValueError(f"the address of a buffer is no text: {quoted(uri)}")
    return uri


def _is_data(uri: str) -> bool:
    """Whether an address holds its data itself."""
    return uri[:5].lower() == "data:"


def _decoded(uri: str) -> bytes:
    """The data of an address that holds them, in base64 or with percent signs. Raises ValueError."""
    kind, comma, data = uri.partition(",")
    if not comma:
        raise ValueError("a buffer's address has no data")
    if not kind.endswith(";base64"):
        return urllib.parse.unquote_to_bytes(data)
    try:
        return base64.b64decode(urllib.parse.unquote(data))
    except binascii.Error as error:
        raise ValueError(f"a buffer in base64 is damaged: {error}") from None
