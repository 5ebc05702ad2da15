"""The averages of an epoch, the class weights, and the seeds of a step."""

from pathlib import Path

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
from zoo.step_figures import StepFigures, over_processes


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


def test_training_metrics_are_those_of_all_training_images() -> None:
    model = zoo.create_model("mlp", image_size=8, dropout=0.0)
    model.recipe = model.recipe.replace(lr=1e-30)  # the weights stay as they are
    data = Digits(augment="none", batch_size=50, drop_last=False)
    trainer = L.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(model, data)
    with torch.no_grad():
        whole = data.make_dataset("train")[np.arange(1293), 0]
        images, labels = data.on_after_batch_transfer(whole, 0)
        logits = model.eval()(images)
    assert trainer.callback_metrics["train/acc"].item() == pytest.approx(
        (logits.argmax(1) == labels).float().mean().item(), abs=1e-6
    )
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(
        F.cross_entropy(logits, labels).item(), rel=1e-5
    )


def test_a_run_that_was_interrupted_in_validation_goes_on(tmp_path: Path) -> None:
    class Save(L.Callback):
        def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 0:
                trainer.save_checkpoint(tmp_path / "within.ckpt")

    options = {
        "max_epochs": 2, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "accelerator": "cpu", "num_sanity_val_steps": 0,
    }  # fmt: skip
    models = [zoo.create_model("mlp", image_size=8) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    L.Trainer(callbacks=[Save()], **options).fit(models[0], Digits(seed=0))
    L.Trainer(**options).fit(models[1], Digits(seed=0), ckpt_path=tmp_path / "within.ckpt", weights_only=True)
    pairs = zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


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


def test_class_weights_follow_the_precision() -> None:
    model = zoo.create_model("mlp", image_size=8)
    model.recipe = model.recipe.replace(class_weights="balanced")
    options = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    L.Trainer(fast_dev_run=1, precision="bf16-true", **options).fit(model, Digits())
    assert model.dtype == torch.bfloat16


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


def test_figures_of_a_step_are_those_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here 2 images with the losses 1 and 2, one of them right; elsewhere 6 with a loss of 4.5, four of them right."""

    def exchange(figures: torch.Tensor) -> None:
        figures += torch.tensor([9.0, 27.0, 4.0, 6.0])

    monkeypatch.setattr("torch.distributed.all_reduce", exchange)
    own = (torch.tensor(1.75), torch.tensor(1.5), torch.tensor(1), torch.tensor(2))
    found = over_processes(*own)
    assert [float(figure) for figure in found] == [10.75, 30 / 8, 5, 8]
    assert [figure.dtype for figure in found] == [figure.dtype for figure in own]
    assert not over_processes(torch.tensor(float("nan")), *own[1:])[0].isfinite()


def test_figures_of_steps_are_taken_up_again() -> None:
    whole, first, second = StepFigures(), StepFigures(), StepFigures()
    steps = [(torch.tensor(0.1 * k), torch.tensor(k % 5), torch.tensor(5 + k % 3)) for k in range(70)]
    for number, step in enumerate(steps):
        whole.add(*step)
        if number == 40:
            second.load_state_dict(first.state_dict())
        (first if number < 40 else second).add(*step)
    assert [value.item() for value in second.sums()] == [value.item() for value in whole.sums()]
    assert whole.sums()[2] == sum(int(images) for *_, images in steps)
    whole.cut(3)
    assert len(whole) == 3
    assert whole.sums()[0] == pytest.approx(0.1 * 6 + 0.2 * 7)
