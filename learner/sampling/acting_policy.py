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
        self._forward: Callable[..., Any] | None = None

    @property
    def version(self) -> int:
        """Gradient steps behind the parameters in use."""
        return int(self._client.policy_version)

    def update(self) -> bool:
        """Take the newest parameters; whether they are others than before."""
        if self._newest[self._client.policy_id] == self._client.policy_version:
            return False
        self._client.ensure_weights_updated()
        return True

    def act(
        self, observation: dict[str, Tensor], states: Tensor
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
            self._forward = _one_call(network, observation, states)
        with inference_context(self._serial):
            logits, values, new_states = self._forward(states, *observation.values())
        likely = logits.numpy()
        actions, log_probabilities = draw(likely, self._draws)
        return actions, log_probabilities, likely, values.numpy()[:, 0], new_states.numpy()


class _Acting(nn.Module):
    """The part of Sample Factory's network that an action takes."""

    def __init__(self, network: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, tuple(names)

    def forward(self, states: Tensor, *observations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = dict(zip(self.names, observations, strict=True))
        core, new_states = self.network.forward_core(self.network.forward_head(seen), states)
        features = self.network.decoder(core)
        logits = self.network.action_parameterization.distribution_linear(features)
        return logits, self.network.critic_linear(features), new_states


def _one_call(network: Any, observation: dict[str, Tensor], states: Tensor) -> Callable[..., Any]:
    """The pass as one call, without Python between its operations.

    It has the network's own parameters, so that those that are taken later are used.
    """
    acting = _Acting(network, tuple(observation))
    inputs = (states, *observation.values())
    device = next(network.parameters()).device
    with torch.no_grad():
        return _Recorded(acting, inputs, device) if device.type == "cuda" else _traced(acting, inputs)


def _traced(acting: _Acting, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """On a CPU: a quarter less time for 16 games."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about shapes that become constants, which they are here
        traced = torch.jit.trace(acting, tuple(inputs), check_trace=False)  # type: ignore[no-untyped-call]
    forward: Callable[..., Any] = traced.forward  # without what calling a module looks for each time
    return forward


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

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs on the CPU for inputs of the recorded shapes on the CPU."""
        for place, given in zip(self._inputs, inputs, strict=True):
            place.copy_(given, non_blocking=True)
        self._graph.replay()
        return tuple(output.cpu() for output in self._outputs)


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
