"""What is wrong with a spec file beyond the types of its fields: what could be asked or read by no model.

Only files are held to this. A spec on the bus was asked as it is, and stays readable.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from onibus.consumers.specs.answer_format import DECIDED, TOKEN_LIMITS, WORDS, AnswerFormat
from onibus.consumers.specs.answer_parsing import read_answer
from onibus.consumers.specs.prompts import Prompt
from onibus.infra.errors import OnibusError, did_you_mean
from onibus.schemas.records import AnnotationSpec, Kind, Message, Verdict

_WORD = re.compile(r"[^\W_](?:[\w-]*[^\W_])?")
_TYPES = {
    "Input should be a valid tuple": 'should be a list, such as ["…", "…"]',
    "Input should be a valid dictionary": "should be a table",
    "Input should be a valid string": 'should be a text, in quotes: "…"',
}
"""In TOML's words."""
_NO_PROBABILITY = ("unsure", "tie")
_NO_TEMPERATURE = ("0", "0.0")
_NOT_SAMPLING = ("logprobs", "messages", "model", "n", "stream", "structured_outputs", "top_logprobs")
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
    found += _rule_faults(contents.get("rules"))
    answer = contents.get("answer")
    if isinstance(answer, dict):
        found += _word_faults(kind, answer)
        found += _probability_faults(answer)
        found += _sample_faults(answer, contents.get("sampling"))
    goal = contents.get("goal")
    contents = {**contents, "goal": goal if isinstance(goal, str) else ""}  # a fault of its own
    if isinstance(contents.get("template"), str):
        found += _template_faults(kind, contents["template"], contents["goal"])
    found += _message_faults(contents)
    return found


def type_fault(place: tuple[int | str, ...], message: str, model: type[BaseModel]) -> str:
    """One fault of a field's type, with what it may be.

    Args:
        place: names and numbers, from 0, that lead to the field; a person is told them from 1.
        message: as pydantic says it.
        model: what the file is read as.
    """
    if place[0] == "sampling" and len(place) > 1:  # one message for each type that it might have been
        return f"sampling.{place[1]}: should be a text or a number"
    where = "".join(f" {part + 1}" if isinstance(part, int) else f".{part}" for part in place)[1:]
    if message == "Field required":
        return f"{where}: is missing; add it"
    if message.startswith("Extra inputs"):
        names = _names_of(place[:-1], model)
        hint = did_you_mean(str(place[-1]), names, f"there are: {', '.join(names)}")
        return f"{where}: is not a field; {hint}"
    return f"{where}: {_TYPES.get(message, message.removeprefix('Value error, '))}"


def _names_of(place: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """The fields of the table at ``place``."""
    for part in place:
        if isinstance(part, int):
            continue
        inner: Any = model.model_fields[part].annotation
        parts = [inner, *get_args(inner)]
        model = next(p for p in parts if isinstance(p, type) and issubclass(p, BaseModel))
    has_base = not place and "template" in model.model_fields
    return sorted({*model.model_fields, *(["base"] if has_base else [])})


def _probability_faults(answer: Mapping[str, Any]) -> Iterator[str]:
    is_read = answer.get("parser") == "probability"
    if isinstance(answer.get("probability"), dict) and not is_read and answer.get("samples", 1) == 1:
        yield (
            'answer.probability: counts only with parser = "probability", or with samples; add one of them, '
            "or leave it out"
        )
    words = answer.get("words")
    if is_read and isinstance(words, dict):
        told = [w.casefold() for n, w in words.items() if isinstance(w, str) and n not in _NO_PROBABILITY]
        if any(one != other and other.startswith(one) for one in told for other in told):
            yield "answer.words: one begins the other, so they cannot be told apart; choose other words"
        if any(name in words for name in _NO_PROBABILITY):
            yield "answer.words: unsure and tie are not words here; set answer.probability.unsure instead"
    if is_read and answer.get("constrained"):
        yield "answer.constrained: has no meaning for probabilities; leave it out"


def _sample_faults(answer: Mapping[str, Any], sampling: Any) -> Iterator[str]:
    if not isinstance(answer.get("samples"), int) or answer["samples"] < 2:
        return
    if answer.get("parser") == "probability":
        yield "answer.samples: one answer has the probabilities already; leave samples out"
    if isinstance(sampling, dict):
        if str(sampling.get("temperature", "")) in _NO_TEMPERATURE:
            yield "answer.samples: at temperature 0 all answers are the same; raise sampling.temperature"
        if "seed" in sampling:
            yield "answer.samples: with a seed all answers are the same; leave sampling.seed out"


def _message_faults(contents: Mapping[str, Any]) -> Iterator[str]:
    messages = contents.get("messages")
    if not isinstance(messages, list):
        return
    answer = contents.get("answer")
    how = answer.get("probability") if isinstance(answer, dict) else None
    if messages and isinstance(how, dict) and how.get("plain"):
        yield "messages: a plain prompt has none; put them into the template, or leave plain out"
    for number, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, str):
            continue
        spec = AnnotationSpec(
            "", contents["goal"].strip(), Kind.JUDGE_ONE, "{{ caption }}", "", "", "",
            messages=(Message("user", content),),
        )  # fmt: skip
        try:
            Prompt(spec)
        except OnibusError as error:
            said = str(error).removeprefix("template of spec : ").rpartition("; it may use")[0]
            yield f"messages {number + 1}.content: {said}; it may use {{{{ goal }}}}"


def _blank_texts(contents: Mapping[str, Any]) -> Iterator[str]:
    for name in ("goal", "template"):
        if isinstance(text := contents.get(name), str) and text and not text.strip():
            yield f"{name}: is blank; write what the model should be given"


def _sampling_faults(sampling: Any) -> Iterator[str]:
    if not isinstance(sampling, dict):
        return
    if set(TOKEN_LIMITS) <= set(sampling):
        yield f"sampling: has {' and '.join(TOKEN_LIMITS)}, which are the same limit; leave one out"
    for name, value in sampling.items():
        field = f"sampling.{name}"
        if name in _NOT_SAMPLING:
            yield f"{field}: is set by onibus itself; leave it out"
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{field}: {value} is not a number that can be sent; give a finite one"
        elif name in TOKEN_LIMITS and _number(value, int) < 1:
            yield f"{field}: {value!r} is not a number of tokens; give a whole number from 1 on"
        elif name == "temperature" and not _number(value, float) >= 0:
            yield f"{field}: {value!r} is not a temperature; give a number from 0 on"


def _number(value: Any, kind: type[int] | type[float]) -> float:
    """``value``, which may be a text as on the bus, as a number; -1 if it is not one."""
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
    elif missing := [v.value for v in DECIDED[kind] if v.value not in words]:
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


def _rule_faults(rules: Any) -> Iterator[str]:
    """Rules judge single captions, also where two are compared."""
    otherwise = rules.get("otherwise") if isinstance(rules, dict) else None
    if otherwise in set(Verdict) and otherwise not in WORDS[Kind.JUDGE_ONE]:
        allowed = ", ".join(WORDS[Kind.JUDGE_ONE])
        yield f"rules.otherwise: {otherwise} is not a verdict on one caption; give one of {allowed}"


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
