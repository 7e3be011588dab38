"""Converts a GGUF file to a folder that plain `transformers` loads: bfloat16 weights, tokenizer and chat template."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from pathlib import Path

from helpers.runtime import UserError, quiet_libraries

NOTE = """\
---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---

# SmolLM2-135M-Instruct, from its 4-bit GGUF file

`workbook real` converted `{name}` to safetensors. The GGUF file stores most weights in 4 bits (Q4_1), so the weights
here are the 4-bit ones, written as bfloat16: they are not the published bfloat16 weights, and a further 4-bit
quantization of them loses less than one of the original would. Licence: Apache-2.0, as the model (file LICENSE).
"""


def convert(gguf: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file to `folder`, so that `from_pretrained(folder)` loads both.

    Args:
        gguf: a file of a family that `transformers` reads as GGUF (Llama among them).
        folder: is created if it is missing.

    Raises:
        UserError: when the file is not GGUF, or the package gguf is missing.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    quiet_libraries(offline=True)
    source, name = str(gguf.parent), gguf.name
    try:
        with redirect_stderr(io.StringIO()):  # hides a progress bar that transformers cannot turn off
            model = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    except ImportError:
        raise UserError(
            "The package gguf is missing: run `make setup`, or `pip install -r requirements.lock`."
        ) from None
    except (OSError, ValueError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name} cannot be read as a GGUF model: {said}") from None
    # `save_pretrained` refuses a model that is marked as quantized, so a new model of the same size gets its weights.
    described = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        described.pop(key, None)
    config = AutoConfig.for_model(**described)
    with torch.device("meta"):  # without random weights, which would be replaced at once
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict({name: value.bfloat16() for name, value in model.state_dict().items()}, assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    tokenizer.model_max_length = config.max_position_embeddings
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(NOTE.format(name=name), encoding="utf-8")
