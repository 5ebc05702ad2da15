"""Fine-tuning: what is frozen stays as it was to the last bit, what follows from the epoch follows from it alone."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

import zoo
from tests.conftest import Zoo, command, environment, run_two_processes
from zoo.cached import cache_features, why_not_cached
from zoo.checkpoint import read_checkpoint
from zoo.classifier import ImageClassifier
from zoo.datamodules import Digits
from zoo.finetune import METHODS, Finetune, start_penalty
from zoo.recipe import Recipe
from zoo.weight_files import write_weights

EPOCHS = 4


def digits(**options: Any) -> Digits:
    return Digits(
        **{"image_size": 16, "batch_size": 32, "train_size": 96, "num_workers": 0, "augment": "none", **options}
    )


def trained_resnet(folder: Path) -> Path:
    """A file of a small residual network whose batch normalisation has statistics of its own."""
    torch.manual_seed(3)
    model = zoo.create_model("resnet20", depth=8, num_classes=10, in_channels=1, image_size=16)
    for _ in range(3):
        model(torch.randn(8, 1, 16, 16) * 2 + 1)
    write_weights(folder / "trained.safetensors", model.state_dict(), model.description())
    return folder / "trained.safetensors"


def from_file(path: Path, finetune: Finetune, **recipe: Any) -> ImageClassifier:
    torch.manual_seed(0)
    model = zoo.create_model("resnet20", pretrained=str(path))
    model.finetune = finetune
    model.recipe = Recipe(**{"optimizer": "adamw", "lr": 0.01, "batch_size": 32, "epochs": EPOCHS, **recipe})
    return model


def fit(model: ImageClassifier, data: L.LightningDataModule, *callbacks: Callback, **options: Any) -> L.Trainer:
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, callbacks=[*callbacks],
        **{"max_epochs": EPOCHS, "limit_val_batches": 0, **options},
    )  # fmt: skip
    trainer.fit(model, data)
    return trainer


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


class Watch(Callback):
    """Notes at the end of every epoch what is trained, what has a gradient, what the optimiser remembers."""

    def __init__(self) -> None:
        self.trained: list[int] = []
        self.rates: list[list[float]] = []
        self.remembered: list[int] = []
        self.changed: list[set[str]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.before = copies(pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ImageClassifier)
        stages = pl_module.tuned_stages()
        self.trained.append(sum(all(p.requires_grad for p in stage.parameters()) for stage in stages))
        assert all(p.grad is None for p in pl_module.parameters() if not p.requires_grad)
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])
        self.remembered.append(len(trainer.optimizers[0].state))
        self.changed.append(changed(self.before, copies(pl_module)))


def test_linear_changes_the_last_layer_and_nothing_else(tmp_path: Path) -> None:
    model = from_file(trained_resnet(tmp_path), Finetune("linear"))
    before, watch = copies(model), Watch()
    trainer = fit(model, digits(), watch)
    assert changed(before, copies(model)) == {"fc.weight", "fc.bias"}
    assert watch.trained == [1] * EPOCHS
    assert watch.remembered == [2] * EPOCHS
    assert sum(len(group["params"]) for group in trainer.optimizers[0].param_groups) == 2
    assert all(p.requires_grad for p in model.parameters())  # after the run nothing is frozen
    assert all(module.training for module in model.modules())


def test_frozen_batch_norm_may_follow_the_new_images(tmp_path: Path) -> None:
    model = from_file(trained_resnet(tmp_path), Finetune("linear", freeze_bn=False))
    before = copies(model)
    fit(model, digits())
    moved = changed(before, copies(model))
    assert {"fc.weight", "fc.bias"} < moved
    assert all("running_" in name or "num_batches" in name for name in moved - {"fc.weight", "fc.bias"})


def test_gradual_opens_stage_by_stage(tmp_path: Path) -> None:
    model = from_file(trained_resnet(tmp_path), Finetune("gradual", unfreeze_every=1), epochs=6)
    watch = Watch()
    fit(model, digits(), watch, max_epochs=6)
    assert watch.trained == [1, 2, 3, 4, 5, 5]
    assert watch.changed[0] == {"fc.weight", "fc.bias"}
    assert not any(name.startswith(("conv1", "bn1", "layer1", "layer2")) for name in watch.changed[1])
    assert any(name.startswith("layer3") and "running_mean" in name for name in watch.changed[1])
    assert any(name.startswith("bn1") for name in watch.changed[4])
    assert watch.remembered == sorted(watch.remembered)
    assert watch.remembered[0] == 2


def test_lpft_trains_the_last_layer_first(tmp_path: Path) -> None:
    model = from_file(trained_resnet(tmp_path), Finetune("lpft", probe_epochs=3))
    watch = Watch()
    fit(model, digits(), watch)
    assert watch.trained == [1, 1, 1, 5]
    assert watch.changed[2] == {"fc.weight", "fc.bias"}
    assert "conv1.weight" in watch.changed[3]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "step"])
def test_layer_decay_and_the_head_rate_hold_under_every_schedule(schedule: str, tmp_path: Path) -> None:
    finetune = Finetune("full", head_lr=0.05)
    model = from_file(trained_resnet(tmp_path), finetune, schedule=schedule, layer_decay=0.5, weight_decay=0)
    watch = Watch()
    fit(model, digits(), watch)
    for rates in watch.rates[:-1]:  # in the last step a rate may be zero
        stages = [rate / rates[0] for rate in rates]
        assert stages == pytest.approx([1, 2, 4, 8, 0.05 / (0.01 * 0.5**4)])
    assert (watch.rates[0] != watch.rates[2]) == (schedule != "constant")


def test_the_schedule_of_unfreezing() -> None:
    spread = Finetune("gradual")
    assert [spread.trained_stages(5, epoch, 20) for epoch in (0, 2, 3, 9, 19)] == [1, 1, 2, 5, 5]
    assert [spread.trained_stages(5, epoch, 2) for epoch in range(2)] == [1, 5]
    assert [spread.trained_stages(5, epoch, 1) for epoch in range(1)] == [1]
    assert [Finetune("lpft").trained_stages(5, epoch, 4) for epoch in range(4)] == [1, 1, 5, 5]
    assert {Finetune(method).trained_stages(5, 0, 9) for method in ("none", "full")} == {5}


def test_l2sp_is_half_the_squared_distance() -> None:
    layer = nn.Linear(3, 2)
    start = {"weight": torch.zeros(2, 3)}
    penalty = start_penalty(layer, start)
    assert isinstance(penalty, Tensor)
    penalty.backward()
    assert layer.weight.grad is not None and torch.allclose(layer.weight.grad, layer.weight)
    assert layer.bias.grad is None


def test_l2sp_holds_weights_near_their_start(tmp_path: Path) -> None:
    path, distances = trained_resnet(tmp_path), {}
    start = dict(from_file(path, Finetune()).named_parameters())
    for strength in (0.0, 30.0):
        model = from_file(path, Finetune("full", l2sp=strength), optimizer="sgd", weight_decay=0)
        fit(model, digits())
        moved = [(p - start[name]).detach().square().sum() for name, p in model.named_parameters()]
        distances[strength] = float(torch.stack(moved).sum())
    assert distances[30.0] < 0.3 * distances[0.0]


def test_features_computed_once_train_as_images_do(tmp_path: Path) -> None:
    path = trained_resnet(tmp_path)
    slow, fast = (from_file(path, Finetune("linear")) for _ in range(2))
    limits = {"limit_val_batches": 1.0}
    slow_trainer = fit(slow, digits(), **limits)
    data = digits()
    data.setup("fit")
    cache_features(fast, data)
    forwards: list[int] = []
    fast.conv1.register_forward_hook(lambda *_: forwards.append(1))
    fast_trainer = fit(fast, data, **limits)
    assert not forwards  # not one image went through the network
    for name, value in slow.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    for name, metric in slow_trainer.callback_metrics.items():
        assert fast_trainer.callback_metrics[name].item() == pytest.approx(metric.item(), rel=1e-4)
    assert fast_trainer.test(fast, data, verbose=False)[0]["test/acc"] > 0.1  # of images
    assert forwards


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"augment": "affine"}, "augmented"),
        ({"finetune": Finetune("full")}, "more than the last layer"),
        ({"finetune": Finetune("linear", freeze_bn=False)}, "freeze_bn is false"),
        ({"mixup": 0.2}, "mixed"),
    ],
)
def test_features_are_not_computed_once_where_that_is_another_training(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    recipe = {"mixup": change.get("mixup", 0.0)}
    model = from_file(trained_resnet(tmp_path), change.get("finetune", Finetune("linear")), **recipe)
    data = digits(augment=change.get("augment", "none"))
    data.setup("fit")
    assert reason in why_not_cached(model, data)
    with pytest.raises(ValueError, match=reason):
        cache_features(model, data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "lora"}, "finetune.method is lora: it must be one of none, linear, full, gradual, lpft"),
        ({"method": "full", "head_lr": -1.0}, "finetune.head_lr is -1.0: it must be 0 or more"),
        ({"method": "full", "l2sp": float("nan")}, "finetune.l2sp is nan"),
        ({"method": "full", "unfreeze_every": 2}, "only the method gradual has it"),
        ({"method": "gradual", "probe_epochs": 2}, "only the method lpft has it"),
        ({"method": "linear", "l2sp": 0.1}, "nothing to pull back"),
    ],
)
def test_finetune_checks_its_values(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Finetune(**change)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "none"])
def test_fine_tuning_needs_trained_weights(method: str) -> None:
    model = zoo.create_model("lenet5", image_size=16)
    model.finetune = Finetune(method)
    with pytest.raises(ValueError, match="random weights"):
        fit(model, digits())


def test_a_last_layer_without_weights_cannot_be_probed() -> None:
    model, data = zoo.create_model("lenet5_1998", pretrained="mnist"), digits(image_size=32)
    data.use_preprocessing(model.preprocessing)
    for finetune in (Finetune("linear"), Finetune("full", head_lr=0.1)):
        model.finetune = finetune
        with pytest.raises(ValueError, match="last layer of this lenet5_1998 has no weights"):
            fit(model, data)
    model.finetune = Finetune("gradual", unfreeze_every=1)
    watch = Watch()
    fit(model, data, watch, max_epochs=3)
    assert watch.trained == [1, 2, 3]


# The command


def words(path: Path, *more: object) -> tuple[object, ...]:
    return (
        *("fit", "--model", "resnet20", "--model.pretrained", path, "--data", "digits", "--data.image_size", 16),
        *("--data.train_size", 320, "--recipe.batch_size", 16, "--recipe.epochs", EPOCHS, *more),
    )


def test_killed_after_unfreezing_and_resumed_equals_uninterrupted(zoo_main: Zoo, tmp_path: Path) -> None:
    path = trained_resnet(tmp_path)
    settings = words(path, "--finetune", "gradual", "--finetune.unfreeze_every", 1, "--finetune.l2sp", 0.01)
    whole = zoo_main(*settings, "--run_dir", "whole")
    assert whole.status == 0, whole.err
    assert "finetune gradual: of 5 stages, the last 1 from epoch 1, 2 from epoch 2, 3 from epoch 3" in whole.out
    process = subprocess.Popen(
        command(*settings, "--run_dir", "killed"), cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL
    )
    metrics, deadline = tmp_path / "killed/metrics.csv", time.monotonic() + 120
    while not (metrics.exists() and "\n2," in metrics.read_text()):  # two or three stages are open
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resumed = zoo_main("fit", "--config", "killed/config.yaml", "--resume")
    assert resumed.status == 0, resumed.err
    states = [read_checkpoint(tmp_path / run / "checkpoints/last.ckpt") for run in ("whole", "killed")]
    assert not changed(*(state["state_dict"] for state in states))
    assert states[0]["zoo"]["finetune"]["method"] == "gradual"
    refused = zoo_main("fit", "--config", "killed/config.yaml", "--resume", "--finetune", "full")
    assert refused.status == 2
    assert "unfreeze_every is 1: only the method gradual has it" in refused.err
    refused = zoo_main("fit", "--config", "killed/config.yaml", "--resume", "--finetune.l2sp", 0.5)
    assert (refused.status, "finetune.l2sp was 0.01 and is 0.5" in refused.err) == (2, True)


def test_the_command_computes_features_once(zoo_main: Zoo, tmp_path: Path) -> None:
    path = trained_resnet(tmp_path)
    once = zoo_main(*words(path, "--finetune", "linear"), "--run_dir", "once")
    assert once.status == 0, once.err
    assert "the last layer alone, 650 parameters" in once.out
    assert "training images are not augmented" in once.out
    again = zoo_main(*words(path, "--finetune", "linear", "--data.augment", "affine"), "--run_dir", "again")
    assert again.status == 0, again.err
    assert "features are computed anew in every epoch: training images are augmented" in again.out
    before = zoo.load(path).state_dict()
    for run in ("once", "again"):
        after = zoo.load(tmp_path / run / "checkpoints/last.ckpt").state_dict()
        assert changed(before, after) == {"fc.weight", "fc.bias"}


def test_gradual_on_two_processes_is_gradual_on_one() -> None:
    assert run_two_processes("finetune_on_two_processes.py").count("equal") == 1


# One thing after another


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam", "adamw"])
@pytest.mark.parametrize("method", ["gradual", "lpft"])
def test_parameters_join_every_optimizer_later(method: str, optimizer: str, tmp_path: Path) -> None:
    model, watch = from_file(trained_resnet(tmp_path), Finetune(method), optimizer=optimizer), Watch()
    fit(model, digits(), watch)
    assert watch.trained[0] < watch.trained[-1] == 5
    assert "conv1.weight" in watch.changed[-1]


def test_a_loaded_model_trains_in_training_mode(tmp_path: Path) -> None:
    model = zoo.load(trained_resnet(tmp_path))
    model.finetune, before = Finetune("full"), copies(model)
    fit(model, digits())
    assert {name for name in before if "running_" in name} <= changed(before, copies(model))


def test_a_run_that_breaks_off_leaves_nothing_frozen(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise RuntimeError("stopped")

    model = from_file(trained_resnet(tmp_path), Finetune("linear"))
    with pytest.raises(RuntimeError, match="stopped"):
        fit(model, digits(), Stop())
    model.finetune, before = Finetune("full"), copies(model)
    fit(model, digits())
    assert {name for name, _ in model.named_parameters()} <= changed(before, copies(model))


def test_features_are_for_the_last_layer_alone(tmp_path: Path) -> None:
    model, data = from_file(trained_resnet(tmp_path), Finetune("linear")), digits()
    data.setup("fit")
    cache_features(model, data)
    model.finetune = Finetune("full")
    with pytest.raises(ValueError, match="gives features in place of images"):
        fit(model, data)
    data.use_features({})
    before = copies(model)
    fit(model, data)
    assert "conv1.weight" in changed(before, copies(model))


def test_a_new_last_layer_is_not_pulled_back(tmp_path: Path) -> None:
    path, moved = trained_resnet(tmp_path), []
    for strength in (0.0, 9e3):  # what is pulled back loses nine tenths of its way in every step
        model = from_file(path, Finetune("full", l2sp=strength), optimizer="sgd", lr=1e-4, weight_decay=0, momentum=0)
        torch.manual_seed(5)
        model.reset_classifier(10)
        assert not {"fc.weight", "fc.bias"} & set(model.loaded)
        assert model.class_names == []
        before = copies(model)
        fit(model, digits())
        moved.append(
            [float((model.get_parameter(n) - before[n]).detach().norm()) for n in ("fc.weight", "conv1.weight")]
        )
    (free_head, free_stem), (head, stem) = moved
    assert head > 0.7 * free_head
    assert stem < 0.3 * free_stem


def test_other_preprocessing_than_that_of_the_weights_is_said() -> None:
    model, data = zoo.create_model("lenet5", pretrained="mnist"), digits(image_size=32)
    model.finetune = Finetune("full")
    with pytest.warns(UserWarning, match=r"border is 0 and was 2, mean is \[0.3054\] and was \[0.1307\]"):
        fit(model, data, max_epochs=1)
    model, data = zoo.create_model("lenet5", pretrained="mnist"), digits(image_size=32)
    data.use_preprocessing(model.preprocessing)
    fit(model, data, max_epochs=1)  # a warning would be an error
    assert model.preprocessing["mean"] == [0.1307]
