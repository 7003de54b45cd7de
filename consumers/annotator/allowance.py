"""What one annotator may still ask about: by its group's budget, or anything without one."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping

from kafka.errors import KafkaError

from onibus.consumers.annotator.batch import Batch
from onibus.consumers.annotator.budget import GroupBudget, Limits
from onibus.consumers.annotator.decisions import Annotator
from onibus.consumers.annotator.membership import Membership
from onibus.consumers.language_models.base import Attempt
from onibus.infra.settings import Settings
from onibus.schemas.codec import Codec
from onibus.schemas.records import AnnotationSpec

_log = logging.getLogger(__name__)


class Allowance:
    """Turns a budget into captions.

    Args:
        budget: the group's; None: there is none.
        annotator: whose captions are asked about.
        partitions: of the topic ``captions``.
        specs: that each caption is asked about under.
    """

    def __init__(self, budget: GroupBudget | None, annotator: Annotator, partitions: int, specs: int) -> None:
        self._budget, self._annotator = budget, annotator
        self._partitions, self._specs = partitions, specs

    @classmethod
    def of(
        cls,
        settings: Settings,
        codec: Codec,
        limits: Limits | None,
        specs: Mapping[bytes, AnnotationSpec],
        membership: Membership,
        annotator: Annotator,
    ) -> Allowance:
        """The one of a member of a group with these limits, if there are any."""
        budget = None
        if limits is not None and limits.are_given:
            budget = GroupBudget(settings, codec, limits, specs, membership.name, membership.group)
        return cls(budget, annotator, settings.partitions, len(specs))

    def load(self, stopping: threading.Event) -> None:
        """See :meth:`GroupBudget.load`."""
        if self._budget is not None:
            self._budget.load(stopping)

    def follow(self, stopping: threading.Event) -> None:
        """See :meth:`GroupBudget.follow`."""
        if self._budget is not None:
            self._budget.follow(stopping)

    def probed(self, attempt: Attempt) -> None:
        """See :meth:`GroupBudget.probed`."""
        if self._budget is not None:
            self._budget.probed(attempt)

    def committed(self, batch: Batch) -> None:
        """See :meth:`GroupBudget.committed`."""
        if self._budget is not None:
            self._budget.committed(batch)

    def mark(self, partition: int) -> str:
        """See :meth:`GroupBudget.mark`."""
        return "" if self._budget is None else self._budget.mark(partition)

    def affordable(self, most: int) -> int:
        """How many more captions there is money for; ``most`` where there is no budget."""
        if self._budget is None:
            return most
        share = len(self._annotator.partitions) / self._partitions
        unpaid = self._annotator.taken * self._specs + self._annotator.asked.strays
        return self._budget.questions(share, unpaid) // self._specs

    def is_spent(self) -> bool:
        """Whether there are captions to ask about, none under way, and nothing left for one more."""
        if self._budget is None or not len(self._annotator.pending) or self._annotator.taken:
            return False
        if self.affordable(0) or (self._annotator.partitions[0] == 0 and self._budget.questions(1.0, 0)):
            return False  # who owns the first partition stays, for when the others have left it their shares
        _log.info(
            "the budget is spent, as far as it goes: %s, and one more question may cost %s; the rest stays "
            "on the log",
            self._budget.line(), self._budget.dearest_line(),
        )  # fmt: skip
        return True

    def close(self) -> None:
        """Close the connection."""
        if self._budget is not None:
            with contextlib.suppress(KafkaError):  # the broker may be away
                self._budget.close()
