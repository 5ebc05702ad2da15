"""Trained weights for the networks of timm, as timm's own loader fits them, from files that this package has read.

timm's `crop_mode` is not taken over: a few weights were tested on images that were squashed or bordered to a square,
and here the centre is cut out for all.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor

from zoo.registry import nearest
from zoo.timm_backbone import TimmModel, check_backbone, configuration, create_network
from zoo.weight_match import Report

KNOWN = ("bilinear", "bicubic")
"""The interpolations that the data modules have; timm's few others (lanczos, random) become the last of them."""


@dataclass(frozen=True)
class TimmWeights:
    """Where weights of timm lie, and what they need.

    Args:
        backbone: timm's name with the tag of the weights.
        repository: On the Hugging Face hub; empty if they lie elsewhere.
        filename: In the repository.
        url: Their address, if they are not on the hub.
        arguments: What a network for them is built with: classes, channels, image size.
        preprocessing: How images were prepared for them.
    """

    backbone: str
    repository: str
    filename: str
    url: str
    arguments: Mapping[str, Any]
    preprocessing: Mapping[str, Any]


def timm_weights(backbone: str, tag: str | bool) -> TimmWeights:
    """The weights of a network of timm.

    Args:
        backbone: timm's name; its tag, if it has one, names the weights.
        tag: The tag, where the name has none; True for timm's default.

    Raises:
        ValueError: If timm has no such network or weights, or keeps them in a format of their own.
    """
    check_backbone(backbone)
    architecture, _, own_tag = backbone.partition(".")
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if not tags:
        raise ValueError(f"timm has no trained weights of {architecture}")
    wanted = own_tag or tags[0]
    if tag is not True:
        if own_tag and tag != own_tag:
            raise ValueError(f"pretrained is {tag}, but the backbone {backbone} names {own_tag}: say one of them")
        wanted = str(tag)
    elif not own_tag:
        wanted = str(configuration(architecture).tag or tags[0])
    if wanted not in tags:
        raise ValueError(f"timm's {architecture} has no weights '{wanted}'.{nearest(wanted, tags)}")
    facts = configuration(f"{architecture}.{wanted}")
    if not facts.hf_hub_id and (facts.custom_load or not facts.url):
        raise ValueError(f"timm's {architecture}.{wanted} have a format or a place of their own: name a local file")
    channels, _, size = facts.input_size
    preprocessing: dict[str, Any] = {"image_size": size, "in_channels": channels, "border": 0}
    crop = size / math.floor(size / facts.crop_pct)  # timm rounds the resized side down
    preprocessing |= {"mean": list(facts.mean), "std": list(facts.std), "crop": crop}
    preprocessing["interpolation"] = facts.interpolation if facts.interpolation in KNOWN else KNOWN[-1]
    return TimmWeights(
        backbone=f"{architecture}.{wanted}",
        repository=facts.hf_hub_id or "",
        filename=facts.hf_hub_filename or "model.safetensors",
        url=facts.url if isinstance(facts.url, str) else "",
        arguments={"num_classes": facts.num_classes, "in_channels": channels, "image_size": size},
        preprocessing=preprocessing,
    )


def fit_timm_weights(model: TimmModel, tensors: Mapping[str, Tensor], *, keep_output: bool) -> Report:
    """Let timm fit weights to its network: old names, other image sizes, other channels and classes.

    Args:
        model: Its backbone is replaced by one with these weights.
        tensors: As timm's file has them.
        keep_output: Whether to take the last layer too, if it has as many classes.

    Raises:
        ValueError: If the tensors are not those of this network.
    """
    backbone = str(model.hparams["backbone"])
    quiet = logging.getLogger("timm")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        network = create_network(
            backbone,
            model.in_channels,
            model.image_size,
            num_classes=model.num_classes,
            drop_rate=model.hparams["dropout"],
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": dict(tensors)},
        )
    except (RuntimeError, KeyError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"these are not the weights of timm's {backbone}: {reason}") from error
    finally:
        quiet.setLevel(level)
    model.backbone = network.train(model.training)
    model.to(memory_format=torch.channels_last)
    if not keep_output:
        model.backbone.reset_classifier(model.num_classes)
    return _report(model, tensors)


def _report(model: TimmModel, tensors: Mapping[str, Tensor]) -> Report:
    """What became of each tensor: timm tells nobody, but raises if one that it needs is not there."""
    output = {id(tensor) for tensor in model.output.parameters()}
    loaded: list[str] = []
    skipped: list[str] = []
    adapted: list[tuple[str, str]] = []
    for name, value in model.backbone.state_dict(keep_vars=True).items():
        theirs = tensors.get(name)
        ours = f"backbone.{name}"
        if theirs is None:  # the file has it under an old name, which timm's filters know
            loaded.append(ours)
        elif theirs.shape == value.shape:
            is_same = id(value) not in output or bool((theirs.to(value) == value).all())
            (loaded if is_same else skipped).append(ours)
        elif id(value) in output:
            skipped.append(ours)
        else:
            adapted.append((ours, f"{tuple(theirs.shape)} in the file made {tuple(value.shape)}"))
    reason = f"a new last layer for {model.num_classes} classes"
    return Report(tuple(loaded), tuple(adapted), tuple((name, reason) for name in skipped), ())
