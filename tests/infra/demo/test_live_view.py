"""The live view at the widths that terminals have: names may be cut, numbers never."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from onibus.infra.demo.live_view import Heading, render, within
from onibus.infra.demo.snapshot import UNKNOWN
from onibus.infra.demo.watch import Watch

LATE = replace(
    UNKNOWN,
    seconds=599.0,
    env_steps=12_345_678.0,
    steps_per_second=12_345.0,
    episode_return=-0.987,
    intrinsic_return=101.125,
    label_coverage=0.43,
    captions_published=1_234_567.0,
    captions_known=123_456.0,
    labels_written=98_765.0,
    cost_usd=123.45,
    latency_p50=0.025,
    latency_p95=10.0,
    reward_latency_p50=2.5,
)
STATES = [("Kafka broker", "running"), *((f"annotator-{n}", "ready") for n in (1, 2)), ("learner", "ready")]
NUMBERS = (
    "12,345,678", "12,345 ", "-0.987", "101.125", "43%", "1,234,567", "123,456", "98,765 for $123.45",
    "≤ 2.5 s", "≤ 0.025 / 10 s", "9:59",
)  # fmt: skip


@pytest.mark.parametrize("columns", [80, 100, 120, 160])
def test_every_number_is_whole_at_every_width(columns: int) -> None:
    console = Console(width=columns, height=24, record=True, force_terminal=True)
    heading = Heading("keyroom-s5", "retrieval", "keyword rules", Watch(240.0))
    console.print(render(heading, [LATE, LATE], STATES, (columns, 24)))
    shown = console.export_text()
    assert not [number for number in NUMBERS if number not in shown], shown
    assert all(name in shown for name, _ in STATES)
    assert max(map(len, shown.splitlines())) <= columns


def test_latencies_are_the_ends_of_their_intervals() -> None:
    assert within(0.5) == "≤ 0.5 s"
    assert within(0.5, 2.5) == "≤ 0.5 / 2.5 s"
    assert within(0.5, float("inf")) == "> 300 s"
    assert within(float("nan")) == "–"
