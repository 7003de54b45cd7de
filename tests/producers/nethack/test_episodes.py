"""A recorded episode, played again from its record alone, is the same to the last observation."""

from __future__ import annotations

import subprocess
import sys
import time
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from infra.errors import OnibusError
from producers.nethack import episodes
from producers.nethack.calendar import Luck, luck_at, moon_phase
from schemas import codec
from schemas.records import EpisodeFinished
from tests.producers.nethack.playing import Memory, environment, moments, play

TASKS = ["score", "gold", "staircase-level-3", "keyroom-s5", "room-ultimate-5x5", "wod-hard-full"]


def recorded(task: str, games: int, **options: int) -> list[EpisodeFinished]:
    memory = Memory()
    env = environment(task, memory, **{"max_episode_steps": 300, **options})
    for seed in range(games):
        play(env, seed)
    env.close()
    return memory.episodes


@pytest.mark.parametrize("task", TASKS)
def test_every_episode_of_a_process_can_be_played_again(task: str) -> None:
    records = recorded(task, games=6, worker=2, environment=5)
    assert [r.episode for r in records] == list(range(6))
    assert len({r.checksum for r in records}) == 6
    for record in records:
        assert record.steps == len(record.actions)
        assert episodes.replay(record) == record.checksum
        episodes.verify(record)


@pytest.mark.integration
def test_an_episode_is_played_again_in_another_process_from_its_bytes(tmp_path: Path) -> None:
    record = recorded("keyroom-s5", games=3)[-1]
    (tmp_path / "episode").write_bytes(codec.encode(record))
    program = (
        "import sys, pathlib; from producers.nethack.episodes import replay; from schemas import codec\n"
        "from schemas.records import EpisodeFinished\n"
        "print(replay(codec.decode(EpisodeFinished, pathlib.Path(sys.argv[1]).read_bytes())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "episode")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == record.checksum


@pytest.mark.parametrize("change", ["seed_core", "actions", "task"])
def test_another_seed_action_or_task_is_another_episode(change: str) -> None:
    record = recorded("score", games=1)[0]
    actions = bytearray(record.actions)
    actions[10:60] = b"\1" * 50
    other = {
        "seed_core": replace(record, seed_core=record.seed_core + 1),
        "actions": replace(record, actions=bytes(actions)),
        "task": replace(record, task="keyroom-s5", actions=bytes(len(actions))),
    }[change]
    assert episodes.replay(other) != record.checksum
    with pytest.raises(OnibusError, match="not the same when played again: the record is damaged"):
        episodes.verify(other)


def test_the_record_holds_what_happened() -> None:
    memory = Memory()
    env = environment("score", memory, max_episode_steps=120, worker=7, environment=8, run="some-run")
    env.policy_version = 5
    before = time.time_ns() // 1000
    checksum = zlib.crc32(env.reset()[0] and env.unwrapped.last_observation[env.unwrapped._blstats_index])  # type: ignore[attr-defined]
    extrinsic = 0.0
    for moment in moments(env):
        raw = env.unwrapped.last_observation[env.unwrapped._blstats_index]  # type: ignore[attr-defined]
        checksum = zlib.crc32(raw, checksum)
        extrinsic += moment.reward
    (record,) = memory.episodes
    assert (record.run, record.worker, record.environment, record.episode) == ("some-run", 7, 8, 0)
    assert (record.task, record.policy_version, record.max_episode_steps) == ("score", 5, 120)
    assert record.checksum == checksum
    assert record.extrinsic_return == pytest.approx(extrinsic)
    assert record.intrinsic_return is None
    assert record.score == moment.info["episode_extra_stats"]["score"]
    assert before <= record.started_at <= record.finished_at <= time.time_ns() // 1000
    assert record.seed_level == 0, "NLE's own tasks have no level generator to seed"
    assert episodes.episode_key(record) == b"some-run/7/8/0"
    env.close()


def test_an_episode_too_long_for_a_record_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "LONGEST_EPISODE", 50)
    assert recorded("score", games=1, max_episode_steps=50) != []
    assert recorded("score", games=1, max_episode_steps=51) == []


@pytest.mark.parametrize(
    ("date", "moon"),
    [  # from an almanac; NetHack's own reckoning is within a day or two of the sky
        ("2024-04-08", "new"),
        ("2024-04-24", "full"),
        ("2026-03-03", "full"),
        ("2026-08-12", "new"),
        ("2026-11-24", "full"),
        ("2026-11-20", "other"),
    ],
)
def test_the_moon_is_where_it_is_in_the_sky(date: str, moon: str) -> None:
    noon = time.mktime(time.strptime(f"{date} 12:00", "%Y-%m-%d %H:%M"))
    assert luck_at(int(noon * 1e6)).moon == moon


def test_every_phase_comes_once_a_month_in_order() -> None:
    phases = [moon_phase(2026, day) for day in range(365)]
    changes = [b for a, b in pairwise(phases) if a != b]
    assert all(b == (a + 1) % 8 for a, b in pairwise(changes))
    assert 12 <= changes.count(4) <= 13


def test_a_friday_the_thirteenth_and_the_night_are_seen() -> None:
    at = time.mktime(time.strptime("2026-03-13 23:30", "%Y-%m-%d %H:%M"))
    assert luck_at(int(at * 1e6)) == Luck(moon="other", friday_13th=True, night=True)


def test_a_replay_under_another_sky_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    record = recorded("score", games=1)[0]
    full_moon = time.mktime(time.strptime("2026-11-24 12:00", "%Y-%m-%d %H:%M"))
    other = replace(record, seed_core=record.seed_core + 1, started_at=int(full_moon * 1e6))
    monkeypatch.setattr(
        episodes, "luck_at", lambda at: luck_at(at) if at == other.started_at else Luck("other", False, False)
    )
    with pytest.raises(OnibusError, match="recorded under a full moon, by day, played again under no full"):
        episodes.verify(other)
