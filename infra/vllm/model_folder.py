"""A language model in a folder on this machine, in Hugging Face's layout."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from onibus.infra.errors import OnibusError

_BLOCK = 1 << 22
_REVISION_BYTES = 6


def is_folder(model: str) -> bool:
    """Whether ``model`` names a folder, not a model on a hub: it exists here, or can be nothing else."""
    return model.startswith(("/", "./", "../", "~")) or model.count("/") > 1 or Path(model).is_dir()


def model_folder(model: str) -> Path:
    """The folder that ``model`` names.

    Raises:
        OnibusError: it is not there, or holds no model.
    """
    folder = Path(model).expanduser()
    if not (folder / "config.json").is_file():
        raise OnibusError(f"there is no model in {folder} (no config.json); correct --model")
    return folder


def revision_of(folder: Path) -> str:
    """What tells these weights from others under the same name: BLAKE2b of their files, 12 hex digits."""
    digest = blake2b(digest_size=_REVISION_BYTES)
    for path in sorted([*folder.glob("*.safetensors"), folder / "config.json", folder / "tokenizer.json"]):
        if path.is_file():
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
    return digest.hexdigest()
