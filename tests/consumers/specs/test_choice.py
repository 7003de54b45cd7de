"""Which spec is meant: by name, by the beginning of an id, or by the model; and what is said about it."""

from __future__ import annotations

import json
import logging
import socket
import threading
from pathlib import Path

import pytest

from onibus.consumers.reward_models.run import _announced
from onibus.consumers.specs.choice import is_ambiguous, log_choice, missing_line, spec_in_use, specs_meant
from onibus.consumers.specs.known_specs import KnownSpecs
from onibus.consumers.specs.spec_file import announced_specs, import_specs, load_spec, publish_specs
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings, environment_of
from onibus.learner.option_groups import parse_spec_share
from onibus.schemas import ids
from onibus.schemas.codec import encode
from onibus.schemas.records import Label, Verdict
from tests.command import run_onibus
from tests.logged import logged

RULES = load_spec("goals")
TUESDAY = load_spec("goals", "org/model-7b")
OTHER = load_spec("combat")
SPECS = {ids.spec_id(spec): spec for spec in (OTHER, TUESDAY, RULES)}
RULES_ID, TUESDAY_ID, OTHER_ID = (ids.spec_id(spec) for spec in (RULES, TUESDAY, OTHER))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("goals", [TUESDAY_ID, RULES_ID]),
        ("goals@rules", [RULES_ID]),
        ("goals@org/model-7b", [TUESDAY_ID]),
        (f"goals@{TUESDAY_ID.hex()[:4]}", [TUESDAY_ID]),
        (f"goals@{RULES_ID.hex().upper()}", [RULES_ID]),
        (f"goals@{RULES_ID.hex()[:3]}", []),
        (f"combat@{RULES_ID.hex()}", []),
        ("goals@another-model", []),
        ("gold", []),
    ],
)
def test_name_id_and_model_choose(text: str, meant: list[bytes]) -> None:
    assert specs_meant(SPECS, text) == meant
    assert spec_in_use(SPECS, text) == (meant[-1] if meant else None)
    if meant:
        assert KnownSpecs(SPECS).newest(text) == meant[-1]


def test_specs_of_one_name_are_told_apart_by_what_can_be_typed() -> None:
    sampled = load_spec("goals", "org/model-7b", sampling={"temperature": "0.7"})
    sampled_id = ids.spec_id(sampled)
    for specs, spec_id, shown in (
        (SPECS, OTHER_ID, "combat"),
        (SPECS, RULES_ID, "goals@rules"),
        (SPECS, TUESDAY_ID, "goals@org/model-7b"),
        (SPECS | {sampled_id: sampled}, TUESDAY_ID, f"goals@{TUESDAY_ID.hex()[:8]}"),
        (SPECS, sampled_id, sampled_id.hex()),
    ):
        assert KnownSpecs(specs).told_apart(spec_id) == shown
        if spec_id in specs:
            assert specs_meant(specs, shown) == [spec_id]


def test_only_a_plain_name_of_several_models_is_ambiguous(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert [is_ambiguous(SPECS, text) for text in ("goals", "goals@rules", "combat")] == [True, False, False]
    log = logging.getLogger("a-program")
    for text in ("goals", "goals@rules"):
        log_choice(log, SPECS, text, RULES_ID)
    warned, said = logged(caplog, "a-program")
    assert (warned.levelname, said.levelname) == ("WARNING", "INFO")
    assert "choose one with --spec goals@ID or --spec goals@MODEL" in warned.getMessage()
    assert f"{TUESDAY_ID.hex()} (model org/model-7b)" in said.getMessage()


def test_what_is_missing_is_said_with_what_there_is() -> None:
    assert missing_line(SPECS, "gold") == "no annotator has announced gold yet"
    assert missing_line(SPECS, "comabt") == "no annotator has announced comabt yet; did you mean combat?"
    line = missing_line(SPECS, "combat@gpt")
    assert line.startswith("no annotator has announced combat@gpt yet; of that name there is ")
    assert f"{OTHER_ID.hex()} (model rules)" in line
    with pytest.raises(OnibusError, match="there is no spec combat@gpt; there are: "):
        KnownSpecs(SPECS).newest("combat@gpt")


@pytest.mark.parametrize(
    ("text", "choice", "coefficient"),
    [
        ("goals", "goals", 0.5),
        ("goals=0.4", "goals", 0.4),
        ("goals@org/model-7b", "goals@org/model-7b", 0.5),
        ("goals@1a2b=0.4", "goals@1a2b", 0.4),
        ("goals@org/a=b=0.4", "goals@org/a=b", 0.4),
    ],
)
def test_a_coefficient_still_goes_with_it(text: str, choice: str, coefficient: float) -> None:
    share = parse_spec_share(text, 0.5)
    assert (share.choice, share.coefficient) == (choice, coefficient)


def test_a_trainer_learns_from_the_spec_that_is_chosen(settings: Settings) -> None:
    publish_specs(settings, [RULES])
    publish_specs(settings, [TUESDAY])
    for text, spec_id in (("goals", TUESDAY_ID), ("goals@rules", RULES_ID)):
        found = _announced(settings, text, threading.Event())
        assert found is not None
        assert found[0] == spec_id


def test_announcements_say_when_and_where_from(settings: Settings) -> None:
    publish_specs(settings, [RULES])
    announced = announced_specs(settings)[RULES_ID]
    assert announced.announced_by == socket.gethostname()
    import_specs(settings, [OTHER])
    assert announced_specs(settings)[OTHER_ID].announced_at >= announced.announced_at > 1.7e9


def test_the_command_lists_them(settings: Settings, tmp_path: Path) -> None:
    publish_specs(settings, [RULES, OTHER])
    publish_specs(settings, [TUESDAY])
    producer, topic = clients.producer(settings), TopicNames(settings.topic_prefix).labels
    for text in ("You see here 3 gold pieces.", "You fall."):
        key = ids.label_key(RULES_ID, ids.caption_id(text))
        producer.send(topic, key=key, value=encode(Label(Verdict.HELPFUL, 0, 0, 1, 2, "test")))
    producer.flush()
    producer.close()
    environment = environment_of(settings)
    shown = run_onibus("spec", "list", "--labels", "--json", folder=tmp_path, environment=environment)
    assert shown.returncode == 0, shown.stderr
    rows = json.loads(shown.stdout)
    found = [(row["name"], row["id"], row["model"], row["in_use"], row["labels"]) for row in rows]
    assert found == [
        ("combat", OTHER_ID.hex(), "rules", True, 0),
        ("goals", RULES_ID.hex(), "rules", False, 2),
        ("goals", TUESDAY_ID.hex(), "org/model-7b", True, 0),
    ]
    table = run_onibus("spec", "list", "goals", folder=tmp_path, environment=environment)
    assert TUESDAY_ID.hex() in table.stdout
    assert OTHER_ID.hex() not in table.stdout
    assert socket.gethostname() in table.stdout
