"""Cosine of caption and goal in each embedding; what is wrong with one is said in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onibus.infra.errors import OnibusError
from onibus.learner.rewards.similarity import SimilarityToGoal, embedding

GOAL = "Find the key and unlock the door with it."


def cosines(wanted: str, *captions: str) -> list[float]:
    judge = SimilarityToGoal(GOAL, embedding(wanted))
    return [float(x) for x in judge([caption.encode() for caption in captions])]


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    path = tmp_path / "vectors.vec"
    path.write_text("4 2\nkey 1 0\ndoor 1 0.2\nunlock 0.9 0.1\nnewt -1 0.5\n")
    return path


def test_hashed_words_share_what_they_have_in_common() -> None:
    key, nothing, goal = cosines("hashed", "You see here a key.", "Ouch!", GOAL)
    assert 0 < key < goal == pytest.approx(1.0)
    assert nothing == 0


def test_word_vectors_find_what_is_alike(vectors: Path) -> None:
    key, newt, unknown = cosines(str(vectors), "A KEY!", "You kill the newt!", "xyzzy")
    assert key > 0.9 > 0 > newt
    assert unknown == 0


@pytest.mark.parametrize("token", ["10\u00a0000", "\u0085", "\u2028", "\u3000", "\x0b", "\x1c"])
def test_tokens_of_published_files_may_be_any_characters(vectors: Path, token: str) -> None:
    rows = vectors.read_text().splitlines(keepends=True)
    published = "".join(row.replace("\n", " \n") for row in [*rows[:2], f"{token} 0.5 0.5\n", *rows[2:]])
    vectors.write_bytes(f"{published}\n".encode())  # as fastText writes: a space ends each row; a blank line
    assert embedding(str(vectors))._vectors[token].tolist() == [0.5, 0.5]  # type: ignore[attr-defined]
    key, newt = cosines(str(vectors), "A KEY!", "You kill the newt!")
    assert key > 0.9 > 0 > newt


def test_the_name_tells_one_file_from_another(vectors: Path) -> None:
    before = embedding(str(vectors)).name
    vectors.write_text(vectors.read_text().replace("0.5", "0.6"))
    assert embedding(str(vectors)).name != before


@pytest.mark.parametrize("text", ["", "nonsense\n", "2 3\nkey 1 0\n", "2 1\nkey 1 0\n", "2 2\nkey one two\n"])
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.vec"
    path.write_text(text)
    with pytest.raises(OnibusError, match="word2vec") as refused:
        embedding(str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("wanted", ["/no/such/file", "sentence-transformers:/no/such/model"])
def test_what_is_not_there_is_said_in_one_line(wanted: str) -> None:
    with pytest.raises(OnibusError, match="embedding"):
        embedding(wanted)


def test_scores_are_float32() -> None:
    judge = SimilarityToGoal(GOAL, embedding("hashed"))
    assert judge([b"a", b"\xff"]).dtype == np.float32
