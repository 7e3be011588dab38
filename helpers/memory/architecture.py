"""The sizes of a transformer that determine its training memory, read from its config or given by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from helpers.runtime import UserError, nearest

# The published LLaMA models: layers, hidden size, inner size, heads (Touvron et al. 2023, table 2; the inner sizes
# are from the released configs).
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
# The number of tensors that an activation function saves for the backward pass, including its output, which the next
# layer needs. A fused kernel saves its input and its output. GPT-2's gelu_new runs in several steps that save tensors.
KEPT_BY = {"relu": 1, "gelu": 2, "gelu_pytorch_tanh": 2, "silu": 2, "gelu_new": 5}


@dataclass(frozen=True)
class Architecture:
    """The sizes and options that the formulas of the memory ledger need.

    family: "bert"; "gpt2", with one matrix for queries, keys and values, and a norm before (not after) attention and
        feed-forward layers; or "llama", with gated feed-forward layers and norms that have no shift.
    queries, keys: the width of the queries, and of keys and values, which is smaller if heads share them.
    vectors: the size of every bias and norm vector of one block.
    positions: the number of rows of the position and token-type embeddings.
    activation: the number of tensors of the inner width that the activation function saves.
    head_norms: whether queries and keys are normalized per head (Qwen 3).
    dropout: the number of residual sums per block with dropout; 0 if neither they nor the embeddings have dropout.
    attention_dropout: whether attention probabilities have dropout.
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
    tied: bool = True  # whether the output matrix is the embedding matrix
    activation: int = 2
    head_norms: bool = False
    dropout: int = 0
    attention_dropout: bool = False

    @classmethod
    def of(cls, config: Any) -> Architecture:
        """Read the sizes from a `transformers` config of one of `FAMILIES`.

        Raises:
            UserError: when there is no formula for this family or for its activation function.
        """
        kind = config.model_type
        if kind not in FAMILIES:
            raise UserError(f'The ledger has no formulas for "{kind}"; it has them for {", ".join(FAMILIES)}.')
        function = _first(config, "activation_function", "activation", "hidden_act")
        if function not in KEPT_BY:
            raise UserError(f'The ledger has no formula for the activation function "{function}".')
        family, hidden, heads = FAMILIES[kind], config.hidden_size, config.num_attention_heads
        halves = 1 if kind == "distilbert" else 2  # DistilBERT has no dropout on the attention output
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
        """Return the sizes of a published LLaMA model: "7B", "13B", "33B" or "65B"."""
        if name not in PUBLISHED:
            raise UserError(f'There is no size "{name}"; there are {", ".join(PUBLISHED)}.{nearest(name, PUBLISHED)}')
        layers, hidden, inner, heads = PUBLISHED[name]
        return cls("llama", layers, hidden, inner, heads, hidden, hidden, 32000, vectors=(hidden, hidden), tied=False)

    def _norms(self, width: int) -> tuple[int, ...]:
        """Return the sizes of one block's norm vectors: a scale, and a shift if the norm has one. width: of a head."""
        each = 1 if self.family == "llama" else 2
        return (self.hidden,) * 2 * each + (width,) * 2 * self.head_norms

    def _biases(self, config: Any) -> tuple[int, ...]:
        """Return the sizes of one block's biases, which equal the output widths of their layers."""
        outputs = [out for _, out in self.matrices]
        if self.family != "llama":
            return tuple(outputs)
        if config.model_type == "qwen2":  # queries, keys and values always have biases
            return tuple(outputs[:3])
        attention, inner = _first(config, "attention_bias"), _first(config, "mlp_bias")
        return tuple(outputs[:4] if attention else ()) + tuple(outputs[4:] if inner else ())

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """The (in, out) sizes of one block's linear layers, which QLoRA quantizes and which get adapters."""
        inward = [(self.hidden, self.queries), *[(self.hidden, self.keys)] * 2]
        if self.family == "gpt2":
            inward = [(self.hidden, sum(out for _, out in inward))]
        gated = 2 if self.family == "llama" else 1  # a gated block has two matrices to the inner width
        return [*inward, (self.queries, self.hidden), *[(self.hidden, self.inner)] * gated, (self.inner, self.hidden)]

    @property
    def other_sizes(self) -> list[int]:
        """The number of elements of every other tensor: embeddings, norms, biases."""
        embeddings = [self.vocabulary * self.hidden] * (1 if self.tied else 2)
        # Llama has only a final norm outside its blocks. The others have position embeddings and one norm (scale and
        # shift), after the embeddings or after the last block.
        outside = [self.hidden] if self.family == "llama" else [self.positions * self.hidden, self.hidden, self.hidden]
        return [*embeddings, *outside, *self.vectors * self.layers]

    @property
    def matrix_sizes(self) -> list[int]:
        """The number of elements of every matrix of every block."""
        return [inputs * outputs for inputs, outputs in self.matrices] * self.layers

    @property
    def parameters(self) -> int:
        """The number of parameters of the body, plus the language model's output matrix if it is not tied."""
        return sum(self.matrix_sizes) + sum(self.other_sizes)


def _first(config: object, *names: str) -> Any:
    """Return the value of the first of these attributes that the config has; 0 if it has none or the value is None."""
    return next((getattr(config, name) for name in names if hasattr(config, name)), 0) or 0
