"""What a lesson defines and `helpers` holds for later lessons is one definition, not two that drift apart.

A lesson's home modules are those that its text or code names as `helpers.something`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "notebooks" / "source").glob("[0-9][0-9]_*.py"))
HOME = re.compile(r"\bhelpers(?:\.[a-z_0-9]+)+")
IMPORT = re.compile(r"\bfrom (helpers(?:\.[a-z_0-9]+)*) import ([a-z_0-9, ]+)")
CELL = re.compile(r"^# %%(.*)$", re.MULTILINE)
MUST_MATCH = {
    "01_pretrained_transformers": {
        "greedy", "masked_loss", "next_token_loss", "perplexity", "recalled", "shift_labels"
    },
    "05_reward_models_and_rlhf": {
        "PolicyWithValue", "Scorer", "kl_estimates", "new_reward_model", "pair_scores", "ppo_update", "roll_out",
        "train_ppo",
    },
    "06_direct_preference_optimization": {"sequence_log_probs"},
    "07_peft_methods": {"Rescale", "attention_with_prefix", "open_biases"},
    "10_quantization": {
        "double_quantize", "fp4_code", "gptq", "k_means", "magnitude_mask", "nf4_code", "symmetric", "to_code_book",
    },
    "11_qlora": {"FourBitLinear", "block_numbers", "exported", "quantization", "saved_bytes"},
    "08_lora_pytorch": {"lora_layers", "share_of_energy", "truncate"},
}  # fmt: skip

# Modules that teach nothing: a lesson's function of the same name is a coincidence.
PLUMBING = {"catalog", "doctor", "figures", "plotting", "record", "runtime"}
# Shorter in the lesson on purpose, and why that is safe.
SHORTER = {
    ("02_full_vs_last_layer", "MeanPoolClassifier"): "it also takes cached features; test_experiment compares the two",
    ("03_fine_tuning_pitfalls", "found_again"): "the mean over the words is spelled out in the lesson",
    ("07_peft_methods", "add_ia3"): "the lesson wraps the layers where helpers have a function for that",
    ("07_peft_methods", "add_prefix"): "the lesson's length is checked already, and its body has no prefix yet",
    ("10_quantization", "gptq"): "the lesson takes the learner's `quantize`",
    ("11_qlora", "exported"): "the lesson's ways to merge read the layer, and not its update alone",
    ("04_supervised_fine_tuning", "encode"): "helpers also refuses a row that nothing could be learned from",
    ("04_supervised_fine_tuning", "fine_tune"): "the lesson's takes the learner's loss and its own tokenizer",
    ("03_fine_tuning_pitfalls", "WithReplay"): "the lesson freezes all and then frees the body: the same parameters",
    ("09_lora_hugging_face", "optimizer_for"): "the lesson holds its own to peft's create_loraplus_optimizer",
}


class Bare(ast.NodeTransformer):
    """Drop docstrings and type hints: lessons may say less there."""

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.returns = None
        return self._without_docstring(node)

    def visit_ClassDef(self, node):
        self.generic_visit(node)
        return self._without_docstring(node)

    def visit_arg(self, node):
        node.annotation = None
        return node

    @staticmethod
    def _without_docstring(node):
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node


def definitions(code: str) -> dict[str, str]:
    """Top-level functions and classes of some code, by name, as comparable text."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = [node for node in ast.parse(code).body if isinstance(node, kinds)]
    return {node.name: ast.unparse(Bare().visit(node)) for node in found}


def taught(source: str) -> dict[str, str]:
    """What a lesson defines in cells that are neither exercises nor their solutions."""
    found: dict[str, str] = {}
    pieces = CELL.split(source)[1:]
    for mark, body in zip(pieces[::2], pieces[1::2], strict=True):
        if "[markdown]" not in mark and "exercise" not in mark and "solution" not in mark:
            found |= definitions(body)
    return found


def homes(source: str) -> list[Path]:
    """The helper modules that a lesson names."""
    named = set(HOME.findall(source))
    for package, modules in IMPORT.findall(source):
        named |= {f"{package}.{name.strip()}" for name in modules.split(",")}
    named |= {f"{name}.experiment" for name in named}  # `from helpers.lessons.lesson_02 import experiment`
    paths = {ROOT / Path(*name.split(".")).with_suffix(".py") for name in named}
    parents = {ROOT / Path(*name.split(".")[:-1]).with_suffix(".py") for name in named}
    return sorted(path for path in paths | parents if path.is_file() and path.stem not in PLUMBING)


def compared(source: str, modules: list[Path]) -> dict[str, tuple[str, str]]:
    """Name -> (the lesson's definition, the module's) of whatever both define."""
    lesson = taught(source)
    pairs = {}
    for module in modules:
        for name, text in definitions(module.read_text(encoding="utf-8")).items():
            # A lesson's shorthand that calls the module's own function is no second definition.
            if name in lesson and f".{name}(" not in lesson[name]:
                pairs[name] = (lesson[name], text)
    return pairs


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_lesson_and_its_home_hold_the_same_definition(path):
    source = path.read_text(encoding="utf-8")
    pairs = compared(source, homes(source))
    assert set(pairs) >= MUST_MATCH.get(path.stem, set())
    for name, (lesson, module) in pairs.items():
        if (path.stem, name) in SHORTER:
            assert lesson != module, f"{name} need not be excused any more"
            continue
        assert lesson == module, f"{name} differs between {path.stem} and its home"


def test_a_planted_drift_is_seen(tmp_path):
    module = tmp_path / "home.py"
    module.write_text('def f(x: int) -> int:\n    """Long docstring."""\n    return x + 1\n')
    same = '# %%\ndef f(x):\n    """Short."""\n    return x + 1\n'
    drifted = same.replace("+ 1", "+ 2")
    assert compared(same, [module])["f"][0] == compared(same, [module])["f"][1]
    assert compared(drifted, [module])["f"][0] != compared(drifted, [module])["f"][1]
    assert compared(drifted.replace("# %%", '# %% tags=["solution"]'), [module]) == {}
