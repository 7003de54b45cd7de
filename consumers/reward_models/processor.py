"""Which processor computes here: the bits of a trained model depend on it, as on the torch version."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch

_CPUINFO = Path("/proc/cpuinfo")


@cache
def processor() -> str:
    """Its name, and the instructions that torch uses of it."""
    return f"{_name()} ({torch.backends.cpu.get_cpu_capability()})"


def _name() -> str:
    try:
        lines = _CPUINFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
