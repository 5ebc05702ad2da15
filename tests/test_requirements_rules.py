"""Rules of the command, each with the case that it alone refuses; and errors that libraries raise while it trains."""

from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from PIL import Image

import zoo
from tests.conftest import Zoo
from tests.here import assert_one_line
from zoo.cli.effects import OF_TRAINING
from zoo.datamodules import create_datamodule

EARLY_STOPPING = "lightning.pytorch.callbacks.EarlyStopping"
CASES: dict[str, tuple[tuple[object, ...], str]] = {
    "no node": (("--trainer.num_nodes", 0), "trainer.num_nodes is 0: it must be at least 1"),
    "two early ends": (
        (
            *("--recipe.early_stopping", 2, "--trainer.callbacks", EARLY_STOPPING),
            *("--trainer.callbacks.monitor", "val/acc"),
        ),
        "recipe.early_stopping is 2, and EarlyStopping among the callbacks: choose",
    ),
    "two rates of one layer": (
        ("--pretrained", "mnist", "--finetune", "linear", "--finetune.head_lr", 0.01, "--recipe.lr", 0.1),
        "recipe.lr is 0.1: linear trains the last layer alone, which has finetune.head_lr",
    ),
    "an early end that never comes": (
        ("--recipe.early_stopping", 3, "--recipe.epochs", 3),
        "recipe.early_stopping is 3: the run has 3 epochs, leave it out",
    ),
    "an early end after the end": (
        ("--recipe.early_stopping", 3, "--trainer.max_epochs", 2),
        "recipe.early_stopping is 3: the run has 2 epochs, leave it out",
    ),
}
OF_TRAINING_VALUES: dict[str, object] = {
    "max_epochs": 3,
    "min_epochs": 2,
    "max_steps": 30,
    "min_steps": 10,
    "max_time": "00:01:00:00",
    "limit_train_batches": 2,
    "val_check_interval": 0.5,
    "check_val_every_n_epoch": 2,
    "num_sanity_val_steps": 1,
    "log_every_n_steps": 2,
    "enable_checkpointing": False,
    "accumulate_grad_batches": 2,
    "gradient_clip_val": 0.5,
    "gradient_clip_algorithm": "value",
    "sync_batchnorm": True,
    "detect_anomaly": True,
    "reload_dataloaders_every_n_epochs": 1,
    "enable_autolog_hparams": False,
    "enable_model_summary": True,
}
LIMITED = {"validate": ("test", "predict"), "test": ("val", "predict"), "predict": ("val", "test")}
"""Batches that a command does not have."""


@pytest.mark.parametrize("case", CASES)
def test_what_two_settings_say_about_one_thing_is_refused(case: str, zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C3: one line, and no run folder."""
    words, message = CASES[case]
    assert_one_line(zoo_main("fit", "--model", "mlp", *words), message)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model that knows its data."""
    path = tmp_path_factory.mktemp("untrained") / "model.ckpt"
    model, data = zoo.create_model("mlp", image_size=8), create_datamodule("digits")
    model.data = data.describe()
    model.preprocessing, model.class_names = model.data["preprocessing"], model.data["class_names"]
    torch.save({"state_dict": model.state_dict(), "zoo": model.description()}, path)
    return path


def evaluate(
    verb: str, option: str, value: object, zoo_main: Zoo, checkpoint: Path, folder: Path, message: str
) -> None:
    """What a command with one more option than it needs says, in one line."""
    Image.new("L", (8, 8)).save(folder / "black.png")
    images = ("black.png",) if verb == "predict" else ()
    assert_one_line(zoo_main(verb, "--ckpt_path", checkpoint, f"--trainer.{option}", value, *images), message)


def test_every_option_of_training_alone_has_a_case() -> None:
    """REQ-C3: none is taken off the list, and none is added without a value to try."""
    assert OF_TRAINING_VALUES.keys() == set(OF_TRAINING)


@pytest.mark.parametrize("verb", ["test", "validate", "predict"])
@pytest.mark.parametrize("option", OF_TRAINING_VALUES)
def test_every_option_of_training_alone_is_refused(
    verb: str, option: str, zoo_main: Zoo, checkpoint: Path, tmp_path: Path
) -> None:
    """REQ-C3: a command that does not train says so, instead of leaving the option unused."""
    value = OF_TRAINING_VALUES[option]
    message = f"trainer.{option} is {value}: zoo {verb} does not train, leave it out"
    evaluate(verb, option, value, zoo_main, checkpoint, tmp_path, message)


@pytest.mark.parametrize(("verb", "split"), [(verb, split) for verb, splits in LIMITED.items() for split in splits])
def test_limits_of_other_batches_are_refused(
    verb: str, split: str, zoo_main: Zoo, checkpoint: Path, tmp_path: Path
) -> None:
    """REQ-C3: `zoo validate` has no test batches to limit, and so on."""
    message = f"trainer.limit_{split}_batches is 2: zoo {verb} has no such batches, leave it out"
    evaluate(verb, f"limit_{split}_batches", 2, zoo_main, checkpoint, tmp_path, message)


def test_what_lightning_finds_wrong_is_one_line(zoo_main: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-C6: some settings Lightning refuses only when training begins."""

    def refuse(*_: object, **__: object) -> None:
        raise MisconfigurationException("these two\ndo not go together")

    monkeypatch.setattr(L.Trainer, "fit", refuse)
    outcome = zoo_main("fit", "--model", "mlp")
    assert_one_line(outcome)
    assert outcome.err == "zoo: error: these two do not go together\n"


def test_an_image_that_breaks_while_workers_read_is_one_line(
    zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-C6: torch wraps what a worker raised into its traceback; the user reads the file's name and the reason."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    files = [tmp_path / f"insects/train/{name}/{number:02}.png" for name in ("ant", "bee") for number in range(16)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(file)
    fit = L.Trainer.fit

    def break_and_fit(trainer: L.Trainer, model: L.LightningModule, datamodule: L.LightningDataModule) -> None:
        for file in files:
            file.write_bytes(file.read_bytes()[:-30])
        fit(trainer, model, datamodule=datamodule)

    monkeypatch.setattr(L.Trainer, "fit", lambda self, model, datamodule, **_: break_and_fit(self, model, datamodule))
    data = ("--data", "folder", "--data.root", "insects", "--data.image_size", 8, "--data.cache", "false")
    words = ("--data.num_workers", 2, "--recipe.batch_size", 8, "--recipe.epochs", 1)
    outcome = zoo_main("fit", "--model", "mlp", *data, *words)
    assert_one_line(outcome, "insects/train/", ".png: damaged image (")
    assert "Traceback" not in outcome.err
    assert outcome.err.startswith("zoo: error: ")
