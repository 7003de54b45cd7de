"""The terminal view of a running demo (Rich, with Plotext's curve)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from onibus.infra.demo.curve import curve
from onibus.infra.demo.game import LEAST_SHOWN, GameMoment, SaidOfCaption
from onibus.infra.demo.snapshot import UNKNOWN, Snapshot
from onibus.infra.demo.watch import Watch
from onibus.infra.money import dollars
from onibus.infra.process.terminal import printable
from onibus.infra.screen import map_window, screen_lines

WIDE = 112
"""Columns from which on panels stand side by side in frames of their own; below, they are stacked."""
HIGH = 30
"""Lines from which on every figure is shown; below, those that matter less are left out."""

_BAR_COLUMNS, _AROUND_COLUMNS = 10, 8
"""The least that shows how far a run is, for which words beside it are cut; frame and spaces of its line."""
HEADLINE_LINES = 3
_FIGURES_HIGH, _FIGURES_LOW = 8, 6
_MAP_LINES, _MAP_COLUMNS, _SMALL_MAP_COLUMNS = 21, 80, 26
_LEAST_CURVE_LINES = 7
_MARKS = {"helpful": "✓", "unhelpful": "✗", "unsure": "?"}


@dataclass(frozen=True, slots=True)
class Heading:
    """What the demo is about: fixed while it runs."""

    task: str
    reward: str
    judge: str
    watch: Watch
    inside: str = ""
    """The command that serves a site about it, shown where there is room."""


def render(
    heading: Heading,
    history: Sequence[Snapshot],
    states: Sequence[tuple[str, str]],
    size: tuple[int, int],
    game: GameMoment | None = None,
) -> Layout:
    """The whole view.

    Args:
        heading: what runs.
        history: snapshots so far, oldest first; may be empty.
        states: name and state of each component.
        size: columns and lines of the terminal.
        game: a game of the run; None where there is none to show yet.
    """
    now = history[-1] if history else UNKNOWN
    width, height = size
    is_wide = width >= WIDE
    figures = _FIGURES_HIGH if height >= HIGH else _FIGURES_LOW
    frame = 2 if is_wide else 1
    rest = height - HEADLINE_LINES - figures - frame
    story = min(_MAP_LINES + frame, rest * 3 // 5, rest - _LEAST_CURVE_LINES)
    layout = Layout()
    layout.split_column(
        Layout(_headline(heading, now, () if is_wide else states, width), size=HEADLINE_LINES),
        Layout(name="story", size=story),
        Layout(name="figures", size=figures + frame),
        Layout(
            _framed(
                curve(history, width - 2 * frame, rest - story - frame),
                "mean return of the last 100 episodes, by environment steps",
                is_wide,
                "green",
            )
        ),
    )
    _fill_story(layout["story"], game, is_wide, width, story - frame)
    _fill_figures(layout["figures"], now, states, is_wide, figures)
    return layout


def print_line(shown_on: Console, now: Snapshot) -> None:
    """The same in one line, however long, for output that is not a terminal."""
    shown_on.print(_one_line(now), soft_wrap=True)


def _one_line(now: Snapshot) -> str:
    return (
        f"{now.seconds:5.0f} s  {_n(now.env_steps)} steps  {_n(now.steps_per_second)}/s  "
        f"return {_f(now.episode_return)}  intrinsic {_f(now.intrinsic_return)}  "
        f"captions {_n(now.captions_published)}  labels {_n(now.labels_written)}  lag {_n(now.consumer_lag)}"
        + (f"  unreadable {_percent(now.unreadable_share)}" if now.unreadable_share > 0 else "")
        + ("" if math.isnan(now.cost_usd) else f"  cost {dollars(now.cost_usd)}")
    )


def _framed(content: RenderableType, title: str, is_wide: bool, colour: str) -> RenderableType:
    """In a frame, or below a line where there is little room."""
    if is_wide:
        return Panel(content, title=title, border_style=colour)
    return Group(Rule(Text(title, "dim"), align="left", style=colour), content)


def _headline(
    heading: Heading, now: Snapshot, states: Sequence[tuple[str, str]], width: int
) -> RenderableType:
    """What runs, for how long, and how far it is; ``states`` go into the frame."""
    elapsed = now.seconds
    expected = heading.watch.expected
    bar = ProgressBar(total=expected, completed=min(elapsed, expected))
    clock = f"{_clock(elapsed)} / {heading.watch.until}"
    room = width - len(clock) - _BAR_COLUMNS - _AROUND_COLUMNS
    grid = Table.grid(expand=True, padding=(0, 2))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=room)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True, min_width=len(clock))
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
        clock,
    )
    title = Text("  ").join(_state(name, state) for name, state in states) if states else None
    stop, inside = "Ctrl-C stops cleanly", f"{heading.inside} shows more"
    fits = heading.inside and len(stop) + len(inside) + 10 < width
    return Panel(
        grid,
        title=title,
        title_align="left",
        border_style="dim",
        subtitle=Text(f"{inside} · {stop}" if fits else stop),
        subtitle_align="right",
    )


def _fill_story(layout: Layout, game: GameMoment | None, is_wide: bool, width: int, lines: int) -> None:
    """A game and what was said of its captions: in two frames, or on one line in one."""
    if game is None:
        waiting = Text("a game is shown here once one has ended …", style="dim")
        layout.update(_framed(waiting, "captions, their verdicts and rewards", is_wide, "yellow"))
        return
    ticker = _ticker(game.captions[-lines:])
    if not is_wide:
        table = Table.grid(expand=True, padding=(0, 1))
        table.add_column(ratio=1)
        table.add_column(width=_SMALL_MAP_COLUMNS, no_wrap=True)
        table.add_row(ticker, _map(game, lines, _SMALL_MAP_COLUMNS))
        layout.update(_framed(table, game.title, is_wide, "yellow"))
        return
    columns = min(_MAP_COLUMNS, width // 2 - 4)
    layout.split_row(
        Layout(
            _framed(_map(game, lines, columns), game.title, is_wide, "yellow"),
            size=columns + 4,
        ),
        Layout(_framed(ticker, "captions, their verdicts and rewards", is_wide, "yellow")),
    )


def _map(game: GameMoment, lines: int, columns: int) -> Text:
    rows, places = map_window(game.characters, game.cursor, lines, columns)
    shown = screen_lines(game.characters[rows, places], game.colours[rows, places])
    return Text("\n", no_wrap=True, overflow="crop").join(shown)


def _ticker(captions: Sequence[SaidOfCaption]) -> Table:
    """Verdict, words and reward of captions; words are cut where there is little room, rewards are not."""
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(width=1)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    amounts = [f"{said.reward:+.2f}" if abs(said.reward) >= LEAST_SHOWN else "" for said in captions]
    table.add_column(justify="right", no_wrap=True, min_width=max(map(len, amounts), default=0))
    for said, amount in zip(captions, amounts, strict=True):
        style = "bold green" if said.reward > 0 and amount else "bold red" if amount else "dim"
        mark = _MARKS.get(said.verdict, "≈" if said.verdict else "·")
        table.add_row(Text(mark, style), Text(printable(said.text), style), Text(amount, style))
    return table


def _fill_figures(
    layout: Layout, now: Snapshot, states: Sequence[tuple[str, str]], is_wide: bool, most: int
) -> None:
    learning, bus = _figures(_learning(now)[:most]), _figures(_bus(now)[:most])
    if not is_wide:
        table = Table.grid(expand=True, padding=(0, 2))
        table.add_column(ratio=1)
        table.add_column(ratio=1)
        table.add_row(learning, bus)
        layout.update(_framed(table, "learning, and the bus", is_wide, "cyan"))
        return
    layout.split_row(
        Layout(_framed(learning, "learning", is_wide, "green")),
        Layout(_framed(bus, "bus", is_wide, "cyan")),
        Layout(_framed(_components(states), "components", is_wide, "magenta")),
    )


def _learning(now: Snapshot) -> list[tuple[str, str]]:
    """Names and numbers, those that matter most first."""
    if math.isnan(now.model_version):
        share = "captions with a label"
        known = [("labels the learner has", _n(now.labels_known))]
    else:
        share = "captions with a score"
        known = [("model version, its age", f"{_n(now.model_version)}, {_age(now.model_age_seconds)}")]
        known += [_held_out(now)]
    return [
        ("environment steps", _n(now.env_steps)),
        ("steps per second", _n(now.steps_per_second)),
        ("mean return", _f(now.episode_return, bold=True)),
        ("mean intrinsic return", _f(now.intrinsic_return)),
        (share, _percent(now.label_coverage)),
        ("first reward after, p50", within(now.reward_latency_p50)),
        *known,
    ]


def _held_out(now: Snapshot) -> tuple[str, str]:
    """Accuracy alone says little where one verdict is rare: precision and recall stand beside it."""
    figures = [now.model_accuracy, now.model_precision, now.model_recall]
    if any(map(math.isnan, figures)):
        return "held-out accuracy", _percent(now.model_accuracy)
    return "accuracy, precision, recall", ", ".join(map(_percent, figures))


def _bus(now: Snapshot) -> list[tuple[str, str]]:
    """Names and numbers, those that matter most first."""
    return [
        ("captions published", _n(now.captions_published)),
        ("labels written", _n(now.labels_written) + _cost(now)),
        ("label latency p50 / p95", within(now.latency_p50, now.latency_p95)),
        ("consumer lag", _n(now.consumer_lag)),
        ("captions not asked again", _n(now.captions_known)),
        ("captions dropped", _n(now.captions_dropped)),
        ("new captions", _n(now.captions_new)),
        ("unreadable answers", _percent(now.unreadable_share)),
    ]


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
