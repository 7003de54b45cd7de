"""An offline model onto the bus, under a name that no one else uses."""

from __future__ import annotations

import threading
from hashlib import sha256

from onibus.consumers.reward_models.publisher import VersionWriter
from onibus.consumers.reward_models.trainer import TrainedVersion
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.settings import Settings


def publish_model(settings: Settings, version: TrainedVersion) -> bool:
    """Publish a version of a model that is not on the bus yet. False: this very version is there already.

    Raises:
        OnibusError: another model of this name is there, or the cluster does not take it.
    """
    model, never = version.file.provenance.model, threading.Event()
    writer = VersionWriter(settings, codec_for(settings), model)
    try:
        newest = writer.newest()  # before it takes the model over from a trainer that may be running
        if newest is not None:
            if newest.sha256 == sha256(version.file.to_bytes()).digest():
                return False
            raise OnibusError(
                f"reward model {model} is on the bus already, at version {newest.version}; choose "
                "another --name"
            )
        writer.open(never)
        return writer.publish(version, never)
    finally:
        writer.close()
