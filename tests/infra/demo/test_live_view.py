"""The live view at the widths that terminals have: names may be cut, numbers never."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from onibus.infra.demo.game import GameMoment, SaidOfCaption
from onibus.infra.demo.live_view import WIDE, Heading, print_line, render, within
from onibus.infra.demo.snapshot import UNKNOWN
from onibus.infra.demo.ticks import round_ticks, tick_name
from onibus.infra.demo.watch import Watch
from onibus.infra.process.terminal import console

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


SAID = (
    *[SaidOfCaption("You see here a pair of mud boots.", "unhelpful", 0.0)] * 30,
    SaidOfCaption(
        "You see here a key named The Master Key of Thievery, and more words than fit.", "helpful", 0.5
    ),
    SaidOfCaption("What no one has judged.", "", 0.0),
)


def game() -> GameMoment:
    """A room of 5 by 7 with the player in it."""
    characters = np.full((24, 80), ord(" "), np.uint8)
    characters[8:13, 30:37] = ord(".")
    characters[10, 33] = ord("@")
    return GameMoment(
        "worker 0, environment 3, episode 12, step 45 of 120",
        characters,
        np.full((24, 80), 7, np.int8),
        (10, 33),
        SAID,
    )


def shown(columns: int, lines: int, moment: GameMoment | None) -> list[str]:
    shown_on = Console(width=columns, height=lines, record=True, force_terminal=True, file=io.StringIO())
    heading = Heading("keyroom-s5", "retrieval", "keyword rules", Watch(240.0))
    history = [replace(LATE, env_steps=n * 1_000.0, episode_return=n / 100) for n in range(293)]
    shown_on.print(render(heading, [*history, LATE], STATES, (columns, lines), moment))
    return shown_on.export_text().rstrip("\n").split("\n")


@pytest.mark.parametrize("moment", [None, game()])
@pytest.mark.parametrize(
    ("columns", "lines"), [(80, 24), (80, 48), (100, 24), (120, 24), (132, 34), (160, 48)]
)
def test_every_number_is_whole_at_every_size(columns: int, lines: int, moment: GameMoment | None) -> None:
    view = shown(columns, lines, moment)
    text = "\n".join(view)
    assert not [number for number in NUMBERS if number not in text], text
    assert all(name in text for name, _ in STATES)
    assert max(map(len, view)) <= columns
    assert len(view) <= lines
    assert ("step 45 of 120" in text) == (moment is not None)


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (160, 48)])
def test_captions_have_a_verdict_and_a_whole_reward_and_the_game_a_map(columns: int, lines: int) -> None:
    view = shown(columns, lines, game())
    assert any(re.search(r"✓ You see here a key named The Master.*… +\+0\.50", line) for line in view)
    assert any("✗ You see here a pair of mud boots." in line for line in view)
    assert any("· What no one has judged." in line for line in view)
    assert any("...@..." in line for line in view)
    assert sum("......." in line for line in view) == 4


@pytest.mark.parametrize(
    ("columns", "names"), [(80, ["5 M", "10 M"]), (160, [f"{n} M" for n in range(2, 13, 2)])]
)
def test_ticks_are_at_round_numbers(columns: int, names: list[str]) -> None:
    view = shown(columns, 48, None)
    found = re.findall(r"[\d.]+ [kM]", view[-1 if columns < WIDE else -2])
    assert found == names


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0, 293_000, 6, ["0", "100 k", "200 k", "300 k"]),
        (-0.31, 0.36, 5, ["-0.4", "-0.2", "0", "0.2", "0.4"]),
        (0, 1_400_000, 7, ["0", "500 k", "1 M", "1.5 M"]),
        (-0.9, 0.7, 2, ["-1", "0", "1"]),
        (0.5, 0.5, 4, ["0.4", "0.6"]),
    ],
)
def test_ticks_enclose_what_is_drawn(low: float, high: float, most: int, ticks: list[str]) -> None:
    found = round_ticks(low, high, most)
    assert found[0] <= low + 1e-9
    assert found[-1] >= high - 1e-9
    assert len(found) <= max(3, most)
    if low < high:
        assert [tick_name(tick) for tick in found] == ticks


def test_a_report_is_one_line_whatever_the_width() -> None:
    out = io.StringIO()
    print_line(console(file=out, width=80), LATE)
    (line,) = out.getvalue().splitlines()
    assert len(line) > 80
    assert line.endswith("cost $123.45")


def test_latencies_are_the_ends_of_their_intervals() -> None:
    assert within(0.5) == "≤ 0.5 s"
    assert within(0.5, 2.5) == "≤ 0.5 / 2.5 s"
    assert within(0.5, float("inf")) == "> 300 s"
    assert within(float("nan")) == "–"
