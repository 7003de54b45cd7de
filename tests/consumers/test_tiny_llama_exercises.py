"""What the tiny Llama learns: the rules' words, and nothing of what is held out."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from onibus.consumers.specs.spec_file import load_spec_file
from onibus.consumers.tiny_llama.exercises import HELD_OUT_SHARE, SpecExercises
from onibus.consumers.tiny_llama.folder import finish, is_kept
from onibus.infra.errors import OnibusError

CAPTIONS = [f"You see here {n} keys." for n in range(200)] + [
    f"The newt bites {n} times." for n in range(200)
]


@pytest.fixture(scope="module")
def exercises() -> SpecExercises:
    return SpecExercises(load_spec_file("goals-one-word"), CAPTIONS)


def test_each_exercise_is_the_prompt_that_is_asked_and_the_word_of_the_rules(
    exercises: SpecExercises,
) -> None:
    one = exercises.exercise("You kill the newt!")
    assert one.word == "helpful"
    assert one.prompt.endswith('<message>"You kill the newt!"</message>')
    assert exercises.exercise("It's a wall.").word == "unhelpful"


def test_a_share_is_held_out_and_nothing_is_made_of_it(exercises: SpecExercises) -> None:
    held_out = {e.caption for e in exercises.held_out}
    assert 0.5 * HELD_OUT_SHARE < len(held_out) / len(CAPTIONS) < 2 * HELD_OUT_SHARE
    assert held_out | {e.caption for e in exercises.learnt()} == set(CAPTIONS)
    letters_only = SpecExercises(
        load_spec_file("goals-one-word"), [f"You kill {c * 9}!" for c in _LETTERS] + _PLAIN
    )
    held_out = {e.caption for e in letters_only.held_out}
    for drawn in letters_only.draw(2_000, random.Random(0)):
        assert not held_out & set(drawn.caption.split(" / "))


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PLAIN = [f"It's a {c * 9}." for c in _LETTERS]


def test_answers_are_drawn_evenly_and_changed_captions_are_judged_anew(exercises: SpecExercises) -> None:
    drawn = exercises.draw(4_000, random.Random(1))
    helpful = sum(e.word == "helpful" for e in drawn)
    assert 0.4 < helpful / len(drawn) < 0.75  # a helpful part makes the joined one helpful
    assert all(e == exercises.exercise(e.caption) for e in drawn)
    assert any(" / " in e.caption for e in drawn)
    assert any(e.caption not in CAPTIONS and " / " not in e.caption for e in drawn)


def test_what_nothing_can_be_learnt_from_is_said() -> None:
    with pytest.raises(OnibusError, match="too few"):
        SpecExercises(load_spec_file("goals-one-word"), ["It's a wall."] * 50)
    with pytest.raises(OnibusError, match="one-word"):
        SpecExercises(load_spec_file("goals"), CAPTIONS)


def test_a_folder_is_kept_once_it_is_finished_and_only_for_the_specs_it_was_made_for(tmp_path: Path) -> None:
    assert not is_kept(tmp_path)
    finish(tmp_path, ["goals-one-word"], ["| goals-one-word | 1 | 100.0% | 1 | 100.0% |"], 1, 1, 1.0)
    assert is_kept(tmp_path, ["goals-one-word"])
    assert not is_kept(tmp_path, ["goals-one-word", "keys-and-doors-one-word"])
    assert "not a language model that understands" in (tmp_path / "README.md").read_text()
