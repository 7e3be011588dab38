"""The hub track behind `helpers.catalog`: a role's model as a checked folder, its dataset in our columns."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
from datasets import DatasetDict

from helpers.hub import facts, rows
from helpers.hub.fetch import fetch
from helpers.hub.names import MODELS, fitting, revision_of
from helpers.model_folder import check_model_folder
from helpers.runtime import UserError

TABLES = ("*.parquet", "*.jsonl", "*.csv")
HUB_NAME = re.compile(r"(?!.*(--|\.\.))\w([\w.-]*\w)?/\w([\w.-]*\w)?", re.ASCII)
# For a decoder without a template of its own; the tokens are those that SmolLM2 and Qwen have in their vocabularies.
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ message['content'] }}<|im_end|>"
    "{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def model_folder(role: str, name: str = "") -> Path | None:
    """The folder of a hub model: the named one, or the role's first choice that this machine can train; None for none.

    Raises:
        UserError: it cannot be fetched, or holds no weights that are safe to open.
    """
    if name:
        return check_model_folder(fetch(name, "model", revision=revision_of(name)))
    chosen = fitting(role, free_memory())
    if chosen != MODELS[role][0]:
        taken = chosen.name if chosen else "the pocket model"
        print(f"{MODELS[role][0].name} needs more memory to be trained than is free; {taken} takes its place.")
    return check_model_folder(fetch(chosen.name, "model", revision=chosen.revision)) if chosen else None


def free_memory() -> int:
    """Bytes that are free where training happens: on the CUDA device, else in main memory."""
    import torch

    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available


def is_hub_name(name: str) -> bool:
    """Whether this has the form owner/name."""
    return HUB_NAME.fullmatch(name) is not None


def dataset_folder(name: str) -> Path:
    """A dataset of the learner's choice as a folder of table files.

    Raises:
        UserError: it cannot be fetched, or holds several sets in folders of their own.
    """
    fetched = fetch(name, "dataset", TABLES)
    folders = sorted({path.parent for pattern in TABLES for path in fetched.rglob(pattern)})
    if len(folders) > 1:
        named = ", ".join(str(folder.relative_to(fetched)) for folder in folders[:5])
        raise UserError(f"data: {name} holds several sets ({named}); download one of them and give its folder.")
    return folders[0]


def dataset(role: str, seed: int, world: DatasetDict | None) -> DatasetDict:
    """The dataset of a role; `world` is the micro-world's, for roles where an exact judge is needed."""
    if role in ("reviews", "topics"):
        return rows.labelled(role, seed)
    if role == "corpus":
        return rows.corpus(seed)
    if role == "facts":
        from datasets import Dataset

        return DatasetDict({"world": Dataset.from_list(facts.rows()), **world})
    return (rows.instructions if role == "instructions" else rows.preferences)(seed, world)


def complete(tokenizer):
    """Give a decoder's tokenizer the chat template that lessons need and it may lack.

    Raises:
        UserError: its vocabulary has no token to end a turn with.
    """
    if tokenizer.chat_template is None:
        if "<|im_end|>" not in tokenizer.get_vocab():
            raise UserError(
                "model: this tokenizer has no chat template, nor an <|im_end|> to make one with; choose another."
            )
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        tokenizer.chat_template = CHAT
    return tokenizer
