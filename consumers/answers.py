"""Reads a verdict out of what a model wrote, tolerantly, and never guesses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from consumers.annotation_specs import AnswerFormat
from schemas.records import Verdict

_THINKING = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_VERDICT_LINE = re.compile(r"verdict\W{0,8}([\w-]+)", re.IGNORECASE)
_ANALYSIS = re.compile(r"analysis\s*:\s*(.+?)(?:\n|$)", re.IGNORECASE)


class Reading(NamedTuple):
    """What stands in an answer: the verdict, if it can be told, and the model's reason, if it gave one."""

    verdict: Verdict | None
    reason: str


def read_answer(answer_format: AnswerFormat, text: str) -> Reading:
    """The verdict in ``text``.

    ``one-word`` wants one of the words and nothing else but punctuation. ``verdict-line`` takes the word
    after the last "verdict", or an answer that is a single word. Upper and lower case, quotes, stars and a
    block of thinking before the answer do not matter. Anything else is no verdict.
    """
    text = _THINKING.sub("", text)
    words = {word.casefold(): verdict for verdict, word in answer_format.words.items()}
    alone = words.get(text.strip(" \t\r\n.\"'`*!:").casefold())
    if alone is not None or answer_format.parser == "one-word":
        return Reading(alone, "")
    reason = _ANALYSIS.search(text)
    return Reading(_by_line(words, text), reason.group(1).strip() if reason else "")


def _by_line(words: Mapping[str, Verdict], text: str) -> Verdict | None:
    found = [words.get(word.casefold()) for word in _VERDICT_LINE.findall(text)]
    return found[-1] if found else None
