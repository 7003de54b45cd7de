"""Verdicts of reward models on every caption at hand, ready for the learner to look up."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from consumers.label_store import LabelStore
from consumers.label_table import HELPFUL, NO_LABEL, UNHELPFUL
from consumers.reward_models.character_cnn import (
    ARCHITECTURE,
    CharacterCNN,
    helpful_probability,
    to_bytes,
    to_rows,
)
from consumers.reward_models.chunks import WholeFile
from consumers.reward_models.model_file import ModelFileError, read_model_file
from infra import metrics

log = logging.getLogger(__name__)

MOST_CAPTIONS = 20_000
"""Captions kept with their bytes (5 MB); of more, those not published for the longest time are forgotten.
Workers publish what comes up again every minute, so what a policy sees now is always there."""


@dataclass(frozen=True, slots=True)
class ModelInUse:
    """The version that rewards now.

    Attributes:
        name: of the model.
        version: from 1.
        sha256: of its file, hex digits.
        labels: captions with a verdict in the data it was trained on.
        written_at: when it was put on the bus, seconds since the epoch.
    """

    name: str
    version: int
    sha256: str
    labels: int
    written_at: float


@dataclass(frozen=True, slots=True)
class _Judged:
    model: ModelInUse
    network: CharacterCNN
    codes: LabelStore


class ModelVerdicts:
    """``p(helpful) > threshold`` of each caption under each model, as a label table gives verdicts.

    Each caption is judged once by each version, in the thread that brings captions and versions. A new
    version judges all captions at hand first and then takes the old one's place by one assignment: the
    learner's thread only ever looks up arrays and never waits. What is not judged yet has no verdict, and
    rewards nothing.

    Args:
        threshold: probability above which a caption is helpful.
        device: torch device that the networks run on.
    """

    def __init__(self, threshold: float, device: str = "cpu") -> None:
        self._threshold, self._device = threshold, device
        self._captions: OrderedDict[int, bytes] = OrderedDict()
        self._judged: dict[bytes, _Judged] = {}

    def verdicts(self, spec_id: bytes, ids: NDArray[np.int64]) -> NDArray[np.int8]:
        """Verdict codes of look-up ids, int8 in their shape, 0 for not judged. Safe in any thread."""
        judged = self._judged.get(spec_id)
        return np.zeros(ids.shape, np.int8) if judged is None else judged.codes.get(ids)

    def in_use(self, spec_id: bytes) -> ModelInUse | None:
        """The version that judges under this specification; None before the first."""
        judged = self._judged.get(spec_id)
        return None if judged is None else judged.model

    def unknown(self, ids: Collection[int]) -> set[int]:
        """Those of the ids whose captions are not at hand; the others count as just seen."""
        missing = set()
        for caption in ids:
            if caption in self._captions:
                self._captions.move_to_end(caption)
            else:
                missing.add(caption)
        return missing

    def add(self, captions: Mapping[int, str]) -> None:
        """Take captions by their look-up ids and have every model judge them."""
        if not captions:
            return
        self._captions.update((number, to_bytes(text)) for number, text in captions.items())
        forgotten = []
        while len(self._captions) > MOST_CAPTIONS:
            forgotten.append(self._captions.popitem(last=False)[0])
        new = {number: self._captions[number] for number in captions if number in self._captions}
        for judged in self._judged.values():
            self._judge(judged.network, judged.codes, new)
            _forget(judged.codes, forgotten)

    def take(self, spec_id: bytes, file: WholeFile, written_at: float) -> bool:
        """Use a version from now on; False if it is refused, and the one before stays.

        A version of another architecture or caption length is refused, and so is a file that is none.
        """
        try:
            contents = read_model_file(file.data)
        except ModelFileError as error:
            return self._refuse("unreadable", file, str(error))
        made = contents.provenance
        if made.architecture != ARCHITECTURE:
            return self._refuse("architecture", file, f"it is {made.architecture}, not {ARCHITECTURE}")
        network = CharacterCNN()
        try:
            network.load_state_dict(dict(contents.weights))
        except RuntimeError as error:
            return self._refuse("architecture", file, " ".join(str(error).split()))
        network.to(torch.device(self._device)).eval()
        codes = LabelStore()
        self._judge(network, codes, self._captions)
        model = ModelInUse(file.model, file.version, file.sha256.hex(), made.labels, written_at)
        self._judged[spec_id] = _Judged(model, network, codes)
        return True

    def _judge(self, network: CharacterCNN, codes: LabelStore, captions: Mapping[int, bytes]) -> None:
        if not captions:
            return
        helpful = helpful_probability(network, to_rows(list(captions.values()))) > self._threshold
        codes.set(
            np.fromiter(captions, np.int64, len(captions)),
            np.where(helpful, HELPFUL, UNHELPFUL).astype(np.uint8),
        )

    def _refuse(self, reason: str, file: WholeFile, why: str) -> bool:
        metrics.MODELS_REFUSED.labels(reason=reason).inc()
        log.warning(
            "version %d of reward model %s is refused, the one before stays: %s",
            file.version,
            file.model,
            why,
        )
        return False


def _forget(codes: LabelStore, ids: list[int]) -> None:
    if ids:
        codes.set(np.array(ids, np.int64), np.full(len(ids), NO_LABEL, np.uint8))
