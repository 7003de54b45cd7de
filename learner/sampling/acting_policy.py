"""The policy in a rollout process: its own copy of the network, and actions for many games in one pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sample_factory.algo.utils.torch_utils import inference_context
from torch import Tensor, nn

from onibus.learner.sampling.numpy_pass import NumpyPass, has_numpy_pass
from onibus.producers.nethack.observations import Observation


class ActingPolicy:
    """Acts with the newest parameters of Sample Factory's parameter server.

    Actions are drawn with NumPy, which takes less than half of the time that torch does for a few games.
    """

    def __init__(self, client: Any, seed: tuple[int, ...], *, serial: bool) -> None:
        """Args:
        client: Sample Factory's parameter client, with weights.
        seed: of the draws.
        serial: whether the learner trains the same network in this process.
        """
        self._client = client
        self._serial = serial
        self._draws = np.random.default_rng(seed)
        self._newest: NDArray[np.int32] = client.policy_versions.numpy()
        self._forward: Callable[[Observation, NDArray[np.float32]], Outputs] | None = None

    @property
    def version(self) -> int:
        """Gradient steps behind the parameters in use."""
        return int(self._client.policy_version)

    def update(self) -> bool:
        """Take the newest parameters; whether they are others than before."""
        if self._newest[self._client.policy_id] == self._client.policy_version:
            return False
        self._client.ensure_weights_updated()
        if isinstance(self._forward, NumpyPass):
            self._forward.take_weights()
        return True

    def act(
        self, observation: Observation, states: NDArray[np.float32]
    ) -> tuple[
        NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[Any]
    ]:
        """One action for each of N games.

        Args:
            observation: (N, …) by name.
            states: (N, S) float32, recurrent states.

        Returns:
            actions (N,), their log-probabilities (N,), logits (N, A), values (N,), next states (N, S).

        N is the same at every call.
        """
        network = self._client.actor_critic
        if network.training:
            network.eval()  # the learner's own network, where all is one process
        if self._forward is None:
            self._forward = _pass_of(network, observation, states)
        with inference_context(self._serial):
            logits, values, new_states = self._forward(observation, states)
        actions, log_probabilities = draw(logits, self._draws)
        return actions, log_probabilities, logits, values[:, 0], new_states


Outputs = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Logits (N, A), values (N, 1), next states (N, S)."""


def _pass_of(
    network: Any, observation: Observation, states: NDArray[np.float32]
) -> Callable[[Observation, NDArray[np.float32]], Outputs]:
    """The pass as one call, without PyTorch's Python between its operations.

    It has the network's own parameters, so that those that are taken later are used.
    """
    if has_numpy_pass(network):
        return NumpyPass(network, len(states))
    acting = _Acting(network, tuple(observation))
    inputs = _tensors(observation, states)
    device = next(network.parameters()).device
    with torch.no_grad():
        return _Recorded(acting, inputs, device) if device.type == "cuda" else _Traced(acting, inputs)


def _tensors(observation: Observation, states: NDArray[np.float32]) -> list[Tensor]:
    return [torch.from_numpy(array) for array in (states, *observation.values())]


class _Acting(nn.Module):
    """The part of Sample Factory's network that an action takes."""

    def __init__(self, network: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, tuple(names)

    def forward(self, states: Tensor, *observations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = dict(zip(self.names, observations, strict=True))
        core, new_states = self.network.forward_core(self.network.forward_head(seen), states)
        said = self.network.forward_tail(core, values_only=False, sample_actions=False)
        return said["action_logits"], said["values"].reshape(-1, 1), new_states


class _Traced:
    """On a CPU: a quarter less time for 16 games."""

    def __init__(self, acting: _Acting, inputs: Sequence[Tensor]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about shapes that become constants, which they are here
            traced = torch.jit.trace(acting, tuple(inputs), check_trace=False)  # type: ignore[no-untyped-call]
        self._forward = traced.forward  # without what calling a module looks for each time

    def __call__(self, observation: Observation, states: NDArray[np.float32]) -> Outputs:
        logits, values, new_states = self._forward(*_tensors(observation, states))
        return logits.numpy(), values.numpy(), new_states.numpy()


class _Recorded:
    """On a GPU: the pass as a CUDA graph, which is launched once instead of once for each operation."""

    _WARM_UP = 3
    """Passes before the recording: cuDNN chooses its algorithms in them."""

    def __init__(self, acting: _Acting, inputs: Sequence[Tensor], device: torch.device) -> None:
        self._inputs = [given.to(device) for given in inputs]
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(self._WARM_UP):
                acting(*self._inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = acting(*self._inputs)

    def __call__(self, observation: Observation, states: NDArray[np.float32]) -> Outputs:
        for place, given in zip(self._inputs, _tensors(observation, states), strict=True):
            place.copy_(given, non_blocking=True)
        self._graph.replay()
        logits, values, new_states = (output.cpu().numpy() for output in self._outputs)
        return logits, values, new_states


def draw(
    logits: NDArray[np.float32], draws: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Actions (N,) by the probabilities softmax(``logits``), (N, A), and their log-probabilities (N,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    cumulative = np.exp(shifted).cumsum(axis=1)
    total = cumulative[:, -1]
    wanted = draws.random(len(logits), np.float32) * total
    actions = (cumulative <= wanted[:, None]).sum(axis=1)
    # A draw that rounds up to the total would be past the last action.
    np.minimum(actions, logits.shape[1] - 1, out=actions)
    return actions, shifted[np.arange(len(logits)), actions] - np.log(total)
