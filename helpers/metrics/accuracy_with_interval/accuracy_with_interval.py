"""Accuracy with its 95 % interval, as a metric that `evaluate.load` reads from a folder.

`evaluate` searches the source text for imports, so each module is imported on its own line.
"""

import datasets
import evaluate

from helpers.intervals import wilson


class AccuracyWithInterval(evaluate.Metric):
    """The share of predictions that equal their reference, and Wilson's interval."""

    def _info(self):
        return evaluate.MetricInfo(
            description="Accuracy with Wilson's 95 % interval.",
            citation="E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927",
            inputs_description="predictions, references: class numbers of equal count",
            features=datasets.Features({"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}),
        )

    def _compute(self, predictions, references):
        correct = sum(int(guess == truth) for guess, truth in zip(predictions, references, strict=True))
        found = wilson(correct, len(references))
        return {"accuracy": found.value, "low": found.low, "high": found.high}
