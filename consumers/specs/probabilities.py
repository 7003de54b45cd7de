"""A verdict from the probabilities with which a model would go on with one of two words.

A small model that is asked for a verdict in words says nearly the same to everything, while the odds of the
two words tell captions apart. A prompt makes one of them likelier whatever stands in it, though, so the
log-odds are calibrated: those of captions that say nothing are taken off (Zhao et al. 2021, "Calibrate before
use", arXiv 2102.09690), and the rest is fitted to people's labels by a logistic regression with one variable
(Platt 1999), whose two numbers stand in the spec file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from onibus.consumers.specs.answer_format import AnswerFormat, Probability
from onibus.schemas.records import Verdict

MOST_LIKELY = 20
"""How many of the likeliest next tokens are asked for: as many as OpenAI's protocol allows."""
_LEAST_LEFT = 1e-4
"""Of probability, below which what is left is rounding."""
_MOST = 0.01
"""The largest logarithm of a probability, rounded."""
_LEAST = -9_999.0
"""What vLLM gives in place of minus infinity."""
_SPELLINGS = 16
"""With which a word can go on: with a space or without, all of it or its beginning, in capitals or not."""
_LEAST_OF_LIKELIEST = -14.0
"""The likeliest of a million tokens is likelier."""
_MOST_TOGETHER = 1.05
"""The largest sum of probabilities, rounded."""
_CERTAIN = 700.0
"""Log-odds beyond which exp() leaves floats."""


class ProbableVerdict(NamedTuple):
    """A verdict and the calibrated probability of helpful, of two captions of the first."""

    verdict: Verdict
    probability: float


class LogOdds(NamedTuple):
    """Log-odds of the word for helpful (first) against that for unhelpful (second).

    Attributes:
        value: what they are, or are taken to be where one of the words was not named.
        least, most: what they can be; both the value where both words were named.
    """

    value: float
    least: float
    most: float

    @classmethod
    def known(cls, value: float) -> LogOdds:
        """Those of two words that were named."""
        return cls(value, value, value)

    @property
    def are_known(self) -> bool:
        """Whether both words were named."""
        return self.least == self.most


def log_odds(answer_format: AnswerFormat, likeliest: Mapping[str, float]) -> LogOdds | None:
    """Log-odds of the word for helpful (first) against that for unhelpful (second).

    A word counts with all tokens that begin it and not the other one, in any case, with or without a space
    before them. A word that is not among the likeliest tokens is taken to be as likely as it can be: as the
    least of them, or as what they leave of all probability.

    Args:
        likeliest: log-probabilities of the likeliest next tokens by their text.

    Returns:
        A bound where one word is not among them; None where neither is.
    """
    words = [word.casefold() for word in _words(answer_format)]
    found: list[list[float]] = [[], []]
    for token, logarithm in likeliest.items():
        text = token.strip().casefold()
        begun = [place for place, word in enumerate(words) if text and word.startswith(text)]
        if len(begun) == 1:
            found[begun[0]].append(logarithm)
    if not any(found):
        return None
    left = math.log(max(1 - sum(math.exp(min(one, 0.0)) for one in likeliest.values()), _LEAST_LEFT))
    least = min(likeliest.values())
    first, second = (_sum(logarithms) if logarithms else min(least, left) for logarithms in found)
    odds = first - second
    if all(found):
        return LogOdds.known(odds)
    beyond = min(least + math.log(_SPELLINGS), left) - min(least, left)
    return LogOdds(odds, odds - beyond, math.inf) if found[0] else LogOdds(odds, -math.inf, odds + beyond)


def judged(answer_format: AnswerFormat, odds: LogOdds, baseline: float = 0.0) -> ProbableVerdict | None:
    """The verdict at these log-odds; None where others that they can be have another verdict.

    Args:
        baseline: mean log-odds of the content-free captions.
    """
    how = answer_format.reads_probabilities or Probability()
    yes, no = opposites(answer_format)

    def at(value: float) -> ProbableVerdict:
        probability = logistic(how.scale * (value - baseline) + how.offset)
        if how.unsure and abs(probability - how.threshold) < how.unsure:
            return ProbableVerdict(Verdict.UNSURE, probability)
        return ProbableVerdict(yes if probability >= how.threshold else no, probability)

    found = at(odds.value)
    is_told = at(odds.least).verdict is found.verdict is at(odds.most).verdict
    return found if is_told else None


def logistic(odds: float) -> float:
    """The probability at these log-odds."""
    return 1 / (1 + math.exp(-max(-_CERTAIN, min(_CERTAIN, odds))))


def likeliest_of(tokens: Iterable[tuple[str, object]]) -> dict[str, float]:
    """Log-probabilities by text of the tokens that a server names, of which several can have one text.

    Tokens without one (null, NaN, minus infinity), as some servers name them that cannot come, are left out.

    Returns:
        Nothing if the numbers are something else than log-probabilities, logits say: one is positive or no
        number, they come to more than all probability, or the likeliest token is as good as impossible.
    """
    found: dict[str, float] = {}
    together = 0.0
    for text, logarithm in tokens:
        if isinstance(logarithm, bool) or not isinstance(logarithm, float | int | None):
            return {}
        if logarithm is None or logarithm != logarithm or logarithm == -math.inf:
            continue
        if logarithm > _MOST:
            return {}
        number = float(max(logarithm, _LEAST))
        together += math.exp(number)
        found[text] = max(number, found.get(text, -math.inf))
    is_likely = found and max(found.values()) >= _LEAST_OF_LIKELIEST
    return found if is_likely and together <= _MOST_TOGETHER else {}


def raw_answer(likeliest: Mapping[str, float]) -> str:
    """What is kept as the answer: the likeliest tokens with their log-probabilities, as JSON."""
    ordered = sorted(likeliest.items(), key=lambda item: -item[1])
    return json.dumps({token: round(logarithm, 4) for token, logarithm in ordered}, ensure_ascii=False)


def is_readable(answer_format: AnswerFormat, raw: str) -> bool:
    """Whether a kept answer is one of :func:`raw_answer`, with both words in it."""
    try:
        likeliest = json.loads(raw)
    except ValueError:  # the server gave no log-probabilities
        return False
    odds = log_odds(answer_format, likeliest) if isinstance(likeliest, dict) else None
    return odds is not None and odds.are_known


def opposites(answer_format: AnswerFormat) -> tuple[Verdict, Verdict]:
    """Helpful and unhelpful; of two captions, the first and the second."""
    if Verdict.HELPFUL in answer_format.words:
        return Verdict.HELPFUL, Verdict.UNHELPFUL
    return Verdict.FIRST, Verdict.SECOND


def _words(answer_format: AnswerFormat) -> tuple[str, str]:
    yes, no = opposites(answer_format)
    return answer_format.words[yes], answer_format.words[no]


def _sum(logarithms: list[float]) -> float:
    """Logarithm of the sum of the probabilities."""
    most = max(logarithms)
    return most + math.log(sum(math.exp(logarithm - most) for logarithm in logarithms))
