"""Eight float64 numbers as one value in compiled functions: what the hottest kernels are made of.

A loop over arrays leaves it to the compiler whether sums under way stay in registers. A kernel that
is written with these holds them there. They are LLVM vectors, which every processor has in its own
width: the bits are the same, whatever that width is, because no step mixes two lanes.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANES = 8
"""Numbers in a vector."""

_VALUES = ir.VectorType(ir.DoubleType(), LANES)
_INT32 = ir.IntType(32)


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Vector")


_VECTOR = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, type_: Any) -> None:
        super().__init__(manager, type_, _VALUES)


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """``array[index : index + 8]`` of float64, float32 or uint8 (only in compiled functions).

    Neither this nor `store` looks whether the array is so long.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _load(context, builder, signature.args[0], *args)

    return _VECTOR(array, types.intp), codegen


def _load(context: Any, builder: Any, array: Any, value: Any, index: Any) -> Any:
    return _widen(builder, array, _load_as_is(context, builder, array, value, index))


def _load_as_is(context: Any, builder: Any, array: Any, value: Any, index: Any) -> Any:
    held = ir.VectorType(context.get_data_type(array.dtype), LANES)
    values = builder.load(_address(context, builder, array, value, index, held))
    values.align = array.dtype.bitwidth // 8
    return values


def _widen(builder: Any, array: Any, values: Any) -> Any:
    if array.dtype == types.float64:
        return values
    if array.dtype == types.float32:
        return builder.fpext(values, _VALUES)
    # By way of signed integers, which processors convert in one step.
    wide = builder.zext(values, ir.VectorType(_INT32, LANES))
    return builder.sitofp(wide, _VALUES)


def _address(context: Any, builder: Any, array: Any, value: Any, index: Any, held: Any) -> Any:
    data = context.make_array(array)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [index]), held.as_pointer())


@intrinsic
def store(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """``array[index : index + 8] = vector``, of float64 or float32 (only in compiled functions)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _store(context, builder, signature.args[0], *args)
        return context.get_dummy_value()

    return types.none(array, types.intp, _VECTOR), codegen


def _store(context: Any, builder: Any, array: Any, value: Any, index: Any, vector: Any) -> None:
    held = ir.VectorType(context.get_data_type(array.dtype), LANES)
    if array.dtype == types.float32:
        vector = builder.fptrunc(vector, held)
    written = builder.store(vector, _address(context, builder, array, value, index, held))
    written.align = array.dtype.bitwidth // 8


@intrinsic
def splat(typingctx: Any, value: Any) -> Any:
    """The same number in all lanes (only in compiled functions)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        none = ir.Constant(_VALUES, ir.Undefined)
        first = builder.insert_element(none, args[0], _INT32(0))
        return builder.shuffle_vector(
            first, none, ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES)
        )

    return _VECTOR(types.float64), codegen


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` in every lane, rounded once (only in compiled functions)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VALUES, [_VALUES] * 3)
        name = f"llvm.fma.v{LANES}f64"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return _VECTOR(_VECTOR, _VECTOR, _VECTOR), codegen


@intrinsic
def fms(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b - c`` in every lane, rounded once (only in compiled functions)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VALUES, [_VALUES] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f64")
        return builder.call(function, [*args[:2], builder.fneg(args[2])])

    return _VECTOR(_VECTOR, _VECTOR, _VECTOR), codegen


@intrinsic
def root(typingctx: Any, x: Any) -> Any:
    """The square root of every lane, rounded once (only in compiled functions)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VALUES, [_VALUES])
        name = f"llvm.sqrt.v{LANES}f64"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return _VECTOR(_VECTOR), codegen


@intrinsic
def if_greater(typingctx: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """Lane by lane `x` where ``a > b``, else `y`, as where either is NaN.

    Both are worked out; there is no jump (only in compiled functions).
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args[:2]), *args[2:])

    return _VECTOR(_VECTOR, _VECTOR, _VECTOR, _VECTOR), codegen


def _across(builder: Any, rows: list[Any]) -> list[Any]:
    """Eight vectors turned into eight others: the squares of side 1, 2 and 4 change sides."""
    span = 1
    while span < LANES:
        first = [j if not j & span else LANES + j - span for j in range(LANES)]
        second = [j + span if not j & span else LANES + j for j in range(LANES)]
        for i in range(LANES):
            if not i & span:
                pair = rows[i], rows[i + span]
                for k, lanes in ((i, first), (i + span, second)):
                    mask = ir.Constant(ir.VectorType(_INT32, LANES), lanes)
                    rows[k] = builder.shuffle_vector(*pair, mask)
        span *= 2
    return rows


def _define(symbol: Any, instruction: str) -> None:
    """An operator of Python between two vectors: that instruction, lane by lane."""

    @intrinsic
    def apply(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args)

        return _VECTOR(_VECTOR, _VECTOR), codegen

    @overload(symbol, strict=False)
    def typed(a: Any, b: Any) -> Any:
        if a is _VECTOR and b is _VECTOR:
            return lambda a, b: apply(a, b)
        return None


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
_define(operator.truediv, "fdiv")


@intrinsic
def transpose(
    typingctx: Any, source: Any, at: Any, pitch: Any, target: Any, to: Any, step: Any
) -> Any:
    """``target[to + i * step + j] = source[at + j * pitch + i]`` for i, j = 0 .. 7.

    Arrays are as for `load` and `store` (only in compiled functions).
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from_array, to_array = signature.args[0], signature.args[3]
        source, at, pitch, target, to, step = args

        def line(start: Any, pitch: Any, i: int) -> Any:
            return builder.add(start, builder.mul(pitch, pitch.type(i)))

        starts = [line(at, pitch, i) for i in range(LANES)]
        rows = [_load_as_is(context, builder, from_array, source, start) for start in starts]
        for i, row in enumerate(_across(builder, rows)):
            wide = _widen(builder, from_array, row)
            _store(context, builder, to_array, target, line(to, step, i), wide)
        return context.get_dummy_value()

    number = types.intp
    return types.none(source, number, number, target, number, number), codegen
