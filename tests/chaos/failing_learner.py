"""The ``onibus`` command in which one process of a learner raises: arguments as for ``onibus``.

``FAILS_IN`` names the place; it fails as soon as the file ``FAILS_WHEN`` exists. ``ONCE`` waits for the file.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.waiting import wait_until

REASON = "out of luck"

ONCE = "label load"
PLACES = {
    ONCE: ("onibus.learner.rewards.source", "RewardSource", "start"),
    "training": ("onibus.learner.sample_factory", "RewardingLearner", "train"),
    "batcher": ("sample_factory.algo.learning.batcher", "Batcher", "on_new_trajectories"),
    "rollout worker": ("sample_factory.algo.sampling.rollout_worker", "RolloutWorker", "advance_rollouts"),
    "inference worker": ("sample_factory.algo.sampling.inference_worker", "InferenceWorker", "_run"),
    "main process": ("onibus.learner.progress", "RunProgress", "watch"),
}


def _failing(work: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(work)  # slots are found by their names
    def fail_or_work(*arguments: Any, **named: Any) -> Any:
        now = Path(os.environ["FAILS_WHEN"])
        if os.environ["FAILS_IN"] == ONCE:
            wait_until(now.exists, 120, "the time to fail")
        if now.exists():
            raise RuntimeError(REASON)
        return work(*arguments, **named)

    return fail_or_work


if "FAILS_IN" in os.environ:  # in the child processes, too
    module, owner, name = PLACES[os.environ["FAILS_IN"]]
    owning = getattr(importlib.import_module(module), owner)
    setattr(owning, name, _failing(getattr(owning, name)))

if __name__ == "__main__":
    from onibus.infra.cli.main import main

    main()
