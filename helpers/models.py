"""A classifier on top of any pretrained body: mean-pooled hidden states and one linear head."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from helpers.batches import Batch
from helpers.runtime import UserError


def config_of(model: nn.Module) -> Any:
    """Return the model's `transformers` config (typed Any: torch types attributes only as modules or tensors)."""
    return model.config


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter."""
    return next(model.parameters()).device


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Average the hidden states of the real tokens, without padding.

    hidden: (batch, seq, hidden); attention_mask: (batch, seq), 1 for a real token, 0 for padding.
    Returns (batch, hidden). A row with only padding gives zeros.
    """
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (batch, seq, 1)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)


class MeanPoolClassifier(nn.Module):
    """A body from `AutoModel` (encoder or decoder) with a linear head on its mean-pooled last hidden state.

    The output has the type of every `transformers` classifier's output, so `Trainer` accepts this model.
    """

    def __init__(self, body: nn.Module, num_labels: int = 2) -> None:
        super().__init__()
        self.body = body
        self.config = config_of(body)
        self.head = nn.Linear(self.config.hidden_size, num_labels)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the head's input (batch, hidden) for token ids and a mask of (batch, seq)."""
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return mean_pool(hidden, attention_mask)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Return logits (batch, num_labels), and the mean cross-entropy if labels are given."""
        logits = self.head(self.features(input_ids, attention_mask))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class HeadClassifier(nn.Module):
    """Only the head of a classifier, for features that a frozen body computed before."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor, labels: Tensor | None = None) -> SequenceClassifierOutput:
        """features: (batch, hidden). Returns logits (batch, num_labels) and the mean cross-entropy."""
        logits = self.head(features)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def blocks(body: nn.Module) -> nn.ModuleList:
    """Return the first `nn.ModuleList` of equal modules with the config's number of layers: the transformer blocks.

    Raises:
        UserError: when the body has no such list.
    """
    depth = getattr(getattr(body, "config", None), "num_hidden_layers", None)
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth and len(set(map(type, module))) == 1:
            return module
    raise UserError(f"No stack of transformer blocks was found in {type(body).__name__}; choose another model.")


def freeze_all_but(model: MeanPoolClassifier, trainable_blocks: int | None) -> MeanPoolClassifier:
    """Leave only the head and the last `trainable_blocks` blocks trainable; None trains everything.

    0 is "head only", 1 is "last block + head". A final normalization after the last block
    (Llama's `norm`, GPT-2's `ln_f`) is trained together with that block.

    Raises:
        UserError: when the body's blocks are not found.
    """
    model.requires_grad_(trainable_blocks is None)
    model.head.requires_grad_(True)
    if trainable_blocks:
        stack = blocks(model.body)
        for block in stack[-trainable_blocks:]:
            block.requires_grad_(True)
        for name in ("norm", "ln_f", "final_layernorm", "final_layer_norm", "final_norm"):
            if hasattr(model.body, name):
                getattr(model.body, name).requires_grad_(True)
    return model


def without_dropout(model: nn.Module) -> nn.Module:
    """Disable dropout permanently, also in training, so that two runs can be compared step by step."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout_prob"):  # attention stores its dropout rate as a float
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


@torch.no_grad()  # not inference_mode, because autograd cannot use its tensors in later training
def cache_features(model: MeanPoolClassifier, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Run a frozen body once over all batches.

    batches: an iterable of dicts with input_ids, attention_mask (batch, seq) and labels (batch,).
    Returns features (rows, hidden) and labels (rows,), both in the order of the batches.
    """
    model.eval()
    device = device_of(model)
    features, labels = [], []
    for batch in batches:
        ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
        features.append(model.features(ids, mask))
        labels.append(batch["labels"].to(device))
    return torch.cat(features), torch.cat(labels)
