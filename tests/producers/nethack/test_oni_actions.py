"""The 28 actions at NetHack's questions, in real games that follow a script; each plays again exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nle import nethack
from nle.env import tasks as nle_tasks

from onibus.infra.errors import OnibusError
from onibus.producers.nethack import episodes
from onibus.producers.nethack.environment import NetHackEnvironment
from onibus.producers.nethack.oni_actions import ONI_ACTIONS, first_letter_offered
from onibus.schemas import codec
from onibus.schemas.records import EpisodeFinished
from tests.producers.nethack.playing import Memory, environment

RECORDED = Path(__file__).parent / "played_games"
YES = NORTH_WEST = nethack.CompassDirection.NW
NORTH, WAIT = nethack.CompassDirection.N, nethack.MiscDirection.WAIT
EAT, CAST, QUAFF, PRAY = (
    nethack.Command.EAT,
    nethack.Command.CAST,
    nethack.Command.QUAFF,
    nethack.Command.PRAY,
)


class Game:
    """A game that is sent keys and remembers what was said after each."""

    def __init__(self, **options: Any) -> None:
        self.memory = Memory()
        self.env: NetHackEnvironment = environment("score", self.memory, **options)
        self.env.reset()

    def press(self, *keys: int) -> list[str]:
        """What the game says to each key, "" for nothing."""
        said = []
        for key in keys:
            before = len(self.memory.captions)
            self.env.step(list(self.env.unwrapped.actions).index(key))  # type: ignore[attr-defined]
            said.append("".join(told[0].text for told in self.memory.captions[before:]))
        return said

    def waits_for_an_answer(self) -> bool:
        game: Any = self.env.unwrapped
        return bool(game.last_observation[game._internal_index][1:4].any())

    def turns(self) -> int:
        game: Any = self.env.unwrapped
        return int(game.last_observation[game._blstats_index][nethack.NLE_BL_TIME])

    def ends_as_recorded(self) -> EpisodeFinished:
        """Play on to the step limit, and the record again from its seeds and actions."""
        while not self.memory.episodes:
            self.press(nethack.Command.SEARCH)
        self.env.close()
        (record,) = self.memory.episodes
        episodes.verify(record)
        return record


@pytest.fixture
def monk() -> Game:
    """With three potions, food, a spell, and nothing beside."""
    return Game(max_episode_steps=40, seed=7)


def test_the_actions_are_nles_23_and_five_commands() -> None:
    assert len(ONI_ACTIONS) == 28
    assert ONI_ACTIONS[:23] == nle_tasks.TASK_ACTIONS
    names = [nethack.Command(key).name for key in ONI_ACTIONS[23:]]
    assert names == ["CAST", "QUAFF", "PRAY", "PICKUP", "PAY"]


def test_y_eats_the_first_that_is_offered(monk: Game) -> None:
    asked, eaten = monk.press(EAT, YES)
    assert asked.startswith("What do you want to eat? [")
    assert "You're finally finished." in eaten
    assert not monk.waits_for_an_answer()
    assert monk.turns() > 1
    monk.ends_as_recorded()


def test_y_drinks_the_first_that_is_offered(monk: Game) -> None:
    asked, drunk = monk.press(QUAFF, YES)
    assert asked.startswith("What do you want to drink? [")
    assert drunk == "You feel better."
    assert monk.turns() == 2
    monk.ends_as_recorded()


@pytest.mark.parametrize("command", [EAT, QUAFF])
@pytest.mark.parametrize("key", [NORTH, WAIT, nethack.MiscAction.MORE, nethack.Command.EAT, CAST])
def test_every_other_action_leaves_the_question(monk: Game, command: int, key: int) -> None:
    """``j`` and ``h`` are letters of the monk's food and potions, and actions: they, too, leave it."""
    for answer in (key, nethack.CompassDirection.S):
        asked, left = monk.press(command, answer)
        assert "What do you want to" in asked
        assert left == "Never mind."
    assert (monk.turns(), monk.waits_for_an_answer()) == (1, False)
    monk.ends_as_recorded()


def test_the_first_spell_is_cast(monk: Game) -> None:
    (said,) = monk.press(CAST)
    assert said
    assert monk.waits_for_an_answer() == ("In what direction?" in said)
    monk.ends_as_recorded()


def test_casting_without_spells_is_no_other_command() -> None:
    """An "a" with no menu there would be NetHack's command to apply a tool."""
    game = Game(max_episode_steps=40, character="val-hum-neu-fem")
    assert game.press(CAST) == ["You don't know any spells right now."]
    assert game.ends_as_recorded().character == "val-hum-neu-fem"


def test_praying_is_asked_about_and_y_prays(monk: Game) -> None:
    asked, left, again, prayed = monk.press(PRAY, nethack.MiscAction.MORE, PRAY, YES)
    assert asked.startswith("Are you sure you want to pray?")
    assert asked == again
    assert "You begin praying to" not in left
    assert prayed.startswith("You begin praying to")
    monk.ends_as_recorded()


def test_pickup_and_pay_are_commands(monk: Game) -> None:
    picked, paid = monk.press(nethack.Command.PICKUP, nethack.Command.PAY)
    assert "There is nothing here to pick up." in picked or "solidly fixed" in picked
    assert paid == "There appears to be no shopkeeper here to receive your payment."
    monk.ends_as_recorded()


def test_more_confidence_is_followed_by_enhancing() -> None:
    """A monk's game of NLE 1.3.0 that fought its way to more confidence in martial arts."""
    record = codec.decode(EpisodeFinished, (RECORDED / "confident-monk.avro").read_bytes())
    captions = [m.caption.text for m in episodes.play_again(record) if m.caption is not None]
    confident = [text for text in captions if "You feel more confident in" in text]
    assert confident
    for text in confident:
        assert "You are now more skilled in" in text.partition("You feel more confident")[2]


@pytest.mark.parametrize(
    ("question", "letter"),
    [
        (b"What do you want to eat? [ghij or ?*] ", "g"),
        (b"What do you want to drink? [f or ?*] ", "f"),
        (b"What do you want to eat? [a-dK or ?*] ", "a"),
        (b"What do you want to eat? [$b or ?*] ", "b"),
        (b"What do you want to eat? [K or ?*] ", "K"),
        (b"What do you want to eat? [- or ?*] ", None),
        (b"What do you want to eat? [*] ", None),
        (b"What do you want to eat? ", None),
    ],
)
def test_the_first_letter_of_those_offered(question: bytes, letter: str | None) -> None:
    found = first_letter_offered(question.ljust(256, b"\0"))
    assert found == (None if letter is None else ord(letter))


def test_nles_actions_stay_nles() -> None:
    game = Game(max_episode_steps=40, seed=7, actions="nle")
    assert game.env.action_space.n == 23  # type: ignore[attr-defined]
    asked, other = game.press(EAT, NORTH)  # "k" is none of the letters
    assert "What do you want to eat?" in asked
    assert other != "Never mind."
    record = game.ends_as_recorded()
    assert record.action_set == "nle"


def test_characters_are_dealt_out_over_the_environments_and_recorded() -> None:
    both = "val-dwa-law-fem,mon-hum-neu-mal,@"
    played = []
    for worker, index in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        memory = Memory()
        env = environment(
            "score", memory, character=both, worker=worker, environment=index, max_episode_steps=20
        )
        env.reset()
        while not memory.episodes:
            env.step(0)
        env.close()
        episodes.verify(memory.episodes[0])
        played.append(memory.episodes[0].character)
    assert played == ["val-dwa-law-fem", "mon-hum-neu-mal", "@", "mon-hum-neu-mal", "@"]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("val-dwa-law-mal", "val-dwa-law-fem"),
        ("mon-dwa-law-mal", "mon-hum-law-fem, mon-hum-law-mal"),
        ("monk", "give one such as mon-hum-neu-mal, or @ for a random one"),
        ("mon-hum-neu-mal,", "give one such as"),
    ],
)
def test_a_character_that_nethack_has_not_is_refused(wrong: str, hint: str) -> None:
    with pytest.raises(OnibusError, match=f"^--character: NetHack has no .*{hint}"):
        environment("score", character=wrong)
