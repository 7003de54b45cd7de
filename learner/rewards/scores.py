"""Scores of judges on every caption at hand, and what they are worth, ready for the learner to look up.

A judge is one version of a reward model, or the similarity to a goal.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from onibus.consumers.reward_models.character_cnn import (
    CLASSES,
    SCORE,
    caption_scores,
    helpful_probability,
    network_in,
    to_bytes,
    to_rows,
)
from onibus.consumers.reward_models.model_file import ModelFileError, read_model_file
from onibus.consumers.reward_models.score_scale import ScoreScale
from onibus.consumers.reward_models.transfer import WholeFile
from onibus.infra.observability import metrics
from onibus.learner.rewards.score_to_reward import Shape
from onibus.schemas.ids import NO_CAPTION

log = logging.getLogger(__name__)

MOST_BYTES = 32 << 20
"""Memory for captions, about: 180,000 of 60 bytes. Of more, those not seen for the longest time are
forgotten. A worker writes what comes up again down again, after a minute, so that the words of what a batch
holds are always there."""
SCORED_AHEAD = 500
"""Captions, the last ones seen, that a new version scores before it is used; others when they come up: a
batch of NetHack has a hundred different ones, which take a few milliseconds once for each version."""
_CAPTION_BYTES = 120
"""What a caption takes besides its bytes."""

Judge = Callable[[Sequence[bytes]], NDArray[np.float32]]
"""Scores, float32 (n,), of n captions, each the bytes that :func:`to_bytes` gives."""


@dataclass(frozen=True, slots=True)
class ModelInUse:
    """The judge that rewards now.

    Attributes:
        name: of the model.
        version: from 1; 0 where there are no versions.
        sha256: of its file, hex digits.
        labels: captions or pairs with a verdict in the data it was trained on.
        written_at: when it was put on the bus, seconds since the epoch.
    """

    name: str
    version: int
    sha256: str
    labels: int
    written_at: float


@dataclass(frozen=True, slots=True)
class _Judged:
    """A judge with its scores and what they are worth. Never changed.

    Attributes:
        scale: that the version brought with it; None if it brought none.
        ids: int64 (n,), ascending.
        scores: float32 (n,).
        rewards: float32 (n,).
    """

    model: ModelInUse
    judge: Judge
    scale: ScoreScale | None
    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    rewards: NDArray[np.float32]


class ModelScores:
    """The score of each caption under each judge, and what it is worth.

    Two threads use it. The learner's brings captions: what a batch holds and has no score is scored before
    the batch is used (:meth:`complete`), a few captions in a millisecond or two. Another brings versions: a
    new one scores the captions at hand first, as long as that takes, then takes the old one's place by one
    assignment, together with its own scale. So the learner never waits for that, and never measures one
    version's scores on another's scale. What has no score rewards nothing.

    Args:
        shape: what a score is worth.
        ranks: whether models are rankings (Bradley-Terry scores) instead of classifiers (p(helpful)).
        device: torch device that the networks run on.
        notes: gives the captions that the run's workers saw since it was last called.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        ranks: bool,
        device: str = "cpu",
        notes: Callable[[], Mapping[int, str]] = dict,
    ) -> None:
        self._shape, self._ranks, self._device, self._notes = shape, ranks, device, notes
        self._outputs = SCORE if ranks else CLASSES
        self._captions: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0
        self._judged: dict[bytes, _Judged] = {}
        self._changing = Lock()
        """Held, for moments, while captions or judges change."""
        self._said_unscaled = False

    def rewards(self, spec_id: bytes, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """What captions are worth, float32 in the shape of their look-up ids, NaN for not scored.

        Safe in any thread.
        """
        judged = self._judged.get(spec_id)
        return _unscored(ids) if judged is None else _looked_up(judged.ids, judged.rewards, ids)

    def scores(self, spec_id: bytes, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores, as :meth:`rewards`; those of a ranking in deviations from the mean."""
        judged = self._judged.get(spec_id)
        if judged is None:
            return _unscored(ids)
        found = _looked_up(judged.ids, judged.scores, ids)
        scale = self._scale_for(judged.scale, judged.scores)
        return found if scale is None else scale.normalised(found)

    def known(self) -> dict[int, str]:
        """The captions at hand by their look-up ids, as far as judges see them."""
        with self._changing:
            return {number: caption.decode("utf-8", "ignore") for number, caption in self._captions.items()}

    def in_use(self, spec_id: bytes) -> ModelInUse | None:
        """The judge under this specification; None before the first."""
        judged = self._judged.get(spec_id)
        return None if judged is None else judged.model

    def add(self, captions: Mapping[int, str]) -> None:
        """Take captions by their look-up ids; those that are there already count as just seen."""
        with self._changing:
            for number, text in captions.items():
                if number in self._captions:
                    self._captions.move_to_end(number)
                else:
                    self._captions[number] = caption = to_bytes(text)
                    self._bytes += len(caption) + _CAPTION_BYTES
            forgotten = []
            while self._bytes > MOST_BYTES:
                number, caption = self._captions.popitem(last=False)
                self._bytes -= len(caption) + _CAPTION_BYTES
                forgotten.append(number)
            if forgotten:
                gone = np.array(forgotten)
                self._judged = {s: self._without(judged, gone) for s, judged in self._judged.items()}

    def complete(self, ids: NDArray[np.int64]) -> None:
        """Have every judge score those of the captions that it has not scored yet; only the learner's thread.

        Captions that workers wrote down since are taken in first, so none of the run's own is unknown.

        Args:
            ids: look-up ids, int64 (n,).
        """
        wanted = ids[ids != NO_CAPTION]
        if any(number not in self._captions for number in wanted.tolist()):
            self.add(self._notes())
        with self._changing:
            for spec_id, judged in list(self._judged.items()):
                lacking = wanted[np.isnan(_looked_up(judged.ids, judged.scores, wanted))].tolist()
                if new := {number: self._captions[number] for number in lacking if number in self._captions}:
                    self._judged[spec_id] = self._with(judged, *_scored(judged.judge, new))

    def use(self, spec_id: bytes, judge: Judge, model: ModelInUse, scale: ScoreScale | None = None) -> None:
        """Have ``judge`` score from now on, on its scale; a ranking without one is given one here."""
        with self._changing:
            newest = islice(reversed(self._captions.items()), SCORED_AHEAD)
            captions = dict(newest)
        ids, scores = _scored(judge, captions)
        order = np.argsort(ids)
        made = self._made(model, judge, scale, ids[order], scores[order])
        with self._changing:
            self._judged[spec_id] = made

    def take(self, spec_id: bytes, file: WholeFile, written_at: float) -> bool:
        """Use a version from now on; False if it is refused, and the one before stays.

        A version of another architecture or caption length is refused, and so is a file that is none.
        """
        try:
            contents = read_model_file(file.data)
            network = network_in(contents, self._outputs).to(torch.device(self._device))
        except ModelFileError as error:
            return self._refuse("unreadable", file, str(error))
        except ValueError as error:
            return self._refuse("architecture", file, str(error))
        made = contents.provenance
        scale = ScoreScale.from_figures(made.normalisation)
        if self._ranks and scale is None and not self._said_unscaled:
            self._said_unscaled = True
            log.warning(
                "reward model %s was made by an older onibus, without the scale of its scores: this run "
                "measures it on its own captions",
                file.model,
            )
        model = ModelInUse(file.model, file.version, file.sha256.hex(), made.labels, written_at)
        self.use(spec_id, self._judge_by(network), model, scale)
        return True

    def _judge_by(self, network: nn.Module) -> Judge:
        score = caption_scores if self._ranks else helpful_probability
        return lambda captions: score(network, to_rows(captions))

    def _made(
        self,
        model: ModelInUse,
        judge: Judge,
        scale: ScoreScale | None,
        ids: NDArray[np.int64],
        scores: NDArray[np.float32],
    ) -> _Judged:
        """A judge with scores of ids, ascending."""
        rewards = self._shape(scores, self._scale_for(scale, scores))
        return _Judged(model, judge, scale, ids, scores, rewards)

    def _with(self, judged: _Judged, ids: NDArray[np.int64], scores: NDArray[np.float32]) -> _Judged:
        """The same with scores of more captions."""
        order = np.argsort(ids)
        ids, scores = ids[order], scores[order]
        places = np.searchsorted(judged.ids, ids)
        all_ids, all_scores = np.insert(judged.ids, places, ids), np.insert(judged.scores, places, scores)
        if self._ranks and judged.scale is None:  # measured here, so all of it changes
            return self._made(judged.model, judged.judge, None, all_ids, all_scores)
        rewards = np.insert(judged.rewards, places, self._shape(scores, judged.scale))
        return replace(judged, ids=all_ids, scores=all_scores, rewards=rewards)

    def _without(self, judged: _Judged, gone: NDArray[np.int64]) -> _Judged:
        kept = ~np.isin(judged.ids, gone)
        return replace(judged, ids=judged.ids[kept], scores=judged.scores[kept], rewards=judged.rewards[kept])

    def _scale_for(self, own: ScoreScale | None, scores: NDArray[np.float32]) -> ScoreScale | None:
        """The version's own; a ranking without one is measured here."""
        return ScoreScale.of(scores) if own is None and self._ranks and scores.size else own

    def _refuse(self, reason: str, file: WholeFile, why: str) -> bool:
        metrics.MODELS_REFUSED.labels(reason=reason).inc()
        log.warning(
            "version %d of reward model %s is refused, the one before stays: %s",
            file.version,
            file.model,
            why,
        )
        return False


def _unscored(ids: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.full(ids.shape, np.nan, np.float32)


def _looked_up(
    known: NDArray[np.int64], values: NDArray[np.float32], ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Values of ids, NaN where one is not known; ``known`` is ascending."""
    if not known.size:
        return _unscored(ids)
    places = np.searchsorted(known, ids)
    places[places == known.size] = 0
    return np.where(known[places] == ids, values[places], np.float32(np.nan))


def _scored(judge: Judge, captions: Mapping[int, bytes]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    if not captions:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    return np.fromiter(captions, np.int64, len(captions)), judge(list(captions.values()))
