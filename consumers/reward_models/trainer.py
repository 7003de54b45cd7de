"""Trains a reward model on the annotation log: a function of the log up to given offsets, and a seed.

A plain object: it is fed annotations in an order that the caller fixes, and never asks for the time
except to say how old its newest label is.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor, nn

from onibus.consumers.reward_models.character_cnn import (
    CLASSES,
    MAX_OVER_TIME,
    NETWORKS,
    SCORE,
    AnyNetwork,
    architecture,
)
from onibus.consumers.reward_models.classification import Classification
from onibus.consumers.reward_models.model_file import ModelFile, Provenance
from onibus.consumers.reward_models.objective import Objective
from onibus.consumers.reward_models.own_network import told_reference
from onibus.consumers.reward_models.ranking import Ranking
from onibus.consumers.reward_models.schedule import OWN, Schedule, TrainingProgress
from onibus.consumers.reward_models.unseen import MOST_UNSEEN
from onibus.infra.devices import gpu_name
from onibus.infra.errors import OnibusError
from onibus.infra.optimizers import keep_compiler_out
from onibus.schemas.records import Annotation, Kind

THREADS = 1
"""Torch threads: the bits depend on their number, and on a shared machine one is the fastest."""

RECIPE = 1
"""Number of the way in which models are trained; 0 is that of onibus 0.1.0. Raise it when the bits change."""


@dataclass(frozen=True, slots=True)
class TrainedVersion:
    """A finished version: its file, what is measured of it, and by which schedule and steps it was made."""

    file: ModelFile
    metrics: dict[str, float]
    schedule: str
    steps: int


class RewardTrainer:
    """The character CNN, its optimizer, its data, and when the next version is due.

    A version is due when its schedule says so and there is something to tell apart among the annotations to
    learn from: until then, no model is better than one that rewards everything. What a version is follows
    from the one before, its number of steps and the annotations seen; when it was due makes no difference.

    Args:
        model: name of the model.
        spec_id: specification whose annotations it is fed.
        seed: of the initial weights and the mini-batches.
        resumed: the newest version, to go on from. Annotations below its offsets must be fed first.
        kind: what the specification asks for: verdicts on one caption, or comparisons of two.
        objective: with no data yet, in place of the usual one for that kind.
        device: torch device that computes the network. Files and what they are resumed from have their
            tensors on the CPU, whatever computed them.
        schedule: when a version is due, and of how many steps. It may be another than that of ``resumed``.

    Raises:
        OnibusError: ``resumed`` has another seed, specification or architecture.
    """

    def __init__(
        self,
        model: str,
        spec_id: bytes,
        seed: int,
        resumed: ModelFile | None = None,
        kind: Kind = Kind.JUDGE_ONE,
        objective: Objective | None = None,
        device: str = "cpu",
        schedule: Schedule = OWN,
    ) -> None:
        make_deterministic()
        self.device, self._schedule = device, schedule
        self._model, self._spec_id, self._seed = model, spec_id, seed
        self.objective = objective_of(kind) if objective is None else objective
        self.version = self.gradient_steps = 0
        self._offsets: dict[int, int] = {}
        self._seen = self._new = self._idle = 0
        self._untested: deque[Annotation] = deque(maxlen=MOST_UNSEEN)
        self._fitted: bool | None = None
        torch.manual_seed(seed)
        self.network = self.objective.network().eval().to(device)
        keep_compiler_out()
        self._optimizer = torch.optim.Adam(
            self.network.parameters(), lr=self.objective.learning_rate, foreach=False
        )
        if resumed is not None:
            self._resume(resumed)

    @property
    def offsets(self) -> dict[int, int]:
        """By partition the first annotation offset not seen."""
        return dict(self._offsets)

    def go_on_from(self, offsets: Mapping[int, int]) -> None:
        """Count annotations from these offsets on as new: the log may end before where the model was."""
        self._offsets = dict(offsets)

    def see(self, partition: int, offset: int, annotation: Annotation | None) -> None:
        """Take the next record of a partition; None if it is of no interest.

        Records that the resumed version has seen only restore its data.
        """
        restores = offset < self._offsets.get(partition, 0)
        if not restores:
            self._offsets[partition] = offset + 1
        if annotation is None:
            return
        if self.version and not restores and annotation.subject_id not in self.objective.data:
            self._untested.append(annotation)
        self.objective.data.apply(annotation)
        self._seen += 1
        self._new += not restores

    def is_due(self, *, quiet: bool = False, seconds: float = 0.0) -> bool:
        """Whether a version is due.

        Args:
            quiet: nothing more is to come for now.
            seconds: since the version before was begun.
        """
        if not self.objective.data.can_teach:
            return False
        at = TrainingProgress(self._seen - self._new, self._new, self.version, self._idle, seconds, quiet)
        if self._schedule.is_due(at):
            return True
        return not self._new and self._schedule.may_go_on(at) and not self._is_fitted()

    def _is_fitted(self) -> bool:
        if self._fitted is None:
            self._fitted = self.objective.is_fitted(self.network)
        return self._fitted

    def train(
        self, keep_going: Callable[[], bool] = lambda: True, steps: int | None = None
    ) -> TrainedVersion | None:
        """Take the next version's gradient steps.

        Args:
            steps: how many; None: as the schedule says.

        Returns:
            The version; None if ``keep_going()``, asked before each step, said no. The trainer is of no
            use then, and the next one goes on from the version before.
        """
        self.objective.test(self.network, tuple(self._untested))
        self._untested.clear()
        steps = self._schedule.steps(self._seen) if steps is None else steps
        losses, seed = [], self._batch_seed()
        torch.manual_seed(seed)  # of dropout
        self.network.train()
        for loss in self.objective.losses(self.network, steps, seed):
            if not keep_going():
                return None
            losses.append(self._step(loss))
        self.network.eval()
        self.version += 1
        self.gradient_steps += steps
        self._idle = 0 if self._new else self._idle + 1
        self._new, self._fitted = 0, None
        metrics = self._metrics(float(np.mean(losses)))
        return TrainedVersion(self._file(), metrics, self._schedule.name, steps)

    def _step(self, loss: Tensor) -> float:
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.objective.gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.objective.gradient_norm, foreach=False)
        self._optimizer.step()
        return float(loss.detach())

    def _batch_seed(self) -> int:
        named = [self._seed, self.version + 1, sorted(self._offsets.items())]
        return int.from_bytes(blake2b(json.dumps(named).encode(), digest_size=8).digest(), "little") >> 1

    def _metrics(self, loss: float) -> dict[str, float]:
        """What is told of a version: its loss, the age of its labels, and its objective's figures."""
        age = max(0.0, time.time() - self.objective.data.newest_annotated_at / 1e6)
        return {"loss": loss, "newest_label_age_seconds": age} | self.objective.figures()

    def _file(self) -> ModelFile:
        provenance = Provenance(
            model=self._model,
            version=self.version,
            architecture=self.objective.architecture,
            spec_id=self._spec_id.hex(),
            seed=self._seed,
            annotation_offsets={str(p): offset for p, offset in sorted(self._offsets.items())},
            gradient_steps=self.gradient_steps,
            labels=len(self.objective.data),
            torch_version=torch.__version__,
            normalisation=self.objective.normalisation(self.network),
            recipe=RECIPE,
            gpu="" if self.device == "cpu" else gpu_name(),
        )
        weights = {name: _kept(tensor) for name, tensor in self.network.state_dict().items()}
        optimizer = {
            f"{name}/{kind}": _kept(tensor)
            for name, parameter in self.network.named_parameters()
            for kind, tensor in self._optimizer.state[parameter].items()
        }
        return ModelFile(provenance, weights, optimizer)

    def _resume(self, file: ModelFile) -> None:
        was = file.provenance
        for what, had, has in (
            ("architecture", was.architecture, self.objective.architecture),
            ("seed", was.seed, self._seed),
            ("spec id", was.spec_id, self._spec_id.hex()),
        ):
            if had != has:
                raise OnibusError(
                    f"reward model {self._model} was begun with {what} {had}, this trainer has {has}; start "
                    f"it as it was ({_flags_of(was)}), or use another --topic-prefix"
                )
        self.network.load_state_dict(dict(file.weights))
        for name, parameter in self.network.named_parameters():
            self._optimizer.state[parameter] = {
                full_name.rpartition("/")[2]: tensor.to(self.device) if tensor.dim() else tensor
                for full_name, tensor in file.optimizer.items()
                if full_name.rpartition("/")[0] == name
            }
        self.version, self.gradient_steps = was.version, was.gradient_steps
        self._offsets = {int(p): offset for p, offset in was.annotation_offsets.items()}


def _flags_of(made: Provenance) -> str:
    """The flags with which a model was begun."""
    architectures = {
        architecture(outputs, network): name
        for name, network in NETWORKS.items()
        for outputs in (CLASSES, SCORE)
    }
    name = architectures.get(made.architecture) or told_reference(made.architecture) or "NAME"
    return f"--network {name} --seed {made.seed}"


def objective_of(
    kind: Kind, network: AnyNetwork = MAX_OVER_TIME, class_weights: tuple[float, float] | None = None
) -> Objective:
    """What is learned from annotations of this kind, with no data yet; comparisons have no class weights."""
    return Classification(class_weights, network) if kind is Kind.JUDGE_ONE else Ranking(network)


def make_deterministic() -> None:
    """Have torch compute the same bits every time in this process: one thread, deterministic algorithms.

    On a GPU with all digits of a float32, so that its scores are those of a CPU but for rounding.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS has several ways to add up
    torch.set_num_threads(THREADS)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms also imports the compiler
    torch.backends.cudnn.allow_tf32 = False
    torch._C._set_deterministic_fill_uninitialized_memory(False)  # takes time, and no result depends on it


def _kept(tensor: Tensor) -> Tensor:
    """A copy on the CPU that training does not change."""
    return tensor.detach().to("cpu", copy=True)
