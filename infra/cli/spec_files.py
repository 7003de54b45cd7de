"""``onibus spec show``, ``check``, ``try`` and ``evaluate``: spec files before they are put to use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onibus.infra.cli.options import AsJson, PriceIn, PriceOut
from onibus.infra.errors import OnibusError
from onibus.infra.money import dollars
from onibus.infra.process.terminal import echo, printable, printable_lines

if TYPE_CHECKING:
    from onibus.consumers.annotator.cost import Prices
    from onibus.consumers.annotator.options import AnnotateOptions
    from onibus.consumers.replay.spec_evaluation import SpecEvaluation
    from onibus.consumers.replay.trying_specs import Trial

_Spec = Annotated[str, typer.Argument(help="Name of a spec, or a spec file.")]
_Who = Annotated[str, typer.Option("--llm", help="Who judges, as for onibus annotate.")]
_Url = Annotated[str | None, typer.Option(help="Address of the server (openai).")]
_Model = Annotated[str | None, typer.Option(help="Name of the model (openai), or a folder (vllm).")]
_Concurrency = Annotated[int, typer.Option(min=1, max=10_000, help="Requests in flight.")]


def add_to(group: typer.Typer) -> None:
    """Add the commands about spec files to ``onibus spec``."""
    group.command("show")(show)
    group.command("check")(check)
    group.command("try")(try_one)
    group.command("evaluate")(evaluate)


def show(spec: _Spec) -> None:
    """Print a spec with everything that its base and the defaults add, as JSON."""
    from onibus.consumers.specs.spec_file import load_spec_file

    echo(
        json.dumps(
            load_spec_file(spec).model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False
        )
    )


def check(specs: Annotated[list[str], typer.Argument(help="Spec files, or names of specs.")]) -> None:
    """Say everything that is wrong with spec files, or that nothing is."""
    from onibus.consumers.specs.spec_file import load_spec_file

    wrong = []
    for name in specs:
        try:
            file = load_spec_file(name)
            echo(f"{printable(name)}: spec {file.name}, {file.kind.value}, is as it must be")
        except OnibusError as error:
            wrong.append(str(error))
    if wrong:
        raise OnibusError("\n".join(wrong))


def try_one(
    spec: _Spec,
    caption: Annotated[
        list[str], typer.Option(help="What the game says; twice for a spec that compares two captions.")
    ],
    llm: _Who = "rules",
    base_url: _Url = None,
    model: _Model = None,
    price_in: PriceIn = 0.0,
    price_out: PriceOut = 0.0,
    as_json: AsJson = False,
) -> None:
    """Ask about one caption: the prompt as sent, the raw answer, the verdict, tokens and money."""
    from onibus.consumers.annotator.cost import Prices
    from onibus.consumers.replay.trying_specs import conversation, money, try_spec

    trial = try_spec(_options([spec], llm, base_url, model, 1), [tuple(caption)])
    (answer,) = trial.answers
    cost, prices = trial.cost, Prices(price_in or 0.0, price_out or 0.0)
    said: dict[str, Any] = {
        "spec_id": trial.spec_id.hex(),
        "messages": [] if llm == "rules" else conversation(trial.spec, caption),
        "raw_answers": [attempt.raw_answer for attempt in answer.attempts],
        "reason": answer.attempts[-1].reason if answer.attempts else "",
        "verdict": answer.verdict.value,
        "probability": answer.attempts[-1].probability if answer.attempts else None,
        "given_up": answer.given_up,
        "tokens_in": cost.tokens_in,
        "tokens_out": cost.tokens_out,
        "tokens_of_the_start": trial.start.tokens,
        "usd": money(cost, prices),
        "usd_of_the_start": money(trial.start, prices),
    }
    if as_json:
        echo(json.dumps(said, indent=2, ensure_ascii=False))
        return
    for message in conversation(trial.spec, caption) if llm != "rules" else []:
        echo(f"--- {message['role']}\n{printable_lines(message['content'])}")
    for raw in said["raw_answers"]:
        echo(f"--- answer\n{printable_lines(raw)}")
    echo("---")
    sure = "" if said["probability"] is None else f", probability {said['probability']:.3f}"
    reason = f" ({printable(said['reason'])})" if said["reason"] else ""
    echo(f"verdict: {said['verdict']}{sure}{reason}")
    if answer.given_up:
        echo(f"given up: {printable(answer.given_up)}")
    paid = "" if said["usd"] is None else f", {dollars(said['usd'])}"
    echo(f"{cost.tokens_in:,} tokens in, {cost.tokens_out:,} out{paid}{_start(trial, prices)}")


def evaluate(
    spec: _Spec,
    compare: Annotated[
        list[str] | None, typer.Option(help="Another spec, beside it. Can be repeated.")
    ] = None,
    llm: _Who = "rules",
    base_url: _Url = None,
    model: _Model = None,
    panel: Annotated[
        Path | None, typer.Option(help="A TOML file of several judges, in place of --llm.")
    ] = None,
    concurrency: _Concurrency = 16,
    against: Annotated[
        Path | None, typer.Option(help="File of judged captions. (default: the reference set of onibus)")
    ] = None,
    goal: Annotated[str | None, typer.Option(help="Whose verdicts. (default: by the spec's name)")] = None,
    half: Annotated[
        str | None,
        typer.Option(
            help="first, second or all: examples in prompts come from the first. (default: second; all "
            "with --against)"
        ),
    ] = None,
    mistakes: Annotated[int, typer.Option(min=0, help="Number of worst mistakes to show.")] = 10,
    price_in: PriceIn = 0.0,
    price_out: PriceOut = 0.0,
    as_json: AsJson = False,
) -> None:
    """Hold a judge against captions that were judged by reading them."""
    from onibus.consumers.annotator.cost import Prices
    from onibus.consumers.replay.spec_evaluation import decided, evaluate_trial, require_both_kinds
    from onibus.consumers.replay.trying_specs import money, try_specs, without_repeats
    from onibus.consumers.specs.reference_set import built_in_path, read_references
    from onibus.consumers.specs.spec_file import load_spec_file
    from onibus.schemas.records import Kind

    half = half or ("second" if against is None else "all")
    if half not in ("first", "second", "all"):
        raise OnibusError(f"--half {half}: give first, second or all")
    options = _options([spec, *(compare or ())], llm, base_url, model, concurrency, panel)
    named, options, references = options.specs, without_repeats(options), []
    if repeated := [name for name in named if name not in options.specs]:
        echo(f"{printable(', '.join(repeated))}: asked about once, as a spec before asks the same", err=True)
    for name in options.specs:
        file = load_spec_file(name)
        if file.kind is not Kind.JUDGE_ONE:
            raise OnibusError(f"spec {file.name} compares two captions; evaluate takes specs that judge one")
        known = read_references(against or built_in_path(), file.name, goal)
        references.append([one for one in known if half in ("all", one.half)])
        require_both_kinds(references[-1], known)
    prices, found = Prices(price_in or 0.0, price_out or 0.0), dict[str, Any]()

    asked = zip(options.specs, references, strict=True)

    def tried(trial: Trial) -> None:
        name, chosen = next(asked)
        figures = evaluate_trial(trial, chosen, mistakes)
        usd = money(figures.cost, prices)
        found[name] = asdict(figures) | {"usd": usd, "spec_id": trial.spec_id.hex()}
        found[name]["tokens_of_the_start"] = trial.start.tokens
        if not as_json:
            _print(f"{printable(name)}, judged by {printable(trial.spec.model)}", trial, figures, usd, prices)

    try:
        try_specs(options, [[(one.caption,) for one in decided(chosen)] for chosen in references], tried)
    finally:
        if as_json and found:  # what came of the first is paid for, if the second fails
            echo(json.dumps(found, indent=2, ensure_ascii=False))


def _start(trial: Trial, prices: Prices) -> str:
    """What the questions of the start took, as the end of a line; nothing of rules."""
    from onibus.consumers.replay.trying_specs import money

    usd = money(trial.start, prices)
    paid = "" if usd is None else f", {dollars(usd)}"
    tokens = f"{trial.start.tokens_in:,} in, {trial.start.tokens_out:,} out"
    return f"; at the start {tokens}{paid}" if trial.start.tokens else ""


def _print(title: str, trial: Trial, found: SpecEvaluation, usd: float | None, prices: Prices) -> None:
    from onibus.consumers.replay.spec_evaluation import combined
    from onibus.consumers.specs.answer_format import AnswerFormat

    figures = found.figures
    echo(f"{title}: {figures.count:,} captions, {figures.positive:,} of them helpful")
    shown = {
        "balanced accuracy": found.balanced_accuracy,
        "precision": figures.precision,
        "recall": figures.recall,
        "AUC": figures.roc_auc,
        "Brier score": figures.brier,
    }
    for what, value in shown.items():
        echo(f"  {what:18} {'–' if value is None else f'{value:.3f}'}")
    echo(f"  {'unsure':18} {found.unsure:,}, and {found.left_out:,} left out of which people are unsure")
    paid = "" if usd is None else f", {dollars(usd)}"
    cost, start = found.cost, _start(trial, prices)
    tokens = f"{cost.tokens_in:,} tokens in, {cost.tokens_out:,} out{paid}{start}"
    echo(f"  {'cost':18} {tokens}; {found.seconds:.1f} s")
    read = AnswerFormat.model_validate_json(trial.spec.parser).reads_probabilities
    how = None if trial.is_of_panel else read
    if how is not None and found.scale is not None and found.offset is not None:
        scale, offset = combined(how.scale, how.offset, found.scale, found.offset)
        echo(f"  fits these labels: [answer.probability] scale = {scale:.3f}, offset = {offset:.3f}")
    for bin in figures.calibration if how is not None else ():
        echo(f"    said {bin.low:.1f} to {bin.high:.1f}: {bin.share_true:4.0%} of {bin.count:,} are helpful")
    for one in found.mistakes:
        kind, why = "helpful" if one.is_helpful else "unhelpful", f" ({one.reason})" if one.reason else ""
        echo(f"    said {one.probability:.2f}, is {kind}: {printable(one.caption)}{why}")


def _options(
    specs: Sequence[str],
    llm: str,
    base_url: str | None,
    model: str | None,
    concurrency: int,
    panel: Path | None = None,
) -> AnnotateOptions:
    from onibus.consumers.annotator.options import AnnotateOptions
    from onibus.consumers.annotator.panel_file import load_panel_file

    return AnnotateOptions(
        specs=tuple(specs),
        llm=llm,
        base_url=base_url,
        model=model,
        concurrency=concurrency,
        panel=None if panel is None else load_panel_file(panel),
    )
