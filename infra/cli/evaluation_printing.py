"""Evaluations and comparisons for people to read, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onibus.infra.process.terminal import echo, printable

if TYPE_CHECKING:
    from onibus.consumers.replay.evaluation import Agreement, Evaluation

_BAR = 30


def print_evaluation(told: Evaluation) -> None:
    """Figures, a calibration plot, and the worst mistakes."""
    figures = told.figures
    left_out = f", {told.left_out:,} left out: neither yes nor no" if told.left_out else ""
    echo(f"{figures.count:,} labels, {figures.positive:,} of them yes{left_out}")
    for name in ("accuracy", "precision", "recall", "roc_auc", "brier"):
        value = getattr(figures, name)
        echo(f"  {name.replace('_', '-'):10} {'not to be told' if value is None else f'{value:.4f}'}")
    echo("calibration: what it said, how often it was so (# so often, | as said)")
    for bin in figures.calibration:
        line = list("#" * round(bin.share_true * _BAR) + " " * (_BAR - round(bin.share_true * _BAR)))
        line[min(round(bin.mean_probability * _BAR), _BAR - 1)] = "|"
        echo(f"  {bin.low:.1f}-{bin.high:.1f} {''.join(line)} {bin.share_true:6.1%} of {bin.count:,}")
    if told.worst:
        echo("most wrong about:")
    for one in told.worst:
        echo(f"  said {one.probability:.3f}, is {one.verdict}: {_texts(one.texts)}")


def print_agreement(told: Agreement, first: str, second: str, show: int) -> None:
    """Agreement, the table of both words, and where they differ."""
    kappa = "undefined" if told.kappa is None else f"{told.kappa:.4f}"
    echo(f"{told.count:,} in common: agreement {told.agreement:.1%}, Cohen's kappa {kappa}")
    for (one, other), count in told.verdicts.most_common():
        echo(f"  {count:,} {one} by {first}, {other} by {second}")
    for subject_id, a, b in told.differ[:show]:
        echo(f"  {subject_id.hex()[:12]} {a.verdict.value} / {b.verdict.value}: {_texts(a.texts)}")


def _texts(texts: Sequence[str]) -> str:
    return " | ".join(map(printable, texts))


def agreement_json(told: Agreement, first: str, second: str) -> dict[str, Any]:
    """The same for a program to read."""
    return {
        "first": first,
        "second": second,
        "count": told.count,
        "agreement": told.agreement,
        "kappa": told.kappa,
        "verdicts": [{"first": a, "second": b, "count": n} for (a, b), n in told.verdicts.most_common()],
        "differ": [
            {
                "subject_id": subject_id.hex(),
                "texts": list(one.texts),
                "first": one.verdict.value,
                "second": other.verdict.value,
            }
            for subject_id, one, other in told.differ
        ],
    }
