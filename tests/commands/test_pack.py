"""`neuralparts pack`: parts in shards, read by name and by webdataset; what is packed later, removed, damaged."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from neuralparts import commands
from neuralparts.network import NeuralSDF
from neuralparts.output import PartFiles
from neuralparts.output.locks import locked
from neuralparts.packed import PackedFolder, key_of, name_of
from tests.faults.injector import preloading
from tests.faults.test_disk_faults import shim  # noqa: F401 (a fixture)
from tests.fleet.runs import ROOT
from tests.packing import AWKWARD, a_part, parts

MANY = [f"part_{k:04d}" for k in range(990)] + AWKWARD


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """(models by name, folder of the parts, packed folder): 1,000 parts in shards of 300."""
    folder = tmp_path_factory.mktemp("many")
    models = parts(folder / "out", MANY)
    assert commands.main(["pack", str(folder / "out"), "--shardParts", "300"]) == 0
    return models, folder / "out", folder / "out_packed"


def pack(capsys, *words):
    """(exit code, lines printed, what standard error holds)."""
    code = commands.main(["pack", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ------------------------------------------------------------------------------------------------------- what is packed


def test_a_thousand_models_are_the_same_bytes_again(many):
    models, folder, packed = many
    assert sorted(path.name for path in packed.iterdir()) == [
        "index.json",
        *(f"parts-{k:06d}.{suffix}" for k in range(4) for suffix in ("json", "tar")),
    ]
    opened = PackedFolder(packed)
    assert opened.count == len(models) == 1000
    for name, data in models.items():
        assert opened.read(name) == data
        assert opened.read(name, "json") == (folder / f"{name}.json").read_bytes()


def test_a_part_is_loaded_by_name_and_from_bytes(many):
    models, folder, packed = many
    points = np.random.default_rng(1).uniform(-1, 1, (5, 3))
    for name in ("part_0000", "part_0989", *AWKWARD):
        expected = NeuralSDF.load(folder / f"{name}.safetensors")(points)
        assert np.array_equal(NeuralSDF.load(packed, name=name)(points), expected)
        assert np.array_equal(NeuralSDF.load(models[name])(points), expected)
    for name in ("part_1000", "", "zzz"):
        with pytest.raises(ValueError, match="no part"):
            NeuralSDF.load(packed, name=name)
    with pytest.raises(ValueError, match="no packed folder"):
        NeuralSDF.load(folder, name="part_0000")
    with pytest.raises(ValueError, match="not the bytes of a model"):
        NeuralSDF.load(models["-"][:-1])


def test_webdataset_reads_the_shards_as_they_are(many):
    webdataset = pytest.importorskip("webdataset", reason="needs the package webdataset (requirements-dev.txt)")
    models, folder, packed = many
    shards = [str(path) for path in sorted(packed.glob("*.tar"))]
    read = {}
    for sample in webdataset.WebDataset(shards, shardshuffle=False):
        name = name_of(sample["__key__"])
        assert name not in read and sample["json"] == (folder / f"{name}.json").read_bytes()
        read[name] = sample["safetensors"]
    assert read == models
    decoded = next(iter(webdataset.WebDataset(shards[-1:], shardshuffle=False).decode()))
    assert decoded["json"]["input"] == f"{name_of(decoded['__key__'])}.stl"


def test_a_tar_gives_the_files_back(many, tmp_path):
    models, _, packed = many
    subprocess.run(["tar", "xf", packed / "parts-000000.tar", "-C", tmp_path], check=True)
    assert (tmp_path / "part_0001.safetensors").read_bytes() == models["part_0001"]


@pytest.mark.parametrize("name", [*AWKWARD, "a/b", "..", "caf\udce9"])
def test_a_key_is_one_word_for_webdataset_and_gives_the_name_back(name):
    key = key_of(name)
    assert name_of(key) == name and key.isascii() and not {".", "/", " "} & set(key)


def test_info_and_list_show_a_packed_part(many, capsys):
    models, _, packed = many
    assert commands.main(["info", str(packed), "--name", "part.v2"]) == 0
    assert "parameters" in capsys.readouterr().out
    code, lines, said = pack(capsys, packed, "--list", 1)
    assert code == 0 and len(lines) == 1000 and "1,000 parts in 4 shards" in said
    row = dict(zip(("name", "shard", "offset", "bytes"), lines[500].split("\t"), strict=True))
    data = (packed / row["shard"]).read_bytes()[int(row["offset"]) :][: int(row["bytes"])]
    assert data == models[row["name"]]


def test_only_parts_that_are_done_and_whole_are_packed(tmp_path, capsys):
    out = tmp_path / "out"
    parts(out, ["a", "b", "c", "d"])
    (out / "own.json").write_text("{}")
    (out / "b.safetensors").write_bytes(b"damaged")
    a_part(out, "c", failure="no surface")
    PartFiles(out, "d").mark_unfinished()
    code, lines, _ = pack(capsys, out)
    assert code == 1 and lines[0].startswith("1 part packed, in 1 new shard") and list(index_of(out)) == ["a"]
    assert lines[1:] == [
        "not packed: b: b.safetensors is damaged or missing",
        "not packed: c: no surface",
        "not packed: d: its fit with --overwrite 1 is not complete",
    ]


def index_of(out, number=0):
    return json.loads((out.with_name(f"{out.name}_packed") / f"parts-{number:06d}.json").read_text())["parts"]


def test_other_outputs_are_packed_if_asked_for(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    a_part(out, "a.b", stl=b"mesh", html=b"page")
    assert pack(capsys, out, "--outputs", "mesh,model")[0] == 0
    packed = PackedFolder(tmp_path / "out_packed")
    assert packed.read("a.b", "stl") == b"mesh" and sorted(index_of(out)["a.b"]) == [
        "a%2Eb.json",
        "a%2Eb.safetensors",
        "a%2Eb.stl",
    ]
    with pytest.raises(ValueError, match="was packed without its"):
        packed.read("a.b", "html")
    code, _, err = pack(capsys, out)
    assert code == 1 and "was packed with --outputs model,mesh,record" in err


# ------------------------------------------------------------------------------------------- again, removed, damaged


def test_a_second_run_packs_what_is_new_and_the_same_parts_give_the_same_bytes(tmp_path, capsys):
    out, packed = tmp_path / "out", tmp_path / "out_packed"
    parts(out, ["b", "d", "f"])
    assert pack(capsys, out, "--shardParts", 2)[0] == 0
    before = contents(packed)
    code, lines, _ = pack(capsys, out, "--shardParts", 2)
    assert (code, lines) == (0, [f"0 parts packed (3 before), in 0 new shards: {packed}"])
    assert contents(packed) == before
    models = {name: a_part(out, name) for name in "ace"}
    for path in out.iterdir():
        os.utime(path, (0, 0))
    assert pack(capsys, out, "--shardParts", 2)[0] == 0
    after = contents(packed)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"index.json"} and {name: PackedFolder(packed).read(name) for name in "ace"} == models
    assert pack(capsys, out, "--shardParts", 2, "--out", tmp_path / "other")[0] == 0
    assert pack(capsys, out, "--shardParts", 2, "--out", tmp_path / "third")[0] == 0
    assert contents(tmp_path / "other") == contents(tmp_path / "third")


def test_originals_are_removed_only_if_asked_and_only_what_is_in_the_shard(tmp_path, capsys):
    out, packed = tmp_path / "out", tmp_path / "out_packed"
    models = parts(out, ["a", "b", "c", "d"])
    a_part(out, "c", html=b"page")
    before = contents(out)
    assert pack(capsys, out)[0] == 0 and contents(out) == before
    models["d"] = a_part(out, "d", stl=b"fitted again")
    (out / "own.txt").write_text("mine")
    code, lines, _ = pack(capsys, out, "--remove", 1)
    assert code == 1 and "the originals of 2 parts removed" in lines
    assert [line.split(", because ")[1].split(":")[0] for line in lines if "stay" in line] == [
        "they have files that are not packed (--outputs), or that were changed",
        "they were fitted again since they were packed",
    ]
    assert lines[-1].startswith("1 part fitted again since packed; the shards have the earlier fit")
    assert sorted(contents(out)) == ["c.html", "c.json", "c.safetensors", "d.json", "d.safetensors", "d.stl", "own.txt"]
    assert [PackedFolder(packed).read(name) for name in "abc"] == [models[name] for name in "abc"]


def test_nothing_is_removed_for_a_damaged_shard(tmp_path, capsys):
    out, packed = tmp_path / "out", tmp_path / "out_packed"
    parts(out, ["a", "b"])
    assert pack(capsys, out)[0] == 0
    before, shard = contents(out), packed / "parts-000000.tar"
    data = bytearray(shard.read_bytes())
    data[index_of(out)["b"]["b.safetensors"]["offset"] + 9] ^= 1
    shard.write_bytes(data)
    code, _, err = pack(capsys, out, "--remove", 1)
    assert code == 1 and "nothing of its parts was removed" in err and contents(out) == before
    assert commands.main(["verify", str(packed)]) == 1
    assert capsys.readouterr().out.splitlines() == ["b: b.safetensors is damaged", "2 parts, 1 damaged or missing"]
    with pytest.raises(ValueError, match="the part 'b' is damaged"):
        NeuralSDF.load(packed, name="b")
    data[index_of(out)["b"]["b.safetensors"]["offset"] + 9] ^= 1
    data[0] ^= 1  # the header of the first file
    shard.write_bytes(data)
    assert commands.main(["verify", str(packed)]) == 1
    assert "parts-000000.tar: damaged between the files" in capsys.readouterr().out
    (packed / "parts-000000.json").write_text("{}")
    assert commands.main(["verify", str(packed)]) == 1
    assert "parts-000000.json, of 2 parts, is missing or damaged" in capsys.readouterr().out


def test_verify_reads_a_packed_folder(many, capsys):
    assert commands.main(["verify", str(many[2])]) == 0
    assert capsys.readouterr().out == "1,000 parts, 0 damaged or missing\n"


def test_the_index_of_the_shards_is_made_again_if_it_is_missing(tmp_path, capsys):
    out, packed = tmp_path / "out", tmp_path / "out_packed"
    parts(out, ["a", "b", "c"])
    assert pack(capsys, out, "--shardParts", 2)[0] == 0
    before = contents(packed)
    (packed / "index.json").write_text("{")
    code, _, err = pack(capsys, out)
    assert code == 1 and "remove it to have it made again" in err
    (packed / "index.json").unlink()
    assert pack(capsys, out)[0] == 0 and contents(packed) == before


def test_a_shard_behind_a_missing_one_is_not_overwritten(tmp_path, capsys):
    out, packed = tmp_path / "out", tmp_path / "out_packed"
    models = parts(out, ["a", "b"])
    assert pack(capsys, out, "--shardParts", 1, "--remove", 1)[0] == 0
    a_part(out, "c")
    a_part(out, "d")
    (packed / "index.json").unlink()
    first = (packed / "parts-000000.tar").rename(tmp_path / "first")
    before = contents(packed), contents(out)
    code, _, err = pack(capsys, out, "--shardParts", 1, "--remove", 1)
    assert code == 1 and "parts-000001.tar: parts-000000.tar in front of it is missing" in err
    assert (contents(packed), contents(out)) == before
    first.rename(packed / "parts-000000.tar")
    assert pack(capsys, out, "--shardParts", 1, "--remove", 1)[0] == 0
    assert {name: PackedFolder(packed).read(name) for name in "ab"} == models and PackedFolder(packed).count == 4


def test_an_index_that_names_files_of_other_folders_is_none(tmp_path, capsys):
    out, packed = tmp_path / "out", tmp_path / "out_packed"
    parts(out, ["a"])
    assert pack(capsys, out)[0] == 0
    index = packed / "parts-000000.json"
    index.write_text(index.read_text().replace('"a":', '"../a":').replace('"a.', '"..%2Fa.'.replace("..", "%2E%2E")))
    assert name_of(next(iter(json.loads(index.read_text())["parts"]["../a"])).partition(".")[0]) == "../a"
    assert pack(capsys, out, "--remove", 1)[0] == 1 and (out / "a.json").is_file()
    with pytest.raises(ValueError, match="missing or damaged"):
        PackedFolder(packed).read("a")


def test_folders_that_cannot_be_used_get_one_line(tmp_path, capsys):
    out = tmp_path / "out"
    parts(out, ["a"])
    (tmp_path / "own").mkdir()
    (tmp_path / "own/parts-000000.tar").write_bytes(b"mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/parts-000000.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    for words, said in (
        ([tmp_path / "none"], "no such folder"),
        ([tmp_path / "empty"], "no fitted part"),
        ([out, "--out", out], "choose another --out"),
        ([out, "--out", tmp_path / "own"], "no packing left this file"),
        ([out, "--out", tmp_path / "mine"], "no packing left this file"),
        ([out, "--list", 1], "no packed folder"),
    ):
        code, lines, err = pack(capsys, *words)
        assert code == 1 and lines == [] and err.count("\n") == 1 and said in err
    assert (tmp_path / "own/parts-000000.tar").read_bytes() == b"mine"
    assert pack(capsys, out)[0] == 0
    assert "is packed already" in pack(capsys, tmp_path / "out_packed")[2]


def test_one_process_packs_at_a_time(tmp_path, capsys):
    out = tmp_path / "out"
    parts(out, ["a"])
    (tmp_path / "out_packed").mkdir()
    with locked(tmp_path / "out_packed/.pack.lock"):
        assert pack(capsys, out)[0] == 1
    assert pack(capsys, out)[0] == 0


# --------------------------------------------------------------------------------------------------------------- faults


def strikes(tmp_path, library, fault, numbers):
    """What is found for each n, see `pack_strikes`."""
    place = tmp_path / "place"
    place.mkdir()
    parts(place / "out", ["a", "b.v2", "c", "d", "e"])
    environment = os.environ | preloading(library, tmp_path / "state")
    words = [sys.executable, "-m", "tests.faults.pack_strikes", place, fault, json.dumps(numbers).strip('"')]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(outcomes, fault):
    for found in outcomes:
        assert found["code"] in ((0, -9) if fault == "SIGKILL" else (0, 1)), found
        assert "Traceback" not in found["printed"] + found["printed again"], found
        assert found["lost"] == found["lost at the end"] == found["faults"] == [], found
        left = [name for name in found["left"] if not name.endswith(".lock")]  # an empty lock file may stay
        assert found["again"] == 0 and found["parts"] == 5 and left == [], found
        if fault != "EIO":  # a part that cannot be read is left to the next run, and so to another shard
            assert found["as unharmed"], found


@pytest.mark.parametrize("fault", ["SIGKILL", "ENOSPC", "EIO"])
def test_a_fault_at_a_file_operation_loses_no_part(tmp_path, shim, fault):  # noqa: F811
    outcomes = strikes(tmp_path, shim, fault, list(range(3, 90, 11)))
    assert sum(found["struck"] for found in outcomes) >= 4
    check(outcomes, fault)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["SIGKILL", "ENOSPC", "EIO"])
def test_a_fault_at_every_file_operation_loses_no_part(tmp_path, shim, fault):  # noqa: F811
    outcomes = strikes(tmp_path, shim, fault, "all")
    assert len(outcomes) > 20 and not outcomes[-1]["struck"]
    check(outcomes, fault)
