"""What is wrong with a spec file beyond the types of its fields: what could be asked or read by no model.

Only files are held to this. A spec on the bus was asked as it is, and stays readable.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from onibus.consumers.specs.answer_format import WORDS, AnswerFormat
from onibus.consumers.specs.answer_parsing import read_answer
from onibus.consumers.specs.prompts import Prompt
from onibus.infra.errors import OnibusError
from onibus.schemas.records import AnnotationSpec, Kind, Verdict

_WORD = re.compile(r"[^\W_](?:[\w-]*[^\W_])?")
_DECIDED = {
    Kind.JUDGE_ONE: (Verdict.HELPFUL, Verdict.UNHELPFUL),
    Kind.COMPARE_TWO: (Verdict.FIRST, Verdict.SECOND),
}
"""Verdicts without whose words nothing can be learnt."""
_TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
_NOT_SAMPLING = ("messages", "model", "n", "stream", "structured_outputs")
"""Fields of a request that are ours."""


def faults(contents: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a spec file's contents, each as "field: what, and what to do".

    Fields of another type than theirs are left to whoever checks types.
    """
    found = [*_blank_texts(contents), *_sampling_faults(contents.get("sampling"))]
    try:
        kind = Kind(str(contents.get("kind")))
    except ValueError:
        return found
    answer = contents.get("answer")
    if isinstance(answer, dict):
        found += _word_faults(kind, answer)
    if all(isinstance(contents.get(name), str) for name in ("template", "goal")):
        found += _template_faults(kind, contents["template"], contents["goal"])
    return found


def _blank_texts(contents: Mapping[str, Any]) -> Iterator[str]:
    for name in ("goal", "template"):
        if isinstance(text := contents.get(name), str) and text and not text.strip():
            yield f"{name}: is blank; write what the model should be given"


def _sampling_faults(sampling: Any) -> Iterator[str]:
    if not isinstance(sampling, dict):
        return
    for name, value in sampling.items():
        field = f"sampling.{name}"
        if name in _NOT_SAMPLING:
            yield f"{field}: is set by onibus itself; leave it out"
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{field}: {value} is no number that can be sent; give a finite one"
        elif name in _TOKEN_LIMITS and _number(value, int) < 1:
            yield f"{field}: {value!r} is no number of tokens; give a whole number from 1 on"
        elif name == "temperature" and not _number(value, float) >= 0:
            yield f"{field}: {value!r} is no temperature; give a number from 0 on"


def _number(value: Any, kind: type[int] | type[float]) -> float:
    """``value``, which may be a text as on the bus, as a number; -1 if it is none."""
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        return -1
    try:
        return kind(value)
    except (TypeError, ValueError):
        return -1


def _word_faults(kind: Kind, answer: Mapping[str, Any]) -> Iterator[str]:
    words = answer.get("words")
    if not isinstance(words, dict):
        return
    known = {name: w for name, w in words.items() if name in set(Verdict) and isinstance(w, str)}
    allowed = [v.value for v in WORDS[kind]]
    if not set(known) <= set(allowed):
        yield f"answer.words: may name {', '.join(allowed)} and nothing else for {kind.value}"
    elif missing := [v.value for v in _DECIDED[kind] if v.value not in words]:
        yield f"answer.words: lacks a word for {' and '.join(missing)}; give one for each"
    verdicts: dict[str, str] = {}
    for name, word in known.items():
        field = f"answer.words.{name}"
        if not word.strip():
            yield f"{field}: is empty, so an empty answer would be {name}; give a word"
        elif not _WORD.fullmatch(word) or not _can_be_read(answer, Verdict(name), word):
            yield f"{field}: {word!r} can never be read; give one word of letters, digits and inner hyphens"
        elif (other := verdicts.setdefault(_as_read(word), name)) != name:
            yield f"{field}: {word!r} is read as the word for {other}, too; upper and lower case are the same"


def _as_read(word: str) -> str:
    return unicodedata.normalize("NFKC", word).casefold()


def _can_be_read(answer: Mapping[str, Any], verdict: Verdict, word: str) -> bool:
    parser = answer.get("parser", "verdict-line")
    if parser not in ("verdict-line", "one-word"):
        return True  # a fault of its own
    alone = AnswerFormat(parser=parser, words={verdict: word})
    texts = [word, f"verdict: {word}"] if parser == "verdict-line" else [word]
    return all(read_answer(alone, text).verdict is verdict for text in texts)


def _template_faults(kind: Kind, template: str, goal: str) -> Iterator[str]:
    names = ("caption",) if kind is Kind.JUDGE_ONE else ("first", "second")
    spec = AnnotationSpec("", goal.strip(), kind, template.strip(), "", "", "")
    try:
        prompt = Prompt(spec)
        texts = ["You see here a key."] * len(names)
        usual = prompt.text(*texts)
        for place, name in enumerate(names):
            changed = [*texts[:place], "It is dark.", *texts[place + 1 :]]
            if prompt.text(*changed) == usual:
                wanted = f"{{{{ {name} | quoted }}}}"
                yield f"template: shows the model no {name}; write {wanted} where it belongs"
    except OnibusError as error:
        yield f"template: {str(error).removeprefix('template of spec : ')}"
