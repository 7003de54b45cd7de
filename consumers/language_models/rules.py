"""``--llm rules``: keyword rules, the honest stand-in where no model can run."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from onibus.consumers.language_models.base import Answer, Progress, Question
from onibus.consumers.specs.spec_file import Rules
from onibus.schemas.records import Origin, Verdict


class RulesModel:
    """Judges captions by the regular expressions of spec files.

    Of two captions a helpful one is preferred to an unsure one, and that to an unhelpful one.

    Args:
        rules: the rules of each spec, by spec id.
    """

    origin = Origin.RULES

    def __init__(self, rules: Mapping[bytes, Rules]) -> None:
        self._judges = {spec_id: RuleJudge(own) for spec_id, own in rules.items()}

    async def check(self) -> None:
        """Rules can always answer."""

    async def answer(self, question: Question) -> Answer:
        """The verdict of the first rule that matches; which one stands as the reason."""
        started = time.perf_counter_ns()
        judge = self._judges[question.spec_id]
        if question.second is None:
            verdict, reason = judge.judge(question.text)
        else:
            verdict, reason = judge.compare(question.text, question.second)
        latency = (time.perf_counter_ns() - started) // 1000
        return Answer.of(question, verdict, reason=reason, latency_us=latency)

    def progress(self, question: Question) -> Progress:
        """Rules cost nothing."""
        return Progress.WAITING

    async def close(self) -> None:
        """Nothing to give up."""


class RuleJudge:
    """Judges captions by the rules of one spec."""

    def __init__(self, rules: Rules) -> None:
        self._otherwise = rules.otherwise
        self._order = [
            (verdict, [re.compile(pattern, re.IGNORECASE) for pattern in patterns])
            for verdict, patterns in (
                (Verdict.UNHELPFUL, rules.unhelpful),
                (Verdict.HELPFUL, rules.helpful),
            )
        ]

    def judge(self, caption: str) -> tuple[Verdict, str]:
        """The verdict of the first rule that matches, and which one that is."""
        for verdict, patterns in self._order:
            for pattern in patterns:
                if pattern.search(caption):
                    return verdict, f"matches {pattern.pattern}"
        return self._otherwise, "no rule matches"

    def compare(self, first: str, second: str) -> tuple[Verdict, str]:
        (one, why_one), (other, why_other) = self.judge(first), self.judge(second)
        reason = f"first: {one.value}, {why_one}; second: {other.value}, {why_other}"
        if one is other:
            return Verdict.TIE, reason
        return (Verdict.FIRST if _RANK[one] > _RANK[other] else Verdict.SECOND), reason


_RANK = {Verdict.UNHELPFUL: 0, Verdict.UNSURE: 1, Verdict.HELPFUL: 2}
