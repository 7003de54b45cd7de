"""The whole system on real parts: NetHack, Sample Factory, Kafka, an annotator, and labels that pay."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onibus.infra.broker import BrokerOptions, RunningBroker, start_broker, stop_broker
from onibus.infra.kafka.acl_admin import add_user, grant
from onibus.infra.kafka.roles import role_of
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.process.components import Component
from onibus.infra.settings import Settings, environment_of, load_settings
from onibus.learner.run_files.history import read_history
from onibus.producers.publishing.caption_publisher import AGAIN_SECONDS
from tests.command import OnibusProcess, run_onibus
from tests.consumers.replay.running import onibus, refusal
from tests.learner.runs import descendants, start_learner, wait_ready
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


def start_annotator(settings: Settings, *flags: str) -> Component:
    name = "judge"
    annotator = OnibusProcess(
        name,
        ("annotate", "--spec", "keys-and-doors", "--llm", "rules", "--name", name, *flags),
        settings.runs_dir / f"{name}.log",
    )
    annotator.start(environment_of(settings))
    return annotator


def start_trainer(settings: Settings, spec: str = "keys-and-doors") -> Component:
    trainer = OnibusProcess("trainer", ("train-reward", "--spec", spec), settings.runs_dir / "trainer.log")
    trainer.start(environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""})
    return trainer


@contextmanager
def stopping_at_the_end(*components: Component) -> Iterator[None]:
    try:
        yield
    finally:
        for component in components:
            component.ask_to_stop()
            component.wait_stopped()


def newest(folder: Path) -> dict[str, float]:
    rows = read_history(folder)
    return rows[-1] if rows else {}


def rows_since(folder: Path, moment: float) -> Callable[[], list[dict[str, float]]]:
    return lambda: [row for row in read_history(folder) if row["time"] > moment]


def test_labels_that_arrive_over_the_bus_raise_the_intrinsic_reward(settings: Settings) -> None:
    folder = settings.runs_dir / "e2e"
    learner = start_learner(settings, "e2e")
    with stopping_at_the_end(learner):
        wait_ready(learner)
        wait_until(lambda: newest(folder).get("captions_published", 0) > 0, 60, "captions on the bus")
        unlabelled = [r for r in read_history(folder) if "intrinsic_reward" in r]
        assert unlabelled
        assert all(row["intrinsic_reward"] == 0 and row["labels_known"] == 0 for row in unlabelled)

        # Without a backlog it would begin with the captions that come again, a minute after the first time.
        annotator = start_annotator(settings, "--backlog", "2h", "--yes")
        with stopping_at_the_end(annotator):
            wait_until(lambda: newest(folder).get("labels_known", 0) > 0, 60, "labels in the learner's table")
            wait_until(lambda: newest(folder).get("intrinsic_return", 0) > 0, 60, "rewarded captions")
            seconds = AGAIN_SECONDS + 60  # for what was seen first after the backlog had been read
            wait_until(lambda: newest(folder).get("label_coverage", 0) > 0.9, seconds, "captions with labels")
        assert "0 dead letters" in annotator.log_path.read_text()


def as_user(settings: Settings, role: str) -> Settings:
    """The same cluster for a user who has this role and no other right."""
    user, file = f"{role}-{settings.topic_prefix}", settings.runs_dir / f"{role}.password"
    file.write_text(password := secrets.token_urlsafe(16))
    add_user(settings, user, password)
    grant(settings, user, role_of(role))
    return settings.model_copy(update={"sasl_username": user, "sasl_password_file": file})


def test_every_component_works_over_tls_and_scram_with_no_right_but_its_role(
    secure: RunningBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    administrator = load_settings(
        **secure.client_settings(), partitions=4, runs_dir=tmp_path, topic_prefix="every-role."
    )
    create_topics(as_user(administrator, "operator"))
    annotator = start_annotator(as_user(administrator, "annotator"))
    wait_ready(annotator)  # its group begins before the first caption is published
    trainer = start_trainer(as_user(administrator, "trainer"))
    learner = start_learner(as_user(administrator, "learner"), "secure", "--reward", "classification")
    folder = tmp_path / "secure"
    with stopping_at_the_end(annotator, trainer, learner):
        wait_ready(learner)
        wait_until(lambda: newest(folder).get("labels_known", 0) > 0, 60, "labels over TLS")
        wait_until(lambda: newest(folder).get("model_version", 0) > 0, 120, "a reward model over TLS")
        player = environment_of(as_user(administrator, "rollout"))
        played = run_onibus(
            "rollout", "--task", "keyroom-s5", "--steps", "200", folder=tmp_path, environment=player
        )
        assert played.returncode == 0, played.stderr
        person = as_user(administrator, "person")
        onibus(person, "labels", "withdraw", "--verdict", "unhelpful", "--yes")
        onibus(person, "dead-letters", "redrive", "--yes")
    for component in (annotator, trainer, learner):
        assert stop_code(component) == 0, component.log_path.read_text()
    reader, spec = as_user(administrator, "reader"), ("--spec", "keys-and-doors")
    onibus(reader, "status")
    onibus(reader, "report", "secure")
    assert "identical" in onibus(reader, "replay", "verify")
    assert "ACL" in refusal(reader, "labels", "set", "This door is locked.", "helpful", *spec)

    passwords = [file.read_text() for file in tmp_path.glob("*.password")]
    assert len(passwords) == 7
    kept = [file.read_text(errors="ignore") for file in (*tmp_path.glob("*.log"), *folder.glob("*.json*"))]
    assert len(kept) > 4
    assert not [password for password in passwords for text in kept if password in text]


@pytest.fixture
def own_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[BrokerOptions, Settings]]:
    """A broker that a test may stop, and settings for it."""
    monkeypatch.chdir(tmp_path)
    options = BrokerOptions(tmp_path / "broker", port=free_port())
    running: RunningBroker = start_broker(options)
    settings = load_settings(**running.client_settings(), partitions=4, runs_dir=tmp_path)
    create_topics(settings)
    yield options, settings
    stop_broker(options.data_dir)


def test_stepping_goes_on_while_the_broker_is_away_and_publishing_after_it(
    own_broker: tuple[BrokerOptions, Settings],
) -> None:
    options, settings = own_broker
    folder = settings.runs_dir / "outage"
    learner = start_learner(settings, "outage")
    with stopping_at_the_end(learner):
        wait_ready(learner)
        wait_until(lambda: newest(folder).get("captions_published", 0) > 0, 60, "captions on the bus")
        memory_before = memory_of(learner)
        gone_at = time.time()
        stop_broker(options.data_dir)
        wait_until(lambda: newest(folder)["time"] > gone_at + 8, 40, "8 s of learning without a broker")
        away = rows_since(folder, gone_at + 1)()
        assert away[-1]["env_steps"] > away[0]["env_steps"]
        assert max(row["longest_pause_seconds"] for row in away) < 1.0
        assert memory_of(learner) - memory_before < 100e6

        start_broker(options)
        published = newest(folder)["captions_published"] + newest(folder)["episodes_published"]

        def goes_on() -> bool:
            row = newest(folder)
            return row["captions_published"] + row["episodes_published"] > published

        wait_until(goes_on, 60, "publishing after the broker's return")
        assert "captions_dropped" in newest(folder)
    assert stop_code(learner) == 0


def memory_of(component: Component) -> int:
    """Resident bytes of its processes that are not shared with others."""
    total = 0
    for process in descendants(component):
        total += process.memory_full_info().uss
    return total


def stop_code(component: Component) -> int | None:
    return component.process.poll() if component.process else None
