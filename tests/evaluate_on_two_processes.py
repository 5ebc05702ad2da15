"""Evaluates a few images in the processes of this job; the first one prints, as one line of JSON, what it counted.

`tests/test_requirements_resume.py` runs it with two processes, and its `evaluate` with one.
"""

import json
import sys

import lightning as L
import numpy as np
import torch

import zoo
from zoo.classifier import ImageClassifier
from zoo.datamodules import Digits
from zoo.datamodules.arrays import Split

COUNTS = (9, 10, 11)


class Few(Digits):
    """The digits, but so many images for validation and as many others for the test."""

    def __init__(self, count: int) -> None:
        super().__init__(batch_size=4, num_workers=0, augment="none", seed=0)
        self.count = count

    def load(self) -> dict[str, Split]:
        """The first images of the official parts."""
        splits = super().load()
        rest = splits["train"]
        some = np.arange(self.count)
        few = {"val": rest.take(some), "test": splits["test"].take(some)}
        return {"train": rest, **few}


def network() -> ImageClassifier:
    """Always the same weights, which training does not change."""
    torch.manual_seed(0)
    model = zoo.create_model("mlp", image_size=8, dropout=0.0)
    model.recipe = model.recipe.replace(lr=1e-30, weight_decay=0.0)
    return model


def evaluate(devices: int) -> dict[str, dict[str, float]]:
    """What `validate`, `test` and `fit` say of each number of images."""
    found = {}
    for count in COUNTS:
        trainer = L.Trainer(
            accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=1, logger=False,
            limit_train_batches=1, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, num_sanity_val_steps=0,
        )  # fmt: skip
        data = Few(count)
        metrics = trainer.validate(network(), data, verbose=False)[0] | trainer.test(network(), data, verbose=False)[0]
        trainer.fit(network(), data)
        after = {f"fit {name}": value.item() for name, value in trainer.callback_metrics.items() if "val" in name}
        found[str(count)] = metrics | after
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    counted = evaluate(2)
    if torch.distributed.get_rank() == 0:
        sys.stdout.write(json.dumps(counted) + "\n")
        sys.stdout.flush()
    torch.distributed.barrier()  # a process that leaves first can bring the other's connection down
    torch.distributed.destroy_process_group()
