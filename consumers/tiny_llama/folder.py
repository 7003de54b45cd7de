"""The folder that a trained tiny Llama is kept in: Hugging Face's layout, a card, what it was made for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.files import read_state, write_whole
from onibus.schemas import ids

NAME = "tiny-llama"
SPECS = ("keys-and-doors-one-word", "goals-one-word")
"""What it learns to answer, unless other specs are asked for."""
HEAD = 32
"""Width of an attention head: vLLM's attention on a CPU wants multiples of it."""
_MADE_FOR = "made_for.json"
_RECIPE = 2
"""Raise it when the training changes so much that kept models should be made anew."""

_CARD = """\
# Tiny Llama, a stand-in

**This is not a language model that understands NetHack.** It has {parameters:,} parameters, was trained
within minutes on one machine's processor, and does one thing: it answers the prompts of {specs}
as the keyword rules of these specs do. It stands in for a real model where none can be had, so that the
server, the annotators and their failures are real. Its judgement is worth what the rules are worth; any
other prompt gets nonsense.

Trained on {captions:,} captions of random play in {seconds:.0f} s. On captions that it never learnt from it
agrees with the rules:

| spec | held-out captions | agree | of these helpful | agree |
|---|---|---|---|---|
{table}
"""


def default_folder(runs_dir: Path) -> Path:
    """Where it is kept under the runs folder."""
    return runs_dir / "models" / NAME


def is_kept(folder: Path, specs: Sequence[str] = SPECS) -> bool:
    """Whether there is a finished one that was made for these specs as they are now."""
    kept: object = read_state(folder / _MADE_FOR, lambda content: content, None)
    return kept == _made_for(specs)


def finish(
    folder: Path, specs: Sequence[str], table: Sequence[str], parameters: int, captions: int, seconds: float
) -> None:
    """Write the card, and last of all what tells :func:`is_kept` that everything is there.

    Args:
        table: rows of agreement, in Markdown.
        parameters: how many the model has.
        captions: how many it was trained on.
        seconds: how long that took.
    """
    card = _CARD.format(
        parameters=parameters,
        specs=" and ".join(specs),
        captions=captions,
        seconds=seconds,
        table="\n".join(table),
    )
    write_whole(folder / "README.md", card)
    write_whole(folder / _MADE_FOR, json.dumps(_made_for(specs)))


def _made_for(specs: Sequence[str]) -> dict[str, str]:
    made = {"recipe": str(_RECIPE)}
    for name in specs:
        file = load_spec_file(name)
        rules = file.rules.revision() if file.rules else ""
        asked = ids.spec_id(file.for_model(NAME)) + rules.encode()
        made[name] = blake2b(asked, digest_size=8).hexdigest()
    return made
