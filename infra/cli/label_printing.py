"""Prints labels on a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from onibus.infra.cli.tables import print_table
from onibus.infra.process.terminal import console, echo, printable

if TYPE_CHECKING:
    from onibus.consumers.labels.fold import FoldedLabel
    from onibus.consumers.specs.known_specs import KnownSpecs

ID_DIGITS = 12
"""Hex digits of a caption's id that are shown: enough to name it."""

FLIPPED = ", flipped"
"""Stands after a verdict that was turned into its opposite for an experiment."""


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr while the block runs; call the result with each number done."""
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(what), total=total)
        yield lambda n: bar.advance(task, n)


def say(result: dict[str, Any], line: str, as_json: bool) -> None:
    """Print what was done, as JSON or as a line."""
    echo(json.dumps(result) if as_json else line)


def print_labels(labels: list[FoldedLabel], specs: KnownSpecs) -> None:
    """Print a table with a row per label."""
    from onibus.consumers.labels.fold import iso
    from onibus.schemas.verdict_in_force import verdict_name

    columns = ("id", "verdict", "spec", "by", "annotated", "answers", "caption")
    rows = [
        (
            label.subject_id.hex()[:ID_DIGITS],
            verdict_name(label.verdict) + (FLIPPED if label.was_flipped else ""),
            specs.told_apart(label.spec_id),
            f"{label.annotator} ({label.origin.value})",
            iso(label.annotated_at)[:19],
            str(label.annotations),
            label.text,
        )
        for label in labels
    ]
    print_table(columns, rows)


def print_history(found: dict[str, Any]) -> None:
    """Print what :func:`onibus.consumers.labels.history.history_json` returns."""
    echo(f"{found['subject_id']}  " + " | ".join(map(printable, found["texts"])))
    for label in found["labels"]:
        spent = f"{label['tokens_in']} + {label['tokens_out']} tokens, {label['latency_us'] / 1e6:.2f} s"
        echo(
            f"\nunder {label['spec']} ({label['spec_id']}): {label['verdict'] or 'withdrawn'}; "
            f"{label['annotations']} answers, {spent}"
        )
        for one in found["history"]:
            if one["spec_id"] == label["spec_id"]:
                _print_annotation(one)


def _print_annotation(one: dict[str, Any]) -> None:
    kind = ", ".join(dict.fromkeys(filter(None, (one["origin"], one["model"]))))
    who = printable(f"{one['annotator']} ({kind})")
    verdict = (one["verdict"] or "withdrawn") + (FLIPPED if one["was_flipped"] else "")
    verdict += f" (this answer: {one['said']})" if one["said"] not in (None, one["verdict"]) else ""
    echo(f"  {one['annotated_at']}  {verdict} by {who}, partition {one['partition']} offset {one['offset']}")
    for name in ("reason", "prompt", "raw_answer"):
        if one[name]:
            echo("\n".join(f"      {name}: {line}" for line in one[name].splitlines()))
    if one["tokens_in"] or one["tokens_out"]:
        cost = f"{one['tokens_in']} + {one['tokens_out']} tokens, {one['latency_us'] / 1e6:.2f} s"
        echo(f"      cost: {cost}, attempt {one['attempt']}")
