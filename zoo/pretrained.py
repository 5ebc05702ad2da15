"""From a name, a file or a place on the hub to a network with trained weights."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from zoo.hub import hub_file, web_file
from zoo.registry import model_class
from zoo.weight_files import read_weights, verify
from zoo.weight_match import Report, fit_weights
from zoo.weights import FOLDER, HUB, SUFFIXES, Weights, default_argument, find_weights, weights_of

if TYPE_CHECKING:
    from zoo.classifier import ImageClassifier


@dataclass(frozen=True)
class Pretrained:
    """Trained tensors, and what their source says about the network that they belong to.

    Args:
        label: What they are called in messages.
        tensors: By name.
        arguments: What a network for them is built with, unless the user says otherwise.
        preprocessing: How images were prepared for them; empty if the source does not say.
        class_names: Names of their classes; empty if the source does not say.
        is_complete: Whether every tensor of the network must be among them.
        through_timm: Whether timm fits them to its network.
    """

    label: str
    tensors: Mapping[str, Tensor]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    is_complete: bool = False
    through_timm: bool = False


def find_pretrained(model: str, source: str | bool, arguments: Mapping[str, Any]) -> Pretrained:
    """Read trained weights for a model.

    Args:
        model: A registered name.
        source: True for the model's first weights; the name of others that the registry lists; for the model `timm`
            True or the tag of timm's weights; a local file; or hf-hub:user/name.
        arguments: What the user says about the network.

    Raises:
        ValueError: If there are no such weights, or they are damaged.
        FileNotFoundError: If there is no such file.
        ConnectionError: If they are on the network, which cannot be reached.
    """
    name = str(source)
    if name.startswith(HUB):
        return _from_file(model, hub_path(name), label=name)
    if "://" in name:
        raise ValueError(f"'{name}' is an address: fetch the file, and name it")
    is_listed = source is True or any(known.name == name for known in weights_of(model))
    if not is_listed and (Path(name).is_file() or "/" in name or name.endswith(SUFFIXES)):
        return _from_file(model, Path(name), label=name)
    if model == "timm":
        return _from_timm(source, arguments)
    return _from_registry(find_weights(model, source, arguments))


def hub_path(name: str) -> Path:
    """The weights file of hf-hub:user/name or hf-hub:user/name@revision, fetched if it is not there."""
    repository, _, revision = name.removeprefix(HUB).partition("@")
    return hub_file(repository, "model.safetensors", revision or None)


def _from_file(model: str, path: Path, *, label: str) -> Pretrained:
    read = read_weights(path)
    if read.description is None:
        return Pretrained(label, read.tensors)
    data, is_same = read.description["data"], read.description["name"] == model
    return Pretrained(
        label,
        read.tensors,
        arguments=read.description["args"] if is_same else {},
        preprocessing=data.get("preprocessing", {}),
        class_names=tuple(data.get("class_names", ())),
    )


def _from_registry(weights: Weights) -> Pretrained:
    if weights.file:
        path = FOLDER / weights.file
        verify(path, weights.sha256, weights.size)
        names = weights.class_names
    else:
        import torchvision

        enum, _, member = weights.entry.partition(".")
        entry = getattr(getattr(torchvision.models, enum), member)
        path, names = web_file(weights.url, weights.sha256), tuple(entry.meta["categories"])
    facts = weights.preprocessing
    shape = {"num_classes": weights.num_classes, "in_channels": facts["in_channels"], "image_size": facts["image_size"]}
    return Pretrained(
        label=f"{weights.model}.{weights.name}",
        tensors=read_weights(path).tensors,
        arguments={**shape, **weights.arguments},
        preprocessing=facts,
        class_names=names,
        is_complete=True,
    )


def _from_timm(source: str | bool, arguments: Mapping[str, Any]) -> Pretrained:
    from zoo.timm_weights import timm_weights

    facts = timm_weights(str(arguments.get("backbone") or default_argument("timm", "backbone")), source)
    path = hub_file(facts.repository, facts.filename) if facts.repository else web_file(facts.url, None)
    return Pretrained(
        label=f"timm/{facts.backbone}",
        tensors=read_weights(path).tensors,
        arguments={**facts.arguments, "backbone": facts.backbone},
        preprocessing=facts.preprocessing,
        is_complete=True,
        through_timm=True,
    )


def create_pretrained(name: str, source: str | bool, arguments: Mapping[str, Any]) -> "ImageClassifier":
    """Build a model and load trained weights into it; lines say what was adapted or not loaded, if anything was."""
    found = find_pretrained(name, source, arguments)
    model = model_class(name)(**{**_known(name, found), **arguments})
    report = apply_pretrained(model, found)
    if report.adapted or report.skipped or report.unused:
        for line in report.lines():
            rank_zero_info(f"{name} from {found.label}: {line}")
    return model


def _known(name: str, found: Pretrained) -> dict[str, Any]:
    """What the weights say about the network, as far as it has such arguments."""
    parameters = inspect.signature(model_class(name)).parameters
    return {key: value for key, value in found.arguments.items() if key in parameters}


def apply_pretrained(model: "ImageClassifier", found: Pretrained, *, keep_output: bool = True) -> Report:
    """Copy trained tensors into a network, and take over the preprocessing and the class names that go with them.

    Args:
        model: A network with random weights.
        found: What `find_pretrained` returned.
        keep_output: Whether to take the last layer too, if it has as many classes.

    Raises:
        ValueError: If tensors are missing or have another shape, from weights that are made for this network.
    """
    if found.through_timm:
        from zoo.timm_backbone import TimmModel
        from zoo.timm_weights import fit_timm_weights

        assert isinstance(model, TimmModel)
        report = fit_timm_weights(model, found.tensors, keep_output=keep_output)
    else:
        # A network for other images has fully connected layers of another size.
        is_same_size = model.any_size or model.image_size == found.arguments.get("image_size")
        if not any(isinstance(layer, nn.Conv2d) for layer in model.modules()):
            is_same_size &= model.in_channels == found.arguments.get("in_channels")
        report = fit_weights(model, found.tensors, keep_output=keep_output, strict=found.is_complete and is_same_size)
    if not report.loaded and not report.adapted:
        raise ValueError(f"nothing in {found.label} fits this {type(model).__name__}: {report.lines()[1]}")
    model.pretrained = found.label
    model.loaded = (*report.loaded, *(name for name, _ in report.adapted))
    model.preprocessing = preprocessing_for(model, found.preprocessing)
    names = {name for name, _ in report.skipped}
    output = {id(tensor) for tensor in model.output.parameters()}
    is_output_new = any(id(tensor) in output for name, tensor in model.named_parameters() if name in names)
    if not is_output_new and len(found.class_names) == model.num_classes:
        model.class_names = list(found.class_names)
    return report


def preprocessing_for(model: "ImageClassifier", preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """A preprocessing for the image size and the channels of this network.

    Where colour becomes grey, mean and deviation are averaged; where grey becomes colour, repeated. Another size has no
    border.
    """
    if not preprocessing:
        return {}
    changed: dict[str, Any] = {"image_size": model.image_size, "in_channels": model.in_channels}
    if preprocessing["image_size"] != model.image_size:
        changed["border"] = 0  # it belongs to a size
    if preprocessing["in_channels"] != model.in_channels:
        for key in ("mean", "std"):
            average = sum(preprocessing[key]) / len(preprocessing[key])
            changed[key] = [average] * model.in_channels
    return {**preprocessing, **changed}
