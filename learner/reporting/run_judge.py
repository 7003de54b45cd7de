"""What a run's reward pays for a caption, worked out afterwards from the labels and models on the bus."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from onibus.consumers.labels.reader import LabelReader
from onibus.consumers.labels.table import NO_LABEL, VERDICTS, LabelTable
from onibus.consumers.reward_models.publisher import newest_version
from onibus.consumers.reward_models.transfer import model_name
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.plugins import is_plugin
from onibus.infra.settings import Settings
from onibus.learner.options import LearnOptions
from onibus.learner.rewards.formulas import NoReward, SpecReward
from onibus.learner.rewards.frozen import fix_judges
from onibus.learner.rewards.score_to_reward import shape_of
from onibus.learner.rewards.scores import ModelScores
from onibus.learner.rewards.source import chosen_reward
from onibus.learner.run_files.specs import found_specs
from onibus.schemas.ids import caption_id, lookup_id
from onibus.schemas.records import Verdict

_MOST_TELLING = (Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE)
"""Of the verdicts under several specs, the first of these that is among them is shown."""


class Judgement(NamedTuple):
    """What was said of a caption and what it pays: empty and 0 for no caption, or one that was not judged."""

    verdict: str
    reward: float


CaptionJudge = Callable[[str | None, int], Judgement]
"""Judges a caption that comes up for the n-th time in its episode, from 1; None and 0 where there is none."""


def not_judged(_caption: str | None, _count: int) -> Judgement:
    """The judge where there is none."""
    return Judgement("", 0.0)


class RunJudge:
    """Judges captions as the run would now: with its own specs, coefficients and options.

    A label or a model may be newer than what the run had when it saw the caption.

    Args:
        folder: of the run, which says which specs it found.

    Raises:
        OnibusError: the cluster, a topic or a model of the run is away; or its reward is the user's own,
            which judges whole batches and may remember what came before.
    """

    def __init__(self, settings: Settings, options: LearnOptions, folder: Path) -> None:
        if is_plugin(options.reward):
            raise OnibusError(f"what --reward {options.reward} pays cannot be worked out for single captions")
        options.plugin_modules()  # a model may have a network of theirs
        self._beta = options.count_beta
        self._labels = LabelTable(codec_for(settings))
        self._models = ModelScores(shape_of(options), ranks=options.kind.compares)
        paid = chosen_reward(options, self._labels, self._models)
        self._reward = paid if options.captions else NoReward()
        if not isinstance(self._reward, NoReward):
            self._reward.specs = tuple(self._read(settings, options, folder))

    def __call__(self, caption: str | None, count: int) -> Judgement:
        """See :data:`CaptionJudge`."""
        if caption is None:
            return Judgement("", 0.0)
        ids = np.array([lookup_id(caption_id(caption))], np.int64)
        self._models.add({int(ids[0]): caption})
        worth = float(self._reward(ids, np.ones(1, np.int64)).intrinsic[0])
        return Judgement(self._said(ids), worth / count**self._beta)

    def _read(self, settings: Settings, options: LearnOptions, folder: Path) -> list[SpecReward]:
        """Load labels and models; the parts of the reward."""
        if options.kind.is_frozen:
            return list(fix_judges(settings, self._models, options).values())
        reader = LabelReader(settings, self._labels)
        try:
            reader.load()
        finally:
            reader.stop()
        found = found_specs(folder)
        shares = [share for share in options.specs if share.choice in found]
        for share in shares if options.kind.trainer else ():
            name = model_name(share.name, found[share.choice])
            if (whole := newest_version(settings, name)) is not None:
                self._models.take(found[share.choice], whole, time.time())
        return [SpecReward(found[share.choice], share.coefficient) for share in shares]

    def _said(self, ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
        specs = [spec.spec_id for spec in self._reward.specs]
        codes = [int(self._labels.verdicts(spec_id, ids)[0]) for spec_id in specs]
        said = [VERDICTS[code] for code in codes if code != NO_LABEL]
        for verdict in _MOST_TELLING:
            if verdict in said:
                return verdict.value
        scores = [float(self._models.scores(spec_id, ids)[0]) for spec_id in specs]
        known = [score for score in scores if not math.isnan(score)]
        return f"score {max(known):.2f}" if known else ""
