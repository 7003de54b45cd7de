"""``onibus episodes``: what recorded episodes came to, of this onibus and of the one before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onibus.infra.kafka import clients
from onibus.infra.settings import Settings
from onibus.learner.reporting.recorded_episodes import deaths_and_last
from tests.consumers.replay.running import onibus, onibus_json, refusal

GAMES = Path(__file__).parents[2] / "producers" / "nethack"
BEFORE = ("score", "staircase")


@pytest.fixture
def on_the_bus(settings: Settings) -> Settings:
    """Two episodes of the onibus before the published tasks, and a monk's."""
    producer = clients.producer(settings)
    games = {b"before/0/0/%d" % n: f"task_version_0_episodes/{task}.avro" for n, task in enumerate(BEFORE)}
    for key, file in (games | {b"enhance/0/0/0": "played_games/confident-monk.avro"}).items():
        value = (GAMES / file).read_bytes()
        producer.send(f"{settings.topic_prefix}episodes", key=key, value=value, partition=0)
    producer.flush()
    producer.close()
    return settings


def test_episodes_are_listed_with_what_they_came_to(on_the_bus: Settings) -> None:
    said = onibus(on_the_bus, "episodes", "list").splitlines()
    assert [line.split()[1] for line in said[::2]] == ["score", "staircase", "score"]
    assert "killed by" in said[0]
    assert "scout" not in said[1], "was not recorded then"
    assert "task successful" in said[2]
    assert "kills 50, progression 3.7%" in said[5]
    assert onibus(on_the_bus, "episodes", "list", "enh").splitlines() == said[4:]
    assert onibus(on_the_bus, "episodes", "list", "--limit", 2).splitlines() == said[2:]


def test_json_has_every_field_but_seeds_and_actions(on_the_bus: Settings) -> None:
    *before, now = onibus_json(on_the_bus, "episodes", "list")
    assert [row["task_version"] for row in (*before, now)] == [0, 0, 1]
    assert (before[0]["success"], before[0]["kills"], before[0]["character"]) == (None, None, "")
    assert (now["action_set"], now["character"], now["kills"]) == ("oni", "mon-hum-neu-mal", 50)
    assert now["experience_level"] == 6
    assert "actions" not in now


def test_causes_of_death_are_counted_for_a_run_and_its_last_episodes_kept(on_the_bus: Settings) -> None:
    ((cause, number),), last = deaths_and_last(on_the_bus, "before", 1)
    assert cause.startswith("killed by")
    assert number == 1
    assert [record.task for record in last] == ["staircase"]
    deaths, last = deaths_and_last(on_the_bus, "enhance", 5)
    assert (deaths, len(last)) == ([], 1)
    assert deaths_and_last(on_the_bus, "befor", 5) == ([], [])


def keys(settings: Settings, *flags: object) -> list[str]:
    return [row["episode_key"] for row in onibus_json(settings, "episodes", "list", *flags)]


def test_what_a_list_leaves_out_and_in_which_order_it_is(on_the_bus: Settings) -> None:
    rows = {row["episode_key"]: row for row in onibus_json(on_the_bus, "episodes", "list")}
    assert len(rows) == 3

    def those(fits: Callable[[dict[str, Any]], bool]) -> list[str]:
        return [key for key, row in rows.items() if fits(row)]

    assert keys(on_the_bus, "--task", "score") == those(lambda row: row["task"] == "score")
    assert keys(on_the_bus, "--ended", "KILLED") == those(lambda row: "killed" in row["cause_of_death"])
    assert keys(on_the_bus, "--ended", "successful") == those(lambda row: row["end"] == "task_successful")
    assert keys(on_the_bus, "--success") == those(lambda row: row["success"] is True)
    middle = sorted(row["extrinsic_return"] for row in rows.values())[1]
    above = those(lambda row: row["extrinsic_return"] > middle)
    assert keys(on_the_bus, "--return-above", middle) == above
    assert keys(on_the_bus, "--return-below", middle) == those(lambda row: row["extrinsic_return"] < middle)
    assert keys(on_the_bus, "--depth", 2) == those(lambda row: row["depth"] >= 2)
    by_return = sorted(rows, key=lambda key: rows[key]["extrinsic_return"])
    assert keys(on_the_bus, "--order", "best", "--limit", 2) == by_return[1:]
    assert keys(on_the_bus, "--order", "worst", "--limit", 2) == by_return[1::-1]
    by_steps = sorted(rows, key=lambda key: rows[key]["steps"])
    assert keys(on_the_bus, "--order", "longest", "--limit", 1) == by_steps[-1:]
    assert "no episode is recorded that fits" in refusal(on_the_bus, "episodes", "list", "--depth", 99)
