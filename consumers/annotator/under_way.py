"""Which captions wait for the answer to which question. Those that need the same answer wait for one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import chain
from typing import cast

from onibus.consumers.annotator.work import Work
from onibus.consumers.language_models.base import Answer, Question

Key = tuple[bytes, bytes]
"""Of what is judged, under which spec."""


class UnderWay:
    """The questions under way.

    Args:
        is_current: whether a caption's partition is still in the ownership in which it was asked about.
    """

    def __init__(self, is_current: Callable[[Work], bool]) -> None:
        self._is_current = is_current
        self._waiting: dict[Key, list[Work]] = {}
        self._taken_back: set[Key] = set()

    @property
    def strays(self) -> int:
        """Questions whose partition went and has not come back to them."""
        return sum(not any(map(self._is_current, works)) for works in self._waiting.values())

    @property
    def half_answered(self) -> list[Work]:
        """What has some answers, and lacks others."""
        works = chain.from_iterable(self._waiting.values())
        return list({id(work): work for work in works if work.answers and self._is_current(work)}.values())

    def add(self, key: Key, work: Work) -> bool:
        """Have this wait for an answer; whether it must be asked for."""
        is_new = key not in self._waiting
        self._waiting[key] = [other for other in self._waiting.get(key, ()) if self._is_current(other)]
        self._waiting[key].append(work)
        return is_new

    def pop(self, key: Key) -> list[Work]:
        """The answer has come: what waited for it and is still wanted."""
        return [work for work in self._waiting.pop(key) if self._is_current(work)]

    def is_about(self, partitions: Collection[int]) -> bool:
        """Whether answers about captions of these partitions are still to come."""
        works = chain.from_iterable(
            works for key, works in self._waiting.items() if key not in self._taken_back
        )
        return any(work.caption.partition in partitions and self._is_current(work) for work in works)

    def only_about(
        self, partitions: Collection[int], half_answered: bool = False
    ) -> Callable[[Question], bool]:
        """Which questions can be taken back when these partitions go to others: no one else waits for them.

        Args:
            half_answered: also those about captions that have an answer under another spec; with the missing
                one they could be written.
        """

        def is_leaving(work: Work) -> bool:
            is_wanted = work.answers and not half_answered
            return not self._is_current(work) or (work.caption.partition in partitions and not is_wanted)

        leaving = {key for key, works in self._waiting.items() if all(map(is_leaving, works))}
        return lambda question: question.ticket in leaving

    def taken_back(self, questions: Iterable[Question]) -> None:
        """These get no answer. What waits for them is forgotten when its partition has gone."""
        self._taken_back.update(cast(Key, question.ticket) for question in questions)

    def forget_taken_back(self) -> None:
        """Forget questions that were taken back, whose partition has gone."""
        for key in [key for key in self._taken_back if not any(map(self._is_current, self._waiting[key]))]:
            self._taken_back.remove(key)
            del self._waiting[key]

    def clear(self) -> None:
        """No answer is waited for any more."""
        self._waiting.clear()
        self._taken_back.clear()


def key_of(answer: Answer) -> Key:
    """What it is about."""
    return cast(Key, answer.question.ticket)
