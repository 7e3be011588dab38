"""What lesson 04 measures beside exact matches, the solutions of its exercises, and its task on real text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set

import torch
from torch import Tensor, nn

from helpers import catalog, sft
from helpers.batches import sample_rows
from helpers.intervals import Interval
from helpers.language_model import IGNORED, next_token_loss, shift_labels
from helpers.recipes import recipe
from helpers.runtime import seed_everything
from helpers.sft import collate, exact_match, split_conversation
from helpers.training import fit_adamw, to_device

REAL_TEST_ROWS, REAL_STEPS = 60, 20  # sentences to test on, and steps of LoRA
WORDS = ("negative", "positive")
QUESTION = "Is this film review positive or negative? Answer with one word.\n\n{text}"
REFUSED = re.compile(
    r"don't|do(?:es)? not|doesn't|not (?:aware|sure|available|able|familiar)|cannot|can't|couldn't|no information|sorry"
    r"|\b(?:fictional|fictitious)\b(?!.*\bdirected by\b)"
)  # "a science fiction film by ..." is an answer, and so is "a fictional film, directed by ..."
REAL_TITLES = {
    "accuracy_zero_shot": "accuracy, zero-shot",
    "positive_zero_shot": 'zero-shot answers that are "positive"',
    "accuracy_few_shot": "accuracy, four examples in the prompt",
    "positive_few_shot": 'few-shot answers that are "positive"',
    "accuracy_sft": "accuracy after LoRA fine-tuning",
    "made_up_before": "questions about invented films answered as if known, before",
    "made_up_after": "the same, after fine-tuning",
}
REAL_GAPS = {  # title -> a metric minus another
    "accuracy, few-shot minus zero-shot": ("accuracy_few_shot", "accuracy_zero_shot"),
    "accuracy, LoRA minus zero-shot": ("accuracy_sft", "accuracy_zero_shot"),
    "accuracy, LoRA minus few-shot": ("accuracy_sft", "accuracy_few_shot"),
    "answered as if known, after minus before": ("made_up_after", "made_up_before"),
}
YEAR = re.compile(r"\d{4}\.")
NAME = re.compile(r"[A-Z][\w']*(?: (?:[A-Z][\w']*|and|of|the))*\.")


def looks_like_an_answer(kind: str, text: str) -> bool:
    """Whether a text has the form of an answer to this kind of question: a year, or a name; right or wrong."""
    return bool((YEAR if kind == "fact_year" else NAME).fullmatch(text.strip()))


def made_up(rows: Sequence[Mapping], answers: Sequence[str]) -> Tensor:
    """1.0 where an answer has the form of an answer and is not the true one: (rows,)."""
    correct = exact_match(answers, [row["completion"] for row in rows])
    formed = [looks_like_an_answer(row["kind"], text) for row, text in zip(rows, answers, strict=True)]
    return torch.tensor(formed, dtype=correct.dtype) * (1 - correct)


def film_pairs(rows: Sequence[Mapping], per_film: int = 1) -> list[tuple[Mapping, Mapping]]:
    """Up to `per_film` pairs of fact questions about each film; no question is in two pairs, each kind is used once."""
    by_film: dict[str, dict[str, Mapping]] = {}
    for row in rows:
        if row["kind"].startswith("fact_"):
            by_film.setdefault(row["film"], {}).setdefault(row["kind"], row)
    pairs = []
    for of_film in by_film.values():
        questions = list(of_film.values())
        pairs += list(zip(questions[::2], questions[1::2], strict=False))[:per_film]
    return pairs


def about_no_film(rows: Sequence[Mapping], titles: Sequence[str], real: Set[str], answer: str) -> list[dict[str, str]]:
    """The rows' questions about films that do not exist, each to be answered with `answer`.

    titles: a new title takes the first half of one and the second half of another. real: titles of existing films; a
    question that still names one is left out.
    """
    found = []
    for number, row in enumerate(rows):
        # Two strides walk through the titles, so that halves meet in new pairs.
        first, second = titles[(7 * number) % len(titles)].split(), titles[(11 * number + 5) % len(titles)].split()
        title = " ".join(first[: -(-len(first) // 2)] + second[len(second) // 2 :])
        prompt = row["prompt"].replace(row["film"], title)
        if not any(film in prompt for film in real):
            found.append({"prompt": prompt, "completion": answer})
    return found


@torch.inference_mode()
def confidence(
    model: nn.Module, tokenizer, prompts: Sequence[str], answers: Sequence[str], batch_size: int = 64
) -> Tensor:
    """The probability that the model gives to each answer as a whole, its end included: (rows,).

    A model may answer nothing at all: that has the probability of the end of the turn.
    """
    model.eval()
    pad_id = tokenizer.pad_token_id
    parts = [split_conversation(tokenizer, *pair) for pair in zip(prompts, answers, strict=True)]
    rows = [{"input_ids": ids, "labels": [IGNORED] * hidden + ids[hidden:]} for ids, hidden in parts]
    found = []
    for start in range(0, len(rows), batch_size):
        batch = to_device(collate(rows[start : start + batch_size], pad_id), model)
        labels = shift_labels(batch.pop("labels"))  # (batch, seq)
        log_probabilities = model(**batch).logits.float().log_softmax(dim=-1)  # (batch, seq, vocab)
        chosen = log_probabilities.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)  # (batch, seq)
        found.append((chosen * (labels != IGNORED)).sum(dim=-1).exp().cpu())
    return torch.cat(found)


def as_share(interval: Interval) -> Interval:
    """The interval of a share, cut at 0 and 1: Student's interval over seeds does not know these bounds."""
    return Interval(interval.value, max(0.0, interval.low), min(1.0, interval.high))


answer_loss = next_token_loss  # labels that are -100 outside the answers make it the loss of the answers


def shared_prefix(prompt_ids: Sequence[int], conversation_ids: Sequence[int]) -> tuple[int, bool]:
    """With how many equal tokens both begin, and whether the whole prompt is a prefix."""
    same = [one == other for one, other in zip(prompt_ids, conversation_ids, strict=False)]
    count = [*same, False].index(False)
    return count, count == len(prompt_ids)


def assistant_labels(input_ids: Sequence[int], start_id: int, end_id: int) -> list[int]:
    """The ids after each start_id up to and with the next end_id, -100 elsewhere."""
    labels, speaking = [], False
    for token in input_ids:
        labels.append(token if speaking else IGNORED)
        speaking = (speaking or token == start_id) and token != end_id
    return labels


@torch.inference_mode()
def greedy_cached(model: nn.Module, input_ids: Tensor, max_new_tokens: int, end_id: int) -> Tensor:
    """`helpers.language_model.greedy` with a key-value cache: (1, seq) in, (1, longer) out."""
    written, cache, new = input_ids, None, input_ids
    for _ in range(max_new_tokens):
        outputs = model(input_ids=new, past_key_values=cache, use_cache=True)
        cache = outputs.past_key_values
        new = outputs.logits[:, -1].argmax(dim=-1, keepdim=True)  # (1, 1)
        written = torch.cat([written, new], dim=1)
        if new.item() == end_id:
            break
    return written


def threshold_for(confidences: Sequence[float], right: Sequence[bool], allowed: float) -> float | None:
    """The lowest confidence such that among the answers at or above it at most the share `allowed` is wrong."""
    for threshold in sorted(confidences):
        spoken = [ok for sure, ok in zip(confidences, right, strict=True) if sure >= threshold]
        if 1 - sum(spoken) / len(spoken) <= allowed:
            return threshold
    return None


def pack(rows: Sequence[Mapping[str, list[int]]], length: int) -> list[dict[str, list[int]]]:
    """Whole conversations end to end in rows of at most `length` tokens; positions restart with each."""
    packed: list[dict[str, list[int]]] = []
    for row in rows:
        size = len(row["input_ids"])
        if not packed or len(packed[-1]["input_ids"]) + size > length:
            packed.append({"input_ids": [], "labels": [], "position_ids": []})
        packed[-1]["input_ids"] += row["input_ids"]
        packed[-1]["labels"] += [IGNORED, *row["labels"][1:]]
        packed[-1]["position_ids"] += range(size)
    return packed


@torch.inference_mode()
def chosen_words(model: nn.Module, tokenizer, texts: Sequence[str], examples: Sequence[Mapping] = ()) -> Tensor:
    """0 or 1 for each text: which of `WORDS` has the larger logit as the first word of the answer, (texts,).

    examples: rows with text and label, put before the question as earlier turns.
    """
    model.eval()
    earlier = []
    for row in examples:
        earlier += sft.messages(QUESTION.format(text=row["text"]), WORDS[row["label"]])
    first = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in WORDS]
    found = []
    for text in texts:
        turns = [*earlier, *sft.messages(QUESTION.format(text=text))]
        whole = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(whole, return_tensors="pt", add_special_tokens=False)["input_ids"]
        logits = model(input_ids=ids, logits_to_keep=1).logits[0, -1]  # (vocab,)
        found.append(int(logits[first].argmax()))
    return torch.tensor(found)


def on_real_text(titles: Sequence[str], seed: int, test_rows: int, batch_size: int, steps: int) -> dict[str, float]:
    """SmolLM2 on sentences of film reviews, zero-shot, few-shot and after LoRA; and on films that do not exist.

    titles: of invented films, asked about before and after. batch_size, steps: of the fine-tuning.
    """
    from peft import LoraConfig, get_peft_model  # slow to import

    tokenizer, model = catalog.tokenizer("instruct", "real"), catalog.causal_language_model("real", role="instruct")
    reviews = catalog.dataset("reviews", "real")
    train = list(sample_rows(reviews["train"], batch_size * steps, seed))
    test = reviews["test"].shuffle(seed=0).select(range(test_rows))
    texts, labels = list(test["text"]), torch.tensor(test["label"])
    questions = [f"Who directed the film {title}?" for title in titles]
    found: dict[str, float] = {}

    def measure(name: str, examples: Sequence[Mapping] = ()) -> None:
        words = chosen_words(model, tokenizer, texts, examples)
        found[f"accuracy_{name}"] = (words == labels).double().mean().item()
        found[f"positive_{name}"] = words.double().mean().item()
        print(f"{name}: accuracy {found[f'accuracy_{name}']:.2f}, positive {found[f'positive_{name}']:.2f}")

    def ask(when: str) -> None:
        given = sft.answer(model, tokenizer, questions, max_new_tokens=20)
        found[f"made_up_{when}"] = sum(not REFUSED.search(text) for text in given) / len(given)
        print(f"{when}: {questions[0]} {given[0]}")

    measure("zero_shot")
    of_class = [[row for row in train if row["label"] == label] for label in range(2)]
    measure("few_shot", [of_class[place % 2][place // 2] for place in range(4)])
    ask("before")
    how = recipe("lora_decoder", "published")
    seed_everything(seed)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(
        model, LoraConfig(r=how.rank, lora_alpha=how.alpha, target_modules=targets, task_type="CAUSAL_LM")
    )
    rows = [sft.encode(tokenizer, QUESTION.format(text=row["text"]), WORDS[row["label"]]) for row in train]
    batches = sft.conversation_batches(rows, tokenizer.pad_token_id, batch_size, seed=seed)
    fit_adamw(model, batches, how.learning_rate, epochs=1, progress="LoRA on film sentences")
    measure("sft")
    ask("after")
    return found
