"""The whole history of one subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.consumers.labels.file_formats import to_row
from onibus.consumers.labels.fold import LabelFold, iso, label_json
from onibus.consumers.specs.known_specs import KnownSpecs
from onibus.consumers.specs.prompts import Prompt, prompt_hash
from onibus.infra.errors import OnibusError
from onibus.schemas.records import Annotation


def history_json(subject_id: bytes, logged: Sequence[LoggedAnnotation], specs: KnownSpecs) -> dict[str, Any]:
    """Labels of a subject under each spec, and all of its annotations, oldest first, as JSON.

    An annotation's prompt is rendered again from its spec's template, and included only if it has the
    recorded hash: then it is exactly the prompt that was sent.
    """
    own = [
        (one, one.annotation)
        for one in logged
        if one.annotation is not None and one.annotation.subject_id == subject_id
    ]
    own.sort(key=lambda pair: (pair[0].written_at, pair[0].offset))
    fold = LabelFold(one for one, _ in own)
    history = []
    for one, annotation in own:
        row = to_row(one, annotation)
        row |= {name: iso(row[name]) for name in ("observed_at", "annotated_at")}
        row |= {"spec": specs.name(annotation.spec_id), "written_at": iso(one.written_at * 1000)}
        history.append(row | {"prompt": _prompt(annotation, specs)})
    return {
        "subject_id": subject_id.hex(),
        "texts": list(own[0][1].texts),
        "labels": [label_json(label, specs.name(label.spec_id)) for label in fold],
        "history": history,
    }


def _prompt(annotation: Annotation, specs: KnownSpecs) -> str | None:
    spec = specs.get(annotation.spec_id)
    if spec is None or not any(annotation.prompt_hash):
        return None
    try:
        text = Prompt(spec).text(*annotation.texts)
    except OnibusError:  # a template that this version does not understand
        return None
    return text if prompt_hash(text) == annotation.prompt_hash else None
