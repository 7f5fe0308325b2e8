"""How the loops of the package are compiled, and where their machine code is kept between starts.

`cached_njit(...)` is Numba's `njit(...)` with a cache that never fails. Numba's own refuses to import a module where no
folder can be written, and raises for a file that is cut or damaged. Here a function without a whole file (`kept.py`)
is compiled, and code that no folder takes is used and forgotten, which is said once.

A file holds one function for one set of argument types, as Numba pickles it. It is made from the sources, the types,
the CPU and the version of Numba. The sources are all modules of one folder and `triangles.py`, because loops are
compiled into one another, with the constants that they import.
"""

import hashlib
import importlib
import inspect
import pickle
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.np import linalg

from neuralparts.errors import one_line
from neuralparts.kept import cache_folders, keep, read_kept
from neuralparts.wording import say

# Whether this process has said that no folder keeps its machine code.
_is_said = False


def cached_njit(**options: Any) -> Callable[[Callable], Callable]:
    """A decorator that compiles a function at its first call, and keeps the machine code. options: those of njit."""

    def decorate(function: Callable) -> Callable:
        dispatcher = numba.njit(**options)(function)
        dispatcher._cache = MachineCode(function)
        return dispatcher

    return decorate


class MachineCode(FunctionCache):
    """The cache of one function, as Numba's dispatcher asks for it. No file and no folder makes it raise."""

    def __init__(self, function: Callable):
        self._py_func, self._name = function, repr(function)
        self._source = inspect.getfile(function)
        self._cache_path = str(cache_folders(self._source)[0])
        self.enable()

    def load_overload(self, signature: tuple, target_context: Any) -> CompileResult | None:
        """The machine code for these argument types, or None if no folder has it whole."""
        _import_array_functions()
        target_context.refresh()
        name, origin = self._name_and_origin(signature, target_context.codegen())
        code = read_kept(self._source, name, origin)
        return None if code is None else self._rebuilt(target_context, code)

    def save_overload(self, signature: tuple, data: CompileResult) -> None:
        """Keep machine code in the first folder that takes it; if none does, say it."""
        name, origin = self._name_and_origin(signature, data.codegen)
        try:
            keep(self._source, name, origin, self._reduced(data))
        except OSError as error:
            _say_nothing_is_kept(one_line(error))

    def flush(self) -> None:
        """Do nothing: a file that does not fit is never used."""

    def _reduced(self, compiled: CompileResult) -> bytes:
        """Machine code as a file holds it."""
        return dumps(compiled._reduce())

    def _rebuilt(self, target_context: Any, code: bytes) -> CompileResult:
        """The opposite of `_reduced`."""
        return CompileResult._rebuild(target_context, *pickle.loads(code))

    def _name_and_origin(self, signature: tuple, codegen: Any) -> tuple[str, bytes]:
        """The name of a file, and what its code is made from."""
        function = self._py_func
        types = repr((signature, codegen.magic_tuple()))
        origin = repr((self._index_key(signature, codegen), numba.__version__, _source_stamp(self._source)))
        place = f"{Path(self._source).stem}.{function.__qualname__}-{function.__code__.co_firstlineno}"
        python = f"py{sys.version_info[0]}{sys.version_info[1]}"
        return f"{place}.{python}.{hashlib.sha256(types.encode()).hexdigest()[:16]}.nbc", origin.encode()


@cache
def _import_array_functions() -> None:
    """Import Numba's array functions, as loading code would, but without scipy.linalg: that takes 0.2 s (docs/log.md).

    Numba asks then whether scipy has a BLAS. It has: scipy is required. Who calls a product still gets it from there.
    """
    ask, linalg.ensure_blas = linalg.ensure_blas, lambda: None
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = ask


@cache
def _source_stamp(source: str) -> str:
    """A hash of all modules in the folder of a source, and of the arithmetic on triangles beside this module."""
    stamp = hashlib.sha256()
    for path in (*sorted(Path(source).parent.glob("*.py")), Path(__file__).with_name("triangles.py")):
        stamp.update(path.read_bytes())
    return stamp.hexdigest()


def _say_nothing_is_kept(reason: str) -> None:
    """Say once in a process that compiling takes time at every start."""
    global _is_said
    if not _is_said:
        _is_said = True
        say(
            f"compiled loops cannot be kept ({reason}): every start compiles them anew; set NUMBA_CACHE_DIR to a "
            "folder that can be written"
        )
