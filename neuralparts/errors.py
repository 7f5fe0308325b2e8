"""Errors whose message is written for the user: one line that says what is wrong with which file and what to do.

Every other exception is a fault of the program. It keeps its traceback.
"""

from neuralparts.wording import visible


class UserError(ValueError):
    """Something the user can mend: an input, a flag for it, an output folder. The message is one line."""


def missing_package(purpose: str, package: str, extra: str) -> UserError:
    """The error for an optional package that is not installed. purpose: what needs it; extra: of pyproject.toml."""
    install = f"pip install -r requirements-{extra}.txt, or the extra neuralparts[{extra}]"
    return UserError(f"{purpose} needs the package {package}: {install}")


class CheckpointError(UserError):
    """A checkpoint that belongs to another fit or cannot be read; the message names the difference."""


class Interrupted(RuntimeError):
    """`should_stop` asked to stop. A fit's checkpoint, if one is written, holds the fit as it stands."""


def one_line(error: BaseException) -> str:
    """An error as one line for the user, control characters escaped.

    A UserError is its message, a lack of memory says so, an OSError is `file: reason of the system`, any other error is
    its message's first line.
    """
    text = str(error).strip() or type(error).__name__
    if isinstance(error, UserError):
        return visible(text)
    if lacks_memory(error):
        return visible(": ".join(["out of memory", *str(error).strip().splitlines()[:1]]))
    if isinstance(error, OSError) and error.filename and error.strerror:
        return visible(f"{error.filename}: {error.strerror}")
    return visible(text.splitlines()[0])


def with_place(error: BaseException) -> str:
    """An unexpected exception as one line, with the file and line that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if trace is None:
        return text
    return f"{text} ({trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno})"


def lacks_memory(error: BaseException) -> bool:
    """True if memory ran out, the machine's or the GPU's; torch and the loader of libraries say so in words."""
    words = ("out of memory", "can't allocate memory", "Cannot allocate memory", "ALLOC_FAILED")
    words += ("failed to map segment", "can't start new thread")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def lost_device(error: Exception) -> bool:
    """True for an error of a GPU after which every later call of its driver in this process fails too."""
    return type(error).__name__ == "AcceleratorError" and not lacks_memory(error)
