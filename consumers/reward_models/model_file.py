"""One version of a reward model as the bytes of one safetensors file: weights, optimizer, provenance.

Adam's moments are in the same file as the weights, so no one can have the one without the other: the
newest version on the compacted topic is all that a trainer needs to go on with the same numbers.
Nothing in it depends on when it was made, so equal trainings give equal bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

_METADATA = "onibus"
"""The one metadata entry: safetensors writes several in no fixed order."""
_LENGTH = struct.Struct("<Q")


class ModelFileError(ValueError):
    """The bytes are no model file of ours."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a version is.

    Attributes:
        model: name of the model.
        version: from 1.
        architecture: architecture and sizes as JSON.
        spec_id: hex digits of the specification it learned from.
        seed: of initial weights and mini-batches.
        annotation_offsets: by partition (its number as text) the first annotation offset not seen.
        gradient_steps: taken in all.
        labels: captions with a verdict in the data it was trained on.
        torch_version: used for training; the bits depend on it.
        normalisation: scale of a ranking's scores (:class:`~.score_scale.ScoreScale`); empty for other
            models, and in files of onibus 0.1.0.
        recipe: number of the way in which it was trained (:data:`~.trainer.RECIPE`).
        gpu: name of the GPU that trained it; empty: the processor did.
    """

    model: str
    version: int
    architecture: str
    spec_id: str
    seed: int
    annotation_offsets: dict[str, int]
    gradient_steps: int
    labels: int
    torch_version: str
    normalisation: dict[str, float] = field(default_factory=dict)
    recipe: int = 0
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """Contents of a file: weights by parameter name, optimizer state by parameter name and kind."""

    provenance: Provenance
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]

    def to_bytes(self) -> bytes:
        """The file; equal contents give equal bytes."""
        tensors = {f"weights/{name}": tensor.contiguous() for name, tensor in self.weights.items()}
        tensors |= {f"optimizer/{name}": tensor.contiguous() for name, tensor in self.optimizer.items()}
        metadata = json.dumps(_written(self.provenance), sort_keys=True)
        data: bytes = save(tensors, {_METADATA: metadata})
        return data


def read_model_file(data: bytes) -> ModelFile:
    """The contents of a file.

    Raises:
        ModelFileError: it is no safetensors file, or not one of ours.
    """
    try:
        tensors = load(data)
        (length,) = _LENGTH.unpack_from(data)
        header = json.loads(data[_LENGTH.size : _LENGTH.size + length])
        provenance = _read(json.loads(header["__metadata__"][_METADATA]))
    except (SafetensorError, struct.error, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"no reward model file: {error}") from error
    parts: dict[str, dict[str, Tensor]] = {"weights": {}, "optimizer": {}}
    for full_name, tensor in tensors.items():
        part, _, name = full_name.partition("/")
        if part not in parts:
            raise ModelFileError(f"a tensor {full_name!r} is neither of the weights nor of the optimizer")
        parts[part][name] = tensor
    return ModelFile(provenance, parts["weights"], parts["optimizer"])


def _written(provenance: Provenance) -> dict[str, object]:
    """By name; without what an older onibus did not write either, so that its files keep their bytes."""
    told = asdict(provenance)
    return {name: value for name, value in told.items() if value or name not in _LATER}


def _read(written: dict[str, object]) -> Provenance:
    """What a newer onibus adds is passed over."""
    return Provenance(**{name: value for name, value in written.items() if name in _NAMES})  # type: ignore[arg-type]


_NAMES = frozenset(field.name for field in fields(Provenance))
_LATER = frozenset({"normalisation", "recipe", "gpu"})
