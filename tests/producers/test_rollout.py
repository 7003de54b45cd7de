"""``onibus rollout``: worker processes play their share, publish it, and leave nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from onibus.infra.broker import BrokerOptions, start_broker, stop_broker
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings, environment_of, load_settings
from onibus.producers.nethack.episodes import verify
from onibus.producers.rollout import Policy, RolloutWorker, _share, run
from onibus.producers.rollout_options import RolloutOptions, RolloutSummary
from onibus.schemas import codec
from onibus.schemas.records import CaptionObserved, EpisodeFinished
from tests.command import Running, start_onibus
from tests.learner.runs import all_gone, is_fork_server
from tests.ports import free_port
from tests.producers.publishing.test_caption_publisher import captions_on, on_topic
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

STOP_SECONDS = 10.0
ROOMS = "tests.producers.environments.rooms"


def command(settings: Settings, *flags: str) -> Running:
    return start_onibus(
        *("rollout", *flags),
        environment=environment_of(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finished(process: Running) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=90)
    return process.returncode, out, err


def episodes_on(settings: Settings) -> list[EpisodeFinished]:
    topic = TopicNames(settings.topic_prefix).episodes
    return [codec.decode(EpisodeFinished, record.value) for record in on_topic(settings, topic)]


# Tests with ``endless`` start five processes; that is most of what they take.
@pytest.fixture
def endless(settings: Settings) -> Iterator[Running]:
    """A rollout without a limit that is up and has published."""
    process = command(
        settings, "--task", "keyroom-s5", "--workers", "2", "--environments", "2", "--run", "endless"
    )
    try:
        wait_until(lambda: process.poll() is not None or captions_on(settings), 60.0, "captions")
        assert process.poll() is None, process.communicate()[1]
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
def test_the_episodes_asked_for_are_played_published_and_summed_up(settings: Settings) -> None:
    flags = [
        "--task",
        "keyroom-s5",
        "--workers",
        "2",
        "--environments",
        "2",
        "--episodes",
        "7",
        "--run",
        "seven",
    ]
    status, out, err = finished(
        command(settings, *flags, "--max-episode-steps", "60", "--seed", "3", "--json")
    )
    assert status == 0, err
    summary = json.loads(out)
    records = episodes_on(settings)
    assert summary["run"] == "seven"
    assert summary["episodes"] == summary["episodes_published"] == len(records) == 7
    assert summary["steps"] == sum(record.steps for record in records)
    assert summary["return_sum"] == pytest.approx(sum(record.extrinsic_return for record in records))
    assert summary["captions_published"] == len(captions_on(settings)) > 0
    assert summary["captions_dropped"] == summary["episodes_dropped"] == 0
    played = Counter((r.worker, r.environment) for r in records)
    assert sorted(played.values()) == [1, 2, 2, 2], "no environment plays another's share"
    assert {r.policy_version for r in records} == {-1}
    for record in records[:3]:
        verify(record)
    assert "ready: rollout of keyroom-s5, run seven, 2 workers of 2 environments" in err
    assert "Warning" not in err


def test_the_same_seed_plays_the_same_steps_whatever_else_the_machine_does(settings: Settings) -> None:
    def played() -> dict[tuple[int, int, int], int]:
        worker = RolloutWorker(
            settings,
            RolloutOptions("score", "run", environments=3, steps=1000, seed=4, max_episode_steps=200),
            0,
        )
        worker.play(stopping=lambda: False, report=lambda _summary: None)
        assert worker.summary().steps == 1000
        worker.close()
        records = {(r.worker, r.environment, r.episode): r.checksum for r in episodes_on(settings)}
        assert len(records) > 2
        return records

    assert played() == played()


def test_no_step_is_played_beyond_those_asked_for(settings: Settings) -> None:
    worker = RolloutWorker(settings, RolloutOptions("score", "run", environments=3, steps=100), 0)
    worker.play(stopping=lambda: False, report=lambda _summary: None)
    assert sum(env._step for env in worker._environments) == worker.summary().steps == 100
    worker.close()


@pytest.mark.parametrize(("total", "parts"), [(7, 4), (3, 5), (8, 4), (1000, 7)])
def test_shares_add_up_and_differ_by_one_at_most(total: int, parts: int) -> None:
    shares = [_share(total, parts, index) for index in range(parts)]
    assert sum(share or 0 for share in shares) == total
    assert max(s or 0 for s in shares) - min(s or 0 for s in shares) <= 1
    assert _share(None, parts, 0) is None


class CountingPolicy:
    """A policy for tests: walks east, and keeps what it was asked."""

    version = 12
    observation: Literal["small", "medium", "full"] = "full"

    def __init__(self) -> None:
        self.bound: Any = None
        self.shapes: set[tuple[str, tuple[int, ...]]] = set()
        self.started: list[NDArray[np.bool_]] = []

    def bind(self, environment: Any) -> None:
        self.bound = environment

    def __call__(
        self, observations: dict[str, NDArray[Any]], started: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        self.shapes |= {(key, value.shape) for key, value in observations.items()}
        self.started.append(started.copy())
        return np.ones(len(started), np.int64)


def test_a_checkpoints_policy_plays_and_signs_what_it_does(settings: Settings) -> None:
    policy = CountingPolicy()
    options = RolloutOptions(
        "keyroom-s5", "run", environments=2, steps=50, max_episode_steps=10, checkpoint=Path("there")
    )
    worker = RolloutWorker(
        settings, options, 0, load_policy=lambda path: policy if path.name == "there" else None
    )  # type: ignore[arg-type,return-value]
    worker.play(stopping=lambda: False, report=lambda _summary: None)
    worker.close()
    assert policy.bound.observation_space["glyphs"].shape == (21, 79)
    assert ("glyphs", (2, 21, 79)) in policy.shapes
    assert ("caption", (2, 2)) in policy.shapes
    starts = np.array(policy.started)
    assert starts.shape == (25, 2)
    assert np.flatnonzero(starts[:, 0]).tolist() == [0, 10, 20]
    assert {r.policy_version for r in episodes_on(settings)} == {12}
    assert all(isinstance(r, CaptionObserved) and r.policy_version == 12 for r in captions_on(settings))
    assert all(set(r.actions) == {1} for r in episodes_on(settings))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(endless: Running, number: int) -> None:
    children = psutil.Process(endless.pid).children(recursive=True)
    before = time.monotonic()
    endless.send_signal(number)
    status, out, err = finished(endless)
    assert time.monotonic() - before < STOP_SECONDS
    assert status == 0, err
    assert "run endless: " in out
    assert "Traceback" not in err
    assert len(children) >= 2
    _gone(children)


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_parent(endless: Running) -> None:
    children = psutil.Process(endless.pid).children(recursive=True)
    assert len(children) >= 2
    endless.kill()
    _gone(children)


@pytest.mark.slow
def test_a_worker_that_dies_is_told_and_the_others_are_stopped(endless: Running) -> None:
    children = psutil.Process(endless.pid).children(recursive=True)
    workers = [child for child in children if child.name().startswith("rollout-")]
    workers[0].kill()
    status, _out, err = finished(endless)
    assert status == 2
    assert "died with exit code -9" in err
    assert "Traceback" not in err
    _gone(children)


@pytest.mark.slow
def test_without_what_they_were_forked_from_workers_play_on_and_are_summed_up(
    endless: Running,
) -> None:
    children = psutil.Process(endless.pid).children(recursive=True)
    server = next(filter(is_fork_server, children))
    server.kill()
    wait_until(all_gone([server]), STOP_SECONDS, "its end")
    endless.send_signal(signal.SIGTERM)
    status, out, err = finished(endless)
    assert status == 0, err
    assert "run endless: " in out
    assert "died" not in err
    _gone(children)


@pytest.mark.slow
def test_a_worker_that_dies_after_the_process_it_was_forked_from_is_told(endless: Running) -> None:
    children = psutil.Process(endless.pid).children(recursive=True)
    next(filter(is_fork_server, children)).kill()
    next(child for child in children if child.name() == "rollout-1").kill()
    status, _out, err = finished(endless)
    assert status == 2
    assert "onibus: rollout-1 and the process that it was forked from died" in err
    _gone(children)


def _gone(processes: list[psutil.Process]) -> None:
    """Workers, and multiprocessing's own resource tracker, which ends a little later."""
    wait_until(
        lambda: not any(process.is_running() for process in processes), STOP_SECONDS, "children to end"
    )


@pytest.mark.slow
def test_a_wrong_address_is_one_line_and_exit_status_2_within_ten_seconds(settings: Settings) -> None:
    status, out, err = finished(command(settings, "--bootstrap-servers", f"127.0.0.1:{free_port()}"))
    assert status == 2
    assert out == ""
    (line,) = err.strip().splitlines()
    assert line.startswith("onibus: ")


class AnotherTasksPolicy(CountingPolicy):
    """Raises what torch does for weights of another shape."""

    def bind(self, environment: Any) -> None:
        raise RuntimeError("Error(s) in loading state_dict\nsize mismatch for actions")


def test_a_policy_of_another_task_is_told(settings: Settings) -> None:
    options = RolloutOptions("score", "run", checkpoint=Path("there"))
    with pytest.raises(OnibusError, match=r"in there does not fit task score; give the task .*state_dict\)$"):
        RolloutWorker(settings, options, 0, load_policy=lambda _path: AnotherTasksPolicy())


def no_policy(path: Path) -> Policy:
    raise OnibusError(f"no checkpoint in {path}; give another")


@pytest.mark.parametrize(
    ("wrong", "prefix", "message"),
    [
        ({"task": "scor"}, None, "unknown task 'scor'; did you mean score"),
        (
            {"task": "counting-broken", "imports": (ROOMS,)},
            None,
            "counting-broken.* FileNotFoundError: no map",
        ),
        ({}, "nowhere.", r"missing: nowhere\.captions"),
        ({"checkpoint": Path("/no/such/run")}, None, "^no checkpoint in /no/such/run; give another$"),
    ],
)
def test_what_a_user_can_put_right_is_told_wherever_it_is_found(
    settings: Settings, wrong: dict[str, Any], prefix: str | None, message: str
) -> None:
    options = RolloutOptions(**({"task": "score", "run": "run", "episodes": 1} | wrong))
    if prefix:
        settings = settings.model_copy(update={"topic_prefix": prefix})
    with pytest.raises(OnibusError, match=message):
        run(settings, options, threading.Event(), no_policy)


def test_summaries_add_up_and_read_well() -> None:
    one = RolloutSummary(steps=1000, episodes=2, return_sum=3.0, scored_episodes=1, score_sum=10.0)
    total = one + RolloutSummary(
        steps=500, episodes=2, return_sum=1.0, captions_published=5, captions_dropped=1, episodes_published=4
    )
    assert str(total) == (
        "1,500 steps, 4 episodes (mean return 1.00, score 10); 5 captions and 4 episodes published, 1 dropped"
    )
    unscored = RolloutSummary(steps=7, episodes=1, return_sum=1.0)
    assert str(unscored).startswith("7 steps, 1 episodes (mean return 1.00); ")
    assert str(RolloutSummary()) == "0 steps, 0 episodes; 0 captions and 0 episodes published, 0 dropped"


@pytest.mark.slow
def test_rollouts_work_over_tls_with_a_password(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    broker = start_broker(BrokerOptions(folder, port=free_port(), secure=True, heap="256m"))
    try:
        secure = load_settings(
            **broker.client_settings(), partitions=2, topic_prefix="secure.", runs_dir=tmp_path
        )
        create_topics(secure)
        options = RolloutOptions("keyroom-s5", "run", workers=2, episodes=4, max_episode_steps=50)
        summary = run(secure, options, threading.Event())
        assert summary.episodes == summary.episodes_published == len(episodes_on(secure)) == 4
        assert summary.captions_published == len(captions_on(secure)) > 0
    finally:
        stop_broker(folder)


def test_actions_and_characters_are_played_and_recorded(settings: Settings) -> None:
    options = RolloutOptions(
        "score",
        "run",
        environments=2,
        episodes=2,
        max_episode_steps=30,
        actions="nle",
        character="val-dwa-law-fem,sam-hum-law-mal",
    )
    worker = RolloutWorker(settings, options, 0)
    worker.play(stopping=lambda: False, report=lambda _summary: None)
    worker.deliver(lambda: False)
    worker.close()
    records = episodes_on(settings)
    assert {r.character for r in records} == {"val-dwa-law-fem", "sam-hum-law-mal"}
    assert {(r.action_set, max(r.actions) < 23) for r in records} == {("nle", True)}
    for record in records:
        verify(record)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"actions": "all"}, "there are no actions 'all'; give oni or nle"),
        ({"character": "val-elf-cha-fem"}, "NetHack has no 'val-elf-cha-fem'; give one of val-dwa-law-fem"),
        ({"task": "keyroom-s5", "actions": "oni"}, "has its own; leave --actions out"),
    ],
)
def test_what_cannot_be_played_is_refused_before_anything_starts(
    settings: Settings, flags: dict[str, str], reason: str
) -> None:
    with pytest.raises(OnibusError, match=reason):
        run(settings, RolloutOptions(**{"task": "score", "run": "r"} | flags), threading.Event())  # type: ignore[arg-type]
