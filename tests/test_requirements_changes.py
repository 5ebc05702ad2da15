"""REQ-R2, REQ-R1: a run that goes on with any other setting says so or is refused; in another place it is the same."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

import zoo
from tests.conftest import Zoo
from tests.here import assert_one_line, run_here, step
from tests.kill_cases import EPOCHS, SHORT, STEPS
from zoo.datamodules import Digits
from zoo.recipe import Recipe
from zoo.resuming import check_same_run, inexact_changes

FIXED: dict[str, Any] = {
    "optimizer": "adam",
    "lr": 0.5,
    "momentum": 0.5,
    "weight_decay": 0.25,
    "decay_all": True,
    "layer_decay": 0.5,
}
"""Fields of a recipe that the optimiser's state follows from, and another value of each."""
NOTICED: dict[str, Any] = {
    "scale_lr": True,
    "l1": 0.1,
    "schedule": "linear",
    "milestones": (0.3,),
    "warmup_epochs": 2.0,
    "batch_size": 64,
    "early_stopping": 3,
    "loss": "mse",
    "class_weights": "balanced",
    "label_smoothing": 0.1,
    "mixup": 0.2,
    "cutmix": 0.2,
    "ema": 0.9,
    "swa": 0.5,
    "gradient_clip": 1.5,
    "max_norm": 2.0,
}
"""Those that may change if the user says so, and another value of each."""
FREE = {"epochs", "source"}
"""Those that may change: more epochs are what resuming is for."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch, which nothing that is refused changes."""
    folder = tmp_path_factory.mktemp("short")
    words = ("--model=mlp", "--model.hidden=[8]", "--data=digits", "--data.train_size=64", "--recipe.batch_size=16")
    zero = ("--recipe.warmup_epochs=0", "--recipe.optimizer=sgd", "--recipe.lr=0.01", "--no-test")
    assert run_here(folder, "fit", *words, *zero, "--recipe.epochs=1", "--run_dir=run") == 0
    return folder / "run"


def changed(**values: Any) -> tuple[zoo.ImageClassifier, dict[str, Any]]:
    """A model with other values in its recipe, and what a checkpoint says of the one before."""
    model = zoo.create_model("mlp", image_size=8, hidden=[8])
    model.recipe = Recipe()
    before = model.description()
    model.recipe = model.recipe.replace(**values)
    return model, before


def test_every_field_of_a_recipe_is_of_one_kind() -> None:
    """REQ-R2: a new field is a decision: whether a run that goes on may have another value of it."""
    assert {field.name for field in dataclasses.fields(Recipe)} == FIXED.keys() | NOTICED.keys() | FREE


@pytest.mark.parametrize("name", NOTICED)
def test_what_makes_the_rest_of_a_run_another_is_named(name: str) -> None:
    """REQ-R2: alone, with both values; the optimiser's state does not forbid it."""
    model, before = changed(**{name: NOTICED[name]})
    value = model.recipe.as_dict()[name]
    assert inexact_changes(model, before) == [f"recipe.{name} was {before['recipe'][name]} and is {value}"]
    check_same_run(model, before)


def test_a_longer_run_and_another_source_are_the_same_run() -> None:
    """REQ-R2: a shorter one is not."""
    model, before = changed(epochs=11, source="a table")
    assert inexact_changes(model, before) == []
    check_same_run(model, before)
    assert inexact_changes(*changed(epochs=9)) == ["recipe.epochs was 10 and is 9"]


@pytest.mark.parametrize("name", FIXED)
def test_what_the_optimiser_is_made_of_cannot_change(name: str, run: Path, zoo_main: Zoo) -> None:
    """REQ-R2: not even if the user says that the run need not be the same: the checkpoint's value would win."""
    model, before = changed(**{name: FIXED[name]})
    with pytest.raises(
        ValueError, match=rf"^recipe\.{name} was .* and is {FIXED[name]}: it cannot change within a run"
    ):
        check_same_run(model, before)
    option = f"--recipe.{name}={str(FIXED[name]).lower()}"
    for words in ((), ("--resume-inexact",)):
        outcome = zoo_main("fit", f"--config={run}/config.yaml", "--resume", "--recipe.epochs=2", option, *words)
        assert_one_line(outcome, f"recipe.{name} was ", "it cannot change within a run")


OF_RUN = {"dataset", "images", "run_seed", "content", "image_size"}
OF_TRAINER = {"devices", "limit_train_batches", "precision", "accumulate_grad_batches", "max_steps"} | {
    "limit_val_batches",
    "check_val_every_n_epoch",
    "val_check_interval",
}
OF_OPTIONS = {"batch_size", "augment", "normalize", "sampler", "drop_last", "permute_pixels", "crop", "interpolation"}
OF_SPLITS = {"val_size", "class_subset", "train_fraction", "train_size", "kfold", "fold", "seed"}
CHANGES: dict[str, tuple[Any, str]] = {
    "sampler": ("balanced", "sampler was shuffle and is balanced"),
    "drop_last": (False, "drop_last was True and is False"),
    "normalize": ("auto", "normalize was spec and is auto"),
    "permute_pixels": (1, "permute_pixels was None and is 1"),
    "image_size": (16, "image_size was 8 and is 16"),
    "crop": (0.5, "crop was None and is 0.5"),
    "interpolation": ("bicubic", "interpolation was None and is bicubic"),
    "augment": ("none", "augment was affine and is none"),
    "batch_size": (64, "batch_size was 128 and is 64"),
}


def state_of(**options: Any) -> tuple[Digits, dict[str, Any]]:
    data = Digits(num_workers=0, **options)
    data.setup("fit")
    return data, data.state_dict()


def test_what_a_run_remembers_of_its_data() -> None:
    """REQ-R2: all of this is compared when it goes on."""
    data = Digits(num_workers=0)
    data.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.setup("fit")
    assert data.state_dict()["facts"].keys() == OF_RUN | OF_TRAINER | OF_OPTIONS | OF_SPLITS


@pytest.mark.parametrize("name", CHANGES)
def test_another_treatment_of_the_images_is_named(name: str) -> None:
    """REQ-R2: alone, with both values, whichever of the two the run had."""
    (plain, before), (other, now) = state_of(), state_of(**{name: CHANGES[name][0]})
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert other.changes(before, trainer) == [CHANGES[name][1]]
    assert [line.partition(" ")[0] for line in plain.changes(now, trainer)] == [name]
    assert plain.changes(before, trainer) == []


@pytest.mark.parametrize("name", ["sampler", "drop_last", "normalize", "permute_pixels"])
def test_a_run_with_another_treatment_of_the_images_is_refused(name: str, run: Path, zoo_main: Zoo) -> None:
    """REQ-R2: until the user says that it need not be the same."""
    option = f"--data.{name}={str(CHANGES[name][0]).lower()}"
    outcome = zoo_main("fit", f"--config={run}/config.yaml", "--resume", "--recipe.epochs=2", option)
    assert_one_line(outcome, f"not an exact resume: {CHANGES[name][1]};", "--resume-inexact")


def test_a_run_with_images_of_another_size_is_refused(zoo_main: Zoo) -> None:
    """REQ-R2: also where the network takes images of any size."""
    words = (
        "--model=plain20",
        "--data=digits",
        "--data.image_size=16",
        "--data.train_size=32",
        "--recipe.batch_size=16",
    )
    few = ("--recipe.epochs=1", "--trainer.limit_val_batches=1", "--no-test", "--run_dir=run")
    assert zoo_main("fit", *words, *few).status == 0
    outcome = zoo_main("fit", "--config=run/config.yaml", "--resume", "--recipe.epochs=2", "--data.image_size=24")
    assert_one_line(outcome, "not an exact resume: ", " image_size was 16 and is 24", "--resume-inexact")


WORSE = ("--recipe.optimizer=sgd", "--recipe.schedule=constant", "--recipe.lr=0.1", "--recipe.warmup_epochs=3")
"""Trained weights lose more in each epoch, so that the first is the best."""


@pytest.fixture(scope="module")
def after_its_best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended in its third epoch, moved from `run` beside it."""
    folder = tmp_path_factory.mktemp("after")
    words = ("--model=lenet5", "--pretrained=mnist", *SHORT, *WORSE, "--trainer.callbacks+=tests.pulse.Signals")
    assert run_here(folder, "fit", *words, "--run_dir=run", signals=f"SIGTERM train {2 * STEPS + 2}") == 143
    assert step(folder / "run/checkpoints/best.ckpt") < 2 * STEPS < step(folder / "run/checkpoints/last.ckpt")
    return (folder / "run").rename(folder / "moved")


def contents(folder: Path) -> dict[Path, bytes]:
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("is_copied", [False, True], ids=["moved", "copied"])
def test_the_best_epoch_moves_with_its_run(
    is_copied: bool, after_its_best: Path, zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-R1, REQ-R2: it stays the best, it is what is tested, and a run that was copied is left alone."""
    monkeypatch.setenv("ZOO_ALLOW_IMPORTS", "tests")
    old, new = after_its_best.with_name("run"), tmp_path / "run"
    shutil.rmtree(old, ignore_errors=True)
    for copy in (new, old) if is_copied else (new,):
        shutil.copytree(after_its_best, copy)
    outcome = zoo_main("fit", "--config=run/config.yaml", "--resume")
    assert outcome.status == 0, outcome.err
    assert "no best.ckpt" not in outcome.out
    assert (new / "checkpoints/best.ckpt").read_bytes() == (after_its_best / "checkpoints/best.ckpt").read_bytes()
    last = torch.load(new / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == EPOCHS * STEPS
    states = [state for name, state in last["callbacks"].items() if "BestCheckpoint" in name]
    assert [state["best_model_path"] for state in states] == [str(new / "checkpoints/best.ckpt")]
    assert contents(old) == (contents(after_its_best) if is_copied else {})
