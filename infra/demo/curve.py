"""The curve of the live view, drawn with Plotext."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import plotext
from rich.text import Text

from onibus.infra.demo.snapshot import Snapshot
from onibus.infra.demo.ticks import round_ticks, tick_name

CURVE_POINTS = 2_000
"""Snapshots kept for the curve; one a second, so more than half an hour."""

_COLUMNS_PER_TICK, _LINES_PER_TICK = 14, 3
_AXIS_LINES = 2


def curve(history: Sequence[Snapshot], width: int, height: int) -> Text:
    """The mean return by environment steps in so many columns and lines, with ticks at round numbers."""
    points = [(s.env_steps, s.episode_return) for s in history if not math.isnan(s.episode_return)]
    if len(points) < 2:
        return Text("the first episodes are under way …", style="dim")
    every = 1 + len(points) // (2 * width)  # a character is two points wide
    return _drawn((*points[:-1:every], points[-1]), width, height)


@lru_cache(maxsize=1)
def _drawn(points: Sequence[tuple[float, float]], width: int, height: int) -> Text:
    """It takes longer than all of the rest, and is the same until the next snapshot."""
    steps, returns = [x for x, _ in points], [y for _, y in points]
    across = round_ticks(0, max(steps), max(2, width // _COLUMNS_PER_TICK))
    across = [tick for tick in across if tick <= max(steps)]
    up = round_ticks(min(returns), max(returns), max(2, (height - _AXIS_LINES) // _LINES_PER_TICK + 1))
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.limit_size(False, False)  # the width is ours to know, also where there is no terminal
    plotext.plotsize(width, height)
    plotext.plot(steps, returns, marker="braille")
    plotext.xlim(0, max(steps))
    plotext.ylim(up[0], up[-1])
    plotext.xticks(across, [tick_name(tick) for tick in across])
    plotext.yticks(up, [tick_name(tick) for tick in up])
    return Text.from_ansi(plotext.build(), style="green", no_wrap=True, overflow="crop")
