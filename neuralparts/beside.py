"""Work beside the caller's: a thread for it where a second processor is free to take it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from neuralparts.machine import thread_count

Result = TypeVar("Result")


def beside(work: Callable[[], Result]) -> Callable[[], Result]:
    """Start work() in a thread; returns a function that waits for its result, or raises what it raised.

    With one processor no thread is started, and the work is done when its result is asked for. The thread is a daemon:
    a process that ends does not wait for it.
    """
    if thread_count() == 1:
        return work
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # raised again where the result is asked for
            outcome.set_exception(error)

    threading.Thread(target=run, name="beside", daemon=True).start()
    return outcome.result


def wait_for(result: Callable[[], Result]) -> None:
    """Wait until the thread of a function that `beside` returned has ended, whatever came of it, if there is one."""
    if isinstance(outcome := getattr(result, "__self__", None), Future):
        wait([outcome])
