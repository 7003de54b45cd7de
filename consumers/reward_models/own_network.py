"""A network of the user's own for reward models: ``--network module:Class``.

It takes the place of the character CNN: bytes of captions to logits or scores. What it learns from, how its
versions are published, resumed and made again is that of every reward model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onibus.infra.errors import OnibusError
from onibus.infra.plugins import failure_of, is_plugin, load_plugin, version_of, was_imported

CAPTION_BYTES = 256
"""Bytes of a caption that a network sees. What is longer is cut off there, in training and in judging
alike, so two captions that differ only later get the same reward. (A byte 0 fills up shorter ones.)"""

_LEARNING_RATE = 1e-3
_TRIED = 2
"""Captions that a new network is tried with."""


@dataclass(frozen=True, slots=True)
class OwnNetwork:
    """One class of the user's own, and how it is trained.

    The class is called with the number of outputs: 2 for the logits of unhelpful and helpful, 1 for a score
    whose differences count. It makes a torch module from captions, uint8 (n, 256), UTF-8 bytes with zeros
    after them, to float32 (n, outputs). Its parameters and buffers are what is published. Class attributes
    ``learning_rate`` (of Adam, 0.001), ``batch`` (captions of a gradient step; by how many there are) and
    ``hidden_bytes`` (share of a caption's bytes that is hidden while classes are learned, 0) are used where
    they are there.
    """

    reference: str
    version: str
    factory: Callable[[int], nn.Module]
    learning_rate: float = _LEARNING_RATE
    batch: int | None = None
    hidden_bytes: float = 0.0

    def make(self, outputs: int) -> nn.Module:
        """A new network.

        Raises:
            OnibusError: the class failed, or made something else.
        """
        try:
            made = self.factory(outputs).eval()
            with torch.no_grad():
                given = made(torch.zeros((_TRIED, CAPTION_BYTES), dtype=torch.uint8))
        except Exception as error:
            raise failure_of(f"the network {self.reference}", error) from error
        wanted = (_TRIED, outputs)
        if not isinstance(given, Tensor) or tuple(given.shape) != wanted or given.dtype != torch.float32:
            raise OnibusError(
                f"the network {self.reference} must give float32 of shape (n, {outputs}) for n captions"
            )
        if not any(parameter.requires_grad for parameter in made.parameters()):
            raise OnibusError(f"the network {self.reference} has no parameters to train; give it a layer")
        return made

    def architecture(self, outputs: int) -> str:
        """Everything that weights must agree with to be loaded and trained further, as JSON."""
        told = {"name": self.reference, "version": self.version, "outputs": outputs}
        return json.dumps(told, sort_keys=True)


def own_network(reference: str) -> OwnNetwork:
    """The network ``module:Class``, whose module is imported.

    Raises:
        OnibusError: there is no such module or class.
    """
    factory = load_plugin("--network", reference)
    return OwnNetwork(
        reference,
        version_of(reference.partition(":")[0]),
        factory,
        learning_rate=float(getattr(factory, "learning_rate", _LEARNING_RATE)),
        batch=getattr(factory, "batch", None),
        hidden_bytes=float(getattr(factory, "hidden_bytes", 0.0)),
    )


def told_reference(architecture: str) -> str | None:
    """The ``module:Class`` that an architecture names; None for one of onibus's."""
    try:
        name = json.loads(architecture).get("name", "")
    except (ValueError, AttributeError):
        return None
    return name if isinstance(name, str) and is_plugin(name) else None


def imported_network(architecture: str, outputs: int) -> OwnNetwork | None:
    """The network that an architecture names, if its module was imported here on purpose.

    What stands on the bus never has a module imported: that would run whatever code it names.
    """
    reference = told_reference(architecture)
    if reference is None or not was_imported(reference.partition(":")[0]):
        return None
    own = own_network(reference)
    return own if own.architecture(outputs) == architecture else None


def why_unknown(architecture: str) -> str:
    """What to say of an architecture that is none of ours."""
    reference = told_reference(architecture)
    if reference is None:
        return "it has an architecture that this program does not know; use the onibus of its maker"
    made = f"{reference} {json.loads(architecture).get('version', '')}".strip()
    module = reference.partition(":")[0]
    if not was_imported(module):
        return f"its network is {made}; add --import {module}"
    return f"its network is {made}, and {module} is {version_of(module)} here; use the module of its maker"
