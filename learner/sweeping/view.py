"""What a sweep shows while it runs: a table on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from onibus.learner.options import LearnOptions
from onibus.learner.sweeping.running import DONE, ELSEWHERE, FAILED, RUNNING, WAITING, SweepRunner
from onibus.learner.sweeping.state import reached

LINE_SECONDS = 30.0
_FIRST = (FAILED, RUNNING, ELSEWHERE, WAITING, DONE)
_COLOURS = {DONE: "green", RUNNING: "cyan", FAILED: "red", WAITING: "dim", ELSEWHERE: "yellow"}


@contextmanager
def sweep_view(
    shown_on: Console, runner: SweepRunner, runs: Sequence[LearnOptions]
) -> Iterator[Callable[[], None]]:
    """Gives what shows how things stand, as often as it is called: the table, or a line now and then."""
    next_line = 0.0
    view = Live(console=shown_on, auto_refresh=False)
    with view if shown_on.is_terminal else nullcontext() as live:

        def look() -> None:
            nonlocal next_line
            if live is not None:
                live.update(table(runner, runs, max(3, shown_on.size.height - 6)), refresh=True)
            elif time.monotonic() >= next_line:
                next_line = time.monotonic() + LINE_SECONDS
                shown_on.print(line(runner, runs), soft_wrap=True)

        yield look


def table(runner: SweepRunner, runs: Sequence[LearnOptions], most: int) -> Table:
    """A row for each run, ``most`` at most: first what failed and what runs."""
    ordered = sorted(runs, key=lambda options: _FIRST.index(runner.states[options.run]))
    counts = [f"{n} {state}" for state in _FIRST if (n := list(runner.states.values()).count(state))]
    shown = Table(caption=", ".join(counts), caption_justify="left")
    shown.add_column("run", overflow="fold")
    shown.add_column("state", no_wrap=True)
    for name in ("steps", "of all", "steps/s", "return", "intrinsic"):
        shown.add_column(name, justify="right", no_wrap=True)
    for options in ordered[:most]:
        state = runner.states[options.run]
        found = reached(runner.folder(options))
        row, steps = found.row, max(found.saved_steps, int(found.row.get("env_steps", 0)))
        shown.add_row(
            options.run,
            Text(state, _COLOURS[state]),
            f"{steps:,}",
            f"{min(1.0, steps / (options.steps or 1)):.0%}",
            _number(row.get("steps_per_second") if state == RUNNING else None, ",.0f"),
            _number(row.get("return"), ".3f"),
            _number(row.get("intrinsic_return"), ".3f"),
        )
    if len(ordered) > most:
        shown.add_row(f"… {len(ordered) - most} more")
    return shown


def line(runner: SweepRunner, runs: Sequence[LearnOptions]) -> str:
    """The same in one line: what is done, and how far each run is that runs."""
    states = list(runner.states.values())
    now = [
        f"{options.run} {reached(runner.folder(options)).row.get('env_steps', 0):,.0f} of {options.steps:,}"
        for options in runs
        if runner.states[options.run] == RUNNING
    ]
    failed = f", {states.count(FAILED)} failed" if FAILED in states else ""
    return f"{states.count(DONE)} of {len(states)} runs done{failed}; running: {', '.join(now) or 'none yet'}"


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else "–"
