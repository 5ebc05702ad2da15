"""Reading checkpoints without running code, and writing them so that a crash leaves the previous one intact."""

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from zoo.classifier import ImageClassifier
from zoo.description import check_description, is_ours
from zoo.finetune import Finetune
from zoo.pretrained import hub_path
from zoo.recipe import Recipe
from zoo.registry import MODELS, create_model, model_class, nearest
from zoo.weight_files import atomic_file, read_weights
from zoo.weights import HUB, SUFFIXES


def load(where: str | os.PathLike[str]) -> ImageClassifier:
    """A trained model, in evaluation mode on the CPU.

    Only tensors and plain values are read: loading a model never runs code.

    Args:
        where: A checkpoint or an exported safetensors file of this package; MODEL.WEIGHTS, such as lenet5.mnist, for
            weights that `zoo info` lists; or hf-hub:user/name for a model that somebody published.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not such a checkpoint, or is damaged.
        ConnectionError: If it is on the network, which cannot be reached.

    Example:
        >>> model = load("runs/lenet5-mnist/2026-01-31_12-00-00/checkpoints/best.ckpt")  # doctest: +SKIP
        >>> model.class_names[:3]  # doctest: +SKIP
        ['0', '1', '2']
    """
    name = str(where)
    listed, _, weights = name.partition(".")
    if listed in MODELS and weights and not name.endswith(SUFFIXES) and not Path(name).exists():
        model = create_model(listed, pretrained=weights).eval()
        model.data = {"name": weights.partition("_")[0], "args": {}, "class_names": model.class_names}
        return model
    if name.startswith(HUB):
        return _load_file(hub_path(name), name)
    return _load_file(where, name)


def _load_file(path: str | os.PathLike[str], name: str) -> ImageClassifier:
    checkpoint = read_checkpoint(path)
    facts = checkpoint["zoo"]
    try:  # the class itself, not `create_model`: that would take `pretrained` from the file, and fetch what it names
        model = model_class(facts["name"])(**facts["args"])
        model.recipe, model.finetune = Recipe(**facts["recipe"]), Finetune(**facts.get("finetune", {}))
    except TypeError as error:
        raise ValueError(f"'{name}' describes its model wrongly: {' '.join(str(error).split())}") from error
    load_weights(model, checkpoint, name)
    model.pretrained = facts.get("pretrained", "")
    model.loaded = tuple(checkpoint["state_dict"])
    model.data = facts["data"]
    model.preprocessing = facts["data"].get("preprocessing", {})
    model.class_names = facts["data"].get("class_names", [])
    return model.eval()


def load_weights(model: ImageClassifier, checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Copy the weights of a checkpoint that `read_checkpoint` returned into `model`.

    Raises:
        ValueError: If the network in the checkpoint is another one; the message names the first difference.
    """
    theirs, ours = checkpoint["state_dict"], model.state_dict()
    for name in [*ours, *theirs]:
        shapes = [tuple(state[name].shape) if name in state else "none" for state in (theirs, ours)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"'{path}' does not fit {type(model).__name__} as asked for: {name} is {shapes[0]} in the checkpoint "
                f"and {shapes[1]} in the model"
            )
    model.load_state_dict(theirs)


def read_checkpoint(path: str | os.PathLike[str], *, must_be_registered: bool = True) -> dict[str, Any]:
    """A checkpoint of this package as a dictionary of tensors and plain values.

    Args:
        path: A local file.
        must_be_registered: Whether the model in it has to be one that `create_model` can build.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is an address, no checkpoint, damaged, not from this package, or of an unknown model.
    """
    if "://" in str(path):
        raise ValueError(f"'{path}' is an address: checkpoints are read from local files only")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at '{path}'")
    if Path(path).suffix == ".safetensors":
        read = read_weights(path)
        checkpoint: Any = {"zoo": read.description, "state_dict": read.tensors}
        return _checked(checkpoint, path, must_be_registered=must_be_registered)
    try:
        with Path(path).open("rb") as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # a foreign file: it is refused just below
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # reading a damaged file raises whatever the damage leads to
        raise ValueError(f"'{path}' is not a checkpoint, is truncated, or holds more than tensors") from error
    return _checked(checkpoint, path, must_be_registered=must_be_registered)


def _checked(checkpoint: Any, path: str | os.PathLike[str], *, must_be_registered: bool) -> dict[str, Any]:
    if not isinstance(checkpoint, dict) or not is_ours(checkpoint.get("zoo")) or "state_dict" not in checkpoint:
        raise ValueError(f"'{path}' is not a checkpoint of this package: it does not say which model it holds")
    check_description(checkpoint["zoo"], path)
    name = checkpoint["zoo"]["name"]
    if must_be_registered and name not in MODELS:
        raise ValueError(f"'{path}' holds the model '{name}', which is not registered.{nearest(str(name), MODELS)}")
    return checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk, then renames: the previous checkpoint survives any failure."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Save `checkpoint` at the local `path`.

        Raises:
            OSError: If the disk is full or the folder cannot be written to.
        """
        with atomic_file(path) as file:
            torch.save(checkpoint, file)
