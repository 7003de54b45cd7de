"""The terminal view of a running demo (Rich, with Plotext's curve)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotext
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from onibus.infra.demo.snapshot import UNKNOWN, Snapshot
from onibus.infra.demo.watch import Watch
from onibus.infra.money import dollars

HEADLINE_LINES, FIGURE_LINES = 3, 10

WIDE = 112
"""Columns from which on the components have a panel of their own; below, the first one's frame has them."""

CURVE_POINTS = 2_000
"""Snapshots kept for the curve; one a second, so more than half an hour."""


@dataclass(frozen=True, slots=True)
class Heading:
    """What the demo is about: fixed while it runs."""

    task: str
    reward: str
    judge: str
    watch: Watch


def render(
    heading: Heading, history: Sequence[Snapshot], states: Sequence[tuple[str, str]], size: tuple[int, int]
) -> Layout:
    """The whole view.

    Args:
        heading: what runs.
        history: snapshots so far, oldest first; may be empty.
        states: name and state of each component.
        size: columns and lines of the terminal.
    """
    now = history[-1] if history else UNKNOWN
    is_wide = size[0] >= WIDE
    layout = Layout()
    layout.split_column(
        Layout(_headline(heading, now, () if is_wide else states), size=HEADLINE_LINES),
        Layout(name="figures", size=FIGURE_LINES),
        Layout(
            Panel(
                _curve(history, size[0], size[1] - HEADLINE_LINES - FIGURE_LINES - 3),
                title="mean return of the last 100 episodes",
                border_style="green",
            )
        ),
    )
    panels = [
        Layout(Panel(_learning(now), title="learning", border_style="green")),
        Layout(Panel(_bus(now), title="bus", border_style="cyan")),
    ]
    if is_wide:
        panels.append(Layout(Panel(_components(states), title="components", border_style="magenta")))
    layout["figures"].split_row(*panels)
    return layout


def one_line(now: Snapshot) -> str:
    """The same in one line, for output that is no terminal."""
    return (
        f"{now.seconds:5.0f} s  {_n(now.env_steps)} steps  {_n(now.steps_per_second)}/s  "
        f"return {_f(now.episode_return)}  intrinsic {_f(now.intrinsic_return)}  "
        f"captions {_n(now.captions_published)}  labels {_n(now.labels_written)}  lag {_n(now.consumer_lag)}"
        + (f"  unreadable {_percent(now.unreadable_share)}" if now.unreadable_share > 0 else "")
        + ("" if math.isnan(now.cost_usd) else f"  cost {dollars(now.cost_usd)}")
    )


def _headline(heading: Heading, now: Snapshot, states: Sequence[tuple[str, str]]) -> RenderableType:
    """What runs, for how long, and how far it is; ``states`` go into the frame."""
    elapsed = now.seconds
    expected = heading.watch.expected
    bar = ProgressBar(total=expected, completed=min(elapsed, expected))
    grid = Table.grid(expand=True, padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(
        Text.assemble(
            ("onibus ", "bold"),
            heading.task,
            (" · reward ", "dim"),
            heading.reward,
            (" · judged by ", "dim"),
            heading.judge,
        ),
        bar,
        f"{_clock(elapsed)} / {heading.watch.until}",
    )
    title = Text("  ").join(_state(name, state) for name, state in states) if states else None
    return Panel(
        grid,
        title=title,
        title_align="left",
        border_style="dim",
        subtitle="Ctrl-C stops cleanly",
        subtitle_align="right",
    )


def _learning(now: Snapshot) -> Table:
    if math.isnan(now.model_version):
        known = [("captions with a label", _percent(now.label_coverage))]
        known += [("labels the learner has", _n(now.labels_known))]
    else:
        accuracy, age = _percent(now.model_accuracy), _age(now.model_age_seconds)
        known = [("captions with a score", _percent(now.label_coverage))]
        known += [("model version, its age", f"{_n(now.model_version)}, {age}")]
        known += [("held-out accuracy", accuracy)]
        if not (math.isnan(now.model_precision) and math.isnan(now.model_recall)):
            told = f"{_percent(now.model_precision)}, {_percent(now.model_recall)}"
            known += [("its precision, recall", told)]
    rows = [
        ("environment steps", _n(now.env_steps)),
        ("steps per second", _n(now.steps_per_second)),
        ("mean return", _f(now.episode_return, bold=True)),
        ("mean intrinsic return", _f(now.intrinsic_return)),
        *known,
        ("first reward after, p50", within(now.reward_latency_p50)),
    ]
    return _figures(rows)


def _bus(now: Snapshot) -> Table:
    rows = [
        ("captions published", _n(now.captions_published)),
        ("new captions", _n(now.captions_new)),
        ("captions dropped", _n(now.captions_dropped)),
        ("labels written", _n(now.labels_written) + _cost(now)),
        ("already labelled", _n(now.captions_known)),
        ("unreadable answers", _percent(now.unreadable_share)),
        ("consumer lag", _n(now.consumer_lag)),
        ("label latency p50 / p95", within(now.latency_p50, now.latency_p95)),
    ]
    return _figures(rows)


def _figures(rows: Sequence[tuple[str, str]]) -> Table:
    """Names and numbers; where there is little room, names are cut and numbers are not."""
    values = [Text.from_markup(value) for _, value in rows]
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(style="dim", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(justify="right", no_wrap=True, min_width=max(map(len, values)))
    for (name, _), value in zip(rows, values, strict=True):
        table.add_row(name, value)
    return table


def _components(states: Sequence[tuple[str, str]]) -> Group:
    return Group(*(Text.assemble(_state(name, state), (f" {state}", "dim")) for name, state in states))


def _state(name: str, state: str) -> Text:
    colours = {"ready": "green", "starting": "yellow", "running": "green"}
    return Text.assemble(("● ", colours.get(state, "red")), name)


def _curve(history: Sequence[Snapshot], width: int, height: int) -> RenderableType:
    points = [(s.env_steps, s.episode_return) for s in history if not math.isnan(s.episode_return)]
    if len(points) < 2:
        return Text("the first episodes are under way …", style="dim")
    steps, returns = [x / 1000 for x, _ in points], [y for _, y in points]
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.limit_size(False, False)  # the width is ours to know, also where there is no terminal
    plotext.plotsize(max(40, width - 6), max(8, height))
    plotext.plot(steps, returns, marker="braille")
    plotext.ylim(min(-1.0, *returns), max(1.0, *returns))
    plotext.xlabel("thousand environment steps")
    return Text.from_ansi(plotext.build(), style="green")


def _n(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.0f}"


def _f(value: float, bold: bool = False) -> str:
    if math.isnan(value):
        return "–"
    return f"[bold]{value:.3f}[/bold]" if bold else f"{value:.3f}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.0%}"


def _cost(now: Snapshot) -> str:
    return "" if math.isnan(now.cost_usd) else f" for {dollars(now.cost_usd)}"


def within(*seconds: float) -> str:
    """Quantiles of a histogram: the ends of the intervals that they lie in, hence "at most"."""
    if any(map(math.isnan, seconds)):
        return "–"
    if any(map(math.isinf, seconds)):
        return "> 300 s"
    return f"≤ {' / '.join(f'{value:g}' for value in seconds)} s"


def _age(seconds: float) -> str:
    return "–" if math.isnan(seconds) else f"{seconds:.0f} s"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
