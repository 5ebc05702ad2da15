"""What a checkpoint says of the run that wrote it: checked before a trainer believes it, which would ask too late."""

import math
import re
import reprlib
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from zoo.classifier import ImageClassifier
from zoo.optim import make_optimizer

_VERSION = re.compile(r"[2-9]\.\d+(\.\d+)?((a|b|rc|\.dev|\.post)\d+)?(\+\w+)?")
"""Of Lightning: older ones would be migrated, though they never wrote a checkpoint of this package."""
_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


def check_training_state(checkpoint: Mapping[str, Any], model: ImageClassifier, trainer: Trainer, path: object) -> None:
    """Raise ValueError, with the file's name, unless training of `model` can go on from a checkpoint.

    Every part has to have the form that it has in a run which begins: the optimiser's state the shapes of the model's
    parameters, the counters of the loops whole numbers. Files that callbacks would delete have to be their own.

    Args:
        checkpoint: What `read_checkpoint` returned.
        model: With the recipe, and with what is never trained frozen.
        trainer: One like the one that goes on.
        path: The file.
    """
    try:
        _check_form(checkpoint, {"epoch": 0, "global_step": 0, "pytorch-lightning_version": "", "loops": {}}, "it")
        if not _VERSION.fullmatch(checkpoint["pytorch-lightning_version"]):
            raise ValueError(f"it was written by Lightning {_shown(checkpoint['pytorch-lightning_version'])}")
        _check_form(checkpoint["loops"], {"fit_loop": trainer.fit_loop.state_dict()}, "loops")
        _check_optimizer(checkpoint, model)
        _check_callbacks(checkpoint.get("callbacks", {}))
        if "seen" in checkpoint:
            _check_seen(checkpoint["seen"])
    except ValueError as error:
        raise ValueError(f"'{path}' is not what training can go on from: {error}") from error


def _check_form(found: Any, expected: Any, where: str) -> None:
    """Raise ValueError unless there is everything that is expected, of the same kind and length."""
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            raise ValueError(f"{where} is {_shown(found)}")
        if missing := [name for name in expected if name not in found]:
            raise ValueError(f"{where} has no {', '.join(missing)}")
        for name, value in expected.items():
            _check_form(found[name], value, f"{where}.{name}")
    elif isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            raise ValueError(f"{where} is not a list of {len(expected)}, as it is now")
        for position, value in enumerate(expected):
            _check_form(found[position], value, f"{where}.{position}")
    elif not _is_like(found, expected):
        raise ValueError(f"{where} is {_shown(found)}")


def _is_like(found: Any, expected: Any) -> bool:
    if isinstance(expected, Tensor):
        is_tensor = isinstance(found, Tensor) and found.shape == expected.shape and found.layout == torch.strided
        is_number = is_tensor and found.is_floating_point() and bool(torch.isfinite(found).all())
        return is_number and (found.ndim > 0 or found.item() >= 0)  # single ones count steps
    if isinstance(expected, bool):
        return isinstance(found, bool)
    if isinstance(expected, int | float):
        kinds = int if isinstance(expected, int) else int | float
        return isinstance(found, kinds) and not isinstance(found, bool) and 0 <= found < math.inf
    return isinstance(found, str) if isinstance(expected, str) else isinstance(found, str | int | float | None)


def _shown(found: Any) -> str:
    text = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else reprlib.repr(found)
    return text if text.isprintable() else ascii(text)


def _check_optimizer(checkpoint: Mapping[str, Any], model: ImageClassifier) -> None:
    optimizer = make_optimizer(model, model.stages(), model.recipe, head_lr=model.finetune.head_lr)
    groups = optimizer.state_dict()["param_groups"]
    schedule = LambdaLR(optimizer, lambda _: 1.0).state_dict()
    _check_form(checkpoint, {"optimizer_states": [{"state": {}, "param_groups": groups}]}, "it")
    _check_form(checkpoint, {"lr_schedulers": [schedule]}, "it")
    if [group["params"] for group in _state(checkpoint)["param_groups"]] != [group["params"] for group in groups]:
        raise ValueError("its optimiser divides the parameters otherwise, as an older version did: start the run anew")
    if model.recipe.optimizer != "lbfgs":  # whose state is of all parameters as one
        usual = _state_of_one(model)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for number, state in _state(checkpoint)["state"].items():
            if not isinstance(number, int) or not 0 <= number < len(parameters):
                raise ValueError(f"the optimiser's state has a parameter {_shown(number)}")
            like = parameters[number]
            shaped = {key: like if isinstance(value, Tensor) and value.ndim else value for key, value in usual.items()}
            _check_form(state, shaped, f"the optimiser's state {number}")


def _state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = checkpoint["optimizer_states"][0]
    return state


def _state_of_one(model: ImageClassifier) -> dict[str, Any]:
    """What the recipe's optimiser remembers of a parameter after a step."""
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.grad = torch.zeros(1, 1)
    optimizer = make_optimizer(layer, [layer], model.recipe)
    optimizer.step()
    remembered: dict[str, Any] = optimizer.state_dict()["state"].get(0, {})
    return remembered


def _check_callbacks(callbacks: object) -> None:
    """Raise ValueError if a callback's state names files that are not beside its own: it deletes what it replaces."""
    if not isinstance(callbacks, dict) or not all(isinstance(state, dict) for state in callbacks.values()):
        raise ValueError("its callbacks have no states")
    for state in callbacks.values():
        names = state.get("best_k_models", {})
        if not isinstance(names, dict):
            raise ValueError(f"best_k_models is {_shown(names)}")
        for name in [*(state.get(key, "") for key in _PATHS), *names]:
            folder = str(state.get("dirpath", ""))
            if not isinstance(name, str) or (name and PurePath(name).parent != PurePath(folder)):
                raise ValueError(f"a callback names {_shown(name)}, which is not in {folder!r}")
        if "wait_count" in state:  # of early stopping, whose best score is -inf before there is one
            _check_form(state, {"wait_count": 0, "stopped_epoch": 0, "patience": 0}, "early stopping")
            score = state.get("best_score")
            if not isinstance(score, Tensor) or score.numel() != 1 or bool(score.isnan()):
                raise ValueError(f"early stopping's best_score is {_shown(score)}")
        if "kept" in state:  # of `BestCheckpoint`
            _check_form(state, {"highest": 0.0, "kept": [0.0] * (2 if state["kept"] else 0)}, "the best checkpoint")


def _check_seen(seen: object) -> None:
    """Raise ValueError unless this is what an epoch's averages are made of."""
    images = seen.get("images") if isinstance(seen, dict) else None
    number = len(images) if isinstance(images, list) else 0
    _check_form(seen, {"losses": torch.zeros(number), "images": [0] * number}, "seen")
    assert isinstance(seen, dict)
    correct = seen.get("correct")
    if not isinstance(correct, Tensor) or correct.shape != (number,):
        raise ValueError("seen.correct does not fit the number of images")
