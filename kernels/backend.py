"""The choice between Triton and plain torch; Triton and OpenCV imported where a kernel runs."""

import functools
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


@functools.cache
def has_triton() -> bool:
    """Tell whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def on_gpu(tensor: Tensor) -> bool:
    """Tell whether an operation on ``tensor`` is one for Triton."""
    return tensor.is_cuda and has_triton()


@functools.cache
def opencv() -> ModuleType:
    """Import OpenCV on first use; it starts no threads, since workers have their own."""
    import cv2

    cv2.setNumThreads(0)
    return cv2


def dot_precision() -> str:
    """How kernels multiply float32 matrices: never in plain TF32.

    Three TF32 products a float32 product keep 22 bits of each factor: as far from the exact result
    as a float32 sum in another order, at tensor core speed. AMD's compiler offers float32 only.
    """
    return "ieee" if torch.version.hip is not None else "tf32x3"


class LazyKernel:
    """A Triton kernel that is compiled, and for which Triton is imported, when it is launched.

    Args:
        function: the kernel, as for ``triton.jit``; it reads ``triton.language`` as ``tl``, a name
            that this class sets in the function's module.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    @functools.cached_property
    def jitted(self) -> Any:
        """The ``triton.JITFunction``."""
        import triton
        import triton.language

        self.function.__globals__["tl"] = triton.language
        return triton.jit(self.function)

    def launch(self, grid: tuple[int, ...], *values: Any, **arguments: Any) -> None:
        """Run ``grid`` programs on the device of the first value, a tensor."""
        first: Tensor = values[0]
        place: AbstractContextManager[object] = (
            torch.cuda.device(first.device) if first.is_cuda else nullcontext()
        )
        with place:
            self.jitted[grid](*values, **arguments)
