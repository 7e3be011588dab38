"""Detects six mistakes that waste a training run without an error, and reports each in one sentence.

The loop in `helpers.training` uses `TrainingWatch`. For `transformers.Trainer`, `trl` or your own project, pass the
callback: `Trainer(..., callbacks=[DidItTrain()])`. From the workbook, this file needs only `helpers.guard`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import AutoTokenizer, TrainerCallback

from helpers.guard import tell

IGNORED = -100  # the loss ignores tokens with this label
LEAKED = 0.1  # share of evaluation rows; a smaller leak is not reported, because short texts can repeat by chance
MISSING = 0.03  # maximum share of embedding rows without a token; libraries pad the number of rows
LOOKED_AT = 2_000  # maximum number of evaluation rows to compare
READ = 100_000  # maximum number of training rows to compare


def frozen(model: nn.Module, optimizer: Optimizer | None) -> str:
    """Return a sentence if the optimizer cannot change the model, else ""."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        return (
            "Every parameter of the model is frozen, so nothing can be learned: "
            "add an adapter, or set requires_grad to True for the layers that you train."
        )
    if optimizer is None:
        return ""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in held for p in trainable.values()):
        return (
            f"The optimizer holds none of the model's {len(trainable)} trainable tensors, so nothing can be learned: "
            "create the optimizer after you freeze, replace or add layers."
        )
    adapter = adapter_tensors(model)
    if adapter and not any(id(p) in held for p in adapter.values()):
        return (
            f"The optimizer holds none of the adapter's {len(adapter)} tensors, so the adapter stays as it is: "
            "create the optimizer after you add the adapter."
        )
    return ""


def useless_batch(batch: Mapping[str, Any], rows: int = 0) -> str:
    """Return a sentence if all labels of the batch are -100 or a token id has no embedding row, else "".

    rows: the model's `embedding_rows`, or 0 if unknown.
    """
    ids, labels = batch.get("input_ids"), batch.get("labels")
    if rows and isinstance(ids, Tensor) and ids.numel() and int(ids.max()) >= rows:
        return (
            f"A batch has the token id {int(ids.max())}, but the model's embedding has {rows} rows: "
            "the tokenizer belongs to another model, so load both from the same name, or resize the embedding."
        )
    if not isinstance(labels, Tensor) or labels.numel() == 0 or bool((labels != IGNORED).any()):
        return ""
    return (
        "Every label of a batch is -100, so its loss has nothing to learn from: "
        "check which tokens your collator masks, and raise the maximum length if it cuts the answers off."
    )


def foreign_tokenizer(tokenizer: Any, model: nn.Module) -> str:
    """Return a sentence if the tokenizer's ids differ from those that the model was pretrained with, else "".

    Compares the two vocabularies if the model's own tokenizer is on this disk. Otherwise compares the tokenizer's
    size with the number of embedding rows.
    """
    rows = embedding_rows(model)
    vocabulary: dict[str, int] = getattr(tokenizer, "get_vocab", dict)()
    if not rows or not vocabulary:
        return ""
    ours, theirs = getattr(tokenizer, "name_or_path", ""), _pretrained_name(model)
    load = "load both from the same name"
    own = _vocabulary(theirs) if theirs and theirs != ours else {}
    if own:
        moved = sum(vocabulary.get(token) != number for token, number in own.items())
        if moved:
            return (
                f'The tokenizer "{ours}" does not belong to the model "{theirs}": {moved} of the model\'s {len(own)} '
                f"tokens have another id or none, so the model reads other words than you wrote; {load}."
            )
    elif len(vocabulary) > rows or len(vocabulary) < (1 - MISSING) * rows:
        return (
            f"The tokenizer has {len(vocabulary)} tokens and the model's embedding {rows} rows, so they probably do "
            f"not belong together: {load}, or resize the embedding."
        )
    return ""


def leaked(train: Iterable[Sequence[int]] | frozenset[int], test: Sequence[Sequence[int]]) -> str:
    """Return a sentence if at least 10 % of the evaluation rows are training rows, else "".

    Args:
        train: the token ids of each training row, or their `row_keys`.
        test: the token ids of each evaluation row.
    """
    seen = train if isinstance(train, frozenset) else row_keys(train)
    found = sum(hash(tuple(row)) in seen for row in test)
    if not test or found < LEAKED * len(test):
        return ""
    return (
        f"{found} of {len(test)} evaluation rows are training rows, so the score says nothing about new texts: "
        "split the data before training, and remove duplicates."
    )


def row_keys(rows: Iterable[Sequence[int]]) -> frozenset[int]:
    """Return the hash of each row of token ids; equal rows have equal hashes."""
    return frozenset(hash(tuple(row)) for row in rows)


def idle_adapter(model: nn.Module) -> str:
    """Return a sentence if every LoRA layer adds exactly 0 (all B matrices are 0), else ""."""
    factors = [p for name, p in model.named_parameters() if "lora_B" in name or "lora_embedding_B" in name]
    if not factors or any(bool(p.any()) for p in factors):
        return ""
    return (
        f"All {len(factors)} LoRA layers add exactly 0, so the adapter changes nothing: "
        "train it, or check that you loaded the folder that holds its trained weights."
    )


class TrainingWatch:
    """Watches one training run and prints each mistake once. Call `step` before each optimizer step, and `end` last.

    Args:
        title: the sentences begin with this title, unless it is "".
        steps: the number of training steps, or 0 if unknown.
    """

    def __init__(self, model: nn.Module, title: str = "", steps: int = 0) -> None:
        self.model, self.title, self.steps = model, title, steps
        self.taken = self.still = 0
        self.reached = self.stopped = False  # whether a gradient reached the adapter, and whether the rate is 0
        self.before = _fingerprints(adapter_tensors(model))

    def step(self, optimizer: Optimizer) -> None:
        """Check the gradients and the learning rates that the optimizer is about to use."""
        self.taken += 1
        if self.before and not self.reached and self.taken <= 2:
            self.reached = any(p.grad is not None for p in adapter_tensors(self.model).values())
        self.still = 0 if any(float(group["lr"]) for group in optimizer.param_groups) else self.still + 1
        if self.still == 2:  # a warm-up also starts with one step at 0
            first, whole = self.taken - 1, f" of {self.steps}" if self.steps else ""
            remedy = "give the optimizer a rate above 0" if first == 1 else "make the schedule as long as the training"
            self.stopped = True
            self._tell(f"The learning rate is 0 from step {first}{whole} on, so no weight changes any more: {remedy}.")

    def end(self) -> None:
        """Report an adapter whose tensors did not change in the training."""
        after = _fingerprints(adapter_tensors(self.model))
        if not self.before or not self.taken or self.stopped or after != self.before:
            return
        why = "" if self.reached else " because no gradient reached them"
        self._tell(
            f"None of the adapter's {len(after)} tensors changed{why}, so the model's body answers as before: put the "
            "adapter on layers that the forward pass uses, and switch it on."
        )

    def _tell(self, sentence: str) -> None:
        tell(f"{self.title}: {sentence}" if self.title else sentence)


class DidItTrain(TrainerCallback):
    """A callback that reports the six mistakes in a `transformers.Trainer` or a TRL trainer, each in one sentence.

    FSDP and DeepSpeed shard the parameters. With them, it checks only the labels, the tokenizer and the rows.
    """

    def __init__(self) -> None:
        self.watch: TrainingWatch | None = None
        self.seen: frozenset[int] | None = None

    def on_train_begin(self, args, state, control, model=None, optimizer=None, train_dataloader=None, **others):
        self.seen, self.watch, said = None, None, ""
        if not (getattr(args, "fsdp", None) or getattr(args, "deepspeed", None)):
            self.watch, said = TrainingWatch(model, steps=state.max_steps), frozen(model, optimizer)
        said = said or foreign_tokenizer(others.get("processing_class"), model)
        said = said or useless_batch(_first_batch(train_dataloader), embedding_rows(model))
        if said:
            tell(said)

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **others):
        if self.watch and optimizer is not None:
            self.watch.step(optimizer)

    def on_train_end(self, args, state, control, **others):
        if self.watch:
            self.watch.end()

    def on_evaluate(self, args, state, control, train_dataloader=None, eval_dataloader=None, **others):
        if train_dataloader is None or eval_dataloader is None:
            return
        with torch.random.fork_rng():
            if self.seen is None:
                self.seen = row_keys(_rows(train_dataloader.dataset, READ))
            said = leaked(self.seen, list(_rows(eval_dataloader.dataset, LOOKED_AT)))
        if said:
            tell(said)


def adapter_tensors(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable parameters, by name, of the model's partly frozen parts, which a separate head is not."""
    while len(parts := _parts(model)) == 1:
        model = parts[0]
    found: dict[str, nn.Parameter] = {}
    for part in parts or [model]:
        named = dict(part.named_parameters())
        trainable = {name: p for name, p in named.items() if p.requires_grad and "modules_to_save" not in name}
        if len(trainable) < len(named):
            found |= {f"{id(part)}.{name}": p for name, p in trainable.items()}
    return found


def _parts(model: nn.Module) -> list[nn.Module]:
    """Return the direct child modules that have parameters."""
    return [child for child in model.children() if next(child.parameters(), None) is not None]


def embedding_rows(model: nn.Module) -> int:
    """Return the number of rows of the model's input embedding, or 0 if no module has one."""
    for module in model.modules():
        embeddings: Any = getattr(module, "get_input_embeddings", None)
        if embeddings is not None:
            try:
                weight = getattr(embeddings(), "weight", None)
            except (NotImplementedError, AttributeError):
                continue
            if isinstance(weight, Tensor) and weight.dim() == 2:
                return len(weight)
    return 0


def _pretrained_name(model: nn.Module) -> str:
    """Return the name or folder that the model was loaded from; "" if it was created from a configuration."""
    names = (getattr(getattr(module, "config", None), "_name_or_path", "") for module in model.modules())
    return next((name for name in names if isinstance(name, str) and name), "")


def _vocabulary(name: str) -> dict[str, int]:
    """Return the vocabulary (token -> id) of a tokenizer on this disk; empty if it is not there."""
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True).get_vocab()
    except Exception:  # libraries raise different errors if the folder has no tokenizer
        return {}


def _fingerprints(tensors: Mapping[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Return two sums per tensor (values, absolute values); if they are equal, the tensor counts as unchanged."""
    found = {}
    with torch.no_grad():
        for name, tensor in tensors.items():
            values = tensor.detach().double()
            found[name] = (values.sum().item(), values.abs().sum().item())
    return found


def _rows(dataset: Any, most: int) -> Iterator[Sequence[int]]:
    """Yield the token ids of at most `most` rows, spread evenly over the dataset. Skips rows without token ids."""
    try:
        count = len(dataset)
    except TypeError:  # an iterable dataset has no length
        return
    for row in range(0, count, max(1, -(-count // most))):
        ids = dataset[row].get("input_ids") if isinstance(dataset[row], Mapping) else None
        if ids is not None:
            yield [int(token) for token in ids]


def _first_batch(loader: Any, rows: int = 8) -> Mapping[str, Any]:
    """Return a batch of the first rows without advancing the loader's sampler; empty for an iterable dataset."""
    dataset: Any = getattr(loader, "dataset", None)
    collate: Any = getattr(loader, "collate_fn", None)
    try:
        count = min(rows, len(dataset))
    except TypeError:  # an iterable dataset, or no loader at all
        return {}
    if not count or collate is None:
        return {}
    with torch.random.fork_rng():
        batch = collate([dataset[row] for row in range(count)])
    return batch if isinstance(batch, Mapping) else {}
