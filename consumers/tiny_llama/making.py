"""From captions to a finished folder."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from onibus.consumers.specs.spec_file import load_spec_file
from onibus.consumers.tiny_llama import folder as kept
from onibus.consumers.tiny_llama.exercises import SpecExercises
from onibus.consumers.tiny_llama.training import Agreement, TinyLlama, TrainingOptions
from onibus.infra.errors import OnibusError

_log = logging.getLogger(__name__)


def make(
    captions_file: Path, folder: Path, specs: Sequence[str], options: TrainingOptions
) -> list[Agreement]:
    """Train a tiny Llama and put it into ``folder``, in place of what is there.

    Args:
        captions_file: a JSON list of captions.
        specs: names of the specs that it learns to answer.

    Returns:
        How well it agrees with the rules on captions that it never learnt from.

    Raises:
        OnibusError: the captions cannot be read, or nothing can be learnt from them.
    """
    captions = _read(captions_file)
    exercises = [SpecExercises(load_spec_file(name), captions) for name in specs]
    began = time.monotonic()
    student = TinyLlama(exercises, options)
    _log.info("a Llama of %s parameters learns from %d captions", f"{student.parameters:,}", len(captions))
    student.train(_log.info)
    agreements = student.agreements()
    for agreement in agreements:
        _log.info("%s: agrees with the rules on %.1f %% of %d held-out captions", *_figures(agreement))
    half_made = folder.with_name(f"{folder.name}.half-made")
    shutil.rmtree(half_made, ignore_errors=True)
    half_made.mkdir(parents=True)
    student.model.to(torch.bfloat16).save_pretrained(half_made)
    student.tokenizer.save_pretrained(half_made)
    table = [
        f"| {a.spec} | {a.captions} | {a.share:.1%} | {a.helpful} | {a.helpful_share:.1%} |"
        for a in agreements
    ]
    kept.finish(half_made, specs, table, student.parameters, len(captions), time.monotonic() - began)
    shutil.rmtree(folder, ignore_errors=True)
    half_made.rename(folder)
    return agreements


def _figures(agreement: Agreement) -> tuple[str, float, int]:
    return agreement.spec, 100 * agreement.share, agreement.captions


def _read(path: Path) -> list[str]:
    try:
        captions = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise OnibusError(f"cannot read captions from {path}: {error}; gather them again") from error
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise OnibusError(f"{path} is no JSON list of captions; gather them again")
    return captions
