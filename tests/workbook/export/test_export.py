"""A kept model becomes a folder that transformers loads where this project cannot be imported, and says the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, DistilBertConfig, GPT2Config, LlamaConfig, PreTrainedTokenizerFast, RobertaConfig

from helpers import catalog, record
from helpers.intervals import Interval
from helpers.kept_model import keep_model
from helpers.models import MeanPoolClassifier
from helpers.runtime import UserError
from helpers.sft import answer
from workbook.cli import main
from workbook.export import command
from workbook.export.comparison import largest_difference
from workbook.export.gguf_file import why_not
from workbook.export.kept import find_kept

pytestmark = pytest.mark.slow
NAMES = ["negative", "positive"]
TEXTS = ["A film of great beauty.", "Dull, long and badly cut, with no idea of its own; nobody laughed.", "Good."]
PROMPTS = [f"Who directed the film number {number}?" for number in range(20)]
FIGURES = {"accuracy on 2,000 test reviews": Interval(0.85, 0.834, 0.865)}
CLASSIFIER, DECODER = "09_lora_hugging_face", "04_supervised_fine_tuning"
# A check of its own, not the one that the command makes: what a stranger with the folder would write.
STRANGER = """
import json, sys
for name in ("helpers", "workbook", "microworld"):
    sys.modules[name] = None
try:
    import helpers
except ImportError:
    pass
else:
    sys.exit("helpers can be imported")
import torch
from transformers import *
folder, texts, gguf = json.loads(sys.argv[1])
"""
CLASSIFIES = """
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
with torch.no_grad():
    logits = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()(**batch).logits
    plain = BertForTokenClassification.from_pretrained(folder).eval()(**batch).logits
mask = batch["attention_mask"].unsqueeze(-1)
said = pipeline("text-classification", model=folder, trust_remote_code=True)(texts)
print(json.dumps([logits.tolist(), ((plain * mask).sum(1) / mask.sum(1)).tolist(), [one["label"] for one in said]]))
"""
SPEAKS = """
options = {"gguf_file": gguf} if gguf else {}
tokenizer = AutoTokenizer.from_pretrained(folder, **options)
model = AutoModelForCausalLM.from_pretrained(folder, **options)
found = []
for text in texts:
    turn = [{"role": "user", "content": text}]
    read = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**read, max_new_tokens=24)[0, read["input_ids"].shape[1]:]
    found.append([tokenizer.decode(out, skip_special_tokens=True).strip(), len(out)])
print(json.dumps(found))
"""


def stranger(code: str, folder: Path, texts: list[str], elsewhere: Path, gguf: str = ""):
    """What the code prints in a process that cannot import this project."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WORKBOOK"))}
    settings |= {"HF_MODULES_CACHE": str(elsewhere / "modules"), "TRANSFORMERS_VERBOSITY": "error"}
    asked = json.dumps([str(folder), texts, gguf])
    process = [sys.executable, "-I", "-c", STRANGER + code, asked]
    ended = subprocess.run(process, env=settings, cwd=elsewhere, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def classifier(body=None) -> MeanPoolClassifier:
    """A classifier with a head that tells texts apart, as after training."""
    torch.manual_seed(0)
    made = MeanPoolClassifier(body, 2) if body else catalog.classifier("pocket", "", 2)
    torch.nn.init.normal_(made.head.weight)
    torch.nn.init.normal_(made.head.bias)
    return made.eval()


def keep(place: Path, notebook: str, model, tokenizer, examples, **more) -> Path:
    """A run that kept this model."""
    keep_model(notebook, model, tokenizer, examples=examples, figures=FIGURES, folder=place / "model", **more)
    parameters = {"track": "pocket", "budget": "standard", "seed": 3, "model": "", "data": "/home/ann/secret/mine.csv"}
    record.record(notebook, parameters, folder=place, accuracy_lora=0.85)
    return place


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """One run in which two lessons kept a model."""
    runs = tmp_path_factory.mktemp("runs")
    run = runs / "2026-01-01_120000"
    tokenizer = catalog.tokenizer("encoder", "pocket")
    keep(run / CLASSIFIER, CLASSIFIER, classifier(), tokenizer, TEXTS, label_names=NAMES)
    model, tokenizer = catalog.causal_language_model("pocket", "", "instruct"), catalog.tokenizer("instruct", "pocket")
    keep(run / DECODER, DECODER, model, tokenizer, PROMPTS)
    return runs


def export(runs: Path, target: Path, *more: str):
    """The command itself."""
    run = max(path.name for path in runs.glob("2*"))
    return CliRunner().invoke(main, ["export", run, "--into", str(runs), "--to", str(target), *more])


@pytest.fixture(scope="module")
def exported(runs, tmp_path_factory) -> Path:
    """Both models, each exported."""
    folder = tmp_path_factory.mktemp("exported")
    for number, name in (("9", "reviews"), (DECODER, "chat")):
        result = export(runs, folder / name, "--lesson", number)
        assert result.exit_code == 0, result.output
    return folder


def test_a_classifier_says_the_same_where_helpers_cannot_be_imported(exported, tmp_path):
    with_code, without_code, labels = stranger(CLASSIFIES, exported / "reviews", TEXTS, tmp_path)
    batch = catalog.tokenizer("encoder", "pocket")(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = classifier()(batch["input_ids"], batch["attention_mask"]).logits
    assert largest_difference(with_code, logits.tolist()) < 1e-5
    assert largest_difference(without_code, logits.tolist()) < 1e-4
    assert labels == [NAMES[label] for label in logits.argmax(dim=-1)]


def test_code_that_nobody_agreed_to_is_refused_and_not_replaced_by_another_head(exported):
    from transformers import AutoModelForSequenceClassification

    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoModelForSequenceClassification.from_pretrained(exported / "reviews", trust_remote_code=False)


@pytest.mark.parametrize(("folder", "gguf"), [("chat", ""), ("chat/gguf", command.GGUF.name)])
def test_a_decoder_gives_the_same_twenty_answers(exported, tmp_path, folder, gguf):
    said = stranger(SPEAKS, exported / folder, PROMPTS, tmp_path, gguf)
    model, tokenizer = catalog.causal_language_model("pocket", "", "instruct"), catalog.tokenizer("instruct", "pocket")
    assert [text for text, _ in said] == answer(model, tokenizer, PROMPTS, batch_size=1)
    assert min(tokens for _, tokens in said) < 24  # it stops by itself


def test_the_card_has_the_runs_figures_and_nothing_private(runs, exported):
    for name, must in (("reviews", "trust_remote_code"), ("chat", "chat_template")):
        folder = exported / name
        card = (folder / "README.md").read_text()
        assert "| accuracy on 2,000 test reviews | 0.850 | 0.834 to 0.865 |" in card and must in card
        assert "license: mit" in card and "invented world" in card and "`mine.csv`" in card
        assert json.loads((folder / "metrics.json").read_text())["metrics"] == {"accuracy_lora": 0.85}
        for path in folder.glob("*"):
            assert path.stat().st_mode & 0o444 == 0o444
            if path.suffix in (".md", ".py") or path.name.endswith(("config.json", "metrics.json")):
                text = path.read_text()
                assert "secret" not in text and str(runs) not in text and TEXTS[1] not in text, path
    assert "0 = negative, 1 = positive" in (exported / "reviews" / "README.md").read_text()
    of_chat = " ".join((exported / "chat" / "README.md").read_text().split())
    assert "same greedy answers as this folder on 20 of 20 prompts" in of_chat


def test_two_models_of_one_run_have_to_be_told_apart(runs, tmp_path):
    result = export(runs, tmp_path / "out")
    assert result.exit_code == 1 and "several models" in result.output and "--lesson" in result.output
    assert "no model of lesson" in export(runs, tmp_path / "out", "--lesson", "02").output
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(runs, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    result = export(runs, tmp_path, "--lesson", "9")
    assert result.exit_code == 1 and "is not empty" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert "is a file" in export(runs, tmp_path / "thesis.txt", "--lesson", "9").output


def test_runs_that_cannot_be_exported_are_refused_in_a_sentence(runs, tmp_path):
    with pytest.raises(UserError, match='no run "2026-01-01_120001".* Did you mean "2026-01-01_120000"'):
        find_kept("2026-01-01_120001", runs)
    with pytest.raises(UserError, match="There is no run yet"):
        find_kept("latest", tmp_path)
    (tmp_path / "run" / "01_x").mkdir(parents=True)
    with pytest.raises(UserError, match="--keep-model"):
        find_kept("run", tmp_path)
    place = keep(tmp_path / "run" / CLASSIFIER, CLASSIFIER, classifier(), catalog.tokenizer("encoder", "pocket"), TEXTS,
                 label_names=NAMES)  # fmt: skip
    assert find_kept(str(place), tmp_path).figures == [("accuracy on 2,000 test reviews", Interval(0.85, 0.834, 0.865))]
    (place / "outcome.json").write_text(json.dumps({"status": "failed"}))
    with pytest.raises(UserError, match="did not come to its end"):
        find_kept("run", tmp_path)
    (place / "outcome.json").unlink()
    os.utime(place / "metrics.json", (1, 1))  # of an earlier time at the notebook
    with pytest.raises(UserError, match="did not come to its end"):
        find_kept("run", tmp_path)


@pytest.mark.parametrize("what", ["cut weights", "broken code", "Ctrl-C"])
def test_nothing_is_left_when_an_export_does_not_succeed(runs, tmp_path, monkeypatch, what):
    whole = command.write_classifier

    def spoilt(kept, folder):
        written = whole(kept, folder)
        weights, code = folder / "model.safetensors", folder / "modeling_mean_pool.py"
        if what == "cut weights":
            weights.write_bytes(weights.read_bytes()[:-1000])
        elif what == "broken code":
            code.write_text(code.read_text().replace(".sum(dim=1) / ", ".sum(dim=1) / 2 / "))
        else:
            raise KeyboardInterrupt
        return written

    monkeypatch.setattr(command, "write_classifier", spoilt)
    result = export(runs, tmp_path / "out", "--lesson", "9")
    assert result.exit_code == (130 if what == "Ctrl-C" else 1), result.output
    assert "othing" in result.output and "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


COMMON = {"vocab_size": 260, "max_position_embeddings": 64}
SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
FAMILIES = {
    "distilbert": DistilBertConfig(**COMMON, dim=16, hidden_dim=32, n_layers=2, n_heads=2),
    "bert": BertConfig(**COMMON, **SHAPE),
    "roberta": RobertaConfig(**{**COMMON, "max_position_embeddings": 66}, **SHAPE),  # two come before the first word
    "llama": LlamaConfig(**COMMON, **SHAPE),
    "gpt2": GPT2Config(vocab_size=260, n_positions=64, n_embd=16, n_inner=32, n_layer=2, n_head=2),
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    marks = ["<|end|>", "<|pad|>", "<|user|>", "<|bot|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({mark: place for place, mark in enumerate(marks)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = {"eos_token": "<|end|>", "pad_token": "<|pad|>", "additional_special_tokens": ["<|user|>", "<|bot|>"]}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **special)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_of_any_family_keeps_its_logits(family, tmp_path):
    """Whatever the family calls its layers, and also where the course turned GPT-2's matrices."""
    torch.manual_seed(0)
    from transformers import AutoModel

    AutoModel.from_config(FAMILIES[family]).save_pretrained(tmp_path / "base")
    byte_tokenizer().save_pretrained(tmp_path / "base")
    model = classifier(catalog.body("encoder", "pocket", str(tmp_path / "base")))
    keep(tmp_path / "2" / CLASSIFIER, CLASSIFIER, model, byte_tokenizer(), TEXTS, label_names=NAMES)
    result = export(tmp_path, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "without this folder's code" in result.output
    said = find_kept("2", tmp_path).facts["said"]
    assert said[0] != said[1]


def test_an_adapter_that_was_not_merged_is_refused(tmp_path):
    from peft import LoraConfig, get_peft_model

    tokenizer = catalog.tokenizer("encoder", "pocket")
    adapted = get_peft_model(classifier(), LoraConfig(target_modules=["query"]))
    for model in (adapted, adapted.base_model.model):
        with pytest.raises(UserError, match="still has an adapter"):
            keep(tmp_path, CLASSIFIER, model, tokenizer, TEXTS, label_names=NAMES)
    keep(tmp_path, CLASSIFIER, adapted.merge_and_unload(), tokenizer, TEXTS, label_names=NAMES)


def test_a_model_is_kept_only_when_asked_and_only_of_a_kind_that_can_leave(tmp_path, monkeypatch):
    tokenizer, options = catalog.tokenizer("encoder", "pocket"), {"examples": TEXTS, "figures": FIGURES}
    monkeypatch.setenv("WORKBOOK_RUN_DIR", str(tmp_path))
    monkeypatch.delenv("WORKBOOK_KEEP_MODEL", raising=False)
    assert keep_model(CLASSIFIER, classifier(), tokenizer, label_names=NAMES, **options) is None
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("WORKBOOK_KEEP_MODEL", "1")
    with pytest.raises(UserError, match="1 label_names for 2 outputs"):
        keep_model(CLASSIFIER, classifier(), tokenizer, label_names=["one"], **options)
    with pytest.raises(UserError, match="neither a MeanPoolClassifier nor a decoder"):
        keep_model(CLASSIFIER, torch.nn.Linear(2, 2), tokenizer, **options)
    kept = keep_model(CLASSIFIER, classifier(), tokenizer, label_names=NAMES, **options)
    assert kept == tmp_path / "model" and len(json.loads((kept / "kept.json").read_text())["said"]) == len(TEXTS)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", {"model_type": "gpt2"}, "another layout"),
        ("config.json", {"attention_bias": True}, "biases"),
        ("config.json", {"rope_parameters": {"rope_type": "yarn"}}, "scaled"),
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}, "byte-level BPE"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Sequence"}}, "byte-level BPE"),
    ],
)
def test_a_decoder_that_gguf_cannot_hold_here_is_named(exported, tmp_path, file, change, said):
    for name in ("config.json", "tokenizer.json"):
        content = json.loads((exported / "chat" / name).read_text())
        (tmp_path / name).write_text(json.dumps(content | (change if name == file else {})))
    assert said in why_not(tmp_path)
    assert why_not(exported / "chat") == ""


def test_a_gguf_file_that_answers_otherwise_is_left_out_and_the_card_says_why(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "equal_answers", lambda said, wanted: 17)
    result = export(runs, tmp_path / "out", "--lesson", "4")
    assert result.exit_code == 0 and not (tmp_path / "out" / "gguf").exists()
    assert "it gave 17 of 20 answers" in (tmp_path / "out" / "README.md").read_text()
