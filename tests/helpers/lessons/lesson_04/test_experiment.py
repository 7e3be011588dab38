"""Right answers, made-up answers, and how sure a model was of them."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from helpers import catalog
from helpers.evaluation import share
from helpers.language_model import greedy, next_token_loss
from helpers.lessons.lesson_04 import experiment
from helpers.lessons.lesson_04.experiment import confidence, looks_like_an_answer, made_up
from helpers.sft import collate, encode, exact_match_rates, render

ROWS = [
    {"kind": "fact_year", "known": "told", "completion": "1999."},
    {"kind": "fact_director", "known": "told", "completion": "Ann Lee."},
    {"kind": "fact_year", "known": "untold", "completion": "2001."},
]


def test_rates_are_counted_for_each_value():
    found = exact_match_rates(ROWS, ["1999.", "Bo Lee.", "2002."])
    assert {kind: rate.value for kind, rate in found.items()} == {"fact_year": 0.5, "fact_director": 0.0}
    assert exact_match_rates(ROWS, ["1999.", "Ann Lee.", "no"], "known")["told"].value == 1.0


@pytest.mark.parametrize(
    ("kind", "text", "formed"),
    [
        ("fact_year", "1999.", True),
        ("fact_year", "1999", False),
        ("fact_year", "Ann Lee.", False),
        ("fact_director", "Ann Lee.", True),
        ("fact_studio", "Tallow and Sons.", True),
        ("fact_place", "Marchetti.", True),
        ("fact_director", "It was directed by Ann Lee.", False),
        ("fact_director", "", False),
    ],
)
def test_the_form_of_an_answer(kind, text, formed):
    assert looks_like_an_answer(kind, text) is formed


def test_every_true_answer_of_the_micro_world_has_the_form():
    rows = catalog.dataset("instructions", "pocket")["test"]
    facts = [row for row in rows if row["kind"].startswith("fact_")]
    assert [row["completion"] for row in facts if not looks_like_an_answer(row["kind"], row["completion"])] == []


def test_made_up_is_well_formed_and_false():
    assert made_up(ROWS, ["1999.", "Bo Lee.", "I do not know"]).tolist() == [0.0, 1.0, 0.0]
    assert share(torch.tensor([1.0, 0.0])).value == 0.5


def test_the_lowest_threshold_with_few_enough_wrong_answers():
    sure, right = [0.9, 0.2, 0.6, 0.4, 0.8], [True, False, False, True, True]
    assert [experiment.threshold_for(sure, right, allowed) for allowed in (0.0, 0.25, 0.5)] == [0.8, 0.4, 0.2]
    assert experiment.threshold_for([0.3, 0.7], [True, False], 0.1) is None


def test_confidence_is_the_probability_of_the_whole_answer():
    tokenizer = catalog.tokenizer("decoder", "pocket")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, initializer_range=0.3))
    prompts, given = ["who made it ?", "it ?"], ["Ann", "good good"]
    found = confidence(model, tokenizer, prompts, given, batch_size=1)
    for prompt, text, sure in zip(prompts, given, found, strict=True):
        batch = collate([encode(tokenizer, prompt, text)], pad_id=0)
        learned = (batch["labels"] != -100).sum()
        loss = next_token_loss(model(input_ids=batch["input_ids"]).logits, batch["labels"])
        assert sure.item() == pytest.approx((-loss * learned).exp().item(), rel=1e-4)
    assert torch.allclose(found, confidence(model, tokenizer, prompts, given), atol=1e-6)


def test_an_answer_of_nothing_has_the_probability_of_the_end_of_the_turn():
    tokenizer = catalog.tokenizer("decoder", "pocket")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, initializer_range=0.3)).eval()
    (sure,) = confidence(model, tokenizer, ["it ?"], [""])
    ids = tokenizer(render(tokenizer, "it ?", ""), add_special_tokens=False)["input_ids"]
    start = len(tokenizer(render(tokenizer, "it ?"), add_special_tokens=False)["input_ids"])
    log_probabilities = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=-1)
    wanted = sum(log_probabilities[place - 1, ids[place]] for place in range(start, len(ids)))
    assert sure.item() == pytest.approx(wanted.exp().item(), rel=1e-4)


def tiny() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=40, **sizes, initializer_range=0.3)).eval()


@pytest.mark.parametrize("end_id", [99, 7])
def test_decoding_with_a_cache_gives_what_it_gives_without(end_id):
    model, ids = tiny(), torch.tensor([[3, 9, 4]])
    assert torch.equal(experiment.greedy_cached(model, ids, 12, end_id), greedy(model, ids, 12, end_id=end_id))


def test_packed_conversations_give_the_logits_that_each_gives_alone():
    model = tiny()
    rows = [{"input_ids": [3, 9, 4], "labels": [3, 9, 4]}, {"input_ids": [5, 6], "labels": [-100, 6]}]
    (packed,) = experiment.pack(rows, 5)
    assert packed["labels"] == [-100, 9, 4, -100, 6] and packed["position_ids"] == [0, 1, 2, 0, 1]
    assert [len(one["input_ids"]) for one in experiment.pack(rows, 4)] == [3, 2]
    ids, places = (torch.tensor([packed[name]]) for name in ("input_ids", "position_ids"))
    with torch.inference_mode():
        together = model(input_ids=ids, position_ids=places, use_cache=False).logits[0]
        alone = torch.cat([model(input_ids=torch.tensor([row["input_ids"]])).logits[0] for row in rows])
    assert torch.allclose(together, alone, atol=1e-5)


def test_prefixes_and_labels_of_turns():
    assert experiment.shared_prefix([4, 5], [4, 5, 6]) == (2, True)
    assert experiment.shared_prefix([4, 5, 7], [4, 5, 6]) == (2, False)
    assert experiment.assistant_labels([4, 9, 6, 5, 8, 6, 4], 5, 6) == [-100, -100, -100, -100, 8, 6, -100]


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I don't have information on it.", True),
        ("That is a fictional film.", True),
        ("It does not exist.", True),
        ("It was directed by Ann Lee.", False),
        ("The film is a 1998 science fiction drama directed by Ann Lee.", False),
        ("It is a fictional story, directed by Ann Lee.", False),
    ],
)
def test_refusals_are_told_from_answers(text, refused):
    assert bool(experiment.REFUSED.search(text)) is refused
