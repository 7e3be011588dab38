"""Lesson 11's training, unchanged, in any number of processes: `accelerate launch one_training.py OUT METHOD BATCH`.

The batch is that of each process. All texts are cut to one length, so that grouping by length leaves their order alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from helpers import catalog, qlora
from helpers.batches import TokenizedReviews, pad, tokenize
from helpers.evaluation import predict
from helpers.runtime import seed_everything

ROWS, LENGTH, SEED = 64, 16, 3


def main(out: Path, method: str, batch: int) -> None:
    torch.set_num_threads(1)
    qlora.BATCH_SIZE = batch
    tokenizer = catalog.tokenizer("encoder", "pocket")
    texts = catalog.dataset("reviews", "pocket")["train"].select(range(2 * ROWS))
    rows = TokenizedReviews.from_dataset(tokenize(texts, tokenizer, max_length=LENGTH))
    rows = rows.select([place for place, size in enumerate(rows.lengths) if size == LENGTH][:ROWS])
    assert len(rows) == ROWS
    seed_everything(SEED)
    classifier = qlora.classifier(method, "pocket", num_labels=2, rank=4)
    qlora.fit(classifier, rows, pad(tokenizer), learning_rate=1e-3, epochs=1, seed=SEED)
    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    backend = torch.distributed.get_backend() if world > 1 else "none"
    if world == 1 or torch.distributed.get_rank() == 0:
        trained = {name: p.detach().contiguous() for name, p in classifier.named_parameters() if p.requires_grad}
        some = pad(tokenizer)([rows[place] for place in range(8)])
        trained["logits"] = predict(classifier, [some])[0]
        save_file(trained, out, metadata={"world": str(world), "backend": backend})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
