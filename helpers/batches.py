"""Turns the rows of a dataset into padded batches of tensors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from helpers.runtime import UserError
from helpers.truncation import MAX_LENGTH, tell_truncated

Row = dict[str, Any]
Batch = dict[str, Tensor]
Collate = Callable[[list[Row]], Batch]


class TokenizedReviews(TorchDataset):
    """A PyTorch dataset of token ids and labels in memory: `rows[i]` is {"input_ids": [...], "labels": 0}."""

    def __init__(self, input_ids: Sequence[Sequence[int]], labels: Sequence[int]) -> None:
        if len(input_ids) != len(labels):
            raise ValueError(f"{len(input_ids)} texts, but {len(labels)} labels.")
        self.input_ids = [list(ids) for ids in input_ids]
        self.labels = [int(label) for label in labels]

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> TokenizedReviews:
        """Build one from the columns `input_ids` and `label` of a tokenized `datasets.Dataset`."""
        return cls(dataset["input_ids"], dataset["label"])

    @property
    def lengths(self) -> list[int]:
        """The number of tokens of each row."""
        return [len(ids) for ids in self.input_ids]

    def select(self, rows: Sequence[int]) -> TokenizedReviews:
        """Return a dataset of the given rows, in the given order."""
        return TokenizedReviews([self.input_ids[i] for i in rows], [self.labels[i] for i in rows])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Row:
        return {"input_ids": self.input_ids[index], "labels": self.labels[index]}


def tokenize(dataset: Dataset, tokenizer: Any, max_length: int = MAX_LENGTH) -> Dataset:
    """Add the column `input_ids`: `map` passes batches of rows to the tokenizer, which reads the column `text`.

    Texts are truncated to `max_length` tokens, or to the model's maximum if smaller. Prints how many texts were cut.
    """
    max_length = min(max_length, getattr(tokenizer, "model_max_length", max_length))

    def tokenizer_function(examples: dict[str, list]) -> dict[str, list]:
        ids = tokenizer(examples["text"], truncation=True, max_length=max_length)["input_ids"]
        return {"input_ids": ids}

    return tell_truncated(dataset.map(tokenizer_function, batched=True), tokenizer, max_length)


def padded(rows: Sequence[Sequence[int]], pad_id: int, side: str = "right") -> Batch:
    """Pad rows of token ids to the longest one: returns input_ids and attention_mask, each (batch, seq)."""
    ids = [torch.as_tensor(row, dtype=torch.long) for row in rows]
    ones = [torch.ones_like(row) for row in ids]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_id, padding_side=side),
        "attention_mask": pad_sequence(ones, batch_first=True, padding_side=side),
    }


def pad(tokenizer: Any) -> Collate:
    """Return a collator, which pads rows of different lengths to one batch of tensors.

    The collator returns input_ids and attention_mask (batch, seq), where seq is the length of the
    longest row of this batch, and labels (batch,). Padding is on the right.
    """
    pad_id = tokenizer.pad_token_id
    if pad_id is None:
        raise UserError("This tokenizer has no padding token; set tokenizer.pad_token first.")

    def collate(rows: list[Row]) -> Batch:
        labels = torch.tensor([row["labels"] for row in rows])
        return {**padded([row["input_ids"] for row in rows], pad_id), "labels": labels}

    return collate


def full_rows(tokenizer: Any, texts: Sequence[str], count: int, length: int) -> Tensor:
    """Return token ids without padding, (count, length): the first texts that are long enough, cut to `length` tokens.

    If too few texts are long enough, the rows are cut from all texts joined end to end and repeated; prints a notice.

    Raises:
        UserError: when the tokenizer's model reads fewer than `length` tokens.
    """
    most = getattr(tokenizer, "model_max_length", length)
    if length > most:
        raise UserError(
            f"model: it reads {most} tokens at most, and this needs rows of {length}; choose another model."
        )
    encoded = tokenizer(list(texts), verbose=False)["input_ids"]
    rows = [ids[:length] for ids in encoded if len(ids) >= length][:count]
    if len(rows) < count:
        print(f"Fewer than {count} texts have {length} tokens, so texts stand end to end in these rows.")
        joined = [token for ids in encoded for token in ids]
        endless = itertools.cycle(joined)
        rows = [list(itertools.islice(endless, length)) for _ in range(count)]
    return torch.tensor(rows)


class LengthGroupedSampler(Sampler[list[int]]):
    """Groups rows of similar length into batches of row numbers, so that little padding is needed.

    With `shuffle`, rows are shuffled, cut into pools of `pool` batches and sorted by length inside each
    pool; then the batches are shuffled. Every pass has a new order, which the seed determines.
    Without `shuffle`, rows are sorted by length. An incomplete batch is always the last one.
    `order` holds the row numbers of the latest pass.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        pool: int = 16,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; it must be at least 1.")
        self.lengths, self.batch_size = list(lengths), batch_size
        self.shuffle, self.seed, self.pool = shuffle, seed, pool
        self.passes = 0
        self.order: list[int] = []

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.passes)
        self.passes += 1
        batches = self._sorted_batches(generator)
        if self.shuffle:
            whole = sum(len(batch) == self.batch_size for batch in batches)
            places = torch.randperm(whole, generator=generator).tolist()
            batches = [batches[i] for i in places] + batches[whole:]
        self.order = [row for batch in batches for row in batch]
        return iter(batches)

    def _sorted_batches(self, generator: torch.Generator) -> list[list[int]]:
        count, size = len(self.lengths), self.batch_size
        if self.shuffle:
            rows, pool = torch.randperm(count, generator=generator).tolist(), size * self.pool
        else:
            rows, pool = list(range(count)), max(count, 1)
        by_length: list[int] = []
        for start in range(0, count, pool):
            by_length += sorted(rows[start : start + pool], key=self.lengths.__getitem__)
        return [by_length[start : start + size] for start in range(0, count, size)]


def grouped_batches(
    rows: Any, lengths: Sequence[int], collate: Callable, batch_size: int, *, shuffle: bool, seed: int
) -> DataLoader:
    """Return a `DataLoader` that batches rows of similar length; see `LengthGroupedSampler` for the order.

    Args:
        rows: any object with `len(rows)` and `rows[i]`.
        lengths: the number of tokens of each row.
        collate: turns a list of rows into a `Batch`.
    """
    sampler = LengthGroupedSampler(lengths, batch_size, shuffle=shuffle, seed=seed)
    # A separate generator, so that loading batches does not advance the global random state, which dropout uses.
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(rows, batch_sampler=sampler, collate_fn=collate, generator=generator)


def length_batches(
    rows: TokenizedReviews, collate: Collate, batch_size: int = 32, *, shuffle: bool = True, seed: int = 0
) -> DataLoader:
    """Call `grouped_batches` on tokenized reviews."""
    return grouped_batches(rows, rows.lengths, collate, batch_size, shuffle=shuffle, seed=seed)


class FeatureBatches:
    """Iterates over cached features in shuffled batches {"features": (batch, hidden), "labels": (batch,)}.

    Every pass has a new order, which the seed determines.
    """

    def __init__(self, features: Tensor, labels: Tensor, batch_size: int = 64, *, seed: int = 0) -> None:
        self.features, self.labels, self.batch_size = features, labels, batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.labels), generator=self.generator).to(self.labels.device)
        for rows in order.split(self.batch_size):
            yield {"features": self.features[rows], "labels": self.labels[rows]}


def sample_rows(dataset: Dataset, count: int, seed: int, name: str = "labels") -> Dataset:
    """Draw `count` random rows with this seed; every class gets at least one row if `count` allows it.

    If a learner's own file has fewer rows, all of them are used and a notice is printed.

    Raises:
        UserError: when the count is under 2, or a dataset of the workbook has fewer rows than the count.
    """
    if isinstance(count, bool) or not isinstance(count, int):
        raise UserError(f"{name} is {count!r}; it must be a whole number.")
    if count > len(dataset) >= 2 and dataset.info.description:  # only a learner's own data have a description
        print(f"{name}: {count:,} are asked for and your data have {len(dataset):,} to train on, so all are used.")
        count = len(dataset)
    if not 2 <= count <= len(dataset):
        raise UserError(f"{name} is {count}; choose a number from 2 to {len(dataset)}.")
    shuffled = dataset.shuffle(seed=seed)
    return shuffled.select(
        _with_every_class(shuffled["label"], count) if "label" in shuffled.features else range(count)
    )


def _with_every_class(labels: Sequence[int], count: int) -> list[int]:
    """Return the first `count` rows. If a class has none of them, its first row replaces a row of another class."""
    labels = list(labels)
    firsts: dict[int, int] = {}
    for row, label in enumerate(labels):
        firsts.setdefault(label, row)
    spare = [row for row in range(count) if firsts[labels[row]] != row]
    late = [row for row in firsts.values() if row >= count][: len(spare)]
    dropped = set(spare[len(spare) - len(late) :])
    return [row for row in range(count) if row not in dropped] + late
