"""What a score has to beat: the majority class, and a bag of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from helpers.runtime import UserError


def majority(labels: Sequence[int]) -> int:
    """The label that the training rows hold most often (the smallest of equals)."""
    if len(labels) == 0:
        raise UserError("There are no training rows to count labels in.")
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def bag_of_words(texts: Sequence[str], labels: Sequence[int], strength: float = 10.0) -> Pipeline:
    """Fit a logistic regression on the words and word pairs of each text, weighted by tf-idf.

    strength: scikit-learn's C, the inverse of the penalty; 10 was best on validation rows.
    Returns a fitted pipeline: `.predict(texts)` gives labels. Order beyond two words is lost.
    Raises UserError when there is only one class.
    """
    if len(set(labels)) < 2:
        raise UserError("The training rows hold a single class; a classifier needs at least two.")
    # A word seen once says nothing about the next text, unless there are hardly any texts.
    rare = 2 if len(texts) >= 100 else 1
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=rare, sublinear_tf=True)
    return make_pipeline(words, LogisticRegression(C=strength, max_iter=1000)).fit(list(texts), list(labels))
