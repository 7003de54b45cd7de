"""Making an online run's versions again from the log, beside the run itself."""

from __future__ import annotations

import json
import threading
import time

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.process.components import Component, Supervisor
from onibus.infra.settings import Settings, environment_of
from onibus.learner.benchmarks.result import Figure
from onibus.learner.options import default_specs

READY_SECONDS = 120.0


def measure(settings: Settings, task: str, seconds: float) -> list[Figure]:
    """Wall time of ``onibus replay verify`` ÷ that of the run whose versions it makes again.

    The run: rollout workers that play ``task`` at random, an annotator that judges by rules, and the reward
    trainer, each a process of its own, for ``seconds`` from when all are ready. Both times are those of whole
    processes, the trainer's and the command's, with their starts.

    Both take the same gradient steps, one after the other, so the ratio is the share of the run in which the
    trainer is busy. In the full game new captions keep it so for the first half minute.

    Raises:
        OnibusError: a component ended early, no version was made, or verify ended without telling.
    """
    own = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}run."})
    create_topics(own)
    online = _run_online(own, task, seconds)
    verify = Component(
        "onibus replay verify",
        ("replay", "verify", "--no-labels", "--json"),
        own.runs_dir / "bench-verify.log",
        output_path=own.runs_dir / "bench-verify.json",
    )
    began = time.monotonic()
    verify.start(environment_of(own))
    try:
        assert verify.process is not None
        code = verify.process.wait()
        replayed = time.monotonic() - began
    finally:
        verify.ask_to_stop()
        verify.wait_stopped()
    if code not in (0, 1):  # 1: it tells of versions that differ
        raise OnibusError(f"onibus replay verify failed; its last lines:\n{verify.last_lines()}")
    trainings = json.loads((own.runs_dir / "bench-verify.json").read_text())["trainings"]
    if not trainings:
        raise OnibusError(f"no version was made within {seconds:g} s; see {own.runs_dir}/bench-*.log")
    (check,) = trainings
    share = check["identical"] / check["versions"]
    return [
        Figure(f"versions of an online run of {task}", check["versions"], "versions"),
        Figure.at_least("of them identical when made again", share, "share", 1.0),
        Figure("wall time of the online run's trainer", online, "s"),
        Figure("wall time of making all versions again", replayed, "s"),
        Figure.at_most("making again ÷ online run", replayed / online, "ratio", 0.5),
    ]


def _run_online(settings: Settings, task: str, seconds: float) -> float:
    """Seconds from the trainer's start to its end."""
    spec = default_specs(task, "classification")[0].name
    supervisor = Supervisor(environment_of(settings))
    try:
        supervisor.start([_component(settings, "annotate", "--llm", "rules", "--spec", spec)])
        supervisor.wait_ready(READY_SECONDS, threading.Event())
        began = time.monotonic()
        trainer = _component(settings, "train-reward", "--spec", spec)
        supervisor.start([trainer, _component(settings, "rollout", "--task", task)])
        supervisor.wait_ready(READY_SECONDS, threading.Event())
        time.sleep(seconds)
        supervisor.check()
    finally:
        supervisor.stop()
    return time.monotonic() - began


def _component(settings: Settings, command: str, *flags: str) -> Component:
    return Component(command, (command, *flags), settings.runs_dir / f"bench-{command}.log")
