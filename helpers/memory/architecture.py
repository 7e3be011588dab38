"""The sizes of a transformer that decide what training it takes: read from its config, or given by name."""

from __future__ import annotations

from dataclasses import dataclass

from helpers.runtime import UserError, nearest

# The published sizes of LLaMA (Touvron et al. 2023, table 2; inner sizes from its released configs).
PUBLISHED = {
    "7B": (32, 4096, 11008, 32),
    "13B": (40, 5120, 13824, 40),
    "33B": (60, 6656, 17920, 52),
    "65B": (80, 8192, 22016, 64),
}


@dataclass(frozen=True)
class Architecture:
    """What the formulas of the ledger need to know.

    family: "bert" (with biases, and a new head on pooled states) or "llama" (gated, without biases, predicts tokens).
    key_value: the width of keys and values; smaller than `hidden` where heads share them.
    positions: rows of embeddings beside the vocabulary's (positions, token types).
    """

    family: str
    layers: int
    hidden: int
    inner: int
    heads: int
    key_value: int
    vocabulary: int
    positions: int = 0
    tied: bool = True  # the output matrix of a language model is its embedding matrix

    @classmethod
    def of(cls, config: object) -> Architecture:
        """From a `transformers` config of the BERT, RoBERTa, DistilBERT or Llama family.

        Raises:
            UserError: when there is no formula for this family.
        """
        families = {"bert": "bert", "roberta": "bert", "distilbert": "bert", "llama": "llama"}
        kind = config.model_type
        if kind not in families:
            raise UserError(f'The ledger has no formulas for "{kind}"; it has them for {", ".join(families)}.')
        heads = config.num_attention_heads
        shared = getattr(config, "num_key_value_heads", heads)
        inner = config.hidden_dim if kind == "distilbert" else config.intermediate_size
        positions = config.max_position_embeddings + getattr(config, "type_vocab_size", 0)
        return cls(
            family=families[kind],
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            inner=inner,
            heads=heads,
            key_value=config.hidden_size * shared // heads,
            vocabulary=config.vocab_size,
            positions=positions if families[kind] == "bert" else 0,
            tied=families[kind] == "bert" or config.tie_word_embeddings,
        )

    @classmethod
    def published(cls, name: str) -> Architecture:
        """LLaMA of a published size: "7B", "13B", "33B" or "65B"."""
        if name not in PUBLISHED:
            raise UserError(f'There is no size "{name}"; there are {", ".join(PUBLISHED)}.{nearest(name, PUBLISHED)}')
        layers, hidden, inner, heads = PUBLISHED[name]
        return cls("llama", layers, hidden, inner, heads, hidden, 32000, tied=False)

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """The linear layers of one block, (in, out) each: what is quantized, and what gets an adapter."""
        attention = [(self.hidden, self.hidden), *[(self.hidden, self.key_value)] * 2, (self.hidden, self.hidden)]
        inward = 2 if self.family == "llama" else 1  # a gated block has two matrices that lead inward
        return attention + [(self.hidden, self.inner)] * inward + [(self.inner, self.hidden)]

    @property
    def other_sizes(self) -> list[int]:
        """The numbers in every tensor that is no such matrix: embeddings, normalisations, biases."""
        embeddings = [self.vocabulary * self.hidden] * (1 if self.tied else 2)
        if self.family == "llama":
            return embeddings + [self.hidden] * (2 * self.layers + 1)
        norms = [self.hidden] * 2 * (2 * self.layers + 1)  # a scale and a shift each, one pair for the embeddings
        biases = [outputs for _, outputs in self.matrices] * self.layers
        return [*embeddings, self.positions * self.hidden, *norms, *biases]

    @property
    def matrix_sizes(self) -> list[int]:
        """The numbers in every matrix of every block."""
        return [inputs * outputs for inputs, outputs in self.matrices] * self.layers

    @property
    def parameters(self) -> int:
        """All numbers of the body (and of the language model's output matrix where it has one of its own)."""
        return sum(self.matrix_sizes) + sum(self.other_sizes)
