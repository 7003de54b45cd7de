"""What several answers about one subject come to: of one judge asked again, or of several judges.

The verdict is what most answers say, ``unsure`` where two verdicts are level. An answer without a readable
verdict counts as ``unsure``, so too few readable answers come to ``unsure``, too. The probability is the
share of the answers that say yes: ``(helpful + (unsure + tie) / 2) / answers``, of two captions with the
first for helpful. Unlike a mean of the judges' own probabilities it never contradicts the verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from onibus.schemas.records import Verdict

_POINTS = {Verdict.HELPFUL: 1.0, Verdict.FIRST: 1.0, Verdict.UNHELPFUL: 0.0, Verdict.SECOND: 0.0}


def majority(said: Sequence[Verdict]) -> Verdict:
    """What most of n > 0 answers say; ``unsure`` where as many say something else."""
    (verdict, most), *others = Counter(said).most_common(2)
    return Verdict.UNSURE if others and others[0][1] == most else verdict


def share_of_yes(said: Sequence[Verdict]) -> float:
    """The share of n > 0 answers that say yes: helpful, or the first; what is neither counts half."""
    return sum(_POINTS.get(verdict, 0.5) for verdict in said) / len(said)


def can_change(said: Sequence[Verdict], left: int) -> bool:
    """Whether ``left`` further answers can change what the majority of these says."""
    if not said:
        return left > 0
    most, *others = (count for _, count in Counter(said).most_common(2))
    return left > 0 and most - (others[0] if others else 0) <= left


def counted(said: Sequence[Verdict]) -> str:
    """The answers by what they say, for a person: ``2 helpful, 1 unsure``."""
    return ", ".join(f"{count} {verdict.value}" for verdict, count in Counter(said).most_common())
