"""Arithmetic on many numbers at once, for intrinsics of compiled loops: formulas become LLVM's vector instructions.

Numba leaves loops over the lanes of a register scalar, or guards them with tests that cost more than the loop.
"""

from typing import Any

from llvmlite import ir
from numba import types

# Numbers in a vector: points that are searched for at once. LLVM cuts it to the registers that the CPU has. On three
# meshes 8 and 32 were as fast as 16, within a sixth either way.
LANES = 16

NUMBERS, INTEGERS = ir.VectorType(ir.DoubleType(), LANES), ir.VectorType(ir.IntType(32), LANES)


class Lanes:
    """A vector of LANES float64 numbers, or of as many truth values, for which instructions are generated.

    value: the LLVM vector. Each operation is one instruction and rounds as the same operation on single numbers does.
    """

    def __init__(self, builder: ir.IRBuilder, value: ir.Value):
        self._builder, self.value = builder, value

    def __add__(self, other: "Lanes") -> "Lanes":
        return Lanes(self._builder, self._builder.fadd(self.value, other.value))

    def __sub__(self, other: "Lanes") -> "Lanes":
        return Lanes(self._builder, self._builder.fsub(self.value, other.value))

    def __mul__(self, other: "Lanes") -> "Lanes":
        return Lanes(self._builder, self._builder.fmul(self.value, other.value))

    def __truediv__(self, other: "Lanes") -> "Lanes":
        return Lanes(self._builder, self._builder.fdiv(self.value, other.value))

    def __gt__(self, other: "Lanes") -> "Lanes":
        return Lanes(self._builder, self._builder.fcmp_ordered(">", self.value, other.value))

    def __lt__(self, other: "Lanes") -> "Lanes":
        return Lanes(self._builder, self._builder.fcmp_ordered("<", self.value, other.value))

    def __and__(self, other: "Lanes") -> "Lanes":
        return Lanes(self._builder, self._builder.and_(self.value, other.value))

    def __or__(self, other: "Lanes") -> "Lanes":
        return Lanes(self._builder, self._builder.or_(self.value, other.value))

    def __invert__(self) -> "Lanes":
        return Lanes(self._builder, self._builder.not_(self.value))

    def choose(self, if_true: "Lanes", if_false: "Lanes") -> "Lanes":
        """For truth values: the numbers of if_true in the lanes where they are true, those of if_false elsewhere."""
        return Lanes(self._builder, self._builder.select(self.value, if_true.value, if_false.value))

    def count(self) -> ir.Value:
        """For truth values: in how many lanes they are true, a 16-bit integer."""
        return self._builder.ctpop(self._builder.bitcast(self.value, ir.IntType(LANES)))

    def any(self) -> ir.Value:
        """For truth values: whether one of them is true, one bit."""
        bits = self._builder.bitcast(self.value, ir.IntType(LANES))
        return self._builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))


def larger(a: Lanes, b: Lanes) -> Lanes:
    """The larger number of each lane."""
    return (a > b).choose(a, b)


def smaller(a: Lanes, b: Lanes) -> Lanes:
    """The smaller number of each lane."""
    return (a < b).choose(a, b)


def in_all_lanes(builder: ir.IRBuilder, number: ir.Value) -> Lanes:
    """The same number in every lane."""
    undefined = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
    single = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return Lanes(builder, builder.shuffle_vector(single, undefined, ir.Constant(INTEGERS, [0] * LANES)))


class Row:
    """A row of a contiguous array, while instructions are generated.

    kind, array: type and value of an array whose rows have so many columns. number: that of the row, a 64-bit integer;
    None for the first one.
    """

    def __init__(
        self,
        context: Any,
        builder: ir.IRBuilder,
        kind: types.Array,
        array: ir.Value,
        columns: int = 1,
        number: ir.Value | None = None,
    ):
        self._builder = builder
        self._start = context.make_array(kind)(context, builder, array).data
        if number is not None:
            self._start = builder.gep(self._start, [builder.mul(number, ir.Constant(number.type, columns))])

    def _at(self, column: int) -> ir.Value:
        return self._builder.gep(self._start, [ir.Constant(ir.IntType(64), column)])

    def number(self, column: int) -> Lanes:
        """The number of a column, in every lane."""
        return in_all_lanes(self._builder, self._builder.load(self._at(column)))

    def lanes(self, column: int = 0, kind: ir.Type = NUMBERS) -> Lanes:
        """The LANES numbers from a column on."""
        place = self._builder.bitcast(self._at(column), kind.as_pointer())
        return Lanes(self._builder, self._builder.load(place, align=4))

    def store(self, lanes: Lanes, column: int = 0) -> None:
        """Write LANES numbers from a column on."""
        place = self._builder.bitcast(self._at(column), lanes.value.type.as_pointer())
        self._builder.store(lanes.value, place, align=4)
