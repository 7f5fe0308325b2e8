"""The commands, one module a verb, and how every command ends.

The root scripts (`python trainer.py ...`) and the installed program (`neuralparts fit ...`) call the same modules. A
module has `main(arguments, program)`, which returns the exit code; `program` is the name that its messages begin with.
"""

import atexit
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from neuralparts.commands.streams import secure_streams
from neuralparts.errors import UserError, lacks_memory, one_line
from neuralparts.wording import say

# Verb, which is also its module: what it does.
VERBS = {
    "fit": "fit a network to a mesh, or to a folder of meshes",
    "sample": "write labelled points of a mesh",
    "march": "write a model's zero level as a mesh",
    "measure": "print the errors of a model against a mesh",
    "info": "print what a model file holds, or its values at points",
    "compare": "print the figures of several fits side by side",
    "export": "write a model in a form that another tool takes",
    "verify": "compare the files of an output folder with their records",
    "pack": "put the models of an output folder into tar shards",
}


def main(arguments: list[str] | None = None, program: str = "neuralparts") -> int:
    """`neuralparts VERB ...`: runs the verb's command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verb = arguments[0] if arguments else ""
    if verb in VERBS:
        module = importlib.import_module(f"neuralparts.commands.{verb}")
        return module.main(arguments[1:], f"{program} {verb}")
    asked = verb in ("-h", "--help")
    lines = [f"usage: {program} VERB ...", "", "verbs:"]
    lines += [f"  {name:8} {what}" for name, what in VERBS.items()]
    lines += ["", f"{program} VERB --help lists the flags of a verb."]
    print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


def run(main: Callable[[], int] = main) -> None:
    """Call a command's main function and end the process with its exit code; 130 for Ctrl-C, as in a shell.

    Ctrl-C, a missing package and a lack of memory end in one line; any other exception is a fault of the program and
    shows its traceback.
    """
    # Functions of atexit run in reverse order: this one, registered before any library is imported, runs after theirs.
    code = None
    atexit.register(lambda: leave(code))
    secure_streams()
    name = Path(sys.argv[0]).name
    try:
        code = main()
    except KeyboardInterrupt:
        say(f"\n{name}: stopped")
        code = 130
    except ModuleNotFoundError as error:
        if str(error.name).startswith("neuralparts"):
            raise
        say(f"{name}: {sys.executable} lacks the package {error.name}; use .venv/bin/python, which `make setup` makes")
        code = 1
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        say(f"{name}: {one_line(error)}")
        code = 1
    sys.exit(code)


def leave(code: int | None) -> None:
    """End the process: Python would take apart the objects of all libraries first, for some tenths of a second.

    The threads that Python waits for have ended, and the functions of atexit that libraries registered have run. code:
    None if an exception ends the process, which Python then does as usual.
    """
    if code is None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def complain(program: str, error: BaseException | str, file: object = "") -> int:
    """Print one line that says what is wrong; returns exit code 1.

    file: named where memory ran out, because an error of that kind names none. A RuntimeError that is no lack of memory
    is a fault of the program, and is raised again.
    """
    if isinstance(error, str):
        line = error
    elif file and lacks_memory(error) and not isinstance(error, UserError):
        line = f"{file}: {one_line(error)}"
    elif isinstance(error, RuntimeError):
        raise error
    else:
        line = one_line(error)
    say(f"{program}: {line}")
    return 1


def check_output(path: Path, flag: str, asked_for: bool) -> None:
    """Raise UserError, before the work, for a file that cannot be written after it, or would be replaced unasked.

    flag: the one that names the file. asked_for: the user gave it.
    """
    if path.exists() and not asked_for:
        raise UserError(f"{path}: exists already; --{flag} {path} replaces it")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first")


def show(page: Path) -> None:
    """Open a page in the browser, or say that there is no display; the caller has named the page."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        say("no display here to open it")
        return
    import webbrowser

    webbrowser.open(page.resolve().as_uri())
