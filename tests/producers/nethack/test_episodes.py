"""A recorded episode, played again from its record alone, is the same to the last observation."""

from __future__ import annotations

import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import nle
import pytest

from onibus.infra.errors import OnibusError
from onibus.producers.nethack import episodes
from onibus.schemas import codec
from onibus.schemas.records import EpisodeFinished
from tests.producers.nethack.playing import Memory, environment, moments, play

TASKS = [
    "score", "gold", "staircase-level-3", "oracle-sober-continual", "nle-score", "nle-staircase-level-3",
    "keyroom-s5", "room-ultimate-5x5", "wod-hard-full",
]  # fmt: skip
RECORDED_BEFORE = Path(__file__).parent / "task_version_0_episodes"


def recorded(task: str, games: int, **options: int | bool | str) -> list[EpisodeFinished]:
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
        episodes.verify(record)


def test_episodes_of_a_few_dungeons_say_which_and_can_be_played_again() -> None:
    records = recorded("score", games=8, dungeons="1-3")
    assert {record.seed_level for record in records} == {1, 2, 3}
    assert {record.seed_level for record in recorded("score", games=2)} == {0}
    for record in records:
        episodes.verify(record)
    with pytest.raises(OnibusError):
        episodes.verify(replace(records[0], seed_level=0))


@pytest.mark.integration
def test_an_episode_is_played_again_in_another_process_from_its_bytes(tmp_path: Path) -> None:
    record = recorded("keyroom-s5", games=3)[-1]
    (tmp_path / "episode").write_bytes(codec.encode(record))
    program = (
        "import sys, pathlib\n"
        "from onibus.producers.nethack.episodes import verify\n"
        "from onibus.schemas import codec\n"
        "from onibus.schemas.records import EpisodeFinished\n"
        "verify(codec.decode(EpisodeFinished, pathlib.Path(sys.argv[1]).read_bytes()))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "episode")], check=True)


@pytest.mark.parametrize("change", ["seed_core", "actions", "task"])
def test_another_seed_action_or_task_is_another_episode(change: str) -> None:
    record = recorded("score", games=1)[0]
    actions = bytearray(record.actions)
    actions[10:60] = b"\1" * 50
    other = {
        "seed_core": replace(record, seed_core=record.seed_core + 1),
        "actions": replace(record, actions=bytes(actions)),
        "task": replace(record, task="keyroom-s5", action_set="", character="", actions=bytes(len(actions))),
    }[change]
    with pytest.raises(OnibusError, match=r"not the same .* differ\): the record is damaged"):
        episodes.verify(other)


@pytest.mark.parametrize("file", sorted(RECORDED_BEFORE.iterdir()), ids=lambda file: file.stem)
def test_episodes_recorded_before_the_published_tasks_play_as_what_their_names_stood_for(file: Path) -> None:
    """Recorded with NLE 1.3.0 by the onibus before: NLE's own tasks, 23 actions, no such fields."""
    record = codec.decode(EpisodeFinished, file.read_bytes())
    assert (record.task, record.task_version, record.action_set) == (file.stem, 0, "")
    assert (record.character, record.success, record.scout, record.kills) == ("", None, None, None)
    played = [moment.extrinsic for moment in episodes.play_again(record)]
    assert sum(played) == pytest.approx(record.extrinsic_return)
    assert len(played) == record.steps + 1


def test_an_episode_of_a_newer_task_version_is_refused_with_the_reason() -> None:
    record = replace(recorded("score", games=1)[0], task_version=99)
    with pytest.raises(OnibusError, match="task score is of version 99, this onibus has 1; upgrade onibus"):
        episodes.verify(record)


def test_an_episode_with_another_caption_is_not_the_same() -> None:
    record = recorded("score", games=1)[0]
    assert record.caption_checksum
    with pytest.raises(OnibusError, match=r"not the same when played again \(captions differ\)"):
        episodes.verify(replace(record, caption_checksum=1))
    episodes.verify(replace(record, caption_checksum=None))


def test_without_captions_their_checksum_is_left_out() -> None:
    (record,) = recorded("score", games=1, captions=False)
    assert record.caption_checksum is None
    episodes.verify(record)


def test_another_nle_is_named() -> None:
    record = recorded("score", games=1)[0]
    assert record.nle_version == nle.__version__
    assert episodes.other_version(record) is None
    other = replace(record, nle_version="9.9.9", checksum=1)
    with pytest.raises(OnibusError, match=r"recorded under NLE 9.9.9, played again under NLE 1\."):
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
    assert (record.task_version, record.action_set, record.character) == (1, "oni", "mon-hum-neu-mal")
    assert record.seed_level == 0, "NLE's own tasks have no level generator to seed"
    assert episodes.episode_key(record) == b"some-run/7/8/0"
    env.close()


def test_an_episode_too_long_for_a_record_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "LONGEST_EPISODE", 50)
    assert recorded("score", games=1, max_episode_steps=50) != []
    assert recorded("score", games=1, max_episode_steps=51) == []
