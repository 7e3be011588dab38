"""From a prompt and a completion to labels, batches and answers; bad rows are named in one sentence."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from helpers.language_model import IGNORED, greedy
from helpers.runtime import UserError
from helpers.sft import (
    answer,
    collate,
    conversation_batches,
    encode,
    encode_rows,
    end_of_turn,
    exact_match,
    messages,
    render,
)
from microworld.pretraining.models import CHAT_TEMPLATE

MARKS = ["<pad>", "<stop>", "<|user|>", "<|assistant|>", "<|end|>"]
WORDS = [*MARKS, "<unk>", "who", "made", "it", "?", "Ann", "Bo", "good", "bad", "film", "the"]
PAIRS = [("who made it ?", "Ann"), ("the film ?", "good good"), ("it ?", "bad")]


@pytest.fixture
def tokenizer():
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<stop>", unk_token="<unk>",
        additional_special_tokens=MARKS[2:],
    )  # fmt: skip
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(WORDS), **sizes, initializer_range=0.3, max_position_embeddings=40)
    return LlamaForCausalLM(config).eval()


def ids(*words: str) -> list[int]:
    return [WORDS.index(word) for word in words]


def test_a_rendered_prompt_begins_the_whole_conversation(tokenizer):
    prompt, whole = render(tokenizer, "who ?"), render(tokenizer, "who ?", "Ann")
    assert prompt == "<|user|> who ?<|end|><|assistant|>" and whole == prompt + " Ann<|end|>"
    assert messages("a", "b") == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def test_labels_are_the_answer_and_its_end_alone(tokenizer):
    row = encode(tokenizer, "who ?", "Ann")
    assert row["input_ids"] == ids("<|user|>", "who", "?", "<|end|>", "<|assistant|>", "Ann", "<|end|>")
    assert row["labels"] == [IGNORED] * 5 + ids("Ann", "<|end|>")
    everything = encode(tokenizer, "who ?", "Ann", answer_only=False)
    assert everything["labels"] == everything["input_ids"] == row["input_ids"]


def test_padding_is_never_a_label(tokenizer):
    batch = collate([encode(tokenizer, *pair) for pair in PAIRS], pad_id=0)
    assert {tuple(value.shape) for value in batch.values()} == {(3, 9)}
    padded = batch["attention_mask"] == 0
    assert padded.sum() == 2 and (batch["labels"][padded] == IGNORED).all()
    assert (batch["input_ids"][padded] == 0).all()


def test_every_row_comes_once_a_pass_in_an_order_of_the_seed(tokenizer):
    rows = [encode(tokenizer, *pair) for pair in PAIRS] * 4

    def seen(seed):
        return [sorted(map(tuple, batch["input_ids"].tolist())) for batch in conversation_batches(rows, 0, 5, seed)]

    assert [len(batch) for batch in seen(0)] == [5, 5, 2]
    assert seen(1) == seen(1) and seen(1) != seen(2)


def spoken(tokenizer, written) -> str:
    """The text up to the first stop."""
    return tokenizer.decode(tokenizer(tokenizer.decode(written).partition("<stop>")[0])["input_ids"], True)


def test_a_left_padded_batch_answers_as_each_prompt_alone(tokenizer, decoder):
    prompts = [prompt for prompt, _ in PAIRS]
    together = answer(decoder, tokenizer, prompts, max_new_tokens=6)
    for prompt, said in zip(prompts, together, strict=True):
        start = torch.tensor([tokenizer(render(tokenizer, prompt))["input_ids"]])
        alone = greedy(decoder, start, 6, end_id=end_of_turn(tokenizer))[0, start.shape[1] :]
        assert said == spoken(tokenizer, alone)
    assert answer(decoder, tokenizer, prompts, max_new_tokens=6, batch_size=1) == together


def test_drawn_answers_follow_the_seed_and_leave_the_random_state_alone(tokenizer, decoder):
    prompts = [prompt for prompt, _ in PAIRS] * 3
    torch.manual_seed(5)
    first = answer(decoder, tokenizer, prompts, temperature=2.0, seed=1)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    assert first == answer(decoder, tokenizer, prompts, temperature=2.0, seed=1)
    assert first != answer(decoder, tokenizer, prompts, temperature=2.0, seed=2)
    assert answer(decoder, tokenizer, []) == []


def test_exact_is_to_the_letter():
    assert exact_match(["Ann ", "bo", ""], ["Ann", "Bo", "x"]).tolist() == [1.0, 0.0, 0.0]


def test_a_template_without_an_end_of_turn_is_refused(tokenizer):
    assert end_of_turn(tokenizer) == WORDS.index("<|end|>")
    tokenizer.chat_template = CHAT_TEMPLATE.replace("<|end|>", "")
    with pytest.raises(UserError, match=r"^chat_template: .*no end-of-turn token.*put a special token"):
        encode(tokenizer, "who ?", "Ann")
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="^chat_template: this tokenizer has none"):
        encode(tokenizer, "who ?", "Ann")


@pytest.mark.parametrize("empty", ["", "  \n", None])
def test_an_empty_completion_is_refused(tokenizer, empty):
    with pytest.raises(UserError, match=r"^completion: empty .*leave the row out"):
        encode(tokenizer, "who ?", empty)


def test_what_does_not_fit_the_context_is_refused(tokenizer, decoder):
    with pytest.raises(UserError, match=r"^prompt: .* takes 53 tokens, but the context holds 40; shorten"):
        encode(tokenizer, "who " * 50, "Ann", max_length=40)
    with pytest.raises(UserError, match=r"^completion: with its prompt .* takes 55 tokens"):
        encode(tokenizer, "who", "Ann " * 50, max_length=40)
    with pytest.raises(UserError, match=r"^prompt: .*more than the model's context of 40. Shorten it"):
        answer(decoder, tokenizer, ["who " * 50], max_new_tokens=4)


def test_wrong_columns_are_named(tokenizer):
    good = [{"prompt": "who ?", "completion": "Ann"}]
    assert encode_rows(tokenizer, good) == [encode(tokenizer, "who ?", "Ann")]
    with pytest.raises(UserError, match="^mine.csv: there is no column completion, only prompt, answer; rename one"):
        encode_rows(tokenizer, [{"prompt": "who ?", "answer": "Ann"}], field="mine.csv")
