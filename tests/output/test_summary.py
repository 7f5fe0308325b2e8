"""summary.csv, written by several runs at once."""

from neuralparts.output import Summary, summary_row
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
