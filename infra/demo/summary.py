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
    for name, place in _places(demo, report):
        console.print(Text.assemble((f"{name:<12}", "dim"), f" {place}"), soft_wrap=True)
    if demo.killed:
        console.print(Text(f"had to be killed: {', '.join(demo.killed)}; see their logs", "yellow"))


def _figures(demo: Demo, figures: Sequence[tuple[str, str]]) -> Table:
    options = demo.options
    table = Table(
        title=f"onibus demo: {options.task}, reward {options.reward}, judged by {options.judge_name}"
    )
    table.add_column("what")
    table.add_column("how much", justify="right")
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
    table.add_column("label")
    table.add_column("came up", justify="right")
    table.add_column("reward in all", justify="right")
    for row in best:
        table.add_row(_shortened(printable(row.text)), row.verdict, f"{row.steps:,}", f"{row.reward:,.1f}")
    return table


def _places(demo: Demo, report: Path | None) -> list[tuple[str, str]]:
    local = demo.broker_folder.exists()
    return [
        ("report", str(report) if report else "not made: the run ended before it learned"),
        ("checkpoints", str(demo.folder / "checkpoint_p0")),
        ("logs", str(demo.folder / "logs")),
        ("TensorBoard", f"tensorboard --logdir {demo.folder}"),
        ("topics' data", str(demo.broker_folder) if local else demo.settings.bootstrap_servers),
    ]


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.0f}"
