"""The figures at the head of a report, which the summary of a demo prints, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from onibus.infra.money import dollars
from onibus.learner.run_files.judging import SpecJudging, total_usd

Figure = tuple[str, str]
"""Name and value."""

_PLAIN = (
    ("env_steps", "environment steps", ",.0f"),
    ("return", "mean return", ".3f"),
    ("intrinsic_return", "mean intrinsic return", ".3f"),
    ("success", "successful episodes", ".0%"),
    ("progression", "mean progression (BALROG)", ".2%"),
    ("captions_published", "captions published", ",.0f"),
    ("labels_known", "labels in the learner's table", ",.0f"),
    ("label_coverage", "captions with a label or score", ".0%"),
)
"""Names in a history, titles and formats."""

HELD_OUT = {
    "accuracy": "held_out_accuracy",
    "balanced accuracy": "held_out_balanced_accuracy",
    "precision": "held_out_precision",
    "recall": "held_out_recall",
}
"""Figures of a version on captions that it had not learned from, by their names in words."""


def headline(
    history: Sequence[Mapping[str, float]],
    versions: Sequence[Mapping[str, float]] = (),
    judging: Sequence[SpecJudging] = (),
) -> list[Figure]:
    """What a run has come to: the last row of its history, its newest reward model, its judges.

    What is not known is left out.
    """
    last = history[-1]
    found = [(title, format(last[name], form)) for name, title, form in _PLAIN if name in last]
    found.insert(1, ("minutes of training", f"{last['seconds'] / 60:.1f}"))
    if {"label_to_reward_p50", "label_to_reward_p95"} <= last.keys():
        median, most = last["label_to_reward_p50"], last["label_to_reward_p95"]
        found.append(("caption to first reward, p50 / p95", f"{median:.2f} / {most:.2f} s"))
    if (usd := total_usd(judging)) is not None:
        found.append(("cost of the answers", dollars(usd)))
    people = [one.people for one in judging if one.people is not None]
    if people:
        agreed, count = sum(one.agreed for one in people), sum(one.count for one in people)
        found.append(("judged as people did", f"{agreed:,} of {count:,}"))
    if last.get("model_version"):
        found.append(("version of the reward model", format(last["model_version"], ".0f")))
    if "model_age_seconds" in last:
        found.append(("its age when the run ended", f"{last['model_age_seconds']:.0f} s"))
    return [*found, *_held_out(versions[-1] if versions else {})]


def _held_out(version: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """How a version did on captions that it had not learned from; accuracy never without what it is of."""
    for name, figure in HELD_OUT.items():
        if figure in version:
            yield f"held-out {name}", f"{version[figure]:.1%}"
    if {"held_out", "held_out_positive"} <= version.keys():
        helpful = f"{version['held_out_positive']:.0f} of {version['held_out']:.0f}"
        yield "helpful of the held-out captions", helpful
