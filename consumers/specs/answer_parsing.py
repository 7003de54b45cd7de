"""Reads a verdict out of what a model wrote, tolerantly, and never guesses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from consumers.specs.spec_file import AnswerFormat
from schemas.records import Verdict

_THINKING = re.compile(r"^.*</think(?:ing)?>|<think(?:ing)?>.*", re.DOTALL | re.IGNORECASE)
"""All up to the end of thinking (some servers leave the opening tag out), or thinking that was cut off."""
_VERDICT = re.compile(
    r"""(?<![/\w])                              # not a closing tag
    (?: verdict (?:\s+is)? \W{0,8}             # "verdict: x", "**Verdict** x", "<verdict>x", '"verdict": "x'
      | label ["'*`_\s]* [:=>] \W{0,8} )       # "label: x", "<label>x"; but not "I would label this x"
    (?: \\?(?:boxed|text)\W+ )*                # "\\boxed{\\text{x}}", from models raised on mathematics
    ([\w-]+)\b (?!\s*(?:[/|]|or\b))            # "helpful/unhelpful" repeats the question
    """,
    re.IGNORECASE | re.VERBOSE,
)
_ANALYSIS = re.compile(r"""analysis["'*`_\s]*[:>]["'*`_\s]*(.+?)["'*`_,\s]*(?:\n|<|$)""", re.IGNORECASE)


class Reading(NamedTuple):
    """What stands in an answer: the verdict, if it can be told, and the model's reason, if it gave one."""

    verdict: Verdict | None
    reason: str


def read_answer(answer_format: AnswerFormat, text: str) -> Reading:
    """The verdict in ``text``.

    ``one-word`` wants one of the words and nothing else but punctuation. ``verdict-line`` takes the word
    after the last "verdict" or "label", as a line, a tag or a field of JSON, or an answer that is a single
    word. Upper and lower case, quotes, stars and thinking before the answer do not matter. Anything else is
    no verdict.
    """
    text = _THINKING.sub("", text)
    words = {word.casefold(): verdict for verdict, word in answer_format.words.items()}
    alone = words.get(text.strip(" \t\r\n.\"'`*_!:[](){}<>#").casefold())
    if alone is not None or answer_format.parser == "one-word":
        return Reading(alone, "")
    reason = _ANALYSIS.search(text)
    return Reading(_by_line(words, text), reason.group(1).strip() if reason else "")


def _by_line(words: Mapping[str, Verdict], text: str) -> Verdict | None:
    found = [words.get(word.casefold()) for word in _VERDICT.findall(text)]
    return found[-1] if found else None
