"""``--reward similarity``: cosine of a caption and a goal in an embedding (ELLM, arXiv 2302.06692).

No language model judges and nothing is learned: the baseline that the judged rewards must beat.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from onibus.infra.errors import OnibusError

HASHED = "hashed"
SENTENCES = "sentence-transformers:"
HASHED_DIMENSIONS = 4_096
MOST_WORDS = 500_000
"""Words of a file that are kept; such files are sorted by frequency."""

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")


class Embedding(Protocol):
    """Texts as vectors.

    Attributes:
        name: says which embedding it is, down to the contents of its file.
    """

    name: str

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (n, d), float32, of length 1; of length 0 where no word of a text is known."""


def embedding(wanted: str) -> Embedding:
    """The embedding that ``wanted`` names.

    Args:
        wanted: ``hashed``, ``sentence-transformers:MODEL``, or a file of word vectors in the text format of
            word2vec and fastText.

    Raises:
        OnibusError: there is no such file, it is none, or the library is not installed.
    """
    if wanted == HASHED:
        return HashedWords()
    if wanted.startswith(SENTENCES):
        return _Sentences(wanted.removeprefix(SENTENCES))
    return WordVectors(Path(wanted))


class HashedWords:
    """Bag of words: each word counts in one of 4,096 places, chosen by its hash. Needs nothing."""

    name = f"hashed-words-{HASHED_DIMENSIONS}"

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), HASHED_DIMENSIONS), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in _words(text):
                row[_place(word)] += 1
        return _unit(vectors)


class WordVectors:
    """Mean of the vectors of a text's words, from a file: a first line "words dimensions", then a word and
    its numbers a line, with spaces between them. A word may hold any other character, a no-break space or a
    line separator, too; blank lines are passed over.

    Raises:
        OnibusError: the file cannot be read, or is none of these.
    """

    def __init__(self, path: Path) -> None:
        self._vectors: dict[str, NDArray[np.float32]] = {}
        digest = sha256()
        try:
            with path.open("rb") as lines:
                first = next(lines, b"")
                digest.update(first)
                self._dimensions = int(first.split()[1])
                for line in lines:
                    digest.update(line)
                    if not (row := line.strip(b" \r\n")):
                        continue
                    first_part, *numbers = row.split(b" ")
                    word = first_part.decode("utf-8", "replace")
                    if len(numbers) != self._dimensions:
                        raise ValueError(f"{word!r} has {len(numbers)} numbers, not {self._dimensions}")
                    self._vectors.setdefault(word.lower(), np.array(numbers, np.float32))
                    if len(self._vectors) >= MOST_WORDS:
                        break
        except OSError as error:
            raise OnibusError(
                f"cannot read word vectors from {path}: {error.strerror}; correct --embedding"
            ) from error
        except (ValueError, IndexError) as error:
            raise OnibusError(f"{path}: {error}; it should be a text file of word2vec or fastText") from error
        self.name = f"word-vectors-{digest.hexdigest()[:16]}"

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self._dimensions), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in _words(text):
                if (vector := self._vectors.get(word)) is not None:
                    row += vector
        return _unit(vectors)


class _Sentences:
    def __init__(self, model: str) -> None:
        self.name = f"{SENTENCES}{model}"
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise OnibusError(
                f"--embedding {self.name} needs the package sentence-transformers; install it, or use "
                f"--embedding {HASHED}"
            ) from error
        try:
            self._model = SentenceTransformer(model)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise OnibusError(f"--embedding {self.name}: {reason}; give another model") from error

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return _unit(np.asarray(self._model.encode(list(texts), show_progress_bar=False), np.float32))


class SimilarityToGoal:
    """Cosine of captions and one goal; see :data:`onibus.learner.rewards.scores.Judge`."""

    def __init__(self, goal: str, embed: Embedding) -> None:
        self._embed = embed
        self._goal = embed([goal])[0]

    def __call__(self, captions: Sequence[bytes]) -> NDArray[np.float32]:
        texts = [caption.decode("utf-8", "ignore") for caption in captions]
        cosines: NDArray[np.float32] = self._embed(texts) @ self._goal
        return cosines


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _place(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=4).digest(), "little") % HASHED_DIMENSIONS


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return units
