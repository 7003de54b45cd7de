"""A verdict from several answers to the same question: the share of them that say helpful.

For servers that give no probabilities of words. The share of n answers estimates the probability with a
standard error of at most ``0.5 / sqrt(n)``. An answer that is unsure, or a tie, counts half.
"""

from __future__ import annotations

from collections.abc import Sequence

from onibus.consumers.specs.answer_format import AnswerFormat, Probability
from onibus.consumers.specs.probabilities import ProbableVerdict, opposites
from onibus.schemas.records import Verdict


def share_of(answer_format: AnswerFormat, verdicts: Sequence[Verdict]) -> ProbableVerdict:
    """The verdict of n > 0 answers, and the share of helpful, of two captions of the first, among them.

    The threshold and the band of ``unsure`` around it are those of ``answer.probability``. A share that is
    exactly the threshold is unsure.
    """
    yes, no = opposites(answer_format)
    points = sum(1.0 if verdict is yes else 0.0 if verdict is no else 0.5 for verdict in verdicts)
    share = points / len(verdicts)
    how = answer_format.probability or Probability()
    if share == how.threshold or abs(share - how.threshold) < how.unsure:
        return ProbableVerdict(Verdict.UNSURE, share)
    return ProbableVerdict(yes if share > how.threshold else no, share)


def is_settled(answer_format: AnswerFormat, verdicts: Sequence[Verdict], missing: int) -> bool:
    """Whether so many answers more could not change the verdict, whatever they say."""
    if not verdicts:
        return False
    found = (share_of(answer_format, [*verdicts, *[one] * missing]) for one in opposites(answer_format))
    return len({one.verdict for one in found}) == 1
