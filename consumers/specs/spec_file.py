"""Annotation specs: files that say what to ask and how, and the topic that tells everyone what was asked.

A spec file is TOML: name, kind, goal, prompt template (Jinja over ``goal`` and ``caption``, or ``goal``,
``first`` and ``second`` where two are compared), how the answer looks, sampling settings, and keyword rules
(its own, or the name of the spec whose they are) that ``--llm rules`` judges by instead of a model. With
a model and its revision it becomes an :class:`~onibus.schemas.records.AnnotationSpec`, whose id stands in
every label's key.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kafka.errors import KafkaError
from pydantic import Field, ValidationError, field_validator, model_validator

from onibus.consumers.specs.answer_format import TOKEN_LIMITS, WORDS, AnswerFormat, SpecPart
from onibus.consumers.specs.spec_faults import faults, type_fault
from onibus.infra.captioner_names import check_captioner
from onibus.infra.errors import OnibusError, did_you_mean
from onibus.infra.files import read_toml
from onibus.infra.kafka import clients
from onibus.infra.kafka.clock import explained
from onibus.infra.kafka.codecs import codec_for, decoded
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas import ids
from onibus.schemas.records import AnnotationSpec, Kind, Message, Verdict

RULES_MODEL = "rules"
_SEND_SECONDS = 10
_DEEPEST = 8
"""Files that may stand one on top of another."""
_IMPORTED = "onibus-imported"
"""Header of a spec that came with a file of annotations."""
_ANNOUNCED_BY = "onibus-announced-by"
"""Header with the host of the program that announced a spec."""
_PARTITION = 0
"""Where all announcements go: only within a partition is one later than another."""


class Rules(SpecPart):
    """Regular expressions, searched in the caption without regard to case. Unhelpful ones go first."""

    helpful: tuple[str, ...] = ()
    unhelpful: tuple[str, ...] = ()
    otherwise: Verdict = Verdict.UNHELPFUL

    @field_validator("helpful", "unhelpful")
    @classmethod
    def _are_expressions(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if not pattern:
                raise ValueError("an empty expression matches every caption")
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return patterns

    def revision(self) -> str:
        """Hash of the rules, 16 hex digits: other rules are another revision of the "model"."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return blake2b(canonical.encode(), digest_size=8).hexdigest()


class MessagePart(SpecPart):
    """One message before the prompt; ``content`` is a template over ``goal``."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class SpecFile(SpecPart):
    """The contents of a spec file; ``infra/docs/specs.md`` says what each field is for."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9._-]*$", max_length=60)
    kind: Kind
    goal: str = Field(min_length=1)
    template: str = Field(min_length=1)
    messages: tuple[MessagePart, ...] = ()
    answer: AnswerFormat = AnswerFormat()
    sampling: dict[str, str | int | float] = Field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    captioner: str | None = None
    rules: Rules | None = None
    """``rules = "goals"`` in a file stands for those of that spec."""

    @model_validator(mode="before")
    @classmethod
    def _words_of_its_kind(cls, given: Any) -> Any:
        """Where a file that compares two says nothing of words, they are those of a comparison."""
        if isinstance(given, dict) and given.get("kind") == Kind.COMPARE_TWO.value:
            answer = {"words": {v.value: v.value for v in WORDS[Kind.COMPARE_TWO]}}
            given = given | {"answer": answer | dict(given.get("answer", {}))}
        return given

    @field_validator("captioner")
    @classmethod
    def _there_is_such_a_captioner(cls, given: str | None) -> str | None:
        try:
            if given is not None:
                check_captioner(given)
        except OnibusError as error:
            raise ValueError(str(error)) from error
        return given

    @cached_property
    def sampling_texts(self) -> dict[str, str]:
        """Sampling settings as the texts that a record holds."""
        return {name: str(value) for name, value in sorted(self.sampling.items())}

    def for_model(
        self, model: str, revision: str = "", sampling: Mapping[str, str] | None = None
    ) -> AnnotationSpec:
        """What is asked when ``model`` answers; ``sampling`` replaces single settings of the file."""
        return AnnotationSpec(
            name=self.name,
            goal=self.goal.strip(),
            kind=self.kind,
            template=self.template.strip(),
            parser=self.answer.canonical(),
            model=model,
            model_revision=revision,
            sampling=self.sampling_texts | dict(sampling or {}),
            messages=tuple(Message(m.role, m.content.strip()) for m in self.messages),
        )

    def for_rules(self) -> AnnotationSpec:
        """What is asked when the file's rules answer.

        Raises:
            OnibusError: the file has none.
        """
        if self.rules is None:
            raise OnibusError(
                f"spec {self.name} has no [rules] for --llm rules; add them or choose --llm openai"
            )
        return replace(self.for_model(RULES_MODEL, self.rules.revision()), sampling={})


def spec_names() -> list[str]:
    """Names of the specs that come with onibus."""
    return sorted(f.name.removesuffix(".toml") for f in _folder().iterdir() if f.name.endswith(".toml"))


def load_spec_file(name_or_path: str | Path) -> SpecFile:
    """The spec with this name, or the file at this path (anything with a slash or ``.toml`` is a path).

    Raises:
        OnibusError: there is none, or it is not as it must be; the line says what is wrong.
    """
    return _validated(str(name_or_path), _contents(str(name_or_path), 0))


def _contents(given: str, depth: int) -> dict[str, Any]:
    """What stands in a file, on top of its base, and with the rules that it names."""
    is_path = given.endswith(".toml") or "/" in given
    if not is_path and given not in spec_names():
        hint = did_you_mean(given, spec_names(), f"there are: {', '.join(spec_names())}")
        raise OnibusError(f"no spec is called {given}; {hint} (your own file: --spec path/to/file.toml)")
    path = Path(given) if is_path else _folder() / f"{given}.toml"
    contents = read_toml(path, f"spec file {given}")
    if depth > _DEEPEST:
        raise OnibusError(f"spec file {given}: its base or rules lead back to itself; name another file")
    if isinstance(contents.get("rules"), str):
        contents["rules"] = _contents(contents["rules"], depth + 1).get("rules")
    if isinstance(base := contents.pop("base", None), str):
        contents = _on_top(contents, _contents(base, depth + 1))
    elif base is not None:
        contents["base"] = base  # a fault: it names no spec
    return contents


def _on_top(contents: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """A file's own fields over those of its base; tables of single settings are joined setting by setting."""
    merged = {name: value for name, value in base.items() if name != "name"} | contents
    for name in ("answer", "sampling"):
        own, theirs = contents.get(name), base.get(name)
        if isinstance(own, dict) and isinstance(theirs, dict):
            replaced = TOKEN_LIMITS if set(TOKEN_LIMITS) & set(own) else ()
            merged[name] = {n: value for n, value in theirs.items() if n not in replaced} | own
    return merged


def _validated(given: str, contents: Mapping[str, Any]) -> SpecFile:
    """The spec in a file's contents.

    Raises:
        OnibusError: something is wrong with it, or several things, each in a line of its own.
    """
    file, found = None, list[str]()
    try:
        file = SpecFile.model_validate(contents)
    except ValidationError as error:
        found = list(dict.fromkeys(type_fault(one["loc"], one["msg"], SpecFile) for one in error.errors()))
    found += faults(contents)
    if file is not None and not found:
        return file
    if len(found) == 1:
        advice = "" if "; " in found[0] else "; correct it"
        raise OnibusError(f"spec file {given}: {found[0]}{advice}")
    lines = "".join(f"\n  {fault}" for fault in found)
    raise OnibusError(f"spec file {given} has {len(found)} faults; correct them:{lines}")


def load_spec(
    name_or_path: str | Path,
    model: str = RULES_MODEL,
    revision: str = "",
    sampling: Mapping[str, str] | None = None,
) -> AnnotationSpec:
    """The annotation spec of a spec file under a model; ``rules`` stands for the file's own rules.

    Raises:
        OnibusError: as for :func:`load_spec_file`.
    """
    file = load_spec_file(name_or_path)
    return file.for_rules() if model == RULES_MODEL else file.for_model(model, revision, sampling)


class Announced(NamedTuple):
    """A spec as its last announcement left it on the topic.

    Attributes:
        was_imported: it came with a file of annotations, and no annotator has announced it here since.
        announced_at: seconds since the epoch, by the broker's clock.
        announced_by: host of the program that announced it; None where an older one did.
    """

    spec: AnnotationSpec
    was_imported: bool
    announced_at: float
    announced_by: str | None


def read_specs(settings: Settings) -> dict[bytes, AnnotationSpec]:
    """Every published spec by its id, the last one announced last: see :func:`announced_specs`.

    Raises:
        OnibusError: the cluster cannot be reached or has no such topic.
    """
    return {spec_id: announced.spec for spec_id, announced in announced_specs(settings).items()}


def announced_specs(settings: Settings) -> dict[bytes, Announced]:
    """Every published spec by its id, in the order of its last announcement on the log.

    An annotator announces its specs each time it starts, so of several with one name the last is the one in
    use. No clock has a say. What was imported stands before what annotators announced. Announcements go to
    partition 0; what an older program put on another partition of a topic that has several stands before
    them, too.

    Raises:
        OnibusError: the cluster cannot be reached or has no such topic.
    """
    topic = TopicNames(settings.topic_prefix).annotation_specs
    codec = codec_for(settings)
    found: dict[bytes, tuple[tuple[bool, int, int], Announced]] = {}
    records = (record for batch in clients.read_all(settings, topic) for record in batch)
    for record in sorted(records, key=lambda record: (-record.partition, record.offset)):
        if record.value is None:
            found.pop(record.key, None)
            continue
        if (spec := decoded(codec, AnnotationSpec, record)) is None:
            continue
        headers = dict(record.headers)
        was_imported = _IMPORTED in headers
        by = headers[_ANNOUNCED_BY].decode(errors="replace") if _ANNOUNCED_BY in headers else None
        place = (not was_imported, -record.partition, record.offset)
        found[record.key] = place, Announced(spec, was_imported, record.timestamp / 1000, by)
    return {spec_id: announced for spec_id, (_, announced) in sorted(found.items(), key=lambda i: i[1][0])}


def publish_specs(settings: Settings, specs: list[AnnotationSpec]) -> list[bytes]:
    """Announce specs as those in use from now on; returns the id of each.

    A spec that is the last one of its name already is not written again, and one that was published before
    keeps its first time of publication. If two processes announce the same one at once, both write it and
    compaction leaves one.

    Raises:
        OnibusError: the cluster cannot be reached, or does not take it.
    """
    there = announced_specs(settings)
    wanted = {ids.spec_id(spec): spec for spec in specs}
    last = {announced.spec.name: spec_id for spec_id, announced in there.items()}
    new = {
        spec_id: spec if spec_id not in there else replace(spec, created_at=there[spec_id].spec.created_at)
        for spec_id, spec in wanted.items()
        if last.get(spec.name) != spec_id or there[spec_id].was_imported
    }
    _announce(settings, new)
    return list(wanted)


def import_specs(settings: Settings, specs: list[AnnotationSpec]) -> None:
    """Publish those of ``specs`` that are not on the topic, without putting them to use.

    Raises:
        OnibusError: the cluster cannot be reached, or does not take it.
    """
    there = read_specs(settings)
    new = {spec_id: spec for spec in specs if (spec_id := ids.spec_id(spec)) not in there}
    _announce(settings, new, headers=[(_IMPORTED, b"")])


def _announce(
    settings: Settings, specs: Mapping[bytes, AnnotationSpec], headers: Sequence[tuple[str, bytes]] = ()
) -> None:
    if not specs:
        return
    topic, codec = TopicNames(settings.topic_prefix).annotation_specs, codec_for(settings)
    now = time.time_ns() // 1000
    signed = [*headers, (_ANNOUNCED_BY, socket.gethostname().encode())]
    producer = clients.producer(settings)
    try:
        sent = [
            producer.send(
                topic,
                key=spec_id,
                value=codec.encode(topic, replace(spec, created_at=spec.created_at or now)),
                headers=signed,
                partition=_PARTITION,
            )
            for spec_id, spec in specs.items()
        ]
        for future in sent:
            future.get(timeout=_SEND_SECONDS)
    except KafkaError as error:
        raise OnibusError(
            f"cannot publish annotation specs on {topic}: {explained(error)}; check that its brokers are up"
        ) from error
    finally:
        producer.close(timeout=_SEND_SECONDS)


def _folder() -> Path:
    return Path(str(files("onibus.consumers.specs") / "builtin"))
