"""Annotations in a file: nothing is lost, and an incomplete file is refused."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.consumers.labels.export import AnnotationFile, DataCard, SpecOfCard, export_annotations
from onibus.consumers.labels.file_formats import FORMATS, from_row, to_row
from onibus.consumers.specs.spec_file import load_spec
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.settings import Settings
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, Origin, Verdict
from tests.consumers.annotating import records
from tests.consumers.replay.running import moment, onibus, onibus_json, refusal
from tests.consumers.reward_models.annotation_logs import (
    SPEC,
    SPEC_ID,
    SPEC_NAME,
    TEXTS,
    annotation,
    publish_annotations,
)
from tests.schemas.made_records import records as made

ENDINGS = list(FORMATS)


def logged(annotations: list[Annotation]) -> list[LoggedAnnotation]:
    return [LoggedAnnotation(n % 2, n // 2, 1_000 + n, one) for n, one in enumerate(annotations)]


def exported(path: Path, annotations: list[Annotation]) -> DataCard:
    rows = logged(annotations)
    until = {p: 1 + max((r.offset for r in rows if r.partition == p), default=-1) for p in (0, 1)}
    return export_annotations(path, rows, {SPEC_ID: SPEC}, "test.annotations", until)


@pytest.mark.parametrize("ending", ENDINGS)
@hypothesis_settings(max_examples=20)
@given(annotations=st.lists(made(Annotation), max_size=5))
def test_a_row_has_every_field_of_its_record(
    ending: str, annotations: list[Annotation], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("rows") / f"rows{ending}"
    rows = logged(annotations)
    FORMATS[ending]().write(path, (to_row(row, row.annotation) for row in rows if row.annotation))
    assert [from_row(row) for row in FORMATS[ending]().read(path)] == rows


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_card_says_what_is_in_the_file(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"labels{ending}"
    log = [annotation(text) for text in TEXTS[:5]] + [annotation(TEXTS[0], Verdict.UNSURE, Origin.HUMAN)]
    card = exported(path, log)
    assert (card.rows, card.offsets) == (6, {"0": 3, "1": 3})
    assert {(c.verdict, c.origin): c.labels for c in card.labels} == {
        ("helpful", "rules"): 2, ("unhelpful", "rules"): 2, ("unsure", "human"): 1
    }  # fmt: skip
    with AnnotationFile(path) as file:
        assert [one.annotation for one in file.read(file.ends)] == log
        assert file.specs == {SPEC_ID: SPEC}
        assert len(list(file.read({0: 1, 1: 0}))) == 1
        assert file.offsets_at(1_003) == {0: 2, 1: 1}
    assert SPEC_NAME in (tmp_path / f"labels{ending}.card.md").read_text()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "annotations below 0:3,1:2 may be missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-4] + b"abcd"), "its SHA-256 differs"),
        (lambda path: path.with_name(path.name + ".card.json").unlink(), "has no data card"),
        (lambda path: path.with_name(path.name + ".card.json").write_text('{"a": 1}'), "is not a data card"),
        (lambda path: path.unlink(), "there is no file"),
    ],
    ids=["truncated", "changed", "no card", "foreign card", "gone"],
)
def test_an_incomplete_file_is_refused(ending: str, harm: object, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / f"labels{ending}"
    exported(path, [annotation(text) for text in TEXTS[:5]])
    assert callable(harm)
    harm(path)
    with pytest.raises(OnibusError, match=complaint):
        AnnotationFile(path)


def test_rows_that_belong_to_no_spec_or_caption_are_refused(tmp_path: Path) -> None:
    for wrong in (
        replace(annotation(TEXTS[0]), subject_id=bytes(16)),
        replace(annotation(TEXTS[0]), spec_id=bytes(8)),
    ):
        path = tmp_path / "labels.jsonl"
        FORMATS[".jsonl"]().write(path, [to_row(LoggedAnnotation(0, 0, 0, wrong), wrong)])
        foreign, card = path.read_bytes(), exported(path, [annotation(TEXTS[0])])
        path.write_bytes(foreign)
        import hashlib

        lying = card.model_copy(
            update={"size_bytes": len(foreign), "sha256": hashlib.sha256(foreign).hexdigest()}
        )
        path.with_name(path.name + ".card.json").write_text(lying.model_dump_json())
        file = AnnotationFile(path)
        with pytest.raises(OnibusError, match="row 1: "):
            list(file.read(file.ends))


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OnibusError, match=r"must end in \.jsonl or \.parquet"):
        exported(tmp_path / "labels.csv", [])


def histories(settings: Settings) -> dict[tuple[int, bytes], list[Annotation]]:
    """What was said about each subject, oldest first, by partition and key."""
    found: dict[tuple[int, bytes], list[Annotation]] = {}
    for record in records(settings, "annotations"):
        found.setdefault((record.partition, record.key), []).append(codec.decode(Annotation, record.value))
    return found


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_round_trip_loses_nothing_and_importing_twice_changes_nothing(
    settings: Settings, ending: str
) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS] + [annotation(TEXTS[0])] * 2)
    onibus(settings, "labels", "set", TEXTS[1], "helpful", "--spec", SPEC_NAME, "--note", "Ünïcode\n✓")
    onibus(settings, "labels", "withdraw", TEXTS[2], "--yes")
    path = settings.runs_dir / f"labels{ending}"
    onibus(settings, "labels", "export", path)
    elsewhere = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}elsewhere."})
    create_topics(elsewhere)
    planned = onibus_json(elsewhere, "labels", "import", path)
    assert (planned["annotations"], planned["labels"], planned["done"]) == (
        len(TEXTS) + 4,
        len(TEXTS) - 1,
        False,
    )
    assert not records(elsewhere, "annotations")
    onibus(elsewhere, "labels", "import", path, "--yes")
    assert histories(elsewhere) == histories(settings)
    rows = {key: onibus_json(s, "labels", "list", "--limit", 0) for key, s in ((1, settings), (2, elsewhere))}
    for row in rows[1] + rows[2]:
        del row["offset"]
    assert rows[1] == rows[2]
    labels = {r.key for r in records(elsewhere, "labels") if r.value is not None}
    assert ids.label_key(SPEC_ID, ids.caption_id(TEXTS[2])) not in labels
    assert len(labels) == len(TEXTS) - 1
    again = onibus_json(elsewhere, "labels", "import", path, "--yes")
    assert (again["annotations"], again["there_already"]) == (0, len(TEXTS) + 4)
    assert histories(elsewhere) == histories(settings)


def test_annotations_older_than_the_log_are_left_out_unless_a_person_made_them(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text, at=9_000_000) for text in TEXTS[:3]])
    path = settings.runs_dir / "older.jsonl"
    exported(
        path,
        [
            annotation(TEXTS[0], Verdict.UNSURE),
            annotation(TEXTS[1], Verdict.UNSURE, Origin.HUMAN),
            annotation(TEXTS[2], Verdict.UNSURE, at=10_000_000),
        ],
    )
    result = onibus_json(settings, "labels", "import", path, "--yes")
    assert (result["annotations"], result["labels"], result["left_out_as_older"]) == (2, 2, 1)
    rows = onibus_json(settings, "labels", "list")
    unsure = {row["texts"][0] for row in rows if row["verdict"] == "unsure"}
    assert unsure == {TEXTS[1], TEXTS[2]}


def test_an_export_up_to_a_time_or_of_an_unknown_spec(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:4]])
    before = moment()
    onibus(settings, "labels", "set", TEXTS[1], "helpful", "--spec", SPEC_NAME)
    path = settings.runs_dir / "labels.jsonl"
    result = onibus_json(settings, "labels", "export", path, "--as-of", before)
    assert result["rows"] == 4
    stranger = replace(annotation(TEXTS[0]), spec_id=bytes(8))
    publish_annotations(settings, [stranger])
    assert "never announced" in refusal(settings, "labels", "export", path)


def test_a_file_from_before_estimates_were_marked_is_read() -> None:
    old = annotation(TEXTS[0])
    row = to_row(LoggedAnnotation(0, 0, 0, old), old)
    del row["tokens_are_estimated"]
    assert from_row(row).annotation == old


def test_a_card_keeps_the_messages_of_a_spec() -> None:
    spec = load_spec("goals-reasoned", "m")
    card = SpecOfCard(spec_id=ids.spec_id(spec).hex(), **asdict(spec))
    again = SpecOfCard.model_validate_json(card.model_dump_json()).spec()
    assert again == spec
    assert len(again.messages) > 2
    assert ids.spec_id(again).hex() == card.spec_id
