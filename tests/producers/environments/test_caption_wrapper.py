"""Any Gymnasium environment as a policy of onibus plays it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import onibus
from onibus.infra.errors import OnibusError
from onibus.producers.environments import tasks
from onibus.producers.environments.any_task import check_task
from onibus.producers.environments.playback import play_again
from onibus.producers.environments.tasks import registered_task
from onibus.producers.nethack.playback import frames
from onibus.producers.publishing.caption import Caption
from onibus.producers.publishing.caption_texts import LONGEST_CAPTION
from onibus.schemas import codec
from onibus.schemas.ids import caption_id, lookup_id
from onibus.schemas.records import EpisodeFinished
from tests.producers.environments.rooms import Counting


class Bus:
    """Stands where a process has its bus, and keeps what it would publish."""

    def __init__(self) -> None:
        self.captions: list[tuple[str, tuple[int, ...]]] = []
        self.episodes: list[EpisodeFinished] = []

    def attach(self) -> None: ...

    def detach(self) -> None: ...

    def observe(self, caption: Caption, *where: int) -> None:
        self.captions.append((caption.text, where))

    def episode_finished(self, record: EpisodeFinished) -> None:
        self.episodes.append(codec.decode(EpisodeFinished, codec.encode(record)))


def recorded(name: str, actions: list[Any], **given: Any) -> tuple[EpisodeFinished, Bus]:
    """One episode of a registered task, as it is published."""
    task, bus = registered_task(name), Bus()
    assert task is not None
    given = {"seed": 3, "run": "r", "bus": lambda: bus, **given}
    environment = onibus.CaptionWrapper(task.make(), task.captioner, task=task, **given)
    environment.reset()
    for action in actions:
        environment.step(action)
    (record,) = bus.episodes
    return record, bus


def test_captions_are_counted_per_episode_and_carried_into_the_next() -> None:
    environment = onibus.CaptionWrapper(Counting(length=3))
    observation, _ = environment.reset(seed=1)
    assert observation["caption"].tolist() == [0, 0]
    ids = {word: lookup_id(caption_id(f"did {word}")) for word in (0, 1)}
    seen = [environment.step(action)[0]["caption"].tolist() for action in (1, 0, 1)]
    assert seen == [[ids[1], 1], [ids[0], 1], [ids[1], 2]]
    assert environment.reset()[0]["caption"].tolist() == [ids[1], 2]
    assert environment.step(1)[0]["caption"].tolist() == [ids[1], 1]


def test_a_step_limit_cuts_off_and_the_environments_own_end_does_not() -> None:
    environment = onibus.CaptionWrapper(Counting(length=3), max_episode_steps=2)
    environment.reset()
    assert [environment.step(0)[2:4] for _ in range(2)] == [(False, False), (False, True)]
    environment = onibus.CaptionWrapper(Counting(length=2), max_episode_steps=2)
    environment.reset()
    assert [environment.step(0)[2:4] for _ in range(2)] == [(False, False), (True, False)]


def test_what_an_episode_reports() -> None:
    environment = onibus.CaptionWrapper(Counting(length=1))
    environment.reset()
    info = environment.step(0)[4]
    assert info["episode_extra_stats"] == {"success": 1.0, "episode/actions": 1.0}


@pytest.mark.parametrize(
    ("space", "shape", "kind"),
    [
        (gym.spaces.Box(0, 255, (4, 4, 3), np.uint8), (4, 4, 3), np.uint8),
        (gym.spaces.Box(-1, 1, (2,), np.float64), (2,), np.float32),
        (gym.spaces.Box(-1, 1, (), np.float32), (1,), np.float32),
        (gym.spaces.Box(-9, 9, (2, 2), np.int64), (2, 2), np.float32),
        (gym.spaces.Discrete(4, start=2), (4,), np.float32),
        (gym.spaces.MultiBinary(3), (3,), np.uint8),
        (gym.spaces.MultiDiscrete([3, 4]), (2,), np.float32),
        (gym.spaces.Text(9), (9,), np.uint8),
        (gym.spaces.Text(9, charset="aß"), (18,), np.uint8),
        (gym.spaces.Text(9_000), (256,), np.uint8),
    ],
)
def test_observations_are_arrays(space: gym.Space[Any], shape: tuple[int, ...], kind: Any) -> None:
    environment = onibus.CaptionWrapper(Counting(space), captions=False)
    observation, _ = environment.reset(seed=0)
    assert set(observation) == {"obs"}
    assert (observation["obs"].shape, observation["obs"].dtype) == (shape, np.dtype(kind))
    assert environment.observation_space.contains(observation)


def test_texts_are_their_first_bytes() -> None:
    class Talking(Counting):
        words: Any = "grüß dich"

        def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
            return {"mission": self.words}, {}

    mission = gymnasium_mission_space()
    inner = Talking(gym.spaces.Dict({"mission": mission}))
    environment = onibus.CaptionWrapper(inner, captions=False)
    observation, _ = environment.reset(seed=0)
    assert observation["mission"].tobytes().rstrip(b"\0").decode() == "grüß dich"
    inner.words = "x" * 9_000
    assert environment.reset()[0]["mission"].tobytes() == b"x" * 256
    inner.words = 7
    with pytest.raises(OnibusError, match="the observation 'mission' is 7, where observation_space says"):
        environment.reset()


def gymnasium_mission_space() -> gym.Space[Any]:
    """MiniGrid's: of texts, but not one of Gymnasium's kinds."""
    import minigrid  # noqa: F401  (registers its environments)

    space: gym.Space[Any] = gym.make("MiniGrid-Empty-5x5-v0").observation_space["mission"]  # type: ignore[index]
    assert not isinstance(space, gym.spaces.Text)
    return space


def test_actions_are_stretched_to_their_bounds() -> None:
    low, high = np.array([[0.0, -2.0]], np.float32), np.array([[1.0, 2.0]], np.float32)
    inner = Counting(action=gym.spaces.Box(low, high))
    environment = onibus.CaptionWrapper(inner)
    assert environment.action_space == gym.spaces.Box(-1, 1, (2,), np.float32)
    environment.reset()
    for action in ([-1.0, -1.0], [0.0, 0.5], [1.0, 7.0]):
        environment.step(np.array(action, np.float32))
    assert [given.tolist() for given in inner.done] == [[[0, -2]], [[0.5, 1]], [[1, 2]]]


@pytest.mark.parametrize(
    ("observation", "action", "says"),
    [
        (gym.spaces.Sequence(gym.spaces.Discrete(2)), None, "observation is a Sequence, which the policy"),
        (gym.spaces.Dict({"all": gym.spaces.Tuple(())}), None, "observation 'all' is a Tuple"),
        (gym.spaces.Dict({"caption": gym.spaces.Discrete(2)}), None, "an observation named 'caption'"),
        (None, gym.spaces.MultiDiscrete([2, 2]), "actions are a MultiDiscrete"),
    ],
)
def test_what_a_policy_cannot_take_is_refused(
    observation: gym.Space[Any] | None, action: gym.Space[Any] | None, says: str
) -> None:
    with pytest.raises(OnibusError, match=says):
        onibus.CaptionWrapper(Counting(observation, action))


@pytest.mark.parametrize(
    ("name", "actions"),
    [
        ("counting", [0, 1, 2, 1, 0]),
        (
            "counting-boxes",
            [np.array(a, np.float32) for a in ([0, 1], [0.25, -1], [3, 0], [0, 0], [0.1, 0.2])],
        ),
    ],
)
def test_an_episode_is_recorded_and_played_again(name: str, actions: list[Any]) -> None:
    record, bus = recorded(name, actions)
    assert (record.task, record.end, record.steps, record.extrinsic_return) == (name, "terminated", 5, 2.5)
    assert record.plugin.startswith("tests.producers.environments.rooms sha256-")
    assert (record.success, record.statistics) == (True, {"success": 1.0, "actions": 5.0})
    again = list(play_again(record))
    assert [step.caption for step in again] == [text for text, _ in bus.captions]
    assert sum(step.extrinsic for step in again) == record.extrinsic_return


def test_an_episode_of_a_registered_task_has_no_screen() -> None:
    record, _ = recorded("counting", [0] * 5)
    with pytest.raises(
        OnibusError, match=r"^episode r/0/0/0 is of a task that tests.* use onibus replay episode$"
    ):
        list(frames(record))


def test_an_episode_that_its_seed_does_not_fix_is_found_out() -> None:
    record, _ = recorded("counting-leaking", [0] * 5)
    with pytest.raises(
        OnibusError, match=r"not the same when played again \(observations differ\): does its reset"
    ):
        list(play_again(record))


def test_the_same_seed_plays_the_same_episodes() -> None:
    first, same, other = (recorded("counting", [0] * 5, seed=seed)[0] for seed in (3, 3, 4))
    assert (first.seed_core, first.checksum) == (same.seed_core, same.checksum)
    assert first.seed_core != other.seed_core
    assert first.checksum != other.checksum


def test_a_captioner_that_raises_is_named_in_one_line() -> None:
    task = registered_task("counting-in-words")
    assert task is not None
    environment = onibus.CaptionWrapper(task.make(), task.captioner, task=task)
    environment.reset()
    environment.step(1)
    says = (
        r"^the captioner of task counting-in-words failed: KeyError: 'no words for 2' "
        r"\(rooms.py, line \d+\); correct it there$"
    )
    with pytest.raises(OnibusError, match=says):
        environment.step(2)


def test_what_is_no_caption_is_refused_and_what_is_long_is_cut() -> None:
    said: list[Any] = ["  two \n lines ", "x" * (LONGEST_CAPTION + 5), " ", None, 7]
    bus = Bus()
    environment = onibus.CaptionWrapper(Counting(length=9), lambda _: said.pop(0), bus=lambda: bus)  # type: ignore[arg-type]
    environment.reset()
    for _ in range(4):
        environment.step(0)
    assert [text for text, _ in bus.captions] == ["two lines", "x" * LONGEST_CAPTION]
    with pytest.raises(OnibusError, match="a caption is a str or None, not int"):
        environment.step(0)


class Wrong(Counting):
    """Its third step is not as it must be: observation, reward or statistics."""

    def __init__(self, observation: Any = (0.0, 0.0), reward: Any = 0.5, statistics: Any = None) -> None:
        super().__init__(length=3)
        self.observation, self.reward, self.statistics = observation, reward, statistics

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, ended, late, info = super().step(action)
        if not ended:
            return observation, reward, ended, late, info
        return self.observation, self.reward, ended, late, {"episode_statistics": self.statistics or {}}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"reward": np.nan}, "the reward is nan; give a finite number"),
        ({"reward": -np.inf}, "the reward is -inf; give a finite number"),
        ({"observation": np.array([0.0, np.nan])}, "the observation 'obs' holds a NaN or an infinity"),
        (
            {"observation": np.zeros(4)},
            r"the observation 'obs' is of shape \(4,\), where .* shape \(2,\); correct",
        ),
        ({"observation": "dark"}, "the observation 'obs' is 'dark', where observation_space says float32"),
        (
            {"statistics": {"taste": "good"}},
            r"with info\['episode_statistics'\], failed: taste is 'good'; give numbers",
        ),
    ],
)
def test_what_an_environment_gives_wrongly_is_named(given: dict[str, Any], says: str) -> None:
    environment = onibus.CaptionWrapper(Wrong(**given))
    environment.reset()
    for _ in range(2):
        environment.step(0)
    with pytest.raises(OnibusError, match=says) as caught:
        environment.step(0)
    assert str(caught.value).startswith("the environment of task Wrong, ")
    assert "spaces.py" not in str(caught.value)


def test_a_name_like_a_registered_task_is_asked_about() -> None:
    with pytest.raises(OnibusError, match=r"unknown task 'countin'; did you mean counting\b"):
        check_task("countin", None, None, ())


def test_a_task_of_nethacks_may_have_a_name_like_a_registered_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tasks._tasks, "scores", registered_task("counting"))
    check_task("score", None, None, ())
    with pytest.raises(OnibusError, match="did you mean score or scores"):
        check_task("scor", None, None, ())
