"""The sizes of a transformer that decide what training it takes: read from its config, or given by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from helpers.runtime import UserError, nearest

# The published sizes of LLaMA (Touvron et al. 2023, table 2; inner sizes from its released configs).
PUBLISHED = {
    "7B": (32, 4096, 11008, 32),
    "13B": (40, 5120, 13824, 40),
    "33B": (60, 6656, 17920, 52),
    "65B": (80, 8192, 22016, 64),
}
FAMILIES = {
    "bert": "bert",
    "roberta": "bert",
    "distilbert": "bert",
    "gpt2": "gpt2",
    "llama": "llama",
    "qwen2": "llama",
    "qwen3": "llama",
}
# Tensors that an activation function keeps for its gradient, the result that the next layer keeps among them. A kernel
# of its own keeps what went in and what came out; GPT-2's is written out in steps, each with something to keep.
KEPT_BY = {"relu": 1, "gelu": 2, "gelu_pytorch_tanh": 2, "silu": 2, "gelu_new": 5}


@dataclass(frozen=True)
class Architecture:
    """What the formulas of the ledger need to know.

    family: "bert"; "gpt2", which has one matrix for queries, keys and values, and a norm before each half of a block
        in place of behind it; or "llama", whose blocks are gated, with norms that only scale.
    queries, keys: the width of the queries, and of keys and values, which is smaller where heads share them.
    vectors: the numbers in every bias and norm of one block.
    positions: rows of embeddings beside the vocabulary's (positions, token types).
    activation: tensors of the inner width that the activation function keeps.
    head_norms: whether queries and keys are normalised, head by head (Qwen 3).
    dropout: how many sums of a block lose something in training; 0 where nothing is dropped, of embeddings neither.
    attention_dropout: whether shares of attention are dropped.
    """

    family: str
    layers: int
    hidden: int
    inner: int
    heads: int
    queries: int
    keys: int
    vocabulary: int
    vectors: tuple[int, ...]
    positions: int = 0
    tied: bool = True  # the output matrix of a language model is its embedding matrix
    activation: int = 2
    head_norms: bool = False
    dropout: int = 0
    attention_dropout: bool = False

    @classmethod
    def of(cls, config: Any) -> Architecture:
        """From a `transformers` config of one of `FAMILIES`.

        Raises:
            UserError: when there are no formulas for this family, or for its activation function.
        """
        kind = config.model_type
        if kind not in FAMILIES:
            raise UserError(f'The ledger has no formulas for "{kind}"; it has them for {", ".join(FAMILIES)}.')
        function = _first(config, "activation_function", "activation", "hidden_act")
        if function not in KEPT_BY:
            raise UserError(f'The ledger has no formula for the activation function "{function}".')
        family, hidden, heads = FAMILIES[kind], config.hidden_size, config.num_attention_heads
        halves = 1 if kind == "distilbert" else 2  # DistilBERT does not drop what attention adds
        width = getattr(config, "head_dim", None) or hidden // heads
        shape = cls(
            family=family,
            layers=config.num_hidden_layers,
            hidden=hidden,
            inner=_first(config, "n_inner", "hidden_dim", "intermediate_size") or 4 * hidden,
            heads=heads,
            queries=heads * width,
            keys=width * getattr(config, "num_key_value_heads", heads),
            vocabulary=config.vocab_size,
            vectors=(),
            positions=0 if family == "llama" else config.max_position_embeddings + _first(config, "type_vocab_size"),
            tied=family == "bert" or config.tie_word_embeddings,
            activation=KEPT_BY[function],
            head_norms=kind == "qwen3",
            dropout=halves if _first(config, "hidden_dropout_prob", "dropout", "resid_pdrop") > 0 else 0,
            attention_dropout=_first(config, "attention_probs_dropout_prob", "attn_pdrop", "attention_dropout") > 0,
        )
        return replace(shape, vectors=shape._norms(width) + shape._biases(config))

    @classmethod
    def published(cls, name: str) -> Architecture:
        """LLaMA of a published size: "7B", "13B", "33B" or "65B"."""
        if name not in PUBLISHED:
            raise UserError(f'There is no size "{name}"; there are {", ".join(PUBLISHED)}.{nearest(name, PUBLISHED)}')
        layers, hidden, inner, heads = PUBLISHED[name]
        return cls("llama", layers, hidden, inner, heads, hidden, hidden, 32000, vectors=(hidden, hidden), tied=False)

    def _norms(self, width: int) -> tuple[int, ...]:
        """Of one block: a scale each, and a shift where the norm has one. width: of a head."""
        each = 1 if self.family == "llama" else 2
        return (self.hidden,) * 2 * each + (width,) * 2 * self.head_norms

    def _biases(self, config: Any) -> tuple[int, ...]:
        """Of one block, as wide as the layers that have one."""
        outputs = [out for _, out in self.matrices]
        if self.family != "llama":
            return tuple(outputs)
        if config.model_type == "qwen2":  # queries, keys and values, without asking the config
            return tuple(outputs[:3])
        attention, inner = _first(config, "attention_bias"), _first(config, "mlp_bias")
        return tuple(outputs[:4] if attention else ()) + tuple(outputs[4:] if inner else ())

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """The linear layers of one block, (in, out) each: what is quantized, and what gets an adapter."""
        inward = [(self.hidden, self.queries), *[(self.hidden, self.keys)] * 2]
        if self.family == "gpt2":
            inward = [(self.hidden, sum(out for _, out in inward))]
        gated = 2 if self.family == "llama" else 1  # a gated block has two matrices that lead inward
        return [*inward, (self.queries, self.hidden), *[(self.hidden, self.inner)] * gated, (self.inner, self.hidden)]

    @property
    def other_sizes(self) -> list[int]:
        """The numbers in every tensor that is no such matrix: embeddings, normalisations, biases."""
        embeddings = [self.vocabulary * self.hidden] * (1 if self.tied else 2)
        # Outside the blocks: the last norm, or positions and the norm (scale and shift) of embeddings or last block.
        outside = [self.hidden] if self.family == "llama" else [self.positions * self.hidden, self.hidden, self.hidden]
        return [*embeddings, *outside, *self.vectors * self.layers]

    @property
    def matrix_sizes(self) -> list[int]:
        """The numbers in every matrix of every block."""
        return [inputs * outputs for inputs, outputs in self.matrices] * self.layers

    @property
    def parameters(self) -> int:
        """All numbers of the body (and of the language model's output matrix where it has one of its own)."""
        return sum(self.matrix_sizes) + sum(self.other_sizes)


def _first(config: object, *names: str) -> Any:
    """What the config says under the first of these names that it has; 0 if it has none, or says None."""
    return next((getattr(config, name) for name in names if hasattr(config, name)), 0) or 0
