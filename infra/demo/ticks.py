"""Round numbers for the axes of a chart in the terminal."""

from __future__ import annotations

import math

_STEPS = (1, 2, 5, 10)


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, ``most`` of them at most (3 at least), around a range.

    The first is at or below ``low``, the last at or above ``high``.
    """
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / max(1, most)))
    for step in (s * power * ten for ten in (1, 10, 100) for s in _STEPS):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first + 1 <= max(3, most):
            break
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def tick_name(value: float) -> str:
    """A tick as it is written: ``0.5``, ``250 k``, ``1.2 M``."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if abs(value) >= 1e3 else f"{round(value, 9):g}"
