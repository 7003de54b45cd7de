"""Prints evaluations and comparisons on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onibus.infra.process.terminal import echo, printable

if TYPE_CHECKING:
    from onibus.consumers.replay.evaluation import JudgeComparison, ModelEvaluation

_BAR = 30


def print_evaluation(evaluation: ModelEvaluation) -> None:
    """Print figures, a calibration plot, and the worst mistakes."""
    figures = evaluation.figures
    left_out = f", {evaluation.left_out:,} left out: neither yes nor no" if evaluation.left_out else ""
    echo(f"{figures.count:,} labels, {figures.positive:,} of them yes{left_out}")
    if evaluation.trained_on:
        count = "all" if evaluation.trained_on == figures.count else f"{evaluation.trained_on:,}"
        echo(
            f"the model was trained on the captions of {count} of them, so the figures say little about new "
            "captions; for those: replay train --until TIME, then replay evaluate --held-out"
        )
    for name in ("accuracy", "precision", "recall", "roc_auc", "brier"):
        value = getattr(figures, name)
        echo(f"  {name.replace('_', '-'):10} {'undefined' if value is None else f'{value:.4f}'}")
    echo("calibration: predicted probability, share that came true (# share, | prediction)")
    for bin in figures.calibration:
        line = list("#" * round(bin.share_true * _BAR) + " " * (_BAR - round(bin.share_true * _BAR)))
        line[min(round(bin.mean_probability * _BAR), _BAR - 1)] = "|"
        echo(f"  {bin.low:.1f}-{bin.high:.1f} {''.join(line)} {bin.share_true:6.1%} of {bin.count:,}")
    if evaluation.worst:
        echo("worst mistakes:")
    for one in evaluation.worst:
        echo(f"  predicted {one.probability:.3f}, is {one.verdict}: {_texts(one.texts)}")


def print_agreement(agreement: JudgeComparison, first: str, second: str, show: int) -> None:
    """Print the agreement, the counts of both verdicts, and where they differ."""
    kappa = "undefined" if agreement.kappa is None else f"{agreement.kappa:.4f}"
    echo(f"{agreement.count:,} in common: agreement {agreement.agreement:.1%}, Cohen's kappa {kappa}")
    for (one, other), count in agreement.verdicts.most_common():
        echo(f"  {count:,} {one} by {first}, {other} by {second}")
    for subject_id, a, b in agreement.differ[:show]:
        echo(f"  {subject_id.hex()[:12]} {a.verdict.value} / {b.verdict.value}: {_texts(a.texts)}")


def _texts(texts: Sequence[str]) -> str:
    return " | ".join(map(printable, texts))


def agreement_json(agreement: JudgeComparison, first: str, second: str) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "first": first,
        "second": second,
        "count": agreement.count,
        "agreement": agreement.agreement,
        "kappa": agreement.kappa,
        "verdicts": [{"first": a, "second": b, "count": n} for (a, b), n in agreement.verdicts.most_common()],
        "differ": [
            {
                "subject_id": subject_id.hex(),
                "texts": list(one.texts),
                "first": one.verdict.value,
                "second": other.verdict.value,
            }
            for subject_id, one, other in agreement.differ
        ],
    }
