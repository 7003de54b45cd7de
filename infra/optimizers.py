"""PyTorch's Adam without PyTorch's compiler."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer

COMPILER = "torch._dynamo"
"""The module that an optimiser imports when it is made: a second of processor time and 140 MB of memory."""

_KEPT_FROM_IT = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def keep_compiler_out() -> None:
    """Optimisers made from here on do not import the compiler; they compute the same.

    PyTorch 2 imports it for the sole purpose of keeping it from an optimiser's methods, where it has nothing
    to do unless a function that calls them is compiled. Here none is. Where PyTorch has changed, nothing is
    saved.
    """
    from torch.optim import Adam, Optimizer

    if COMPILER in sys.modules:
        return
    for name in _KEPT_FROM_IT:
        plain = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if plain is not None:
            plain.__dynamo_disable = plain  # where PyTorch keeps what the compiler made of it
    step = getattr(Adam.step, "__wrapped__", None)
    if step is not None and not hasattr(Adam.step, _MARK):
        Adam.step = _step_of(step)  # type: ignore[method-assign]


_MARK = "onibus_keeps_compiler_out"


def _step_of(step: Callable[..., Any]) -> Callable[..., Any]:
    """PyTorch's own wrapper of ``step``, but without breaks of a graph for the compiler."""
    import torch

    @functools.wraps(step)
    def without_compiler(optimizer: Optimizer, closure: Callable[[], float] | None = None) -> Any:
        with torch.set_grad_enabled(optimizer.defaults["differentiable"]):
            return step(optimizer, closure)

    setattr(without_compiler, _MARK, True)
    return without_compiler
