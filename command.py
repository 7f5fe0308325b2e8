"""How the commands of this program end: with an exit code, and a line in place of a traceback where somebody stopped
them or memory ran out."""

import sys
from collections.abc import Callable
from pathlib import Path


def run(main: Callable[[], int]) -> None:
    """Call a command's main function and end the process with its exit code; 130 for Ctrl-C, as a shell has it."""
    sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no UTF-8
    name = Path(sys.argv[0]).name
    try:
        code = main()
    except KeyboardInterrupt:
        print(f"\n{name}: stopped", file=sys.stderr)
        code = 130
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        print(": ".join([name, "out of memory", *str(error).splitlines()[:1]]), file=sys.stderr)
        code = 1
    sys.exit(code)


def lacks_memory(error: Exception) -> bool:
    """Whether an exception says that memory, the machine's or the GPU's, ran out: torch says it with RuntimeError."""
    words = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)
