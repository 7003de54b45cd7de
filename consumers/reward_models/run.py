"""Puts a reward trainer together from options and runs it until it is told to stop."""

from __future__ import annotations

import logging
import threading

from onibus.consumers.reward_models.character_cnn import network_named
from onibus.consumers.reward_models.loop import TrainerProcess
from onibus.consumers.reward_models.options import TrainOptions
from onibus.consumers.reward_models.schedule import schedule_named
from onibus.consumers.specs.choice import log_choice, missing_line, spec_in_use
from onibus.consumers.specs.spec_file import read_specs
from onibus.infra.devices import torch_device
from onibus.infra.kafka.topic_admin import require_topics
from onibus.infra.observability import metrics
from onibus.infra.process.shutdown import stop_event
from onibus.infra.settings import Settings
from onibus.schemas.records import AnnotationSpec

_log = logging.getLogger(__name__)

_SPEC_RETRY_SECONDS = 2.0


def run(settings: Settings, options: TrainOptions, metrics_port: int | None = None) -> None:
    """Run one reward trainer until SIGTERM or SIGINT.

    Raises:
        OnibusError: something that the user can put right, in one line.
    """
    network, device = network_named(options.network), torch_device(options.device)
    stopping = stop_event()
    metrics.expose(metrics_port, settings.metrics_host)
    require_topics(settings, role="trainer")
    found = _announced(settings, options.spec, stopping)
    if found is not None:
        spec_id, spec = found
        schedule = schedule_named(options.schedule, options.late_steps_per_second)
        process = TrainerProcess(
            settings, spec.name, spec_id, options.seed, spec.kind, network, device, schedule
        )
        _log.info("%s", process.run(stopping).line())


def _announced(
    settings: Settings, name: str, stopping: threading.Event
) -> tuple[bytes, AnnotationSpec] | None:
    """The specification that ``name`` stands for, once it was announced; None if stopped."""
    warned = False
    while not stopping.is_set():
        specs = read_specs(settings)
        if (spec_id := spec_in_use(specs, name)) is not None:
            log_choice(_log, specs, name, spec_id)
            return spec_id, specs[spec_id]
        if not warned:
            warned = True
            _log.warning("%s; waiting (onibus annotate --spec NAME)", missing_line(specs, name))
        stopping.wait(_SPEC_RETRY_SECONDS)
    return None
