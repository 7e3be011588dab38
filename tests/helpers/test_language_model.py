"""Masks, shifts, losses and greedy text, held against the library and against known numbers."""

import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from helpers.language_model import (
    IGNORED,
    blocks_of_text,
    completion_batch,
    greedy,
    mask_tokens,
    masked_loss,
    mean_next_token_loss,
    next_token_loss,
    perplexity,
    recalled,
    shift_labels,
)
from helpers.runtime import UserError

WORDS = ["[PAD]", "[UNK]", "[MASK]", "<end>", "the", "film", "was", "good", "bad", "Ann", "Bo", "made", "it"]


@pytest.fixture(scope="module")
def tokenizer():
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]", "eos_token": "<end>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), **sizes, initializer_range=0.3, eos_token_id=3))
    return model.eval()


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return BertForMaskedLM(BertConfig(vocab_size=len(WORDS), **sizes, initializer_range=0.3)).eval()


def test_masking_keeps_its_proportions():
    ids = torch.randint(5, 1000, (200, 100), generator=torch.Generator().manual_seed(0))
    special = torch.zeros_like(ids)
    special[:, 0] = 1
    draws = torch.Generator().manual_seed(1)
    masked, labels = mask_tokens(ids, special, mask_id=2, vocab_size=1000, generator=draws)
    chosen = labels != IGNORED
    assert not chosen[:, 0].any()
    assert torch.equal(labels[chosen], ids[chosen]) and torch.equal(masked[~chosen], ids[~chosen])
    assert chosen[:, 1:].float().mean().item() == pytest.approx(0.15, abs=0.01)
    became = masked[chosen]
    assert (became == 2).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert (became == ids[chosen]).float().mean().item() == pytest.approx(0.1, abs=0.02)


def test_masking_follows_its_generator():
    ids, special = torch.arange(5, 105).view(4, 25), torch.zeros(4, 25)
    same = [
        mask_tokens(ids, special, mask_id=2, vocab_size=200, generator=torch.Generator().manual_seed(seed))[0]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(same[0], same[1]) and not torch.equal(same[0], same[2])


def test_the_masked_loss_is_the_models_own(encoder):
    ids = torch.randint(4, len(WORDS), (3, 12), generator=torch.Generator().manual_seed(0))
    masked, labels = mask_tokens(
        ids,
        torch.zeros_like(ids),
        mask_id=2,
        vocab_size=len(WORDS),
        rate=0.4,
        generator=torch.Generator().manual_seed(0),
    )
    outputs = encoder(input_ids=masked, labels=labels)
    assert masked_loss(outputs.logits, labels).item() == pytest.approx(outputs.loss.item(), abs=1e-5)


def test_the_next_token_loss_is_the_models_own(decoder):
    ids = torch.randint(4, len(WORDS), (3, 12), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[1, 7:] = IGNORED
    outputs = decoder(input_ids=ids, labels=labels)
    assert next_token_loss(outputs.logits, labels).item() == pytest.approx(outputs.loss.item(), abs=1e-5)


def test_shift():
    assert shift_labels(torch.tensor([[5, 6, 7]])).tolist() == [[6, 7, IGNORED]]


def test_perplexity_of_a_fair_choice():
    assert perplexity(math.log(10)) == pytest.approx(10)
    logits = torch.zeros(1, 4, 10)
    assert perplexity(next_token_loss(logits, torch.tensor([[1, 2, 3, 4]])).item()) == pytest.approx(10)


def test_greedy_is_generate(decoder):
    prompt = torch.tensor([[4, 5, 6]])
    ours = greedy(decoder, prompt, 12, end_id=3)
    theirs = decoder.generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=3, pad_token_id=0)
    assert torch.equal(ours, theirs)
    end = ours[0, 4].item()
    assert greedy(decoder, prompt, 12, end_id=end)[0].tolist() == ours[0, : ours[0].tolist().index(end, 3) + 1].tolist()


def test_recalled_agrees_with_greedy(decoder, tokenizer):
    prompts = ["the film was", "Ann made", "it was made"]
    written = [greedy(decoder, torch.tensor([tokenizer(text)["input_ids"]]), 2)[0, -2:].tolist() for text in prompts]
    answers = [" ".join(WORDS[token] for token in tokens) for tokens in written]
    batch = completion_batch(tokenizer, prompts, answers)
    logits = decoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert recalled(logits, batch["labels"]).tolist() == [True] * 3
    other = [WORDS[4 + (WORDS.index(answer.split()[0]) - 3) % 9] for answer in answers]
    batch = completion_batch(tokenizer, prompts, other)
    logits = decoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert recalled(logits, batch["labels"]).tolist() == [False] * 3


def test_blocks_of_text(tokenizer):
    rows = blocks_of_text(tokenizer, ["the film was good", "it was bad"], length=4)
    ends = {3}  # this tokenizer opens a text with its end token
    assert rows.shape == (2, 4) and set(rows[:, 0].tolist()) == ends
    assert sorted(rows[:, 1].tolist()) == [4, 12]  # each row begins where a text begins
    with pytest.raises(UserError, match="too few"):
        blocks_of_text(tokenizer, ["the"], length=40)


@pytest.mark.parametrize("texts", [["the"], ["the", "film"], ["the film was good"] * 30])
def test_texts_too_short_for_a_row_are_taken_again(tokenizer, texts):
    rows = blocks_of_text(tokenizer, texts, length=20, again=True)
    assert rows.shape[1] == 20 and len(rows) >= 1
    if len(texts) == 30:
        assert torch.equal(rows, blocks_of_text(tokenizer, texts, length=20))


def test_a_completion_opens_as_the_model_has_read(tokenizer):
    batch = completion_batch(tokenizer, ["the film"], ["was good"])
    assert batch["input_ids"].tolist() == [[4, 5, 6, 7]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 6, 7]]


def test_the_mean_loss_does_not_depend_on_the_batch_size(decoder):
    rows = torch.randint(4, len(WORDS), (7, 10), generator=torch.Generator().manual_seed(0))
    whole = next_token_loss(decoder(input_ids=rows).logits, rows).item()
    assert mean_next_token_loss(decoder, rows, batch_size=3) == pytest.approx(whole, abs=1e-5)
