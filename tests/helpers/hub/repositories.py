"""What the test hub serves: the pocket models shaped like the real ones, small datasets with the real columns."""

from __future__ import annotations

import io
import json
import random
import tempfile
from pathlib import Path

import pandas
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForMaskedLM,
)

from helpers import catalog
from helpers.catalog import HUB_DATASETS, HUB_MODELS
from tests.helpers.hub.server import Repository

# BERT's names -> DistilBERT's: the same mathematics, but for the types of sentence, which are added to the positions.
LAYER = {
    "attention.self.query": "attention.q_lin", "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin", "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm", "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2", "output.LayerNorm": "output_layer_norm",
}  # fmt: skip
HEAD = {"transform.dense": "vocab_transform", "transform.LayerNorm": "vocab_layer_norm", "decoder": "vocab_projector"}
TURNS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # SmolLM2's first three tokens
POCKET_TURNS = ("<|pad|>", "<|start|>", "<|stop|>")


def distilbert() -> DistilBertForMaskedLM:
    """The pocket encoder as a DistilBERT: the same outputs."""
    bert = AutoModelForMaskedLM.from_pretrained(catalog.POCKET_MODELS["encoder"]).eval()
    c = bert.config
    config = DistilBertConfig(
        vocab_size=c.vocab_size, dim=c.hidden_size, n_layers=c.num_hidden_layers, n_heads=c.num_attention_heads,
        hidden_dim=c.intermediate_size, max_position_embeddings=c.max_position_embeddings, dropout=0.0,
        attention_dropout=0.0, pad_token_id=c.pad_token_id,
    )  # fmt: skip
    made, weights = DistilBertForMaskedLM(config).eval(), dict(bert.state_dict())
    places = "bert.embeddings.position_embeddings.weight"
    weights[places] = weights[places] + weights["bert.embeddings.token_type_embeddings.weight"][0]
    names = {f"cls.predictions.{old}": new for old, new in HEAD.items()} | {"bert.embeddings": "distilbert.embeddings"}
    for layer in range(c.num_hidden_layers):
        new_layer = f"distilbert.transformer.layer.{layer}"
        names |= {f"bert.encoder.layer.{layer}.{old}": f"{new_layer}.{new}" for old, new in LAYER.items()}
    renamed = {
        new + name[len(old) :]: value
        for old, new in names.items()
        for name, value in weights.items()
        if name.startswith(old + ".")
    }
    renamed["vocab_projector.bias"] = weights["cls.predictions.bias"]
    missing, _ = made.load_state_dict(renamed, strict=False)
    assert not missing, missing
    return made


def saved(*parts) -> dict[str, bytes]:
    """Path -> bytes of what `save_pretrained` writes for a model and its tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            part.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def smollm(role: str) -> dict[str, bytes]:
    """A pocket decoder as SmolLM2 comes: bfloat16, other special tokens, no token that opens a text, no padding token.

    Only the instructed one has a chat template.
    """
    folder = catalog.POCKET_MODELS[role]
    model = AutoModelForCausalLM.from_pretrained(folder).to(torch.bfloat16)
    model.config.pad_token_id = model.generation_config.pad_token_id = None
    model.generation_config.eos_token_id = model.config.eos_token_id = 2 if role == "instruct" else 0
    files = saved(model)
    words = (folder / "tokenizer.json").read_text()
    for old, new in zip(POCKET_TURNS, TURNS, strict=True):
        words = words.replace(json.dumps(old), json.dumps(new))
    changed = json.loads(words) | {"post_processor": None}
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": TURNS[0], "eos_token": TURNS[0]}
    about |= {"model_max_length": 256, "additional_special_tokens": list(TURNS[1:])}
    if role == "instruct":
        about |= {"eos_token": TURNS[2], "bos_token": TURNS[1], "pad_token": TURNS[2]}
        files["chat_template.jinja"] = (
            b"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
            b"'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
        )
    tables = {"tokenizer.json": changed, "tokenizer_config.json": about}
    return files | {name: json.dumps(table).encode() for name, table in tables.items()}


def parquet(rows: list[dict]) -> bytes:
    file = io.BytesIO()
    pandas.DataFrame(rows).to_parquet(file)
    return file.getvalue()


def labelled(role: str, counts: dict[str, int]) -> dict[str, bytes]:
    """The micro-world's texts with the two columns of IMDB and AG News."""
    world = catalog.dataset(role, "pocket")
    folder = "plain_text" if role == "reviews" else "data"
    files = {}
    for split, count in counts.items():
        rows = [{"text": row["text"], "label": row["label"]} for row in world[split].select(range(count))]
        files[f"{folder}/{split}-00000-of-00001.parquet"] = parquet(rows)
    return files


def dolly() -> bytes:
    world = catalog.dataset("instructions", "pocket")["train"].select(range(300))
    categories = ("open_qa", "classification", "brainstorming")
    rows = [
        {"instruction": row["prompt"], "context": "", "response": row["completion"], "category": categories[place % 3]}
        for place, row in enumerate(world)
    ]
    rows.append(rows[0] | {"context": "far too long for a context of 256 tokens " * 60})
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def ultrafeedback() -> dict[str, bytes]:
    world, chance = catalog.dataset("preferences", "pocket"), random.Random(0)
    files = {}
    for split, count in (("train", 300), ("test", 40)):
        rows = []
        for row in world[split].select(range(count)):
            asked = {"role": "user", "content": row["prompt"]}
            sides = {name: [asked, {"role": "assistant", "content": row[name]}] for name in ("chosen", "rejected")}
            rows.append(sides | {"score_chosen": 8.0 + chance.random(), "score_rejected": 4.0})
        files[f"data/{split}-00000-of-00001.parquet"] = parquet(rows)
    return files


def repositories() -> dict[tuple[str, str], Repository]:
    """Every model and dataset that the hub track names, fall-backs included."""
    encoder = saved(distilbert(), AutoTokenizer.from_pretrained(catalog.POCKET_MODELS["encoder"]))
    files = {"encoder": encoder, "decoder": smollm("decoder"), "instruct": smollm("instruct")}
    found = {("models", model.name): files[role] for role, model in HUB_MODELS.items()}
    datasets = {
        "reviews": labelled("reviews", {"train": 600, "test": 400}),
        "topics": labelled("topics", {"train": 400, "test": 200}),
        "instructions": {"databricks-dolly-15k.jsonl": dolly()},
        "preferences": ultrafeedback(),
    }
    found |= {("datasets", HUB_DATASETS[role].name): content for role, content in datasets.items()}
    every = [*HUB_DATASETS.values(), *HUB_MODELS.values()]
    pinned = {about.name: about.revision for about in every}
    readme = {"README.md": b"# For tests\n"}
    return {(kind, name): Repository(content | readme, pinned[name]) for (kind, name), content in found.items()}
