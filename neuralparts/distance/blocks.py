"""Work on many points in blocks, in threads. The kernels release the interpreter lock, so the threads run at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from neuralparts.machine import thread_count

# Points that a thread takes at a time: enough to sort into runs of neighbours, and a few MiB of temporary arrays.
BLOCK = 65536


def in_blocks(work: Callable[[slice], None], count: int, block: int = BLOCK, threads: int | None = None) -> None:
    """Call work(slice) for each block of range(count).

    block: length of a slice. threads: calls at a time; by default the processors that this process may use.
    """
    slices = [slice(start, min(start + block, count)) for start in range(0, count, block)]
    if threads is None:  # asking for the processors reads files
        threads = thread_count() if len(slices) > 1 else 1
    if len(slices) < 2 or threads < 2:
        for part in slices:
            work(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, slices):  # the loop raises an error of a thread again
            pass
