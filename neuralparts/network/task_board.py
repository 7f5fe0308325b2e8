"""Tasks of one computation that several threads take in turn, inside compiled loops and without waking anybody.

One thread owns the board: it opens the tasks of a phase, takes tasks as all others do, and waits until the last is
done. Helpers take open tasks as long as there are any. A helper that the system has put aside holds up nobody, unless
it is in the middle of a task. Waiting threads let other programs run.

A board is an int64 array. Tasks are numbered from 0 through all phases; a number is given out once.
"""

import ctypes
import os
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from neuralparts.network.hash_grid_kernels import inlined

# Places on a board, in cache lines of their own: the next task to take, the first that is not open yet, the number of
# tasks done, the first task of the phase, the phase, and 1 if helpers are to leave.
NEXT, OPEN, DONE, FIRST, PHASE, LEAVE = 0, 8, 16, 24, 32, 40
BOARD_SIZE = 48
# Looks at the board before a waiting thread lets others run: some 20 us. With other programs about, the thread then
# waits for milliseconds.
LOOKS = 10_000


def new_board() -> np.ndarray:
    """A board without tasks."""
    return np.zeros(BOARD_SIZE, np.int64)


def yield_address() -> int:
    """The address of the system's function that lets other threads run; it takes no argument."""
    library = ctypes.WinDLL("kernel32") if os.name == "nt" else ctypes.CDLL(None)
    function = library.SwitchToThread if os.name == "nt" else library.sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value


def board_place(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
    """A pointer to the number args[1] of the board args[0]."""
    return builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])


@intrinsic
def seen(typing_context, board, place):
    """board[place] as the last thread wrote it, and all that it wrote before."""

    def generate(context, builder, signature, args):
        return builder.load_atomic(board_place(context, builder, signature, args), "seq_cst", 8)

    return types.int64(board, place), generate


@intrinsic
def post(typing_context, board, place, value):
    """board[place] = value, for all threads to see after all that this one wrote before."""

    def generate(context, builder, signature, args):
        builder.store_atomic(args[2], board_place(context, builder, signature, args), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(board, place, types.int64), generate


@intrinsic
def count_up(typing_context, board, place):
    """Add 1 to board[place]."""

    def generate(context, builder, signature, args):
        one = ir.Constant(ir.IntType(64), 1)
        builder.atomic_rmw("add", board_place(context, builder, signature, args), one, "seq_cst")
        return context.get_dummy_value()

    return types.void(board, place), generate


@intrinsic
def replaced(typing_context, board, place, old, new):
    """True if board[place] was `old` and is `new` now."""

    def generate(context, builder, signature, args):
        place = board_place(context, builder, signature, args)
        result = builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(result, 1)

    return types.boolean(board, place, types.int64, types.int64), generate


@intrinsic
def call(typing_context, address):
    """Call the function without arguments at an address."""

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@inlined
def taken(board):
    """The number of a task that this thread has taken, counted in its phase; -1 if none is open."""
    while True:
        task = seen(board, NEXT)
        if task >= seen(board, OPEN):
            return -1
        if replaced(board, NEXT, task, task + 1):
            return task - seen(board, FIRST)


@inlined
def open_phase(board, phase, count):
    """Open `count` tasks. Only the owner does, after `wait_for_all`."""
    first = seen(board, OPEN)
    post(board, PHASE, phase)
    post(board, FIRST, first)
    post(board, OPEN, first + count)


@inlined
def wait_for_all(board, yield_at):
    """Wait until every open task is done."""
    looks = 0
    while seen(board, DONE) < seen(board, OPEN):
        looks += 1
        if looks >= LOOKS:
            call(yield_at)
