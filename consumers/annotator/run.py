"""Puts an annotator together from options and runs it until it is told to stop."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b

from onibus.consumers.annotator.backlog import BacklogReader, Owed
from onibus.consumers.annotator.budget import Limits
from onibus.consumers.annotator.caption_filter import CaptionFilter
from onibus.consumers.annotator.cost import Prices
from onibus.consumers.annotator.group_offsets import GroupOffsets, find_offsets
from onibus.consumers.annotator.loop import AnnotatorProcess
from onibus.consumers.annotator.membership import Membership
from onibus.consumers.annotator.options import JUDGES, AnnotateOptions
from onibus.consumers.language_models.api_keys import FLAGS, api_key
from onibus.consumers.language_models.base import JudgeName, LanguageModel
from onibus.consumers.language_models.flipping import FlippingModel
from onibus.consumers.language_models.panel import PanelModel, Seat, panel_spec
from onibus.consumers.language_models.rules import RulesModel
from onibus.consumers.specs.prompts import Prompt
from onibus.consumers.specs.spec_file import SpecFile, load_spec_file, publish_specs
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.topic_admin import require_topics
from onibus.infra.observability import metrics
from onibus.infra.plugins import is_plugin
from onibus.infra.process.logs import set_up_logging
from onibus.infra.process.shutdown import stop_event
from onibus.infra.settings import Settings
from onibus.infra.vllm.model_folder import is_folder, model_folder, revision_of
from onibus.schemas import ids
from onibus.schemas.records import AnnotationSpec, Origin

_log = logging.getLogger(__name__)

_RULES_UNDER_WAY = 1_000
_MODEL_WANTED = {
    "openai": "the name under which the server has the model",
    "vllm": "a folder with a model, or its name on the hub",
}
_AHEAD = 4
"""One question for so many requests at a time waits for a free place, so that none stays free for long."""


Approve = Callable[[str], None]
"""Is given what a backlog takes, in a sentence without its end; raises if it is not to be asked about."""


def run(
    settings: Settings,
    options: AnnotateOptions,
    approve: Approve = lambda _: None,
    offsets: GroupOffsets | None = None,
    began: Callable[[], None] = lambda: None,
) -> None:
    """Run one annotator until SIGTERM or SIGINT.

    Args:
        approve: asked before a backlog is fetched from a model that costs something.
        offsets: where the group begins, if that is known (:func:`group_offsets`); else it is found out.
        began: called when the group has begun there: the model has answered.

    Raises:
        OnibusError: something that the user can put right, in one line.
    """
    set_up_logging(options.verbose)
    limits = spending_limits(options)
    files = [load_spec_file(name) for name in options.specs]
    specs = annotation_specs(files, options)
    model = language_model(files, options)
    caption_filter = caption_filter_of(files, options)
    _warn_of_unquoted_captions(specs.values(), model)
    metrics.expose(options.metrics_port, settings.metrics_host)
    require_topics(settings, role="annotator")
    if offsets is None:
        offsets = _offsets(settings, options, specs, caption_filter, approve)
    stopping = stop_event()  # until here signals end it at once, also while a person is asked

    def begin() -> None:
        publish_specs(settings, list(specs.values()))
        offsets.commit(settings)
        began()

    membership = Membership(
        group=offsets.group,
        name=options.name or f"{socket.gethostname()}-{os.getpid()}",
        most_under_way=captions_under_way(options),
        session_timeout_ms=round(options.session_seconds * 1000),
        stop_seconds=options.stop_seconds,
        is_static=options.static,
    )
    summary = AnnotatorProcess(
        settings,
        specs,
        model,
        membership,
        limits=limits,
        comparisons=options.comparisons,
        caption_filter=caption_filter,
        near_pairs=options.near_pairs,
        ask_again=options.ask_again,
        judges=len(options.judges),
        begin=begin,
    ).run(stopping)
    _log.info("annotator %s: %s", membership.name, summary.line())


def check(options: AnnotateOptions) -> tuple[list[SpecFile], dict[bytes, AnnotationSpec]]:
    """The spec files and specs of options, if these can be right. Models that may take long are not made.

    Raises:
        OnibusError: as for :func:`run`.
    """
    spending_limits(options)
    files = [load_spec_file(name) for name in options.specs]
    specs = annotation_specs(files, options)
    if all(judge.llm in ("rules", "openai") for judge in options.judges):
        language_model(files, options)
    return files, specs


def group_offsets(settings: Settings, options: AnnotateOptions, approve: Approve) -> GroupOffsets:
    """Where the group begins, for several annotators that are started next.

    Raises:
        OnibusError: as for :func:`run`.
    """
    files, specs = check(options)
    require_topics(settings, role="annotator")
    return _offsets(settings, options, specs, caption_filter_of(files, options), approve)


def _offsets(
    settings: Settings,
    options: AnnotateOptions,
    specs: Mapping[bytes, AnnotationSpec],
    caption_filter: CaptionFilter,
    approve: Approve,
) -> GroupOffsets:
    group = f"{settings.topic_prefix}{options.group}" if options.group else group_of(settings, specs)
    backlog, limits = options.backlog, _limits(options)

    def approve_owed(owed: Owed) -> None:
        asked = sum(judge.llm != "rules" for judge in options.judges)
        owed = owed._replace(questions=owed.questions * asked, cost=limits.of_all_judges(owed.cost))
        if options.costs_nothing:
            _log.info("the backlog is %d captions; rules cost nothing", owed.captions)
        elif backlog is not None:
            again = (
                f"; --ask-again asks up to {options.ask_again} times more about what is unsure or seen again"
            )
            approve(owed.line(backlog, limits.prices) + (again if options.ask_again else ""))

    reader = BacklogReader(settings, specs, caption_filter, options.comparisons)
    return find_offsets(settings, group, backlog, reader, approve_owed)


def caption_filter_of(files: Sequence[SpecFile], options: AnnotateOptions) -> CaptionFilter:
    """Which captions each spec is asked about: by its own tasks and captioner, and by the options'."""
    by_id = {ids.spec_id(_spec_of(file, options)): file for file in files}
    return CaptionFilter(
        by_id,
        {spec_id: file.tasks for spec_id, file in by_id.items()},
        {spec_id: file.captioner for spec_id, file in by_id.items() if file.captioner is not None},
        options.tasks,
        options.runs,
    )


def _warn_of_unquoted_captions(specs: Iterable[AnnotationSpec], model: LanguageModel) -> None:
    for spec in specs:
        if model.origin is Origin.LLM and not Prompt(spec).marks_captions_off():
            _log.warning(
                "spec %s: a caption can say anything to the model, for players type parts of it; "
                "write {{ caption | quoted }} in the template (first, second likewise)",
                spec.name,
            )


def annotation_specs(files: list[SpecFile], options: AnnotateOptions) -> dict[bytes, AnnotationSpec]:
    """What is asked, by spec id.

    Raises:
        OnibusError: a spec has no rules for ``--llm rules``, there is no such judge, or no model is named.
    """
    specs = [_spec_of(file, options) for file in files]
    return {ids.spec_id(spec): spec for spec in specs}


def _spec_of(file: SpecFile, options: AnnotateOptions) -> AnnotationSpec:
    specs = [judge.flips.spec(_unflipped_spec(file, judge)) for judge in options.judges]
    return specs[0] if options.panel is None else panel_spec(specs)


def _unflipped_spec(file: SpecFile, options: AnnotateOptions) -> AnnotationSpec:
    if options.llm == "rules":
        return file.for_rules()
    if is_plugin(options.llm):
        from onibus.consumers.language_models.plugin import model_version

        revision = options.model_revision or model_version(options.llm, options.llm_given_as)
        return file.for_model(options.model or options.llm, revision)
    if options.llm not in JUDGES:
        raise OnibusError(
            f"{options.llm_given_as} {options.llm}: there is no such judge; give {', '.join(JUDGES)}, or "
            "module:factory for one of your own"
        )
    if not options.model:
        raise OnibusError(f"{_needs(options, 'model')}: {_MODEL_WANTED[options.llm]}")
    if options.llm == "vllm" and is_folder(options.model):
        folder = model_folder(options.model).resolve()
        return file.for_model(folder.name, options.model_revision or revision_of(folder))
    return file.for_model(options.model, options.model_revision)


def _needs(options: AnnotateOptions, flag: str) -> str:
    """What is missing, for an error: a flag, or a field of the panel file."""
    if options.entry is None:
        return f"--llm {options.llm} needs --{flag}"
    return f"judge {options.model or options.llm} of the panel file needs {flag.replace('-', '_')}"


def captions_under_way(options: AnnotateOptions) -> int:
    """How many captions to have asked about at a time."""
    if options.costs_nothing:
        return _RULES_UNDER_WAY
    concurrency = max(judge.concurrency for judge in options.judges if judge.llm != "rules")
    return concurrency + -(-concurrency // _AHEAD)


def spending_limits(options: AnnotateOptions) -> Limits | None:
    """What the group may spend, and at which prices; None if neither was given.

    Raises:
        OnibusError: a budget in dollars without prices.
    """
    asked = [judge for judge in options.judges if options.panel is None or judge.llm != "rules"]
    are_priced = all(judge.price_in is not None or judge.price_out is not None for judge in asked)
    costs = any(judge.price_in or judge.price_out for judge in asked)
    if options.budget_usd is not None and not (are_priced and costs):
        whose = ", or price_in and price_out for each judge of the panel file" if options.panel else ""
        raise OnibusError(
            f"--budget-usd needs --price-in and --price-out{whose}: US dollars for a million tokens, "
            "more than 0 for some"
        )
    prices = [price for judge in options.judges for price in (judge.price_in, judge.price_out)]
    if all(value is None for value in (options.budget_tokens, options.budget_usd, *prices)):
        return None
    return _limits(options)


def _limits(options: AnnotateOptions) -> Limits:
    judges = tuple(judge.prices for judge in options.judges) if options.panel else ()
    prices = options.prices if options.panel is None else Prices()
    return Limits(options.budget_tokens, options.budget_usd, prices, judges)


def language_model(files: Sequence[SpecFile], options: AnnotateOptions) -> LanguageModel:
    """The model that the options ask for, or the panel of models; nothing is connected yet.

    Raises:
        OnibusError: an option is missing.
    """
    by_id = {ids.spec_id(_spec_of(file, options)): file for file in files}
    models = [_one_model(by_id, judge) for judge in options.judges]
    if options.panel is None:
        return models[0]
    seats = [
        Seat(
            {spec_id: _judge(file, judge, model.origin) for spec_id, file in by_id.items()},
            model,
            *_paid(judge),
        )
        for judge, model in zip(options.judges, models, strict=True)
    ]
    return PanelModel(seats, options.panel.patience, options.panel.quorum)


def _judge(file: SpecFile, options: AnnotateOptions, origin: Origin) -> JudgeName:
    spec = _spec_of(file, options)
    return JudgeName(spec.model, spec.model_revision, origin)


def _paid(options: AnnotateOptions) -> tuple[float | None, float | None]:
    return (None, None) if options.llm == "rules" else (options.price_in, options.price_out)


def _one_model(by_id: Mapping[bytes, SpecFile], options: AnnotateOptions) -> LanguageModel:
    """One judge, who knows the specs by these ids."""
    model = _unflipped_model(by_id, options)
    return FlippingModel(model, options.flips) if options.flips.share else model


def _unflipped_model(by_id: Mapping[bytes, SpecFile], options: AnnotateOptions) -> LanguageModel:
    specs = {spec_id: _spec_of(file, options) for spec_id, file in by_id.items()}
    if options.llm == "rules":
        return RulesModel({spec_id: file.rules for spec_id, file in by_id.items() if file.rules})
    if is_plugin(options.llm):
        from onibus.consumers.language_models.plugin import PluginModel

        return PluginModel(options.llm, specs, options.llm_given_as)
    if options.llm == "vllm":
        from onibus.consumers.language_models.vllm import VllmModel  # in an environment of its own: make vllm

        assert options.model is not None  # the specs could not have been made without
        return VllmModel(specs, options.model, options.concurrency, options.model_revision)
    from onibus.consumers.language_models.openai import OpenAIModel  # the client library is an extra

    if options.base_url is None:
        raise OnibusError(f"{_needs(options, 'base-url')}, for example http://127.0.0.1:8000/v1")
    entry = options.entry
    key, given = (api_key(), FLAGS) if entry is None else (entry.key(), entry.given)
    at_a_time, seconds = options.concurrency, options.request_seconds
    return OpenAIModel(specs, options.base_url, key, at_a_time, seconds, given=given)


def group_of(settings: Settings, specs: Mapping[bytes, AnnotationSpec]) -> str:
    """The consumer group of those who ask under exactly these specs.

    The ids are part of it: a changed spec has a group of its own, so that its backlog is a matter of its own,
    too (see :mod:`onibus.consumers.annotator.backlog`).
    """
    names = "+".join(sorted(spec.name for spec in specs.values()))
    digest = blake2b(b"".join(sorted(specs)), digest_size=4).hexdigest()
    return f"{settings.topic_prefix}annotators.{names}.{digest}"
