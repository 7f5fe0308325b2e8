"""The books of a folder run: summary.csv, index.html, lines for a person, and how little they keep in memory."""

import json

from neuralparts import machine
from neuralparts.fleet import FolderBook, run
from tests.fleet.runs import summary, wait_for


def test_the_driver_prints_the_notes_of_a_part(tmp_path, capsys):
    book = FolderBook(tmp_path, ["a"], {"overwrite": 0, "outputFormat": "stl"}, fresh=True)
    job = {"name": "a", "input": "parts/a.stl"}
    book.take(job, {"status": "done", "reason": "", "notes": ["no checkpoint written: no space"]})
    assert "parts/a.stl: no checkpoint written: no space" in capsys.readouterr().err


def test_the_end_names_the_poor_parts_and_how_many_more(tmp_path, capsys):
    names = [f"p{k:02d}" for k in range(13)]
    book = FolderBook(tmp_path, names, {"overwrite": 0, "outputFormat": "stl"}, fresh=True)
    for k, name in enumerate(names):
        metrics = {"surface_within_99": 0.001 if k == 3 else 0.2}
        result = {"status": "done", "reason": "", "record": {"metrics": metrics}}
        book.take({"name": name, "input": f"{name}.stl"}, result)
    book.close(stopped=False)
    said = capsys.readouterr().out
    assert "12 poor: p00, p01, p02, p04, p05, p06, p07, p08, p09, p10 and 2 more\n" in said
    assert "13 of 13 done" in said and book.exit_code == 0
    assert "p10 and 2 more" in (tmp_path / "index.html").read_text()


def test_waiting_lines_are_written_while_no_part_ends(tmp_path):
    flags = {"overwrite": 0, "outputFormat": "stl"}
    book = FolderBook(tmp_path, ["a", "b"], flags, fresh=True, first_page_seconds=0.3)
    for name in ("a", "b"):
        book.take({"name": name, "input": f"{name}.stl"}, {"status": "refused", "reason": "no mesh"})
    assert len(summary(tmp_path)) == 1 and not (tmp_path / "index.html").exists()

    def all_there():
        book.tick(0, 0)
        return len(summary(tmp_path)) == 2 and (tmp_path / "index.html").exists()

    wait_for(all_there, "both lines and the page")


def test_memory_does_not_grow_with_ten_thousand_parts(tmp_path):
    class Instant:
        """A place in which every part ends at once, with a record as large as a real one."""

        running, room = 0, True

        def __init__(self):
            self.ended = []

        def submit(self, job):
            record = {"metrics": {"iou": 0.5}, "diagnosis": {"notes": "x" * 2000}}
            self.ended.append((job, {"status": "done", "reason": "", "record": json.loads(json.dumps(record))}))
            self.running, self.room = len(self.ended), len(self.ended) < 8

        def wait(self, seconds):
            ended, self.ended, self.running, self.room = self.ended, [], 0, True
            return ended

    names = [f"part_{k:05d}" for k in range(10_000)]
    book = FolderBook(tmp_path, names, {"outputFormat": "stl", "overwrite": 0}, fresh=True)
    occupied = []

    def finished(job, result):
        book.take(job, result)
        occupied.append(machine.resident_memory())

    run(({"name": name, "input": name} for name in names), Instant(), finished, book.progress.show)
    book.summary.finish(names, lambda name: None)
    assert [row["name"] for row in summary(tmp_path)] == names
    # Keeping 2 KB per part would add 16 MB from the 2,000th part to the last.
    assert occupied[-1] - occupied[2000] < 8 * 2**20
