"""Least rights: what roles are, that they can be granted and revoked, and that they allow nothing else."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
from kafka.errors import TopicAuthorizationFailedError

from onibus.infra.broker import RunningBroker
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.acl_admin import add_user, grant, granted, revoke, roles_held
from onibus.infra.kafka.clients import producer
from onibus.infra.kafka.roles import ROLES, Operation, Resource, Right, Role, rights_of, role_of
from onibus.infra.kafka.topic_admin import check_topics, create_topics
from onibus.infra.kafka.topics import topic_table
from onibus.infra.settings import Settings, environment_of, load_settings
from tests.command import run_onibus, the_one_line
from tests.waiting import wait_until


@pytest.fixture
def administrator(secure: RunningBroker, tmp_path: Path) -> Settings:
    """Settings of a super user, for topics of this test's own."""
    settings = load_settings(
        **secure.client_settings(), topic_prefix=f"{tmp_path.name}.", partitions=2, runs_dir=tmp_path
    )
    create_topics(settings)
    return settings


def as_user(settings: Settings, user: str) -> Settings:
    return settings.model_copy(update={"sasl_username": user})


def test_every_topic_has_a_role_that_writes_it_and_one_that_reads_it() -> None:
    settings = load_settings()
    rights = {name: rights_of(role, settings) for name, role in ROLES.items()}
    for topic in topic_table(settings):
        for operation in (Operation.READ, Operation.WRITE):
            wanted = Right(Resource.TOPIC, topic.name, operation)
            assert [name for name, own in rights.items() if wanted in own], wanted


def test_only_annotators_and_people_write_labels_and_only_the_trainer_models() -> None:
    writers = {
        topic: {n for n, r in ROLES.items() if topic in r.writes} for topic in ("labels", "reward_models")
    }
    assert writers == {"labels": {"annotator", "person"}, "reward_models": {"trainer"}}


def test_without_a_prefix_rights_are_on_all_names_as_kafka_writes_it() -> None:
    rights = rights_of(role_of("annotator"), load_settings(topic_prefix=""))
    assert Right(Resource.GROUP, "*", Operation.READ) in rights
    assert not [right for right in rights if right.prefixed or not right.name]


def test_an_unknown_role_is_refused_with_a_list_of_roles() -> None:
    with pytest.raises(OnibusError, match="no role janitor; choose one of: operator, rollout, annotator"):
        role_of("janitor")


def test_roles_that_another_one_includes_are_not_listed() -> None:
    settings = load_settings()
    rights = [
        right for name in ("rollout", "learner", "trainer") for right in rights_of(ROLES[name], settings)
    ]
    assert roles_held(rights, settings) == ["trainer", "learner"]
    assert roles_held(rights[:1], settings) == []


def test_a_role_is_granted_listed_and_revoked(administrator: Settings) -> None:
    add_user(administrator, "ann", administrator.password() or "")
    assert grant(administrator, "ann", ROLES["annotator"]) == rights_of(ROLES["annotator"], administrator)
    grant(administrator, "ann", ROLES["annotator"])  # twice is no harm
    expected = set(rights_of(ROLES["annotator"], administrator))
    wait_until(lambda: set(granted(administrator).get("ann", ())) == expected, 20, "the rights")
    (rights,) = granted(administrator).values()
    assert roles_held(rights, administrator) == ["annotator"]
    assert check_topics(as_user(administrator, "ann")) == []
    assert revoke(administrator, "ann") == len(rights)
    wait_until(lambda: granted(administrator) == {}, 20, "the rights to be gone")
    assert revoke(administrator, "ann") == 0


def test_a_role_opens_its_own_topics_and_no_others(administrator: Settings) -> None:
    add_user(administrator, "robin", administrator.password() or "")
    grant(administrator, "robin", ROLES["rollout"])
    with producer(as_user(administrator, "robin")) as out:
        out.send(f"{administrator.topic_prefix}captions", b"a caption").get(timeout=10)
        with pytest.raises(TopicAuthorizationFailedError):
            out.send(f"{administrator.topic_prefix}labels", b"a label").get(timeout=10)


REFUSED = {
    "annotate": ("reader", ["annotate", "--llm", "rules"], r"may not write .*labels, .* grant annotator"),
    "train-reward": ("annotator", ["train-reward"], r"may not read .*reward-models.* grant trainer"),
    "learn": (
        "rollout",
        ["learn", "--task", "keyroom-s5", "--run", "x"],
        r"may not read .*captions, .*learner",
    ),
    "rollout": ("trainer", ["rollout", "--steps", "9"], r"may not write .*captions, .*episodes; .*rollout"),
    "redrive": ("reader", ["dead-letters", "redrive", "--yes"], r"refuses transactions: .*ACLs"),
    "status": (None, ["status"], r"may not describe it; .*onibus access grant"),
    "topics": (None, ["topics", "check"], r"may not describe .*captions, .*labels, .*ROLE"),
}


@pytest.mark.parametrize(("role", "command", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_a_missing_right_is_reported_at_once_in_one_line(
    administrator: Settings, tmp_path: Path, role: str | None, command: list[str], expected: str
) -> None:
    user = f"{role}-{tmp_path.name}"
    add_user(administrator, user, administrator.password() or "")
    if role is not None:
        grant(administrator, user, ROLES[role])
    result = run_onibus(*command, folder=tmp_path, environment=environment_of(as_user(administrator, user)))
    line = the_one_line(result)
    assert re.search(expected, line), line


def test_rights_under_another_prefix_are_separate(administrator: Settings) -> None:
    grant(administrator, "eve", Role("", reads=("labels",)))
    wait_until(lambda: list(granted(administrator)) == ["eve"], 20, "the right")  # brokers apply it later
    elsewhere = administrator.model_copy(update={"topic_prefix": "elsewhere."})
    assert granted(elsewhere) == {}
    assert revoke(elsewhere, "eve") == 0
    assert list(granted(administrator)) == ["eve"]


def test_a_cluster_without_an_authorizer_is_reported(settings: Settings) -> None:
    with pytest.raises(OnibusError, match="has no authorizer") as raised:
        grant(settings, "ann", ROLES["annotator"])
    assert "onibus broker start --secure" in str(raised.value)


def test_only_a_super_user_may_grant(administrator: Settings) -> None:
    add_user(administrator, "mallory", administrator.password() or "")
    for attempt in (
        lambda s: grant(s, "mallory", ROLES["person"]),
        granted,
        lambda s: add_user(s, "mallory", "x"),
    ):
        with pytest.raises(OnibusError, match=r"super user"):
            attempt(as_user(administrator, "mallory"))


def test_the_command_makes_a_user_with_a_password_in_a_private_file(
    administrator: Settings, tmp_path: Path
) -> None:
    environment = environment_of(administrator)
    asked = ("access", "grant", "annotator", "--user", "carol", "--password-file", "carol.password")
    made = run_onibus(*asked, folder=tmp_path, environment=environment)
    assert made.returncode == 0, made.stderr
    file = tmp_path / "carol.password"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    password = file.read_text().strip()
    assert len(password) >= 24
    assert password not in made.stdout + made.stderr
    listed = run_onibus("access", "list", "--json", folder=tmp_path, environment=environment)
    assert json.loads(listed.stdout) == {"carol": {"roles": ["annotator"], "others": []}}
    hers = environment | {"ONIBUS_SASL_USERNAME": "carol", "ONIBUS_SASL_PASSWORD_FILE": str(file)}
    assert run_onibus("topics", "check", folder=tmp_path, environment=hers).returncode == 0
    refused = run_onibus("access", "list", folder=tmp_path, environment=hers)
    assert "super user" in the_one_line(refused)
    again = run_onibus(
        "access", "grant", "nobody", "--user", "carol", folder=tmp_path, environment=environment
    )
    assert "there is no role nobody" in the_one_line(again)
