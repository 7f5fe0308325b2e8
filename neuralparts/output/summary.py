"""summary.csv of a folder run: one line per part, failures included."""

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from neuralparts.metric_names import METRIC_NAMES
from neuralparts.output.locks import locked
from neuralparts.output.records import is_regular
from neuralparts.verdict import verdict
from neuralparts.whole_file import whole_file
from neuralparts.wording import as_utf8, visible

SUMMARY_COLUMNS = ("name", "input", "status", "reason", "verdict", "ended_by", *METRIC_NAMES, "seconds")
# Seconds to wait while another run writes summary.csv or index.html; writing takes milliseconds.
WRITING_PATIENCE = 10.0


# Beginnings of a cell that a spreadsheet takes for a formula.
FORMULA_BEGINNINGS = ("=", "+", "-", "@")
# Characters of a cell; Python's reader takes no more than 131,072.
LONGEST_CELL = 8192


def text(value: object) -> str:
    """Words as a cell of summary.csv, on one line; '' for None.

    Control characters, ends of lines and bytes that are not UTF-8 are escaped. A cell that a spreadsheet would take for
    a formula begins with '. A long one is cut.
    """
    cell = "" if value is None else visible(as_utf8(str(value)))
    cell = f"'{cell}" if cell.startswith(FORMULA_BEGINNINGS) else cell
    return cell if len(cell) <= LONGEST_CELL else f"{cell[: LONGEST_CELL - 3]}..."


def _cell(value: object) -> str:
    """A value as a cell; a number is no formula, though it may begin with a minus."""
    return str(value) if isinstance(value, int | float) else text(value)


def summary_row(name: str, source: str, record: dict | None, status: str, reason: str = "") -> dict:
    """A line of summary.csv, by SUMMARY_COLUMNS, from a fit's record (None if it left none)."""
    record = record or {}
    row = dict.fromkeys(SUMMARY_COLUMNS, "")
    row |= {key: value for key, value in record.get("metrics", {}).items() if key in row}
    row |= {"name": name, "input": source, "status": status, "reason": reason}
    row["verdict"] = verdict(record).grade
    row["ended_by"] = record.get("fit", {}).get("ended_by", "")
    row["seconds"] = record.get("timings", {}).get("total", "")
    return row


class Summary:
    """summary.csv of a folder: whole at every moment, written by one run or by several at once.

    Lines are kept in `pending` until `flush` writes them, so that a run of 10,000 parts does not write the file 10,000
    times. Lines that a killed run never wrote are rebuilt by the next run from the parts' records.
    """

    def __init__(self, folder: Path):
        self.path, self.pending = folder / "summary.csv", {}

    def start(self) -> None:
        """Write a file without lines. Raises OSError, BusyError."""
        with self._locked():
            self._write([])

    def add(self, row: dict) -> None:
        """Add a line, or replace the line of the same name."""
        self.pending[text(row["name"])] = [_cell(row[column]) for column in SUMMARY_COLUMNS]

    def flush(self) -> None:
        """Write the pending lines. Raises OSError, BusyError."""
        if self.pending:
            with self._locked():
                self._write(row for row in self._read() if row[0] not in self.pending)

    def finish(self, names: list[str], known: Callable[[str], dict | None]) -> None:
        """Write the lines in the order of `names`, and drop those of other names. Raises OSError, BusyError.

        known: gives the line of a part that an earlier run finished and this one did not reach, or None.
        """
        with self._locked():
            lines = {row[0]: row for row in self.rows()}
            self.pending = {}
            for name in names:
                if text(name) not in lines and (row := known(name)) is not None:
                    self.add(row)
            lines |= self.pending
            self.pending = {}
            self._write(lines[text(name)] for name in names if text(name) in lines)

    def rows(self) -> Iterator[list[str]]:
        """The lines, pending ones included; each is a list of cells in the order of SUMMARY_COLUMNS."""
        yield from (row for row in self._read() if row[0] not in self.pending)
        yield from self.pending.values()

    def _locked(self) -> AbstractContextManager[None]:
        return locked(self.path.with_name(".summary.lock"), WRITING_PATIENCE)

    def _read(self) -> Iterator[list[str]]:
        """The lines of the file, in the order of SUMMARY_COLUMNS; a column that an earlier version lacks is empty.

        A line that cannot be read, or whose name is a path, is left out.
        """
        if not is_regular(self.path):
            return
        try:
            file = open(self.path, newline="", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        except FileNotFoundError:
            return
        with file:
            rows = _readable(csv.reader(file))
            header = next(rows, [])
            if "name" not in header:
                return
            places = [header.index(column) if column in header else None for column in SUMMARY_COLUMNS]
            for row in rows:
                if len(row) != len(header):
                    continue
                cells = ["" if place is None else row[place] for place in places]
                if not {"/", "\0"} & set(cells[0]):  # a name that is a path would lead out of the folder
                    yield cells

    def _write(self, before: Iterable[list[str]]) -> None:
        """Write the header, the lines `before`, and the pending lines."""
        with whole_file(self.path, text=True) as file:
            writer = csv.writer(file)
            writer.writerow(SUMMARY_COLUMNS)
            writer.writerows(before)
            writer.writerows(self.pending.values())
        self.pending = {}


def _readable(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """The lines that a csv reader can read; it refuses, for one, a cell of 131,073 characters."""
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error:
            continue
