"""Games of a run that learns, as the live view gets them: from the bus, played again, with rewards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from onibus.infra.demo.game import GameMoment
from onibus.infra.kafka import clients
from onibus.infra.settings import Settings
from onibus.learner.options import make_options, save_options
from onibus.learner.reporting.recorded_games import LONGEST_SECONDS, STEPS_PER_SECOND, RecordedGames
from onibus.learner.run_files.specs import keep_specs
from onibus.producers.nethack.playback import frames
from onibus.schemas import codec
from onibus.schemas.ids import caption_id, episode_key, label_key
from onibus.schemas.records import EpisodeFinished, Label, Verdict
from tests.consumers.reward_models.annotation_logs import SPEC_ID
from tests.producers.nethack.playing import Memory, environment, play
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recorded() -> EpisodeFinished:
    memory = Memory()
    env = environment("keyroom-s5", memory, max_episode_steps=120, run="some-run")
    play(env)
    env.close()
    return memory.episodes[0]


class Clock:
    """Time that passes only when it is set."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def games(settings: Settings, clock: Clock) -> Iterator[RecordedGames]:
    folder = settings.runs_dir / "some-run"
    folder.mkdir()
    save_options(make_options("keyroom-s5", run="some-run", specs=["keys-and-doors=0.5"]), folder)
    keep_specs(folder, {"keys-and-doors": SPEC_ID})
    found = RecordedGames(settings, "some-run", now=clock)
    found.start()
    yield found
    found.stop()


def send(settings: Settings, topic: str, key: bytes, value: bytes) -> None:
    producer = clients.producer(settings)
    producer.send(f"{settings.topic_prefix}{topic}", key=key, value=value, partition=0)
    producer.flush()
    producer.close()


def first_moment(settings: Settings, games: RecordedGames, record: EpisodeFinished) -> GameMoment:
    """The game goes on the bus until it is shown: what was there before the first look is not."""

    def moment() -> GameMoment | None:
        if (shown := games.moment()) is None:
            send(settings, "episodes", episode_key(record), codec.encode(record))
        return shown

    return wait_until(moment, 60, "a game", interval=0.2)


def test_a_game_is_played_at_a_speed_for_the_eye_with_its_captions_rewards(
    settings: Settings, games: RecordedGames, clock: Clock, recorded: EpisodeFinished
) -> None:
    played = list(frames(recorded))
    heard = next(frame for frame in played if frame.caption is not None)
    assert heard.caption is not None
    label = Label(Verdict.HELPFUL, 0, 0, 1, 1, "test")
    key = label_key(SPEC_ID, caption_id(heard.caption))
    send(settings, "labels", key, codec.encode(label))

    moment = first_moment(settings, games, recorded)
    assert moment.title == f"worker 0, environment 0, episode 0, step 0 of {recorded.steps}, return 0.00"
    assert (moment.characters == played[0].characters).all()
    assert moment.cursor == played[0].cursor
    assert chr(moment.characters[moment.cursor]) == "@"

    clock.now += 10 / STEPS_PER_SECOND
    assert f"step {min(10, recorded.steps)} of {recorded.steps}" in (games.moment() or moment).title
    clock.now += LONGEST_SECONDS
    last = games.moment()
    assert last is not None
    assert f"step {recorded.steps} of {recorded.steps}" in last.title
    first = next(said for said in last.captions if said.text == heard.caption)
    assert (first.verdict, first.reward) == ("helpful", 0.5)
    assert "" in {one.verdict for one in last.captions}, "the others were not judged"


def test_the_next_game_is_one_that_ended_after_the_last(
    settings: Settings, games: RecordedGames, clock: Clock, recorded: EpisodeFinished
) -> None:
    first_moment(settings, games, recorded)
    clock.now += LONGEST_SECONDS + 1
    shown = games.moment()
    clock.now += LONGEST_SECONDS
    assert games.moment() == shown, "it stays until there is another"
    assert "step 0 of" in wait_until(lambda: restarted(settings, games, recorded), 60, "another").title


def restarted(settings: Settings, games: RecordedGames, record: EpisodeFinished) -> GameMoment | None:
    send(settings, "episodes", episode_key(record), codec.encode(record))
    shown = games.moment()
    return shown if shown is not None and "step 0 of" in shown.title else None
