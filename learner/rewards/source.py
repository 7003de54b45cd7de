"""Where the learner's intrinsic reward comes from: labels that follow the bus, and what is told of them.

Lives in the learner's process. Its threads read Kafka; the learner's own thread only looks up arrays.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.labels.reader import LabelReader
from onibus.consumers.labels.table import LabelTable
from onibus.consumers.reward_models.follower import ModelFollower
from onibus.consumers.specs.choice import choice_line, log_choice, missing_line, spec_in_use
from onibus.consumers.specs.spec_file import read_specs
from onibus.infra.errors import OnibusError
from onibus.infra.files import SideFile, reason_of
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.plugins import is_plugin
from onibus.infra.settings import Settings
from onibus.learner.options import LearnOptions
from onibus.learner.rewards.formulas import (
    ModelReward,
    NoReward,
    RetrievalReward,
    SpecReward,
)
from onibus.learner.rewards.frozen import fix_judges
from onibus.learner.rewards.latency import RewardLatency
from onibus.learner.rewards.plugin import PluginReward
from onibus.learner.rewards.score_to_reward import shape_of
from onibus.learner.rewards.scores import ModelScores
from onibus.learner.run_files.caption_tally import TALLY_FILE, CaptionTally
from onibus.learner.run_files.scored_captions import SCORES_FILE, keep_scores
from onibus.learner.run_files.specs import SPECS_FILE, found_specs, keep_specs
from onibus.producers.environments.tasks import import_tasks
from onibus.producers.publishing.caption_notes import NOTES_FOLDER, NotesReader
from onibus.schemas.codec import DecodeError
from onibus.schemas.ids import lookup_id, split_label_key
from onibus.schemas.records import AnnotationSpec, Label, Verdict

log = logging.getLogger(__name__)

LOAD_SECONDS = 300.0
SPEC_RETRY_SECONDS = 2.0
SPEC_WATCH_SECONDS = 60.0
"""How often a run looks whether another specification of a name it follows has come into use."""
SAVE_SECONDS = 15.0
MOST_UNCOUNTED = 64
"""Batches whose captions wait to be counted; counting them together is far cheaper than one by one."""

BY_SPEC = "intrinsic_return_by_"
"""Begins the names of each specification's part of the intrinsic return."""

RETURN_WINDOW = 100
"""Batches over which the mean intrinsic return is taken."""


def chosen_reward(
    options: LearnOptions, labels: LabelTable, scores: ModelScores
) -> RetrievalReward | ModelReward | PluginReward | NoReward:
    """The reward that the options name, made from labels or scores."""
    beta = options.count_beta
    match options.reward:
        case "none":
            return NoReward()
        case "retrieval":
            return RetrievalReward(labels, beta)
        case reward if is_plugin(reward):
            return PluginReward(reward, labels, beta)
        case "classification" if options.known_labels:
            return ModelReward(scores, beta, labels)
        case _:
            return ModelReward(scores, beta)


class RewardSource:
    """Intrinsic rewards of batches, their statistics, and the threads behind them."""

    def __init__(self, settings: Settings, options: LearnOptions, folder: Path) -> None:
        self._settings, self._options, self._folder = settings, options, folder
        import_tasks(options.imports)  # a reward model may have a network of theirs
        self._codec = codec_for(settings)
        self._table = LabelTable(self._codec)
        self._reader: LabelReader | None = None
        device = "cuda" if options.device == "gpu" else "cpu"
        self._notes = NotesReader(folder / NOTES_FOLDER)
        self._latency = RewardLatency()
        self._models = ModelScores(
            shape_of(options), ranks=options.kind.compares, device=device, notes=self._noted
        )
        self._follower: ModelFollower | None = None
        self._reward = chosen_reward(options, self._table, self._models)
        self._stopping = threading.Event()
        self._resolver: threading.Thread | None = None
        self._before = found_specs(folder)
        self._tally = CaptionTally.load(folder)
        self._tally_file, self._specs_file, self._scores_file = (
            SideFile(f"{folder / name}") for name in (TALLY_FILE, SPECS_FILE, SCORES_FILE)
        )
        self._unsaved: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        self._next_save = time.monotonic() + SAVE_SECONDS
        self._saver = ThreadPoolExecutor(1, "caption-totals")
        self._saving: Future[bool] | None = None
        self._returns: deque[tuple[float, float, Mapping[str, float]]] = deque(maxlen=RETURN_WINDOW)
        self._last: dict[str, float] = {}
        self._first_sights = self._unscored = 0
        self._last_batch = time.monotonic()
        self._longest_pause = 0.0

    def start(self) -> None:
        """Load the labels, then follow them; look for the specifications until they are all announced.

        Raises:
            OnibusError: the labels cannot be loaded.
        """
        if isinstance(self._reward, NoReward):
            return
        follows = not self._options.kind.is_frozen
        if follows:
            self._reader = LabelReader(self._settings, self._table, self._expect)
            self._reader.load(LOAD_SECONDS)
            self._reader.start()
        else:
            judges = fix_judges(self._settings, self._models, self._options)
            self._reward.specs = tuple(judges.values())
            self._keep_specs({name: judge.spec_id for name, judge in judges.items()})
        if self._options.kind.trainer:
            names = {share.name for share in self._options.specs}
            self._follower = ModelFollower(self._settings, lambda name, _: name in names, self._models.take)
            self._follower.start()
        if follows:
            self._resolver = threading.Thread(target=self._resolve_specs, daemon=True, name="resolve-specs")
            self._resolver.start()

    def stop(self) -> None:
        """End the threads and keep the captions' totals."""
        self._stopping.set()
        if self._reader is not None:
            self._reader.stop()
        if self._follower is not None:
            self._follower.stop()
        if self._resolver is not None:
            self._resolver.join(5)
        self._saver.shutdown()
        self._count_captions()
        self._tally_file.attempt(lambda: self._tally.save(self._folder))
        self._notes.close()
        if self._options.kind.scores:
            specs = [s.spec_id for s in self._reward.specs]
            self._scores_file.attempt(lambda: keep_scores(self._folder, self._models, specs))

    def intrinsic(
        self, ids: NDArray[np.int64], counts: NDArray[np.int64], dones: float
    ) -> NDArray[np.float32]:
        """Rewards of a batch, float32, shaped like ``ids`` (int64, (E, T)); ``dones`` episodes ended in it.

        The arrays are kept for a while to be counted: they must not change afterwards.
        """
        rewarded = self._reward(ids, counts)
        total = float(rewarded.intrinsic.sum())
        self._returns.append((total, dones, rewarded.by_spec))
        self._unsaved.append((ids, rewarded.intrinsic))
        self._latency.rewarded(ids, rewarded.intrinsic)
        if len(self._unsaved) >= MOST_UNCOUNTED:
            self._count_captions()
        self._first_sights += rewarded.first_sights
        self._unscored += rewarded.unscored
        self._last = {"intrinsic_reward": total / ids.size, "label_coverage": rewarded.coverage}
        now = time.monotonic()
        self._longest_pause = max(self._longest_pause, now - self._last_batch)
        self._last_batch = now
        return rewarded.intrinsic

    def statistics(self) -> dict[str, float]:
        """Figures since the last call, by name; called about once a second from the learner's thread.

        Raises:
            OnibusError: labels or models are no longer followed.
        """
        self._check_threads()
        self._count_captions()
        if time.monotonic() >= self._next_save:
            self._next_save = time.monotonic() + SAVE_SECONDS
            self._save_tally()
        pause, self._longest_pause = self._longest_pause, 0.0
        return (
            self._last
            | self._label_statistics()
            | self._model_statistics()
            | self._latency.statistics()
            | self._intrinsic_returns()
            | {
                "captions_distinct": float(self._tally.distinct),
                "longest_pause_seconds": pause,
            }
        )

    def provenance(self) -> dict[str, str]:
        """What the reward stands on, for checkpoints: by spec id the coefficient, and labels or model."""
        return {s.spec_id.hex(): f"{s.coefficient} x {self._judge_of(s.spec_id)}" for s in self._reward.specs}

    def _noted(self) -> dict[int, str]:
        """Captions that the run's workers saw since the last call."""
        noted = {}
        for note in self._notes.read():
            noted[note.lookup] = note.text
            self._latency.expect(note.lookup, note.observed_at)
        return noted

    def _expect(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        """Wait for the first reward of captions whose new label is "helpful"."""
        if self._options.kind.scores:
            return  # captions are told of by the workers
        for key, value in zip(keys, values, strict=True):
            try:
                _, subject = split_label_key(key or b"")
                label = self._codec.decode(Label, value)
            except (DecodeError, ValueError):
                continue  # the table has counted it
            if label.verdict is Verdict.HELPFUL:
                self._latency.expect(lookup_id(subject), label.observed_at)

    def _judge_of(self, spec_id: bytes) -> str:
        if not self._options.kind.scores:
            return f"{self._table.count(spec_id)} labels"
        model = self._models.in_use(spec_id)
        return "no model yet" if model is None else f"{model.name} version {model.version}, {model.sha256}"

    def _model_statistics(self) -> dict[str, float]:
        """Version and age of the model that rewards; of several, the least version and the oldest age.

        And the share of first sights since the last call that it left without a score.
        """
        if not self._options.kind.scores:
            return {}
        self._models.add(self._noted())
        specs = [s.spec_id for s in self._reward.specs]
        models = [self._models.in_use(spec_id) for spec_id in specs]
        told = {"model_version": float(min((m.version if m else 0 for m in models), default=0))}
        if self._first_sights and all(models):
            told["unscored"] = self._unscored / self._first_sights
        self._first_sights = self._unscored = 0
        there = [(s, m) for s, m in zip(specs, models, strict=True) if m is not None]
        if there:
            told["model_age_seconds"] = max(0.0, time.time() - min(m.written_at for _, m in there))
            told["model_age_labels"] = float(sum(max(0, self._table.count(s) - m.labels) for s, m in there))
        return told

    def _intrinsic_returns(self) -> dict[str, float]:
        """Mean intrinsic return per episode: rewards over episode ends in the last batches (a ratio).

        And the part of each specification in it, where there are several.
        """
        sums = {"intrinsic_return": sum(total for total, _, _ in self._returns)}
        for _, _, by_spec in self._returns:
            for name, part in by_spec.items():
                sums[f"{BY_SPEC}{name}"] = sums.get(f"{BY_SPEC}{name}", 0.0) + part
        episodes = sum(dones for _, dones, _ in self._returns)
        return {name: total / episodes if episodes else math.nan for name, total in sums.items()}

    def _label_statistics(self) -> dict[str, float]:
        specs = [s.spec_id for s in self._reward.specs]
        newest = max((self._table.newest_annotated_at(s) for s in specs), default=0)
        return {
            "labels_known": float(sum(self._table.count(s) for s in specs)),
            "label_age_seconds": max(0.0, time.time() - newest / 1e6) if newest else math.nan,
            "specs_found": float(len(specs)),
        }

    def _check_threads(self) -> None:
        followers = (("labels", self._reader), ("reward models", self._follower))
        for what, follower in followers:
            if follower is not None and follower.failed is not None:
                raise OnibusError(f"{what} are no longer followed: {reason_of(follower.failed)}")

    def _save_tally(self) -> None:
        """Have the totals saved by another thread; not while it still saves earlier ones."""
        if self._saving is None or self._saving.done():
            save = partial(self._tally.snapshot().save, self._folder)
            self._saving = self._saver.submit(self._tally_file.attempt, save)

    def _keep_specs(self, specs: Mapping[str, bytes]) -> None:
        self._specs_file.attempt(lambda: keep_specs(self._folder, specs))

    def _count_captions(self) -> None:
        batches, self._unsaved = self._unsaved, []
        if batches:
            ids = np.concatenate([i.reshape(-1) for i, _ in batches])
            self._tally.add(ids, np.concatenate([r.reshape(-1) for _, r in batches]))

    def _resolve_specs(self) -> None:
        """Find the specification of each share of the reward; wait for those not announced yet.

        Those that the run found before stay. Once all are found, the reward stays on them, and it is reported
        if others come into use.
        """
        shares = self._options.specs
        found = {share.choice: self._before[share.choice] for share in shares if share.choice in self._before}
        missing: set[str] = set()
        while not self._stopping.is_set():
            specs = self._read_specs()
            for share in shares:
                if share.choice not in found and (now := spec_in_use(specs, share.choice)) is not None:
                    found[share.choice] = now
            self._reward.specs = tuple(
                SpecReward(found[one.choice], one.coefficient, one.choice)
                for one in shares
                if one.choice in found
            )
            now_missing = {share.choice for share in shares} - set(found)
            if not now_missing:
                self._report_choices(specs, found)
                self._keep_specs(found)
                self._watch_specs(found)
                return
            for choice in sorted(now_missing - missing):
                log.warning(
                    "%s: it rewards nothing until one does (onibus annotate --spec NAME)",
                    missing_line(specs, choice),
                )
            missing = now_missing
            self._stopping.wait(SPEC_RETRY_SECONDS)

    def _report_choices(self, specs: Mapping[bytes, AnnotationSpec], found: Mapping[str, bytes]) -> None:
        for choice, spec_id in found.items():
            if choice in self._before:
                line = (
                    choice_line(specs, spec_id) if spec_id in specs else f"spec {choice} is {spec_id.hex()}"
                )
                log.info("%s; the run was begun with it", line)
            else:
                log_choice(log, specs, choice, spec_id)

    def _watch_specs(self, followed: Mapping[str, bytes]) -> None:
        """Report once for each that a specification of a name we follow is announced after ours."""
        reported = set(followed.values())
        while not self._stopping.wait(SPEC_WATCH_SECONDS):
            specs = self._read_specs()
            for choice, spec_id in followed.items():
                now = spec_in_use(specs, choice)
                if now is not None and now not in reported:
                    reported.add(now)
                    log.warning(
                        "%s; this run goes on with %s: to follow the other, resume the run with --spec %s@%s",
                        choice_line(specs, now), spec_id.hex(), specs[now].name, now.hex(),
                    )  # fmt: skip

    def _read_specs(self) -> dict[bytes, AnnotationSpec]:
        try:
            return read_specs(self._settings)
        except OnibusError as error:
            log.warning("cannot read the specifications, trying again: %s", error)
            return {}
