"""Making an online run's versions again from the log, beside the run itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.process.shutdown import stop_event
from onibus.infra.process.supervisor import Component, Supervisor
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
    online = _run_online(own, task, seconds, stop_event())
    began = time.monotonic()
    finished = subprocess.run(
        [sys.executable, "-m", "onibus", "replay", "verify", "--no-labels", "--json"],
        env={**os.environ, **environment_of(own)},
        capture_output=True,
        text=True,
        check=False,
    )
    replayed = time.monotonic() - began
    if finished.returncode not in (0, 1):  # 1: it tells of versions that differ
        raise OnibusError(f"onibus replay verify failed: {finished.stderr.strip()[-400:]}")
    trainings = json.loads(finished.stdout)["trainings"]
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


def _run_online(settings: Settings, task: str, seconds: float, stopping: threading.Event) -> float:
    """Seconds from the trainer's start to its end."""
    spec = default_specs(task, "classification")[0].name
    supervisor = Supervisor(environment_of(settings))
    try:
        supervisor.start([_component(settings, "annotate", "--llm", "rules", "--spec", spec)])
        supervisor.wait_ready(READY_SECONDS, stopping)
        began = time.monotonic()
        trainer = _component(settings, "train-reward", "--spec", spec)
        supervisor.start([trainer, _component(settings, "rollout", "--task", task)])
        supervisor.wait_ready(READY_SECONDS, stopping)
        stopping.wait(seconds)
        supervisor.check()
    finally:
        supervisor.stop()
    if stopping.is_set():
        raise OnibusError("stopped before its end; nothing was measured")
    return time.monotonic() - began


def _component(settings: Settings, command: str, *flags: str) -> Component:
    return Component(command, (command, *flags), settings.runs_dir / f"bench-{command}.log")
