"""``onibus labels`` on a real broker: listed, set by hand, withdrawn, judged again."""

from __future__ import annotations

import threading
import time

from onibus.consumers.labels.reader import LabelReader
from onibus.consumers.labels.table import HELPFUL, LabelTable
from onibus.infra.settings import Settings
from onibus.schemas import codec, ids
from onibus.schemas.ids import lookup_id
from onibus.schemas.records import Annotation, Label, Origin, Verdict
from tests.consumers.annotating import (
    HeldModel,
    annotator,
    label_keys,
    publish,
    records,
    rules_specs,
    wait_for_labels,
)
from tests.consumers.replay.running import moment, onibus, onibus_json, refusal
from tests.consumers.reward_models.annotation_logs import (
    HELPFUL_TEXTS,
    KEY_FOUND,
    SPEC_ID,
    SPEC_NAME,
    TEXTS,
    annotation,
    publish_annotations,
)
from tests.waiting import wait_until


def in_force(settings: Settings, text: str) -> str | None:
    """The verdict in force, by the annotation log."""
    (label,) = onibus_json(settings, "labels", "show", text)["labels"]
    return label["verdict"]  # type: ignore[no-any-return]


def newest_label(settings: Settings, text: str) -> Label | None:
    """The newest record of the compacted topic about a caption."""
    key = ids.label_key(SPEC_ID, ids.caption_id(text))
    value = [r.value for r in records(settings, "labels") if r.key == key][-1]
    return None if value is None else codec.decode(Label, value)


def test_labels_are_listed_and_filtered(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text, at=1_000_000 * n) for n, text in enumerate(TEXTS)])
    publish_annotations(settings, [annotation(TEXTS[1], Verdict.UNSURE, Origin.HUMAN, at=2_000_000_000)])
    everything = onibus_json(settings, "labels", "list", "--limit", 0)
    assert {tuple(row["texts"]) for row in everything} == {(text,) for text in TEXTS}
    assert everything[0]["texts"] == [TEXTS[1]], "the newest comes first"
    helpful = onibus_json(settings, "labels", "list", "--verdict", "helpful", "--spec", SPEC_NAME)
    assert {row["texts"][0] for row in helpful} == set(HELPFUL_TEXTS)
    people = onibus_json(settings, "labels", "list", "--origin", "human")
    assert [(row["texts"][0], row["verdict"], row["annotations"]) for row in people] == [
        (TEXTS[1], "unsure", 2)
    ]
    gold = onibus_json(settings, "labels", "list", "--text", "e 7 GOLD", "--since", "1970-01-01T00:00:02")
    assert [row["texts"][0] for row in gold] == ["You see here 7 gold pieces."]
    table = onibus(settings, "labels", "list", "--spec", SPEC_ID.hex()[:6], "--limit", 2)
    assert TEXTS[1] in table


def test_a_persons_verdict_and_its_withdrawal_are_on_log_and_topic(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS])
    by_ada = ("--person", "ada", "--note", "a trap")
    done = onibus_json(settings, "labels", "set", KEY_FOUND, "unhelpful", "--spec", SPEC_NAME, *by_ada)
    assert (done["was"], done["is"]) == ("helpful", "unhelpful")
    label = newest_label(settings, KEY_FOUND)
    assert label is not None
    assert (label.verdict, label.annotator) == (Verdict.UNHELPFUL, "ada")
    caption_id = ids.caption_id(KEY_FOUND)
    partitions = {r.partition for r in records(settings, "annotations") if r.key[8:] == caption_id}
    assert partitions == {label.caption_partition}, "label and annotations stay in the caption's partition"
    publish_annotations(settings, [annotation(KEY_FOUND)])  # a model's later answer
    assert in_force(settings, KEY_FOUND) == "unhelpful"
    result = onibus_json(settings, "labels", "show", ids.caption_id(KEY_FOUND).hex()[:8])
    assert [one["origin"] for one in result["history"]] == ["rules", "human", "rules"]  # by time of writing
    assert any(one["reason"] == "a trap" for one in result["history"])
    assert onibus_json(settings, "labels", "withdraw", KEY_FOUND) == {"withdrawn": 1}
    assert in_force(settings, KEY_FOUND) is None
    assert newest_label(settings, KEY_FOUND) is None


def test_bulk_changes_are_dry_runs_without_yes(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS])
    before = len(records(settings, "annotations"))
    result = onibus_json(settings, "labels", "withdraw", "--spec", SPEC_NAME, "--verdict", "helpful")
    assert (result["labels"], result["done"]) == (len(HELPFUL_TEXTS), False)
    assert result["counts"][0]["labels"] == len(HELPFUL_TEXTS)
    assert "--yes" in onibus(settings, "labels", "annotate-again", "--spec", SPEC_NAME)
    assert len(records(settings, "annotations")) == before
    assert not records(settings, "labels")


def test_where_nothing_matches_nothing_is_said_to_be_done(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:2]])
    nothing = "no label matches, so there is nothing to do\n"
    for command in ("withdraw", "annotate-again"):
        for yes in ((), ("--yes",)):
            assert onibus(settings, "labels", command, "--spec", SPEC_NAME, "--text", "qqq", *yes) == nothing
    (label,) = (f"labels: {line}" for line in [onibus(settings, "labels", "withdraw", "--text", "key")])
    assert label.startswith("labels: would withdraw: 1 label; use --yes to do it\n")
    assert onibus(settings, "dead-letters", "redrive") == "no letter matches, so there is nothing to do\n"
    exported = settings.runs_dir / "log.jsonl"
    onibus(settings, "labels", "export", exported)
    assert "use --yes" not in onibus(settings, "labels", "import", exported), "all of it is there already"


def test_labels_as_they_were(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:10]])
    ends = dict.fromkeys(range(settings.partitions), 0)
    for record in records(settings, "annotations"):
        ends[record.partition] = max(ends[record.partition], record.offset + 1)
    before = moment()
    onibus(settings, "labels", "set", TEXTS[0], "unsure", "--spec", SPEC_NAME)
    assert in_force(settings, TEXTS[0]) == "unsure"
    for as_of in (before, ",".join(f"{p}:{end}" for p, end in ends.items())):
        rows = onibus_json(settings, "labels", "list", "--as-of", as_of)
        assert {row["texts"][0]: row["verdict"] for row in rows}[TEXTS[0]] == "helpful", as_of
        assert len(rows) == 10
    some = ends | {record.partition: 0 for record in records(settings, "annotations")[:1]}
    fewer = onibus_json(settings, "labels", "list", "--as-of", ",".join(f"{p}:{n}" for p, n in some.items()))
    assert len(fewer) < 10


def test_an_impossible_request_ends_with_one_line(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:4]])
    assert "there is no spec goal; there are: keys-and-doors" in refusal(
        settings, "labels", "list", "--spec", "goal"
    )
    assert "was ever judged" in refusal(settings, "labels", "show", "no such caption")
    assert "judges one caption" in refusal(settings, "labels", "set", TEXTS[0], "first", "--spec", SPEC_NAME)
    assert "no offset for partition 1" in refusal(settings, "labels", "list", "--as-of", "0:1")
    line = refusal(settings, "labels", "list", "--as-of", "0:5000,1:0,2:0,3:0")
    assert "partition 0 ends at" in line
    assert "to 4999 are missing" in line
    assert "not understood" in refusal(settings, "labels", "list", "--as-of", "yesterday")


def test_a_new_caption_is_set_in_the_partition_that_workers_would_use(settings: Settings) -> None:
    publish_annotations(settings, [annotation(TEXTS[0])])
    onibus(settings, "labels", "set", "A new message.", "helpful", "--spec", SPEC_NAME, "--new")
    label = newest_label(settings, "A new message.")
    assert label is not None
    assert label.caption_partition == ids.caption_partition(
        ids.caption_id("A new message."), settings.partitions
    )


def test_of_two_people_at_once_the_last_wins_and_both_are_in_the_history(settings: Settings) -> None:
    publish_annotations(settings, [annotation(TEXTS[0])])
    from onibus.consumers.labels.corrections import CorrectedSubject, set_by_hand
    from onibus.consumers.labels.writer import LabelWriter
    from tests.consumers.reward_models.annotation_logs import SPEC

    caption_id = ids.caption_id(TEXTS[0])
    subject = CorrectedSubject(
        caption_id, (TEXTS[0],), ids.caption_partition(caption_id, settings.partitions), 1
    )
    failed: list[BaseException] = []

    def correct(person: str, verdict: Verdict) -> None:
        try:
            for n in range(5):
                with LabelWriter(settings) as writer:
                    now = time.time_ns() // 1000
                    writer.write([set_by_hand(subject, SPEC_ID, SPEC, verdict, person, str(n), now)])
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=correct, args=arguments)
        for arguments in (("ada", Verdict.HELPFUL), ("bob", Verdict.UNHELPFUL))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    result = onibus_json(settings, "labels", "show", TEXTS[0])
    people = [one for one in result["history"] if one["origin"] == "human"]
    assert len(people) == 10
    label = newest_label(settings, TEXTS[0])
    assert label is not None
    (now,) = result["labels"]
    assert (now["verdict"], now["annotator"]) == (label.verdict.value, label.annotator), "log and topic agree"


def test_unsure_captions_are_judged_again_but_not_those_that_people_judged(settings: Settings) -> None:
    specs, rules = rules_specs(SPEC_NAME)
    publish(settings, TEXTS[:6])
    with annotator(settings, specs=specs, model=rules):
        wait_for_labels(settings, 6)
        onibus(settings, "labels", "set", TEXTS[1], "unsure", "--spec", SPEC_NAME)
        result = onibus_json(settings, "labels", "annotate-again", "--spec", SPEC_NAME, "--yes", "--wait", 60)
        assert result == {"published": 5, "judged": 5}
    history = {text: onibus_json(settings, "labels", "show", text)["history"] for text in TEXTS[:2]}
    assert [one["origin"] for one in history[TEXTS[0]]] == ["rules", "withdrawal", "rules"]
    assert [one["origin"] for one in history[TEXTS[1]]] == ["rules", "human"]
    assert in_force(settings, TEXTS[1]) == "unsure"


def test_captions_of_an_old_spec_are_judged_under_a_new_one(settings: Settings) -> None:
    """Nothing of them is on the captions topic any more."""
    publish_annotations(settings, [annotation(text) for text in TEXTS[:5]])
    new_specs, rules = rules_specs("goals")
    (new_id,) = new_specs
    with annotator(settings, specs=new_specs, model=rules):
        arguments = ("labels", "annotate-again", "--spec", SPEC_NAME, "--under", "goals", "--yes")
        assert onibus_json(settings, *arguments) == {"published": 5, "judged": 5}
        assert onibus_json(settings, *arguments)["labels"] == 0, "all have a label there now"
    assert set(label_keys(settings)) == {ids.label_key(new_id, ids.caption_id(text)) for text in TEXTS[:5]}
    assert len(onibus_json(settings, "labels", "list", "--spec", SPEC_NAME)) == 5, "none was withdrawn"


def test_a_person_who_is_faster_than_the_model_is_not_overruled_by_it(settings: Settings) -> None:
    specs, rules = rules_specs(SPEC_NAME)
    (spec_id,) = specs
    held = HeldModel(rules)
    publish(settings, [KEY_FOUND])
    with annotator(settings, specs=specs, model=held) as one:
        wait_until(lambda: held.asked[KEY_FOUND], 30, "the question to be under way")
        onibus(settings, "labels", "set", KEY_FOUND, "unhelpful", "--spec", SPEC_NAME, "--new")
        tables: dict[int, LabelTable] = one.process._annotator._tables
        caption_id = ids.caption_id(KEY_FOUND)
        wait_until(
            lambda: any(table.contains(spec_id, caption_id) for table in tables.values()), 10, "the label"
        )
        held.open.set()
        wait_until(lambda: len(records(settings, "annotations")) == 2, 20, "the model's answer on the log")
    assert label_keys(settings)[ids.label_key(spec_id, caption_id)] == 1
    assert in_force(settings, KEY_FOUND) == "unhelpful"
    origins = [codec.decode(Annotation, r.value).origin for r in records(settings, "annotations")]
    assert origins == [Origin.HUMAN, Origin.RULES]


def test_learners_see_a_correction(settings: Settings) -> None:
    import numpy as np

    publish_annotations(settings, [annotation(TEXTS[1])])
    table = LabelTable()
    reader = LabelReader(settings, table)
    reader.load()
    reader.start()
    onibus(settings, "labels", "set", TEXTS[1], "helpful", "--spec", SPEC_NAME)
    wanted = np.array([lookup_id(ids.caption_id(TEXTS[1]))], np.int64)
    wait_until(lambda: table.verdicts(SPEC_ID, wanted)[0] == HELPFUL, 20, "the correction")
    reader.stop()
