"""Where networks are computed: ``--device cpu`` or ``gpu``, and what torch calls it."""

from __future__ import annotations

from typing import Literal

from onibus.infra.errors import OnibusError

Device = Literal["cpu", "gpu"]


def torch_device(device: Device) -> str:
    """The name that torch has for a device: ``cpu`` or ``cuda``.

    Raises:
        OnibusError: there is no GPU.
    """
    import torch

    if device == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise OnibusError("this machine has no GPU that torch can use; leave out --device gpu")
    return "cuda"


def gpu_name() -> str:
    """Name of the GPU that torch uses; empty where there is none."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""
