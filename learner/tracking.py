"""A run's figures on Weights & Biases: those of its history, under the same names.

Sample Factory has a writer of its own, which asks for what its version of wandb no longer takes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of, write_whole
from onibus.learner.options import LearnOptions
from onibus.learner.run_files.parts import parts_now

log = logging.getLogger(__name__)

DEFAULT_PROJECT = "onibus"
ID_FILE = "wandb-id"
"""In a run's folder: by it a run that is resumed goes on as the same run."""

_WITHOUT_LOGIN = ("offline", "disabled", "dryrun")
_START_SECONDS = 30.0
_END_SECONDS = 3.0
"""What is not uploaded by then is left to ``wandb sync``: a run ends within ten seconds."""


class Tracker:
    """A run on Weights & Biases, from :meth:`start` on; project, entity and mode come from its own variables
    (``WANDB_PROJECT``, ``WANDB_ENTITY``, ``WANDB_MODE``).

    Once started, learning goes on when nothing can be sent: wandb keeps it in the run's folder. Neither the
    program's output nor its source nor a patch of it is sent.
    """

    def __init__(self, options: LearnOptions, folder: Path) -> None:
        self._options, self._folder = options, folder
        self._run: Any = None

    def start(self) -> None:
        """Begin the run, or go on with it.

        Raises:
            OnibusError: no one is logged in, or the server cannot be reached.
        """
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        logging.getLogger("wandb").setLevel(logging.WARNING)  # it logs each step of its own start
        try:
            mode = os.environ.get("WANDB_MODE", "")
            if mode not in _WITHOUT_LOGIN and not wandb.login(prompt=False, verify=False):
                raise OnibusError(
                    "no one is logged in to Weights & Biases: run wandb login, set WANDB_API_KEY, or set "
                    "WANDB_MODE=offline"
                )
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT,
                dir=self._folder,
                id=self._id(),
                name=self._options.run,
                resume="allow",
                config={**self._options.model_dump(mode="json"), "parts": parts_now()},
                settings=wandb.Settings(
                    console="off",
                    silent=True,
                    disable_git=True,
                    disable_code=True,
                    x_disable_stats=True,
                    init_timeout=_START_SECONDS,
                    finish_timeout=_END_SECONDS,
                ),
            )
            self._run.define_metric("*", step_metric="env_steps")
        except wandb.Error as error:
            raise OnibusError(
                f"Weights & Biases refuses or cannot be reached ({reason_of(error)}); set WANDB_MODE=offline "
                "to keep the figures in the run's folder"
            ) from error

    def add(self, row: Mapping[str, float]) -> None:
        """Send a row of the history."""
        self._attempt(lambda: self._run.log(dict(row)))

    def close(self) -> None:
        """End the run; what is not sent within seconds stays in the run's folder."""
        self._attempt(lambda: self._run.finish())
        self._run = None

    def _attempt(self, work: Any) -> None:
        if self._run is None:
            return
        try:
            work()
        except Exception as error:  # of its service, whatever kind: no run ends for it
            log.warning("Weights & Biases: %s; continuing without it", reason_of(error))
            self._run = None

    def _id(self) -> str:
        path = self._folder / ID_FILE
        known = path.read_text().strip() if path.exists() else ""
        if not known:
            known = uuid4().hex[:16]
            write_whole(path, known)
        return known
