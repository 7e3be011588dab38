"""Writes a classifier to a folder: weights under the family's names, label names, and one small file of code.

The course's classifier averages the last hidden states over the real tokens. In `transformers`, the sequence
classifiers of BERT, DistilBERT, RoBERTa and Llama do something else: they read the first or the last token, or add
another layer. So the folder contains its own class (`trust_remote_code`). Because the head is linear, the mean of its
outputs over the tokens equals its output for the mean. If the family's token classifier is
only a body and one linear layer, it therefore gives the same logits without the folder's code.

The folder has its own model type. With the family's type, `AutoModelForSequenceClassification` without
`trust_remote_code` would load the family's class and predict nonsense after a warning.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification
from transformers.pytorch_utils import Conv1D

from helpers.kept_model import WEIGHTS
from helpers.runtime import UserError
from workbook.export.kept import Kept

CODE = "modeling_mean_pool"
SOURCE = '''\
"""A text classifier: {body}, the mean of its last hidden states over the real tokens, and one linear layer.

It needs torch and transformers. AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
loads it.
"""

import torch
from torch import nn
from transformers import {names}
from transformers.modeling_outputs import SequenceClassifierOutput


class MeanPoolConfig({config}):
    model_type = "{model_type}"


class MeanPoolClassifier({parent}):
    config_class = MeanPoolConfig

    def __init__(self, config):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.{prefix} = {body}(config{pooling})
        self.{head} = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, labels=None, **_):
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.{prefix}(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (batch, seq, 1)
        pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)  # (batch, hidden)
        logits = self.{head}(pooled)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
'''


@dataclass(frozen=True)
class Written:
    """How a written classifier can be loaded without the folder's code.

    without_code: the name of the family's token classifier if its logits, averaged over the tokens, equal the
    model's; else "".
    """

    without_code: str


def write_classifier(kept: Kept, folder: Path) -> Written:
    """Write weights, configuration and code to `folder`.

    Raises:
        UserError: the weights are not those of the family, for example because an adapter was not merged.
    """
    config = AutoConfig.from_pretrained(kept.folder)
    names = kept.facts["label_names"]
    config.id2label, config.label2id = dict(enumerate(names)), {name: label for label, name in enumerate(names)}
    with torch.device("meta"):  # the module tree without weights
        body = AutoModel.from_config(config)
    has_pooler = "add_pooling_layer" in inspect.signature(type(body).__init__).parameters
    weights = load_file(kept.folder / WEIGHTS)
    turned = {f"body.{path}.weight" for path, module in body.named_modules() if isinstance(module, Conv1D)}
    weights = {name: value.T.contiguous() if name in turned else value for name, value in weights.items()}
    _check(body, weights, drop="pooler." if has_pooler else "")

    plain = _token_classifier(config)
    prefix, head = plain.base_model_prefix if plain else body.base_model_prefix, _head(plain)
    places = {"body": prefix, "head": head}
    weights = {f"{places[name.partition('.')[0]]}.{name.partition('.')[2]}": value for name, value in weights.items()}
    fits = plain is not None and {name: value.shape for name, value in plain.state_dict().items()} == {
        name: value.shape for name, value in weights.items()
    }

    family = {"config": type(config).__name__, "body": type(body).__name__, "parent": type(body).__mro__[1].__name__}
    if lacking := [name for name in family.values() if not hasattr(transformers, name)]:
        raise UserError(f"A {config.model_type} classifier cannot be exported: transformers has no {lacking[0]}.")
    model_type = f"mean_pool_{config.model_type}"
    pooling = ", add_pooling_layer=False" if has_pooler else ""
    listed = ", ".join(sorted(family.values()))
    source = SOURCE.format(**family, names=listed, model_type=model_type, prefix=prefix, head=head, pooling=pooling)
    (folder / f"{CODE}.py").write_text(source, encoding="utf-8", newline="\n")
    described = json.loads(config.to_json_string())
    described.pop("_name_or_path", None)
    described |= {"model_type": model_type, "architectures": ["MeanPoolClassifier"]}
    described["auto_map"] = {
        "AutoConfig": f"{CODE}.MeanPoolConfig",
        "AutoModelForSequenceClassification": f"{CODE}.MeanPoolClassifier",
    }
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8", newline="\n")
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    return Written(type(plain).__name__ if fits else "")


def _token_classifier(config: Any) -> Any:
    """The family's token classifier, without weights; None if the family has none."""
    try:
        with torch.device("meta"):
            return AutoModelForTokenClassification.from_config(config)
    except ValueError:
        return None


def _head(plain: Any) -> str:
    """The attribute name of the linear layer in the family's token classifier."""
    linear = [name for name, child in plain.named_children() if isinstance(child, nn.Linear)] if plain else []
    return linear[0] if linear else "classifier"


def _check(body: nn.Module, weights: dict[str, Tensor], drop: str) -> None:
    """Raise a UserError if the body's weights have other names or shapes than those of the plain body."""
    own = {f"body.{name}": value.shape for name, value in body.state_dict().items()}
    wanted = {name: shape for name, shape in own.items() if not (drop and name.startswith(f"body.{drop}"))}
    found = {name: value.shape for name, value in weights.items() if name.startswith("body.")}
    if wrong := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        raise UserError(
            f"The kept weights are not those of a plain {type(body).__name__}: {len(wrong)} differ, {wrong[0]} among "
            "them. A model has to be merged and unquantized before a lesson keeps it."
        )
