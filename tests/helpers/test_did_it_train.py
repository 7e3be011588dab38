"""Each of six mistakes that waste a training is planted in our loop and in a `Trainer`: one sentence names it."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)

from helpers.batches import TokenizedReviews, length_batches, pad
from helpers.did_it_train import (
    DidItTrain,
    adapter_tensors,
    embedding_rows,
    foreign_tokenizer,
    frozen,
    idle_adapter,
    leaked,
    row_keys,
    useless_batch,
)
from helpers.evaluation import evaluate
from helpers.guard import NOTICES
from helpers.lora import inject
from helpers.models import MeanPoolClassifier
from helpers.paths import ROOT
from helpers.runtime import UserError
from helpers.training import fit_adamw, train, train_on_text, warmup_linear
from tests.helpers.lessons.lesson_02.test_experiment import Padding, bert, reviews

COLLATE = pad(Padding())
MODELS = ROOT / "data" / "models"


@pytest.fixture(autouse=True)
def no_notices():
    NOTICES.clear()
    torch.manual_seed(0)
    yield
    NOTICES.clear()


def batches(count: int = 32):
    return length_batches(reviews(count, 0), COLLATE, 16, seed=0)


def told(cause: str, remedy: str) -> bool:
    """Whether exactly one sentence was told, with this cause and this remedy."""
    assert len(NOTICES) == 1, NOTICES
    return cause in NOTICES[0] and remedy in NOTICES[0]


# Our loop


def adapted() -> MeanPoolClassifier:
    model = MeanPoolClassifier(bert())
    inject(model.body, ["query"], rank=2, alpha=4)
    return model


def test_a_training_that_works_is_silent():
    model = adapted()
    train(model, batches(), torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3), epochs=2)
    history = train_on_text(MeanPoolClassifier(bert()), reviews(64, 0), COLLATE, 5e-3, epochs=12)
    evaluate("fresh", MeanPoolClassifier(bert()), reviews(64, 1), COLLATE, history)
    assert not [one for one in NOTICES if "at chance" not in one]


def test_an_adapter_that_no_gradient_reaches_is_told():
    model = adapted()
    model.body.forward = torch.no_grad()(model.body.forward)  # the head still learns
    fit_adamw(model, batches(), 1e-3, epochs=1, progress="LoRA")
    assert told("LoRA: None of the adapter's", "switch it on") and "because no gradient reached them" in NOTICES[0]


def test_an_adapter_that_the_optimizer_does_not_hold_is_refused():
    model = MeanPoolClassifier(bert())
    optimizer = torch.optim.AdamW(model.head.parameters(), lr=1e-3)
    inject(model.body, ["query"], rank=2, alpha=4)
    with pytest.raises(UserError, match=r"none of the adapter's \d+ tensors.*create the optimizer after you add"):
        train(model, batches(), optimizer)


def test_a_frozen_model_is_refused():
    model = MeanPoolClassifier(bert()).requires_grad_(False)
    for attempt in (
        lambda: fit_adamw(model, batches(), 1e-3, epochs=1),
        lambda: train(model, batches(), torch.optim.AdamW(model.parameters(), lr=1e-3)),
    ):
        with pytest.raises(UserError, match=r"training: Every parameter of the model is frozen.*requires_grad"):
            attempt()


def test_an_optimizer_of_another_model_is_refused():
    model = MeanPoolClassifier(bert())
    optimizer = torch.optim.AdamW(copy.deepcopy(model).parameters(), lr=1e-3)
    with pytest.raises(UserError, match="holds none of the model's .* create the optimizer after"):
        train(model, batches(), optimizer)


def test_labels_that_are_all_ignored_are_refused():
    class Masked(MeanPoolClassifier):
        def forward(self, input_ids, attention_mask, labels=None):
            output = super().forward(input_ids, attention_mask)
            output.loss = nn.functional.cross_entropy(output.logits, labels, ignore_index=-100)
            return output

    rows = reviews(32, 0)
    hidden = TokenizedReviews(rows.input_ids, [-100] * len(rows))
    with pytest.raises(UserError, match="Every label of a batch is -100.*check which tokens your collator masks"):
        train_on_text(Masked(bert()), hidden, COLLATE, 1e-3, epochs=1)
    assert not useless_batch({"labels": torch.tensor([-100, 1])}) and not useless_batch({"labels": torch.tensor([])})


def test_a_schedule_that_ends_too_early_is_told():
    model = MeanPoolClassifier(bert())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    train(model, batches(), optimizer, warmup_linear(optimizer, steps=2), epochs=3)  # made for one epoch
    assert told("training: The learning rate is 0 from step 3 of 6 on", "make the schedule as long as the training")


def test_a_rate_of_zero_is_told_once():
    fit_adamw(adapted(), batches(), 0.0, epochs=2)
    assert told("The learning rate is 0 from step 1 of 4 on", "give the optimizer a rate above 0")


def test_a_token_that_the_model_lacks_is_refused():
    rows = TokenizedReviews([[5, 29], [6, 30]], [0, 1])
    with pytest.raises(UserError, match="the token id 30, but the model's embedding has 30 rows: the tokenizer"):
        train_on_text(MeanPoolClassifier(bert()), rows, COLLATE, 1e-3, epochs=1)


def test_an_evaluation_on_training_rows_is_told():
    model, rows = MeanPoolClassifier(bert()), reviews(64, 0)
    history = train_on_text(model, rows, COLLATE, 5e-3, epochs=12, progress="everything")
    evaluate("everything", model, rows.select(range(20)), COLLATE, history)
    assert told("everything: 20 of 20 evaluation rows are training rows", "split the data before training")


# What the checks are made of


def test_a_few_duplicates_are_no_leak():
    train_rows = [[number] for number in range(100)]
    assert not leaked(train_rows, [[91 + number] for number in range(100)])
    assert "10 of 100" in leaked(row_keys(train_rows), [[90 + number] for number in range(100)])
    assert not leaked([], [[1]]) and not leaked([[1]], [])


def test_the_tensors_of_an_adapter_are_those_beside_frozen_ones():
    model = MeanPoolClassifier(bert())
    assert not adapter_tensors(model)
    model.body.requires_grad_(False)
    assert not adapter_tensors(model), "a head on a frozen body is no adapter"
    inject(model.body, ["query"], rank=2, alpha=4)
    names = list(adapter_tensors(nn.ModuleDict({"wrapper": model})))
    assert names and all("lora_" in name for name in names)
    assert frozen(model, None) == "" and embedding_rows(nn.Linear(2, 2)) == 0


def test_lora_that_adds_nothing_is_seen_without_a_training():
    model = adapted()
    assert "LoRA layers add exactly 0" in idle_adapter(model)
    next(p for name, p in model.named_parameters() if "lora_B" in name).data.fill_(0.1)
    assert not idle_adapter(model) and not idle_adapter(MeanPoolClassifier(bert()))


def test_a_tokenizer_is_held_to_the_models_own():
    encoder = AutoTokenizer.from_pretrained(MODELS / "pocket-encoder")
    decoder = AutoTokenizer.from_pretrained(MODELS / "pocket-decoder")
    model = AutoModelForCausalLM.from_pretrained(MODELS / "pocket-decoder")
    assert not foreign_tokenizer(decoder, model)
    said = foreign_tokenizer(encoder, model)
    assert "does not belong to the model" in said and said.endswith("load both from the same name.")
    decoder.add_tokens(["a token of my own"])
    decoder.name_or_path = "mine"
    assert not foreign_tokenizer(decoder, model), "added tokens leave the others where they are"
    assert not foreign_tokenizer(None, model)


@pytest.mark.parametrize(("size", "fits"), [(1000, True), (980, True), (940, False), (1010, False)])
def test_without_the_models_own_tokenizer_the_sizes_decide(size, fits):
    class Words:
        name_or_path = "words"

        def get_vocab(self):
            return {str(number): number for number in range(size)}

    assert (foreign_tokenizer(Words(), small(vocab_size=1000)) == "") is fits


# A Trainer


def small(vocab_size: int = 30) -> BertForSequenceClassification:
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=vocab_size,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            num_labels=2,
        )
    )


def dataset(count: int, seed: int) -> Dataset:
    rows = reviews(count, seed)
    return Dataset.from_dict({"input_ids": rows.input_ids, "labels": rows.labels})


def trainer(model, tmp_path, train_rows=None, test_rows=None, **options) -> Trainer:
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "pocket-encoder")
    settings = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True, max_steps=6
    )
    options.setdefault("data_collator", DataCollatorWithPadding(tokenizer))
    return Trainer(
        model=model,
        args=settings,
        train_dataset=train_rows or dataset(32, 0),
        eval_dataset=test_rows or dataset(32, 1),
        callbacks=[DidItTrain()],
        **options,
    )


def peft_model(**options):
    from peft import LoraConfig, get_peft_model

    return get_peft_model(small(), LoraConfig(task_type="SEQ_CLS", r=2, **options))


@pytest.mark.parametrize("make", [small, lambda: peft_model(target_modules=["query"])], ids=["full", "LoRA"])
def test_a_trainer_that_works_is_silent_and_draws_the_same_rows(tmp_path, make):
    torch.manual_seed(1)
    ours = trainer(make(), tmp_path)
    losses = ours.train().training_loss
    ours.evaluate()
    assert not NOTICES
    torch.manual_seed(1)
    plain = trainer(make(), tmp_path)
    plain.pop_callback(DidItTrain)
    assert plain.train().training_loss == losses


def test_the_callback_tells_an_adapter_that_changed_nothing(tmp_path):
    model = peft_model(target_modules=["query"])
    core = model.base_model.model.bert
    core.forward = torch.no_grad()(core.forward)
    trainer(model, tmp_path).train()
    assert told("None of the adapter's 4 tensors changed because no gradient", "switch it on")


def test_the_callback_tells_a_frozen_model_before_the_trainer_fails(tmp_path):
    with pytest.raises((RuntimeError, ValueError)):
        trainer(small().requires_grad_(False), tmp_path).train()
    assert told("Every parameter of the model is frozen", "set requires_grad")


def test_the_callback_tells_an_optimizer_of_other_parameters(tmp_path):
    model = small()
    optimizer = torch.optim.AdamW(copy.deepcopy(model).parameters(), lr=1e-3)
    trainer(model, tmp_path, optimizers=(optimizer, None)).train()
    assert told("The optimizer holds none of the model's", "create the optimizer after")


def test_the_callback_tells_labels_that_are_all_ignored(tmp_path):
    rows = dataset(32, 0).map(lambda row: {"labels": -100})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(small(), tmp_path, rows).train()
    assert told("Every label of a batch is -100", "check which tokens your collator masks")


def test_the_callback_tells_a_schedule_that_ends_too_early(tmp_path):
    model = small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    trainer(model, tmp_path, optimizers=(optimizer, get_linear_schedule_with_warmup(optimizer, 0, 3))).train()
    assert told("The learning rate is 0 from step 4 of 6 on", "make the schedule as long as the training")


def test_the_callback_tells_a_tokenizer_of_another_model(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "pocket-encoder")
    trainer(small(vocab_size=2 * len(tokenizer)), tmp_path, processing_class=tokenizer).train()
    assert told("they probably do not belong together", "load both from the same name")


def test_the_callback_tells_an_evaluation_on_training_rows(tmp_path):
    rows = dataset(32, 0)
    ours = trainer(small(), tmp_path, rows, rows.select(range(8)))
    ours.train()
    ours.evaluate()
    ours.evaluate()
    assert told("8 of 8 evaluation rows are training rows", "split the data before training")
