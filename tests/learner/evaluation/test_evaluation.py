"""Evaluations with real networks and real games: the same again, and none that training plays."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from onibus.infra.errors import OnibusError
from onibus.infra.settings import load_settings
from onibus.learner.evaluation.checkpoints import chosen_checkpoints
from onibus.learner.evaluation.episodes import EVALUATION_WORKER, PlayedEpisode
from onibus.learner.evaluation.episodes import _Listener as Ears
from onibus.learner.evaluation.evaluation import evaluate
from onibus.learner.evaluation.payment import paid_captions
from onibus.learner.evaluation.workers import EvaluationPlan, played
from onibus.learner.run_files.caption_tally import CaptionTally
from onibus.producers.nethack.seeding import episode_seeds
from onibus.schemas.ids import caption_id, lookup_id
from onibus.schemas.records import EpisodeFinished
from tests.command import run_onibus
from tests.consumers.replay.running import onibus, onibus_json, refusal
from tests.learner.fresh_checkpoint import fresh_run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_run(tmp_path_factory.mktemp("runs") / "a-run")


def by_index(episodes: list[PlayedEpisode]) -> list[PlayedEpisode]:
    return sorted(episodes, key=lambda episode: episode.index)


@pytest.mark.parametrize("greedy", [False, True])
def test_the_same_evaluation_twice_gives_the_same_episodes(checkpoint: Path, greedy: bool) -> None:
    games = EvaluationPlan(episodes=6, environments=3, greedy=greedy)
    first, second = (by_index(list(played(checkpoint, games))) for _ in range(2))
    assert first == second
    assert len({json.dumps(episode.figures) for episode in first}) > 1


def test_other_seeds_and_greedy_actions_are_other_episodes(checkpoint: Path) -> None:
    sampled = by_index(list(played(checkpoint, EvaluationPlan(4))))
    assert sampled != by_index(list(played(checkpoint, EvaluationPlan(4, seed=1))))
    assert sampled != by_index(list(played(checkpoint, EvaluationPlan(4, greedy=True))))


@pytest.mark.slow
@pytest.mark.integration
def test_an_episode_is_the_same_however_the_games_are_shared_out(checkpoint: Path) -> None:
    one = by_index(list(played(checkpoint, EvaluationPlan(5, environments=1))))
    assert one == by_index(list(played(checkpoint, EvaluationPlan(5, environments=4))))
    assert one == by_index(list(played(checkpoint, EvaluationPlan(5, environments=2, workers=2))))


def test_an_evaluation_is_in_other_dungeons_than_training_unless_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = fresh_run(tmp_path / "a-run", task="score", dungeons="1,2", max_episode_steps=20)
    heard: list[EpisodeFinished] = []
    monkeypatch.setattr(Ears, "episode_finished", lambda _self, record: heard.append(record))
    list(played(checkpoint, EvaluationPlan(4)))
    assert [record.seed_level for record in heard] == [0] * 4
    heard.clear()
    list(played(checkpoint, EvaluationPlan(8, training_dungeons=True)))
    assert {record.seed_level for record in heard} == {1, 2}


def test_training_dungeons_of_a_run_without_any_are_refused(checkpoint: Path) -> None:
    with pytest.raises(
        OnibusError, match=r"^--training-dungeons: run a-run has no dungeons .*; leave it out"
    ):
        evaluate(checkpoint, EvaluationPlan(1, training_dungeons=True))


def test_exactly_the_episodes_that_were_asked_for_are_played(checkpoint: Path) -> None:
    episodes = by_index(list(played(checkpoint, EvaluationPlan(7, environments=3))))
    assert [e.index for e in episodes] == list(range(7))


def test_no_rollout_worker_has_the_seeds_of_an_evaluation() -> None:
    """The seeds hash base, worker, environment and episode; rollout workers are numbered from 0."""
    assert EVALUATION_WORKER < 0
    bases, few = (0, 1, 1_000_003), range(8)
    places = [(base, w, m, e) for base in bases for w in range(3) for m in few for e in few]
    trained = {episode_seeds(*place) for place in places}
    evaluated = {episode_seeds(base, EVALUATION_WORKER, i, 0) for base in bases for i in range(64)}
    assert len(trained) == len(places)
    assert not trained & evaluated


def test_the_figures_are_those_that_the_environment_reports(checkpoint: Path) -> None:
    done = evaluate(checkpoint, EvaluationPlan(8, environments=4))
    assert {"return", "episode_steps", "score", "depth", "experience_level", "gold"} <= done.figures.keys()
    returns = done.figures["return"]
    assert returns.episodes == 8
    assert returns.smallest <= returns.mean.low <= returns.mean.value <= returns.mean.high <= returns.largest
    assert sum(done.ends.values()) == 8
    assert done.steps == pytest.approx(done.figures["episode_steps"].mean.value * 8)
    assert done.env_steps == 300


def test_a_recurrent_policy_on_the_full_game_plays_again_what_it_played(tmp_path: Path) -> None:
    path = fresh_run(tmp_path / "nle", "score", network="full", max_episode_steps=40)
    games = EvaluationPlan(3, environments=2)
    assert by_index(list(played(path, games))) == by_index(list(played(path, games)))


def test_a_run_by_name_by_folder_and_a_lone_file(tmp_path: Path) -> None:
    newest = fresh_run(tmp_path / "runs" / "a-run", version=20)
    older = newest.with_name("checkpoint_000000009_900.pth")
    best = newest.with_name("best_000000012_1200_reward_0.500.pth")
    for copy in (older, best):
        shutil.copy(newest, copy)
    alone = Path(shutil.copy(newest, tmp_path / "alone.pth"))
    runs = tmp_path / "runs"
    for place in ("a-run", str(runs / "a-run")):
        assert chosen_checkpoints(runs, place, "newest") == [newest]
        assert chosen_checkpoints(runs, place, "best") == [best]
        assert chosen_checkpoints(runs, place, "all") == [older, best, newest]
    assert chosen_checkpoints(runs, str(alone), "newest") == [alone]
    assert evaluate(alone, EvaluationPlan(1)).run == "a-run"


def test_what_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    fresh_run(tmp_path / "a-run")
    with pytest.raises(OnibusError, match=r"no run b-run in .*; give one of: a-run"):
        chosen_checkpoints(tmp_path, "b-run", "newest")
    with pytest.raises(OnibusError, match=r"no best checkpoint.*--checkpoints newest"):
        chosen_checkpoints(tmp_path, "a-run", "best")
    with pytest.raises(OnibusError, match="cannot be read"):
        evaluate(tmp_path / "missing.pth", EvaluationPlan(1))


def test_what_captions_pay_is_what_the_run_paid_for_them_each_time(tmp_path: Path) -> None:
    tally = CaptionTally()
    for text, steps, reward in (("a key", 10, 5.0), ("a wall", 100, 0.0), ("a door", 4, 1.0)):
        ids = np.full(steps, lookup_id(caption_id(text)), np.int64)
        tally.add(ids, np.full(steps, reward / steps, np.float32))
    tally.snapshot().save(tmp_path)
    heard = Counter({"a key": 20, "a wall": 300, "a door": 10, "never in training": 5})
    most, least = paid_captions(tmp_path, heard, episodes=10)
    assert [(c.text, c.times, c.reward) for c in most] == [("a key", 2.0, 1.0), ("a door", 1.0, 0.25)]
    assert [(c.text, c.times, c.reward) for c in least] == [("a wall", 30.0, 0.0)]
    assert paid_captions(None, heard, 10) == ([], [])


@pytest.mark.slow
@pytest.mark.integration
def test_the_command_needs_no_broker_and_prints_json_or_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fresh_run(tmp_path / "runs" / "a-run")
    unreachable = {"ONIBUS_BOOTSTRAP_SERVERS": "127.0.0.1:1", "CUDA_VISIBLE_DEVICES": ""}
    settings = load_settings(bootstrap_servers="127.0.0.1:1", runs_dir=tmp_path / "runs")

    command = ("evaluate", "a-run", "--episodes", 4, "--json", "--workers", 2)
    shown = run_onibus(*command, folder=tmp_path, environment=unreachable)
    assert shown.returncode == 0, shown.stderr
    (evaluation,) = json.loads(shown.stdout)
    assert evaluation["figures"]["return"]["episodes"] == 4
    (again,) = onibus_json(settings, "evaluate", "a-run", "--episodes", 4)
    assert again["figures"] == evaluation["figures"]
    assert "95 % of the mean" in onibus(settings, "evaluate", "runs/a-run", "--episodes", 4)
    assert "no run b-run" in refusal(settings, "evaluate", "b-run")
    assert "no GPU" in refusal(settings, "evaluate", "a-run", "--episodes", 1, "--device", "gpu")


def test_one_episode_has_no_interval(checkpoint: Path) -> None:
    done = evaluate(checkpoint, EvaluationPlan(1))
    assert math.isnan(done.figures["return"].mean.low)
    assert done.to_json()["figures"]["return"]["mean"]["low"] is None
