"""summary.csv, written by several runs at once."""

import pytest

from neuralparts.metric_names import METRIC_NAMES
from neuralparts.output import OutputError, Summary, check_folder_free, summary_row, text, write_gallery
from neuralparts.output.summary import LONGEST_CELL, SUMMARY_COLUMNS
from tests.fleet.runs import summary


def test_two_runs_over_one_folder_keep_each_others_lines(tmp_path):
    first, second = Summary(tmp_path), Summary(tmp_path)
    first.start()
    for k in range(6):
        book = first if k % 2 else second
        book.add(summary_row(f"p{k}", "in", {"metrics": {"iou": k / 8}}, "done"))
        book.flush()
        assert len(summary(tmp_path)) == k + 1
    first.add(summary_row("p0", "in", None, "failed", "a reason,\nwith a line"))
    first.finish(["p5", "p0", "p1", "p9"], lambda name: summary_row(name, "known", None, "done"))
    rows = [(row["name"], row["input"], row["status"], row["iou"]) for row in summary(tmp_path)]
    assert rows == [
        ("p5", "in", "done", "0.625"),
        ("p0", "in", "failed", ""),
        ("p1", "in", "done", "0.125"),
        ("p9", "known", "done", ""),
    ]


def test_cells_are_words_on_one_line_that_no_spreadsheet_runs(tmp_path):
    assert text(None) == "" and all(text(words) == words for words in ("plain, with comma", "零件\u3000é"))
    assert text("a\nb\tc\x1b[31m\x7f\u2028") == "a\\nb\\tc\\x1b[31m\\x7f\\u2028"
    assert text("\udcff") == "\\udcff"
    for beginning in "=+-@":
        assert text(f"{beginning}1+1") == f"'{beginning}1+1"
    assert text("\t=1") == "\\t=1" and text("\r=1") == "\\r=1"
    book = Summary(tmp_path)
    book.add(summary_row("=a", "@in", {"metrics": {"iou": -0.5}}, "failed", "-cmd|' /C calc'!A0"))
    book.flush()
    (row,) = summary(tmp_path)
    assert row["iou"] == "-0.5"  # a number stays one
    assert (row["name"], row["input"], row["reason"]) == ("'=a", "'@in", "'-cmd|' /C calc'!A0")


def test_a_long_cell_and_a_damaged_file_end_no_run(tmp_path):
    book = Summary(tmp_path)
    book.add(summary_row("a", "in", None, "failed", "x" * 500_000))
    book.flush()
    assert len(summary(tmp_path)[0]["reason"]) == LONGEST_CELL
    with open(book.path, "ab") as file:  # as an earlier version wrote it, and as an editor may leave it
        file.write(b"b,in,failed," + b"y" * 200_000 + b"," * 12 + b"\r\n" + b"c,\xff\xfe,done\r\n\x00\r\n")
    for name in ("d", "e"):
        book.add(summary_row(name, "in", None, "done"))
        book.flush()
    assert [row["name"] for row in summary(tmp_path)] == ["a", "d", "e"]
    write_gallery(tmp_path, [["a", "in", "done", "", "no grade", "", *["0,5"] * len(METRIC_NAMES), "?"]], {})


OLD_COLUMNS = [name for name in SUMMARY_COLUMNS if name not in ("verdict", "surface_within_99", "hausdorff")]


def test_a_summary_of_an_earlier_version_is_resumed(tmp_path):
    """Its lines stay, with the columns that it lacks empty; new lines have a verdict."""
    cells = dict.fromkeys(OLD_COLUMNS, "") | {"name": "old", "input": "old.stl", "status": "done", "iou": "0.5"}
    lines = [",".join(OLD_COLUMNS), ",".join(cells.values()), ",".join([*cells.values(), "one too many"])]
    (tmp_path / "summary.csv").write_text("\n".join(lines) + "\n")
    check_folder_free(tmp_path)
    book = Summary(tmp_path)
    record = {"metrics": {"surface_within_99": 0.3}, "diagnosis": {"closed": True}}
    book.add(summary_row("new", "new.stl", record, "done"))
    book.flush()
    rows = {row["name"]: row for row in summary(tmp_path)}
    assert list(rows) == ["old", "new"] and all(tuple(row) == SUMMARY_COLUMNS for row in rows.values())
    assert rows["old"]["iou"] == "0.5" and rows["old"]["verdict"] == rows["old"]["hausdorff"] == ""
    assert rows["new"]["verdict"] == "poor" and rows["new"]["surface_within_99"] == "0.3"
    page = write_gallery(tmp_path, book.rows(), {}).read_text()
    assert page.index(">new<") < page.index(">old<")


def test_a_record_of_an_earlier_version_is_graded_by_what_it_holds(tmp_path):
    metrics = {"surface_error": 0.0001, "missed_surface": 0.0, "iou": 0.8}
    record = {"metrics": metrics, "diagnosis": {"closed": True}, "failure": ""}
    assert summary_row("old", "old.stl", record, "done")["verdict"] == "poor"
    assert summary_row("old", "old.stl", record | {"diagnosis": {"closed": False}}, "done")["verdict"] == ""
    assert summary_row("none", "none.stl", None, "refused", "no mesh")["verdict"] == ""


def test_a_users_table_is_not_overwritten_through_a_link(tmp_path):
    for name in ("summary.csv", "index.html"):
        for target in ("nowhere", "own"):
            (tmp_path / "own").write_text("name,input,status\n<title>x: fitted parts</title>")
            (tmp_path / name).symlink_to(target)
            with pytest.raises(OutputError, match=name):
                check_folder_free(tmp_path)
            (tmp_path / name).unlink()
