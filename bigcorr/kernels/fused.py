"""`fma`: the fused multiply-add that the other kernels build their sums from.

One rounding instead of two, by the processor's own instruction, and the same bits on every
processor: unlike a licence to the compiler to contract ``a * b + c`` where it pleases, a fused
step that is written down is taken in the vectorised body of a loop and in its remainder alike.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` in float64, rounded once (only inside compiled functions)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        double = ir.DoubleType()
        signature_of_fma = ir.FunctionType(double, [double] * 3)
        function = builder.module.declare_intrinsic("llvm.fma", [double], signature_of_fma)
        return builder.call(function, args)

    return types.float64(types.float64, types.float64, types.float64), codegen
