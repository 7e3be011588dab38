"""The model card: what the model is, how to load it, what was measured, and what was compared when it was exported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from helpers.catalog import HUB_MODELS
from workbook.export.kept import Kept

LIBRARIES = ("torch", "transformers", "peft", "trl")
POCKET = (
    "It was pretrained on an invented world: films, people and events that do not exist. It knows no real language, "
    "and its figures hold for that world alone."
)
USE_CLASSIFIER = """\
```python
from transformers import pipeline

classify = pipeline("text-classification", model="{name}", trust_remote_code=True)
print(classify("{example}", truncation=True, max_length={max_length}))
```

`trust_remote_code=True` runs `modeling_mean_pool.py`, a file of forty lines in this folder; read it first. It is needed
because this classifier averages the last hidden states over the tokens, and no sequence classifier that `transformers`
has for `{family}` models does.
"""
WITHOUT_CODE = """\
Without that file, load the weights as a token classifier and average its logits over the tokens. The head is linear, so
that is the same prediction (the library warns that the model type is another one):

```python
from transformers import AutoTokenizer, {cls}

tokenizer = AutoTokenizer.from_pretrained("{name}", trust_remote_code=False)  # else it asks about the file
model = {cls}.from_pretrained("{name}").eval()
read = tokenizer("{example}", truncation=True, max_length={max_length}, return_tensors="pt")
logits = model(**read).logits[0].mean(dim=0)  # (classes,), of one text without padding
```
"""
USE_DECODER = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("{name}"), AutoModelForCausalLM.from_pretrained("{name}")
turns = [{{"role": "user", "content": "{example}"}}]
read = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
written = model.generate(**read, max_new_tokens={max_new_tokens})
print(tokenizer.decode(written[0, read["input_ids"].shape[1] :], skip_special_tokens=True))
```

The chat template is in `chat_template.jinja`; `generate` stops at the end of a turn and decodes greedily.
"""


@dataclass(frozen=True)
class Findings:
    """The results of the export's checks, and what the card says about loading.

    compared: sentences on what was compared with the lesson's model. without_code: as in `classifier.Written`.
    gguf: the name of the GGUF file, or "". gguf_note: how that file was checked, or why there is none.
    """

    compared: Sequence[str]
    family: str
    without_code: str = ""
    gguf: str = ""
    gguf_note: str = ""


def card(kept: Kept, name: str, findings: Findings) -> str:
    """The text of `README.md`.

    Args:
        name: the name of the exported folder.
    """
    base, licence, about = _base(kept)
    kind = "text classifier" if kept.is_classifier else "chat model"
    parts = [
        _header(kept, licence),
        f"# {name}\n\nA {kind}, fine-tuned in lesson {kept.lesson} of the fine-tuning workbook. It began as {base}.",
        "## Use it\n\n" + _use(kept, name, findings),
        "## What was measured\n\nOn rows that training did not see, with 95 % intervals over those rows. One run with "
        f"one seed: another seed gives another model.\n\n{_figures(kept)}",
        "All other figures of the run are in `metrics.json`.",
        f"## How it was trained\n\n{_table(['parameter', 'value'], _trained(kept))}",
        f"Libraries: {_versions(kept)}. Finished {kept.recorded['finished'][:10]}.",
        "## What was checked\n\n" + "\n".join(f"- {line}" for line in findings.compared),
        f"## Limits\n\n{about}",
        f"## Licence\n\n{_licence_words(kept, licence)}",
    ]
    if findings.gguf or findings.gguf_note:
        parts.insert(3, f"## GGUF\n\n{findings.gguf_note}")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _header(kept: Kept, licence: str) -> str:
    task = "text-classification" if kept.is_classifier else "text-generation"
    base = _hub_name(kept)
    lines = [f"license: {licence}", "library_name: transformers", f"pipeline_tag: {task}"]
    lines += [f"base_model: {base}"] if base else []
    return "\n".join(["---", *lines, "tags: [fine-tuning-workbook]", "---"])


def _use(kept: Kept, name: str, findings: Findings) -> str:
    facts = kept.facts
    if not kept.is_classifier:
        return USE_DECODER.format(
            name=name, example="Who directed the film?", max_new_tokens=max(64, facts["max_new_tokens"])
        )
    values = {"name": name, "example": "A text to classify.", "max_length": facts["max_length"]}
    text = USE_CLASSIFIER.format(**values, family=findings.family)
    if findings.without_code:
        text += "\n" + WITHOUT_CODE.format(**values, cls=findings.without_code)
    names = ", ".join(f"{label} = {found}" for label, found in enumerate(facts["label_names"]))
    return f"{text}\nLabels: {names}. Texts were cut at {facts['max_length']} tokens in training and in the tests."


def _figures(kept: Kept) -> str:
    rows = [[what, f"{found.value:.3f}", f"{found.low:.3f} to {found.high:.3f}"] for what, found in kept.figures]
    return _table(["figure", "value", "95 % interval"], rows)


def _trained(kept: Kept) -> list[list[str]]:
    return [[name, f"`{value}`"] for name, value in kept.parameters.items() if value != ""]


def _versions(kept: Kept) -> str:
    found = kept.recorded["versions"]
    return ", ".join(f"{name} {found[name]}" for name in LIBRARIES if name in found)


def _role(kept: Kept) -> str:
    return "encoder" if kept.is_classifier else "decoder"


def _hub_name(kept: Kept) -> str:
    parameters = kept.parameters
    if parameters.get("model"):
        return ""
    names = {"encoder": "sentence-transformers/all-MiniLM-L6-v2", "decoder": "HuggingFaceTB/SmolLM2-135M-Instruct"}
    tracks = {"real": names[_role(kept)], "hub": HUB_MODELS[_role(kept)].name}
    return tracks.get(str(parameters.get("track")), "")


def _base(kept: Kept) -> tuple[str, str, str]:
    """The base model, its licence as the hub writes it, and the limits of the fine-tuned model."""
    parameters = kept.parameters
    measured = (
        "The figures hold for rows like those that it was tested on. Measure it on your own before you rely on it."
    )
    if parameters.get("model"):
        return f"`{parameters['model']}`, a model of the learner's own", "other", measured
    track = parameters.get("track", "pocket")
    if track == "pocket":
        return f"the workbook's pocket {_role(kept)}", "mit", POCKET
    licence = HUB_MODELS[_role(kept)].licence if track == "hub" else "Apache-2.0"
    return f"{_hub_name(kept)}", licence.lower(), measured


def _licence_words(kept: Kept, licence: str) -> str:
    parameters = kept.parameters
    model = "that of the model that it began as" if licence == "other" else licence
    data = "your own file's" if parameters.get("data") else "that of the track's data, which the workbook's docs state"
    return f"Weights: {model}. Data that it was trained on: {data}."


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
