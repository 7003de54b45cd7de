"""``onibus labels agreement``: how far judges agree, and on what they do not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onibus.infra.cli.label_options import AsOf, Specs
from onibus.infra.cli.label_printing import ID_DIGITS
from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.cli.tables import print_table
from onibus.infra.process.terminal import echo, printable
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from onibus.consumers.labels.judge_agreement import JudgeAgreement
    from onibus.consumers.specs.known_specs import KnownSpecs


def register(group: typer.Typer) -> None:
    """Add it to the commands of ``onibus labels``."""
    group.command("agreement")(with_settings(agreement))


def agreement(
    settings: Settings,
    spec: Specs = None,
    as_of: AsOf = None,
    disputed: Annotated[
        int, typer.Option(min=0, help="Show this many captions on which the judges differ most.")
    ] = 10,
    by_frequency: Annotated[
        bool,
        typer.Option(
            "--by-frequency",
            help="Order those by how often they are met, too. Reads the whole log of captions (seven days, "
            "unless the topic says otherwise).",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far the judges of a spec agree: of a panel, and people. Specs with one judge are left out."""
    from onibus.consumers.annotator.cost import Spending
    from onibus.consumers.labels.annotation_log_reader import of_specs
    from onibus.consumers.labels.as_of import annotations_as_of
    from onibus.consumers.labels.judge_agreement import verdicts_by_spec
    from onibus.consumers.specs.known_specs import KnownSpecs

    specs = KnownSpecs.read(settings)
    chosen = specs.chosen(spec)
    wanted = None if chosen is None else of_specs(frozenset(chosen))
    logged = (one.annotation for one in annotations_as_of(settings, as_of, wanted))
    readable = Spending({spec_id: specs[spec_id] for spec_id in specs.all})
    verdicts = verdicts_by_spec((one for one in logged if one is not None), readable.is_unreadable)
    published = _published(settings) if by_frequency else None
    found: dict[bytes, JudgeAgreement] = {}
    for spec_id, own in verdicts.items():
        frequency = None if published is None else _frequency(own.texts, published)
        of_spec = own.agreement(disputed, frequency)
        if len(of_spec.judged) > 1:
            found[spec_id] = of_spec
    if as_json:
        echo(json.dumps([_as_json(spec_id, one, specs) for spec_id, one in found.items()], indent=2))
        return
    if not found:
        which = "no spec has" if chosen is None else "what --spec names has no"
        echo(f"{which} verdicts of several judges; ask a panel: onibus annotate --panel FILE", err=True)
    for spec_id, of_spec in found.items():
        _print(specs.told_apart(spec_id), of_spec)


def _published(settings: Settings) -> Counter[bytes]:
    """How often each caption was published within the retention of the log, by caption id."""
    from onibus.infra.kafka.clients import read_all
    from onibus.infra.kafka.topics import TopicNames

    topic = TopicNames(settings.topic_prefix).captions
    return Counter(record.key for batch in read_all(settings, topic) for record in batch if record.key)


def _frequency(texts: Mapping[bytes, tuple[str, ...]], published: Counter[bytes]) -> dict[bytes, int]:
    """By subject id; of a pair of captions the sum of both."""
    from onibus.schemas.ids import caption_id

    return {subject: sum(published[caption_id(text)] for text in own) for subject, own in texts.items()}


def _print(name: str, found: JudgeAgreement) -> None:
    alpha = "" if found.alpha is None else f"; Krippendorff's alpha {found.alpha:.3f}"
    echo(f"spec {printable(name)}: {len(found.judged)} judges{alpha}")
    for judge, count in found.judged.items():
        echo(f"  {printable(judge)}: {count:,} judged")
    rows = [
        (
            f"{pair.both:,}",
            f"{pair.agreed / pair.both:.1%}",
            "-" if pair.kappa is None else f"{pair.kappa:.3f}",
            f"{pair.first}, {pair.second}",
        )
        for pair in found.pairs
    ]
    print_table(("both judged", "agree", "Cohen's kappa", "judges"), rows)
    if found.disputed:
        shown = [
            (
                one.subject_id.hex()[:ID_DIGITS],
                f"{one.disagreement:.0%}",
                "-" if one.frequency is None else f"{one.frequency:,}",
                ", ".join(f"{verdict.value}: {judge}" for judge, verdict in one.said.items()),
                " | ".join(one.texts),
            )
            for one in found.disputed
        ]
        print_table(("id", "pairs that differ", "published", "said", "caption"), shown)


def _as_json(spec_id: bytes, found: JudgeAgreement, specs: KnownSpecs) -> dict[str, Any]:
    return {
        "spec": specs.name(spec_id),
        "spec_id": spec_id.hex(),
        "judged": dict(found.judged),
        "alpha": found.alpha,
        "pairs": [
            {"judges": [p.first, p.second], "both": p.both, "agreed": p.agreed, "kappa": p.kappa}
            for p in found.pairs
        ],
        "disputed": [
            {
                "subject_id": one.subject_id.hex(),
                "texts": list(one.texts),
                "said": {judge: verdict.value for judge, verdict in one.said.items()},
                "disagreement": one.disagreement,
                "frequency": one.frequency,
            }
            for one in found.disputed
        ],
    }
