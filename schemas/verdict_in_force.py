"""The one rule for which verdict is in force: the newest; a person's stands until a person changes it.

Annotations of a subject under a specification are taken in the order of their partition. Whoever folds the
annotation log decides with these functions, so labels, reward models, imports and reports agree.
"""

from __future__ import annotations

from onibus.schemas.records import Annotation, Origin, Verdict

WITHDRAWN = "withdrawn"
"""What is said instead of a verdict where none is in force."""


def verdict_name(verdict: Verdict | None) -> str:
    """A verdict in force, or that there is none, as a word."""
    return WITHDRAWN if verdict is None else verdict.value


def verdict_names() -> list[str]:
    """Every word of :func:`verdict_name`."""
    return [verdict_name(verdict) for verdict in (*Verdict, None)]


def verdict_of(annotation: Annotation) -> Verdict | None:
    """What is in force if this annotation decides; None: nothing, it takes the verdict back."""
    return None if annotation.origin is Origin.WITHDRAWAL else annotation.verdict


def is_by_person(annotation: Annotation) -> bool:
    """Whether it is a person's verdict, which a model's answer does not override."""
    return annotation.origin is Origin.HUMAN and annotation.verdict is not None


def overrides(annotation: Annotation, by_person: bool) -> bool:
    """Whether an annotation decides over an earlier one, which is a person's verdict if ``by_person``."""
    return not by_person or annotation.origin in (Origin.HUMAN, Origin.WITHDRAWAL)
