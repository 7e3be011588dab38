"""Scores a model on a split: predictions, accuracy with an interval, and cost. Also fits the baselines to beat."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from torch import Tensor, nn

from helpers.batches import Batch, Collate, TokenizedReviews, length_batches
from helpers.did_it_train import leaked
from helpers.guard import tell, tell_chance
from helpers.intervals import Interval, wilson
from helpers.models import device_of
from helpers.runtime import UserError
from helpers.training import History, half_precision, to_device, trainable_parameters

WORD = re.compile(r"(?u)\b\w\w+\b")  # scikit-learn's definition of a word
# Thai, Lao, Tibetan, Burmese, Khmer, both Japanese kana scripts, and Chinese characters.
SPACELESS = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@torch.inference_mode()
def predict(model: nn.Module, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Return logits (rows, num_labels) and labels (rows,), on the CPU.

    The rows are in the dataset's order, even if the batches were sorted by length.
    """
    model.eval()
    found, known = [], []
    for batch in batches:
        found.append(model(**to_device(batch, model)).logits.float().cpu())
        known.append(batch["labels"].cpu())
    logits, labels = torch.cat(found), torch.cat(known)
    order = getattr(getattr(batches, "batch_sampler", None), "order", None)
    if order is None:
        return logits, labels
    place = torch.argsort(torch.tensor(order))
    return logits[place], labels[place]


def predict_rows(
    model: nn.Module, rows: TokenizedReviews, collate: Collate, *, bfloat16: bool = False
) -> tuple[Tensor, Tensor]:
    """Call `predict` on tokenized rows: returns logits (rows, num_labels) and labels (rows,), in the rows' order.

    bfloat16: whether to compute matrix products in `half_precision`.
    """
    with half_precision(device_of(model)) if bfloat16 else nullcontext():
        return predict(model, length_batches(rows, collate, 64, shuffle=False))


def correct_and_loss(model: nn.Module, rows: TokenizedReviews, collate: Collate) -> tuple[Tensor, float]:
    """Return (rows,) with 1.0 for each correct prediction and 0.0 otherwise, and the mean cross-entropy in nats."""
    logits, labels = predict_rows(model, rows, collate)
    return (logits.argmax(dim=-1) == labels).double(), nn.functional.cross_entropy(logits, labels).item()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of rows whose largest logit is the label's. logits: (rows, classes); labels: (rows,)."""
    if len(labels) == 0:
        raise UserError("There are no rows to measure an accuracy on.")
    return (logits.argmax(dim=-1) == labels).double().mean().item()


def share(correct: Tensor) -> Interval:
    """Return the share of ones in `correct`, (rows,) of 0 and 1, with Wilson's 95 % interval."""
    return wilson(int(correct.sum()), len(correct))


@dataclass(frozen=True)
class Outcome:
    """A model's predictions on the test rows, and the cost of its training.

    predictions, labels: (rows,) class numbers in the order of the test rows.
    """

    title: str
    predictions: Tensor
    labels: Tensor
    parameters: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    losses: tuple[float, ...] = ()

    @property
    def correct(self) -> Tensor:
        """A tensor (rows,): 1.0 for each correct prediction, 0.0 otherwise."""
        return (self.predictions == self.labels).double()

    @property
    def accuracy(self) -> Interval:
        """The share of right predictions with Wilson's 95 % interval."""
        return share(self.correct)

    def metrics(self, name: str) -> dict[str, float]:
        """Return the metrics to record: accuracy_NAME and, if the model was trained, the training's cost."""
        found = {f"accuracy_{name}": self.accuracy.value}
        if self.parameters:
            found |= {f"seconds_{name}": self.seconds, f"trainable_parameters_{name}": int(self.parameters)}
        if self.peak_bytes:
            found[f"peak_memory_bytes_{name}"] = self.peak_bytes
        return found


def evaluate(
    title: str,
    model: nn.Module,
    rows: TokenizedReviews,
    collate: Collate,
    history: History,
    *,
    peak_bytes: int = 0,
    bfloat16: bool = False,
) -> Outcome:
    """Return the model's predictions on `rows` and the cost of its training.

    Prints a notice if the accuracy is at chance (`helpers.guard`) or training rows leaked (`helpers.did_it_train`).

    Args:
        history: the training's history.
        peak_bytes: the peak memory that training added, or 0 if it was not measured.
        bfloat16: as for `predict_rows`.
    """
    logits, labels = predict_rows(model, rows, collate, bfloat16=bfloat16)
    outcome = Outcome(
        title=title,
        predictions=logits.argmax(dim=-1),
        labels=labels,
        parameters=trainable_parameters(model),
        seconds=history.seconds,
        peak_bytes=peak_bytes,
        losses=tuple(history.losses),
    )
    if shared := leaked(history.seen, rows.input_ids):
        tell(f"{title}: {shared}")
    if not history.notice:
        tell_chance(title, outcome.accuracy, labels.tolist())
    return outcome


def majority(labels: Sequence[int]) -> int:
    """Return the most frequent label of the training rows; of equally frequent ones, the smallest."""
    if len(labels) == 0:
        raise UserError("There are no training rows to count labels in.")
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def bag_of_words(texts: Sequence[str], labels: Sequence[int], strength: float = 10.0) -> Pipeline:
    """Fit a logistic regression on the words and word pairs of each text, weighted by tf-idf.

    strength: scikit-learn's C, the inverse of the penalty; 10 was best on validation rows.
    Returns a fitted pipeline: `.predict(texts)` gives labels. Word order beyond pairs is ignored. If most texts are in
    a script without spaces (Chinese, Thai), or no word occurs often enough, characters are counted instead of words.
    Raises UserError when there is only one class.
    """
    if len(set(labels)) < 2:
        raise UserError("The training rows hold a single class; a classifier needs at least two.")
    # A word that occurs in only one text does not help with new texts, but in a small set most words are like that.
    rare = 2 if len(texts) >= 100 else 1
    settings = {"ngram_range": (1, 2), "min_df": rare, "sublinear_tf": True}
    if not counts_words(texts, rare):
        settings |= {"analyzer": "char", "min_df": 1}
    words = TfidfVectorizer(**settings)
    return make_pipeline(words, LogisticRegression(C=strength, max_iter=1000)).fit(list(texts), list(labels))


def counts_words(texts: Sequence[str], rare: int = 1) -> bool:
    """Whether `bag_of_words` counts words in these texts, rather than characters.

    rare: the minimum number of texts that a word has to occur in.
    """
    if 2 * sum(map(without_spaces, texts)) > len(texts):
        return False
    counts: Counter[str] = Counter()
    for text in texts:
        words = set(WORD.findall(text.lower()))
        counts.update(words)
        if any(counts[word] >= rare for word in words):
            return True
    return False


def without_spaces(text: str) -> bool:
    """Whether more than half of the letters belong to a script without spaces between words."""
    return 2 * len(SPACELESS.findall(text)) > sum(map(str.isalpha, text))
