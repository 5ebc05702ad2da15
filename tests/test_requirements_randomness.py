"""REQ-R1, REQ-D2: what a step draws, the order of the images and the rate follow from the run's seed and the step."""

import math
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

import zoo
from zoo.classifier import ImageClassifier
from zoo.datamodules import Digits
from zoo.datamodules.sampler import balanced_order, epoch_order

STEPS = 3
"""Of each epoch."""


def fit(path: Path | None = None, epochs: int = 2, **recipe: Any) -> L.Trainer:
    """Train a small network, or go on from a file."""
    model = zoo.create_model("mlp", image_size=8, hidden=[4])
    model.recipe = model.recipe.replace(warmup_epochs=0.0, **recipe)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    limits: dict[str, Any] = {"limit_train_batches": STEPS, "limit_val_batches": 0}
    trainer = L.Trainer(accelerator="cpu", max_epochs=epochs, enable_checkpointing=False, **limits, **quiet)
    trainer.fit(model, datamodule=Digits(num_workers=0), ckpt_path=path)
    return trainer


def drawn(seed: int, rank: int = 0) -> list[int]:
    """What the random numbers of each training step begin with, in two epochs of one process."""
    found: list[int] = []
    step = ImageClassifier.training_step

    def note(self: ImageClassifier, batch: Any, batch_idx: int) -> torch.Tensor:
        found.append(torch.initial_seed())
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PL_GLOBAL_SEED", str(seed))
        patch.setattr(ImageClassifier, "training_step", note)
        patch.setattr(ImageClassifier, "global_rank", property(lambda _: rank))
        fit()
    return found


def test_no_two_steps_draw_alike() -> None:
    """REQ-R1, REQ-D2: of all batches, epochs, processes and seeds, and each draws the same when it is repeated."""
    runs = [drawn(seed, rank) for seed in (0, 5) for rank in (0, 1)]
    assert [len(run) for run in runs] == [2 * STEPS] * 4
    assert len({seed for run in runs for seed in run}) == 4 * 2 * STEPS
    assert drawn(5) == runs[2]


def test_every_seed_and_epoch_has_an_order_of_its_own() -> None:
    """REQ-R1, REQ-D2: also where all classes are shown equally often."""
    labels = np.repeat(np.arange(4), (10, 20, 30, 40))
    pairs = [(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({epoch_order(100, *pair).tobytes() for pair in pairs}) == len(pairs)
    assert len({balanced_order(labels, *pair).tobytes() for pair in pairs}) == len(pairs)
    assert epoch_order(100, 1, 2).tolist() == epoch_order(100, 1, 2).tolist()
    assert sorted(epoch_order(100, 1, 2)) == list(range(100))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_a_run_made_longer_goes_on_with_the_rate_of_its_step(
    schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-R1: the checkpoint has the rate at which the shorter run ended, which is 0."""
    rates: list[float] = []
    step = ImageClassifier.training_step

    def note(self: ImageClassifier, batch: Any, batch_idx: int) -> torch.Tensor:
        rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return step(self, batch, batch_idx)

    fit(schedule=schedule, lr=0.1).save_checkpoint(tmp_path / "a.ckpt")
    monkeypatch.setattr(ImageClassifier, "training_step", note)
    fit(tmp_path / "a.ckpt", epochs=3, schedule=schedule, lr=0.1)
    done = [step / (3 * STEPS) for step in range(2 * STEPS, 3 * STEPS)]
    shapes = {"cosine": [(1 + math.cos(math.pi * x)) / 2 for x in done], "linear": [1 - x for x in done]}
    assert rates == pytest.approx([0.1 * factor for factor in shapes.get(schedule, [1.0] * STEPS)])
