"""The one rule for which verdict is in force: the newest; a person's stands until a person changes it.

Annotations of a subject under a specification are taken in the order of their partition. Whoever folds the
annotation log decides with these functions, so labels, reward models, imports and reports agree.
"""

from __future__ import annotations

from schemas.records import Annotation, Origin, Verdict


def verdict_of(annotation: Annotation) -> Verdict | None:
    """What is in force if this annotation decides; None: nothing, it takes the verdict back."""
    return None if annotation.origin is Origin.WITHDRAWAL else annotation.verdict


def is_by_person(annotation: Annotation) -> bool:
    """Whether it is a person's verdict, which a model's answer does not override."""
    return annotation.origin is Origin.HUMAN and annotation.verdict is not None


def overrides(annotation: Annotation, by_person: bool) -> bool:
    """Whether an annotation decides over an earlier one, which is a person's verdict if ``by_person``."""
    return not by_person or annotation.origin in (Origin.HUMAN, Origin.WITHDRAWAL)
