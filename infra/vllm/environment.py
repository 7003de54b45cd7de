"""Where vLLM is: in an environment of its own, for it and Sample Factory want different packages."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from onibus.infra.errors import OnibusError

VARIABLE = "ONIBUS_VLLM_ENVIRONMENT"
"""Names a folder with a virtual environment that has vLLM, if it is not ``.venv-vllm`` in the checkout."""


def vllm_python() -> Path:
    """The interpreter of the environment that has vLLM: this one's, the named one's, or ``make vllm``'s.

    Raises:
        OnibusError: there is none.
    """
    found = find_spec("vllm")
    if found is not None and found.origin is not None:  # not just some folder of that name
        return Path(sys.executable)
    folder = Path(os.environ.get(VARIABLE) or Path(__file__).resolve().parents[2] / ".venv-vllm")
    python = folder / "bin" / "python"
    if not python.exists():
        raise OnibusError(f"vLLM is not installed: there is no {python}; run make vllm, or set {VARIABLE}")
    return python
