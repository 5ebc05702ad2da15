"""Models from checkpoints and other files of weights: what a file says is checked before it is believed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from zoo.classifier import ImageClassifier
from zoo.description import check_description, check_like, is_ours, wrong
from zoo.finetune import Finetune
from zoo.pretrained import hub_path
from zoo.recipe import Recipe
from zoo.registry import MODELS, create_model, model_class, nearest
from zoo.weight_files import check_tensors, read_content
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


def load_as(network: type[ImageClassifier], path: str | os.PathLike[str]) -> ImageClassifier:
    """A trained model of this class, in evaluation mode on the CPU.

    Args:
        network: The model's class, one that it inherits from, or a class of the caller's own, which no name stands for.
        path: What `load` takes; for a class of the caller's own, a checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds a model of another class, or `load` refuses it.
        ConnectionError: If it is on the network, which cannot be reached.
    """
    name = network.__name__
    if name not in MODELS and Path(path).is_file():
        checkpoint = read_checkpoint(path, must_be_registered=False)
        if checkpoint["zoo"]["name"] == name:
            return _rebuild(network, checkpoint, str(path))
    model = load(path)
    if not isinstance(model, network):
        raise ValueError(f"'{path}' holds the model '{type(model).__name__}', which is no {name}: zoo.load loads any")
    return model


def _load_file(path: str | os.PathLike[str], name: str) -> ImageClassifier:
    checkpoint = read_checkpoint(path)
    # The class itself, not `create_model`: that would take `pretrained` from the file, and fetch what it names.
    return _rebuild(model_class(checkpoint["zoo"]["name"]), checkpoint, name)


def _rebuild(network: type[ImageClassifier], checkpoint: dict[str, Any], name: str) -> ImageClassifier:
    facts = checkpoint["zoo"]
    _check_network(network, checkpoint, name)
    model = network(**facts["args"])
    model.recipe, model.finetune = Recipe(**facts["recipe"]), Finetune(**facts["finetune"])
    load_weights(model, checkpoint, name)
    model.pretrained = facts.get("pretrained", "")
    model.loaded = tuple(checkpoint["state_dict"])
    model.data = facts["data"]
    model.preprocessing = facts["data"].get("preprocessing", {})
    model.class_names = facts["data"].get("class_names", [])
    return model.eval()


def _check_network(network: type[ImageClassifier], checkpoint: dict[str, Any], name: str) -> None:
    """Build it without memory for its weights, and compare it with the file: its arguments may ask for any size."""
    facts, tensors = checkpoint["zoo"], len(checkpoint["state_dict"])
    try:
        with torch.device("meta"), _at_most(20 * tensors + 1000):
            sketch = network(**facts["args"])
    except Exception as error:  # the arguments are the file's
        raise wrong(name, error) from error
    _check_fit(sketch, checkpoint, name)
    images = facts["data"].get("preprocessing")
    expected = {"in_channels": sketch.in_channels} | ({} if sketch.any_size else {"image_size": sketch.image_size})
    for key, value in expected.items():
        if images and images[key] != value:
            raise wrong(name, f"its network takes images of {key} {value}, and its data have {images[key]}")
    if len(facts["data"].get("class_names", ())) > sketch.num_classes:
        raise wrong(name, f"it has more class_names than num_classes, {sketch.num_classes}")


@contextmanager
def _at_most(parameters: int) -> Iterator[None]:
    """Raise ValueError once networks that are built here have more parameter tensors: a depth may be any number."""
    made = 0

    def count(*_: object) -> None:
        nonlocal made
        made += 1
        if made > parameters:
            raise ValueError("its network has many more layers than the file has tensors")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def load_weights(model: ImageClassifier, checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Copy the weights of a checkpoint that `read_checkpoint` returned into `model`.

    Raises:
        ValueError: If the network in the checkpoint is another one, or its weights are not finite; the message names
            the first difference.
    """
    _check_fit(model, checkpoint, path)
    for name, tensor in checkpoint["state_dict"].items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"'{path}' holds nan or infinity in {name}: the training diverged, or the file is damaged")
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:  # of kinds of numbers that torch cannot convert
        raise ValueError(f"'{path}' does not fit {type(model).__name__}: {' '.join(str(error).split())}") from error


def _check_fit(model: ImageClassifier, checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Raise ValueError unless names, shapes and kinds of numbers are those of the model."""
    theirs, ours = checkpoint["state_dict"], model.state_dict()
    for name in [*ours, *theirs]:
        found, expected = (_form(state.get(name)) for state in (theirs, ours))
        if found != expected:
            raise ValueError(
                f"'{path}' does not fit {type(model).__name__} as asked for: {name} is {found} in the checkpoint "
                f"and {expected} in the model"
            )


def _form(tensor: Tensor | None) -> str:
    """A tensor's shape and, if its numbers are whole, that they are."""
    if tensor is None:
        return "none"
    return f"{tuple(tensor.shape)}" + ("" if tensor.is_floating_point() else " of whole numbers")


def read_checkpoint(path: str | os.PathLike[str], *, must_be_registered: bool = True) -> dict[str, Any]:
    """A checkpoint of this package as a dictionary of tensors and plain values; its recipe and finetune are complete.

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
    checkpoint = read_content(path)
    if not is_ours(checkpoint.get("zoo")) or not isinstance(checkpoint.get("state_dict"), dict):
        raise ValueError(f"'{path}' is not a checkpoint of this package: it does not say which model it holds")
    check_parts(checkpoint, path)
    name = checkpoint["zoo"]["name"]
    if must_be_registered and name not in MODELS:
        raise ValueError(f"'{path}' holds the model '{name}', which is not registered.{nearest(name, MODELS)}")
    return checkpoint


def check_parts(checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Raise ValueError unless weights and description have their form; recipe and finetune are complete then."""
    tensors, facts = checkpoint["state_dict"], checkpoint["zoo"]
    if not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()):
        raise ValueError(f"'{path}' is damaged: its state_dict holds more than tensors with names")
    check_tensors(tensors, path)
    check_description(facts, path)
    for key, kind in (("recipe", Recipe), ("finetune", Finetune)):
        said = facts.get(key, {})
        check_like(said, kind().as_dict(), path)
        try:
            facts[key] = kind(**said).as_dict()
        except ValueError as error:
            raise wrong(path, error) from error
