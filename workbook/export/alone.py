"""Returns an exported model's outputs, from a process that cannot import this project: `python -I alone.py`.

It reads a JSON object with the folder and the examples from standard input, and prints a JSON object with the answers
as its last line. It uses only torch and transformers, because whoever receives the folder has nothing else.
"""

from __future__ import annotations

import json
import sys
from typing import Any

PROJECT = ("helpers", "workbook", "microworld")


def classify(asked: dict[str, Any]) -> dict[str, Any]:
    """The logits of each text, and those of the family's token classifier averaged over the tokens."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(asked["folder"], trust_remote_code=True)
    models = [
        transformers.AutoModelForSequenceClassification.from_pretrained(asked["folder"], trust_remote_code=True).eval()
    ]
    if asked["without_code"]:
        models.append(getattr(transformers, asked["without_code"]).from_pretrained(asked["folder"]).eval())
    found: list[list[list[float]]] = [[] for _ in models]
    for text in asked["examples"]:
        read = tokenizer(text, truncation=True, max_length=asked["max_length"], return_tensors="pt")
        for model, logits in zip(models, found, strict=True):
            with torch.no_grad():
                said = model(**read).logits[0]
            logits.append((said.mean(dim=0) if said.dim() == 2 else said).tolist())
    return {"said": found[0], "without_code": found[1] if len(found) > 1 else None}


def speak(asked: dict[str, Any]) -> dict[str, Any]:
    """The greedy answer to each prompt, from the folder's weights or its GGUF file, and the prompt's token ids."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": asked["gguf"]} if asked["gguf"] else {}
    tokenizer: Any = AutoTokenizer.from_pretrained(asked["folder"], **options)
    model = AutoModelForCausalLM.from_pretrained(asked["folder"], **options).eval()
    answers, ids = [], []
    for prompt in asked["examples"]:
        turn = [{"role": "user", "content": prompt}]
        read = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        written = model.generate(**read, max_new_tokens=asked["max_new_tokens"], do_sample=False)
        start = read["input_ids"].shape[1]
        answers.append(tokenizer.decode(written[0, start:], skip_special_tokens=True).strip())
        ids.append(read["input_ids"][0].tolist())
    return {"said": answers, "ids": ids}


def main() -> None:
    """Read one request from standard input and print its answer."""
    for name in PROJECT:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it raises ImportError from now on
    asked = json.load(sys.stdin)
    answered = classify(asked) if asked["kind"] == "classifier" else speak(asked)
    print(json.dumps(answered))


if __name__ == "__main__":
    main()
