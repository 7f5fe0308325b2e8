"""The progress of a folder run, on a terminal and in a log file; the limiter of how often it is written."""

import io
import time

from neuralparts.fleet.progress import Progress
from neuralparts.fleet.rate_limit import RateLimiter


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run_of_fifty(monkeypatch, stream):
    """40 parts end, one per second, the first 10 of them skipped; then one fails."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    progress = Progress(50, stream)
    for k in range(40):
        clock[0] += 1.0 if k >= 10 else 0.0
        progress.count("done", skipped=k < 10)
        progress.show(2, 1)
    progress.say("trainer.py: a reason")
    progress.count("failed", skipped=False)
    progress.show(2, 0, force=True)
    progress.close()


def test_progress_in_a_log_file_is_a_line_now_and_then(monkeypatch):
    log = io.StringIO()
    run_of_fifty(monkeypatch, log)
    lines = log.getvalue().splitlines()
    assert len(lines) == 4 and "\r" not in log.getvalue() and lines[-2] == "trainer.py: a reason"
    assert "39 of 50 done (10 before), 11 left, 2 running, 1 waiting, 00:11 to go" in lines[1]
    # 30 s for the 31 parts that this run fitted: the skipped ones do not make it look faster.
    assert lines[-1].endswith("40 of 50 done (10 before), 1 failed, 9 left, 2 running, 00:08 to go")


def test_progress_on_a_terminal_is_a_bar_in_place(monkeypatch):
    terminal = Terminal()
    run_of_fifty(monkeypatch, terminal)
    shown = terminal.getvalue()
    assert shown.count("\n") == 2 and shown.count("\r") > 20 and "trainer.py: a reason\n" in shown
    assert "9 left" in shown.splitlines()[-1]


def test_an_action_takes_at_most_its_fraction_of_the_time(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    limiter = RateLimiter(0.1, 2.0, first=5.0)
    assert not limiter.is_due()
    clock[0] = 5.0
    assert limiter.is_due()
    with limiter:
        clock[0] += 0.1  # the next in 2 s: the least distance
    clock[0] += 1.9
    assert not limiter.is_due()
    clock[0] += 0.2
    assert limiter.is_due()
    with limiter:
        clock[0] += 1.0  # the next in 10 s: a tenth of the time
    clock[0] += 9.9
    assert not limiter.is_due()
    clock[0] += 0.2
    assert limiter.is_due()
