"""The fetched files themselves: skipped, with the reason, where `workbook real` was not run."""

from __future__ import annotations

import pytest
import torch

from helpers.paths import ROOT
from helpers.real import DATASETS, dataset, gguf_file, model_folder, trouble

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def fetched():
    said = trouble()
    if said:
        pytest.skip(said)


def test_the_encoder_loads_with_its_own_weights():
    from transformers import AutoModel, AutoTokenizer

    folder = model_folder("encoder")
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = ["A moving film.", "A touching movie.", "The bus is late."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state  # (batch, seq, hidden)
    assert hidden.shape[::2] == (3, 384) and sum(weight.numel() for weight in model.parameters()) > 22e6
    mask = batch["attention_mask"].unsqueeze(-1)
    pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    like = pooled @ pooled.T
    assert like[0, 1] > like[0, 2] + 0.2


def test_the_decoder_answers():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = model_folder("instruct")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=3, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(answer)
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**asked, max_new_tokens=12, do_sample=False)[0]
    assert tokenizer.decode(answer).endswith("The capital of France is Paris.<|im_end|>")


def test_the_gguf_file_stores_most_weights_in_four_bits():
    from gguf import GGUFReader

    sizes: dict[str, int] = {}
    for tensor in GGUFReader(gguf_file()).tensors:
        sizes[tensor.tensor_type.name] = sizes.get(tensor.tensor_type.name, 0) + int(tensor.n_elements)
    assert set(sizes) == {"Q4_1", "Q8_0", "F32"} and sizes["Q4_1"] > 0.75 * sum(sizes.values())


def test_the_datasets_have_the_columns_of_the_micro_world():
    for role, splits in DATASETS.items():
        found = dataset(role)
        assert tuple(found) == splits
        columns = ["text", "domain"] if role == "corpus" else ["text", "label", "rating", "id"]
        assert all(own.column_names == columns for own in found.values())
    reviews = dataset("reviews")
    assert len(reviews["test"]) == 2000 and len(reviews["validation"]) == 1000
    assert all((row["rating"] > 0) == row["label"] for row in reviews["test"])


def test_the_data_card_has_the_numbers_of_the_files():
    from workbook.real.card import card

    committed = (ROOT / "data" / "real_card.md").read_text(encoding="utf-8").splitlines()
    # The baselines may differ in the last digit between two machines.
    assert [line for line in card().splitlines() if line.count("0.") < 2] == [
        line for line in committed if line.count("0.") < 2
    ]
