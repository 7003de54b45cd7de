"""What the demo prints at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from onibus.infra.demo.live_view import within
from onibus.infra.demo.next_steps import next_steps
from onibus.infra.demo.session import Demo
from onibus.infra.demo.snapshot import Snapshot, labels_at_start
from onibus.infra.money import dollars
from onibus.infra.process.terminal import printable

LISTED = 10
LONGEST = 120
"""Characters of a caption that are shown; the report has all."""


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """One caption of the summary: its words, its label, how often it came up, what it earned in all."""

    text: str
    verdict: str
    steps: int
    reward: float


def print_summary(
    console: Console,
    demo: Demo,
    figures: Sequence[tuple[str, str]],
    best: Sequence[CaptionRow],
    report: Path | None,
) -> None:
    """Say what ran, what came of it, and where everything lies.

    Args:
        figures: those at the head of the report, name and value; what was scraped besides is added.
        best: captions that earned most.
        report: its path; None where there is none.
    """
    console.print()
    console.print(_figures(demo, figures))
    if best:
        console.print(_captions(best[:LISTED]))
    policy = (demo.folder / "checkpoint_p0").exists()
    steps = next_steps(demo.settings, demo.options.run, has_policy=policy, own_broker=demo.own_broker)
    _print_lines(console, _places(demo, report))
    console.print(Text("\nWhere to look next:", "bold"))
    _print_lines(console, steps)
    if demo.killed:
        console.print(Text(f"had to be killed: {', '.join(demo.killed)}; see their logs", "yellow"))


def _figures(demo: Demo, figures: Sequence[tuple[str, str]]) -> Table:
    options = demo.options
    table = Table(
        title=f"onibus demo: {options.task}, reward {options.reward}, judged by {options.judge_name}"
    )
    table.add_column("what")
    table.add_column("how much", justify="right", no_wrap=True)
    scraped = _scraped(demo, demo.history[-1]) if demo.history else []
    for name, value in (*figures, *scraped):
        table.add_row(name, value)
    return table


def _scraped(demo: Demo, last: Snapshot) -> list[tuple[str, str]]:
    """What is known of annotators and of the demo as a whole, as it was when it was last looked at."""
    return [
        ("time watched", f"{last.seconds / 60:.1f} min"),
        ("captions new to their worker", _number(last.captions_new)),
        ("captions dropped", _number(last.captions_dropped)),
        ("labels on the bus at the start", _number(labels_at_start(demo.history))),
        ("labels written in this run", _number(last.labels_written)),
        *([] if math.isnan(last.cost_usd) else [("  what they cost", dollars(last.cost_usd))]),
        ("captions not asked again (label there or on its way)", _number(last.captions_known)),
        ("label latency, median / 95 %", within(last.latency_p50, last.latency_p95)),
    ]


def _captions(best: Sequence[CaptionRow]) -> Table:
    table = Table(title="captions that earned most")
    table.add_column("caption", overflow="fold")
    table.add_column("label", no_wrap=True)
    table.add_column("came up", justify="right", no_wrap=True)
    table.add_column("reward in all", justify="right", no_wrap=True)
    for row in best:
        table.add_row(_shortened(printable(row.text)), row.verdict, f"{row.steps:,}", f"{row.reward:,.1f}")
    return table


def _print_lines(console: Console, lines: Sequence[tuple[str, str]]) -> None:
    """A name and what is to be copied, which is not wrapped."""
    for name, value in lines:
        console.print(Text.assemble((f"{name:<22}", "dim"), f" {value}"), soft_wrap=True)


def _places(demo: Demo, report: Path | None) -> list[tuple[str, str]]:
    return [
        ("report", str(report) if report else "not made: the run ended before it learned"),
        ("logs", str(demo.folder / "logs")),
    ]


def _shortened(text: str) -> str:
    """Without what is in the middle: captions that begin alike often end otherwise."""
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[: half - 1]}…{text[half - LONGEST :]}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.0f}"
