"""Training goes on from what a run wrote, whatever its optimiser, and from nothing else."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

import zoo
from zoo.checkpoint import read_checkpoint
from zoo.classifier import ImageClassifier
from zoo.datamodules import Fake
from zoo.training_state import check_training_state

RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd"},
    "plain sgd": {"optimizer": "sgd", "momentum": 0.0},
    "nesterov": {"optimizer": "nesterov", "layer_decay": 0.5},
    "adam": {"optimizer": "adam", "decay_all": True},
    "adamw": {"optimizer": "adamw", "ema": 0.9},
    "adagrad": {"optimizer": "adagrad"},
    "adadelta": {"optimizer": "adadelta"},
    "rmsprop": {"optimizer": "rmsprop"},
    "lbfgs": {"optimizer": "lbfgs", "weight_decay": 0.0},
}


def trainer(steps: int = 2, **settings: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return L.Trainer(**{**quiet, "max_steps": steps, "enable_checkpointing": False, **settings})


def trained(recipe: dict[str, Any], path: Path, method: str = "none") -> ImageClassifier:
    """A small network after two steps, in the middle of an epoch, and its checkpoint."""
    model = fresh(recipe, method)
    ours = trainer()
    ours.fit(model, datamodule=Fake(num_samples=60, image_size=16, num_classes=3, num_workers=0))
    ours.save_checkpoint(path)
    return model


def fresh(recipe: dict[str, Any], method: str = "none") -> ImageClassifier:
    torch.manual_seed(0)
    model = zoo.create_model("lenet5", num_classes=3, in_channels=3, image_size=16, norm="batch")
    model.loaded = tuple(model.state_dict())
    model.recipe = model.recipe.replace(**{"lr": 0.01, "batch_size": 10, "schedule": "constant", **recipe})
    model.finetune = zoo.Finetune(method, probe_epochs=1 if method == "lpft" else 0)
    model.prepare_finetune()
    return model


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_run_wrote_is_taken(name: str, tmp_path: Path) -> None:
    trained(RECIPES[name], tmp_path / "a.ckpt")
    check_training_state(read_checkpoint(tmp_path / "a.ckpt"), fresh(RECIPES[name]), trainer(), "a.ckpt")


@pytest.mark.parametrize("method", ["linear", "full", "lpft"])
def test_what_a_run_wrote_in_which_parts_were_frozen(method: str, tmp_path: Path) -> None:
    trained({"optimizer": "adam"}, tmp_path / "a.ckpt", method)
    check_training_state(
        read_checkpoint(tmp_path / "a.ckpt"), fresh({"optimizer": "adam"}, method), trainer(), "a.ckpt"
    )


def put(*place: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set one thing in a checkpoint."""

    def change(checkpoint: dict[str, Any]) -> None:
        part = checkpoint
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value

    return change


def drop(*place: Any) -> Callable[[dict[str, Any]], None]:
    def change(checkpoint: dict[str, Any]) -> None:
        part = checkpoint
        for key in place[:-1]:
            part = part[key]
        del part[place[-1]]

    return change


PROGRESS = ("loops", "fit_loop", "epoch_progress", "current", "completed")
FIRST = ("optimizer_states", 0, "state", 0)
CALLBACK = {"dirpath": "/run/checkpoints", "best_model_path": "/run/checkpoints/best.ckpt", "best_k_models": {}}
WRONG: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no step": (drop("global_step"), "it has no global_step"),
    "a step before the first": (put("global_step", value=-1), "global_step is -1"),
    "a step that is true": (put("global_step", value=True), "global_step is True"),
    "no version": (put("pytorch-lightning_version", value=2), "pytorch-lightning_version is 2"),
    "no number of a version": (put("pytorch-lightning_version", value="x"), "it was written by Lightning 'x'"),
    "a version that had no such checkpoints": (put("pytorch-lightning_version", value="1.5.0"), "Lightning '1.5.0'"),
    "steps before the first": (put(*FIRST, "step", value=torch.tensor(-1.0)), "state 0.step is a tensor ()"),
    "no loops": (put("loops", value=[]), "it.loops is []"),
    "a count that is text": (put(*PROGRESS, value="3"), "epoch_progress.current.completed is '3'"),
    "no count": (drop(*PROGRESS[:-1]), "loops.fit_loop.epoch_progress has no current"),
    "two optimisers": (put("optimizer_states", value=[{}, {}]), "it.optimizer_states is not a list of 1"),
    "fewer groups": (drop("optimizer_states", 0, "param_groups", 0), "param_groups is not a list of 2"),
    "no rate": (put("optimizer_states", 0, "param_groups", 0, "lr", value="x"), "param_groups.0.lr is 'x'"),
    "other parameters": (
        put("optimizer_states", 0, "param_groups", 0, "params", 0, value=1),
        "its optimiser divides the parameters otherwise",
    ),
    "a shape that would be read beyond": (
        put(*FIRST, "exp_avg", value=torch.zeros(1)),
        "state 0.exp_avg is a tensor (1,)",
    ),
    "a moment that is no number": (
        put(*FIRST, "exp_avg_sq", value=torch.full((6, 3, 5, 5), torch.nan)),
        "state 0.exp_avg_sq is a tensor (6, 3, 5, 5)",
    ),
    "no moment": (drop(*FIRST, "exp_avg"), "the optimiser's state 0 has no exp_avg"),
    "a parameter too many": (
        put("optimizer_states", 0, "state", 99, value={}),
        "the optimiser's state has a parameter 99",
    ),
    "no schedule": (drop("lr_schedulers"), "it has no lr_schedulers"),
    "averages without images": (put("seen", value={"losses": 1}), "seen has no images"),
    "averages of others": (
        put("seen", value={"losses": torch.ones(2), "correct": torch.ones(1), "images": [3, 4]}),
        "seen.correct does not fit",
    ),
    "callbacks that are text": (put("callbacks", value="none"), "its callbacks have no states"),
    "a file of somebody else's": (
        put("callbacks", value={"best": {**CALLBACK, "kth_best_model_path": "/run/checkpoints/../../home"}}),
        "a callback names '/run/checkpoints/../../home', which is not in '/run/checkpoints'",
    ),
    "a file in another place": (
        put("callbacks", value={"best": {**CALLBACK, "best_k_models": {"s3://bucket/x": torch.ones(())}}}),
        "a callback names 's3://bucket/x'",
    ),
    "no best loss": (
        put("callbacks", value={"best": {**CALLBACK, "highest": 0.5, "kept": [0.5, "x"]}}),
        "the best checkpoint.kept.1 is 'x'",
    ),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("run") / "a.ckpt"
    trained({"optimizer": "adam"}, path)
    return read_checkpoint(path)


@pytest.mark.parametrize("name", WRONG)
def test_what_no_run_wrote_is_refused(name: str, sound: dict[str, Any]) -> None:
    change, message = WRONG[name]
    checkpoint = copy.deepcopy(sound)
    change(checkpoint)
    with pytest.raises(ValueError) as caught:
        check_training_state(checkpoint, fresh({"optimizer": "adam"}), trainer(), "a.ckpt")
    assert str(caught.value).startswith("'a.ckpt' is not what training can go on from: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
