"""The averages of an epoch, the class weights, and the seeds of a step."""

import lightning as L
import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

import zoo
from zoo.datamodules import Digits, Fake
from zoo.losses import compute_loss
from zoo.metrics import Average
from zoo.seeds import mixed_seed


def test_average_weighs_batches_by_their_images() -> None:
    average = Average()
    average.update(torch.tensor(6.0), 3)
    average.update(torch.tensor(1.0), 1)
    assert average.compute().item() == 1.75
    average.reset()
    average.update(torch.tensor(5), 5)
    assert average.compute().item() == 1.0


def test_logged_metrics_are_those_of_all_images() -> None:
    L.seed_everything(0, verbose=False)
    model, data = zoo.create_model("mlp", image_size=8, dropout=0.0), Digits(augment="none", batch_size=50)
    trainer = L.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(model, data)
    found = dict(trainer.callback_metrics)
    (results,) = trainer.test(model, data, verbose=False)
    model.eval()
    with torch.no_grad():
        batches = [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]
        logits, labels = torch.cat([model(images) for images, _ in batches]), torch.cat([label for _, label in batches])
    assert results["test/acc"] == pytest.approx((logits.argmax(1) == labels).float().mean().item(), abs=1e-6)
    assert results["test/loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert {"train/loss", "train/acc", "val/loss", "val/acc"} <= found.keys()
    assert 0 < found["train/acc"] < 1


def test_balanced_class_weights_are_scikit_learns() -> None:
    data = Fake(num_classes=3, num_samples=300, image_size=8, augment="none", batch_size=8)
    data.setup()
    train = data.splits["train"]
    labels = train.labels
    chosen = [row for row in range(len(labels)) if labels[row] == 0 or row % (3 * labels[row]) == 0]
    data.splits["train"] = train.take(torch.tensor(chosen).numpy())
    left = data.splits["train"].labels
    model = zoo.create_model("mlp", image_size=8, in_channels=3, num_classes=4)
    model.recipe = model.recipe.replace(class_weights="balanced")
    trainer = L.Trainer(fast_dev_run=1, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    trainer.fit(model, data)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=left)
    assert model._class_weights is not None
    assert model._class_weights.tolist() == pytest.approx([*expected, 0.0], rel=1e-6)


def test_weighted_loss_by_hand() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([0, 1, 1])
    weights = torch.tensor([3.0, 0.5])
    each = F.cross_entropy(logits, labels, reduction="none")
    loss = compute_loss("cross_entropy", logits, labels, class_weights=weights)
    assert loss.item() == pytest.approx((3 * each[0] + 0.5 * each[1] + 0.5 * each[2]).item() / 4, rel=1e-6)


def test_class_weights_belong_to_cross_entropy() -> None:
    with pytest.raises(ValueError, match=r"^recipe\.class_weights is balanced: it must be none with the loss mse$"):
        zoo.Recipe(loss="mse", class_weights="balanced")


def test_mixed_seeds_differ_in_every_number_and_in_their_order() -> None:
    near = [
        (seed, epoch, step, rank) for seed in range(6) for epoch in range(6) for step in range(6) for rank in range(6)
    ]
    seeds = {mixed_seed(*numbers) for numbers in near}
    assert len(seeds) == len(near)
    assert all(0 <= seed < 2**63 for seed in seeds)
    ones = sum(bin(seed).count("1") for seed in seeds) / len(seeds)
    assert 31 < ones < 32, "half of the 63 bits"
