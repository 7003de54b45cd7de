"""GGUF to an ordinary Llama folder in bfloat16, with tokenizer and chat template. Run as a program.

Runs in vLLM's environment with ``gguf`` and ``accelerate`` on the path, so it imports nothing of onibus.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path


def convert(weights: Path, folder: Path) -> None:
    """Write the model in the GGUF file ``weights`` to ``folder``, which is made."""
    import gguf
    import torch

    # transformers reads the file for configuration, weights and tokenizer, and names for each of its layers.
    gguf.GGUFReader = cache(gguf.GGUFReader)
    gguf.get_tensor_name_map = cache(gguf.get_tensor_name_map)
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    place = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    read = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.bfloat16)
    # transformers refuses to save what it read from GGUF: the weights move into a model without that history.
    kept = read.config.to_dict()
    kept.pop("quantization_config", None)
    with torch.device("meta"):  # without weights of its own, which would be drawn at random first
        own = LlamaForCausalLM(LlamaConfig(**kept))
    own.load_state_dict(read.state_dict(), assign=True)
    own.tie_weights()
    own.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**place).save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
