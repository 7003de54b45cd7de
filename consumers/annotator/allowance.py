"""What one annotator may still ask about: by its group's budget, or anything without one."""

from __future__ import annotations

import logging

from onibus.consumers.annotator.budget import GroupBudget
from onibus.consumers.annotator.decisions import Annotator

_log = logging.getLogger(__name__)


class Allowance:
    """Turns a budget into captions.

    Args:
        budget: the group's.
        annotator: whose captions are asked about.
        partitions: of the topic ``captions``.
        specs: that each caption is asked about under.
    """

    def __init__(self, budget: GroupBudget, annotator: Annotator, partitions: int, specs: int) -> None:
        self._budget, self._annotator = budget, annotator
        self._partitions, self._specs = partitions, specs

    def affordable(self, most: int) -> int:
        """How many more captions there is money for; ``most`` without limits."""
        if not self._budget.is_limited:
            return most
        share = len(self._annotator.partitions) / self._partitions
        unpaid = self._annotator.taken * self._specs + self._annotator.asked.strays
        return self._budget.questions(share, unpaid) // self._specs

    def is_spent(self) -> bool:
        """Whether there are captions to ask about, none under way, and nothing left for one more."""
        if not self._budget.is_limited or not len(self._annotator.pending) or self._annotator.taken:
            return False
        if self.affordable(0) or (self._annotator.partitions[0] == 0 and self._budget.questions(1.0, 0)):
            return False  # who owns the first partition stays, for when the others have left it their shares
        _log.info(
            "the budget is spent, as far as it goes: %s, and one more question may cost %s; the rest stays "
            "on the log",
            self._budget.line(), self._budget.dearest_line(),
        )  # fmt: skip
        return True
