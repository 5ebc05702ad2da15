"""Multiply-adds and parameters against published figures, and the stored layer tables against the networks."""

import dataclasses
from typing import get_args

import pytest
import torch

import zoo
from zoo.resnet_blocks import Shortcut
from zoo.summary import stored_summary, summarize
from zoo.timm_backbone import __doc__ as timm_docstring

# Giga-MACs at 224 pixels and 1,000 classes: torchvision's documentation, which counts with fvcore; C by arithmetic.
GIGA_MACS = {
    "alexnet": 0.714,
    "vgg11": 7.609,
    "vgg11_lrn": 7.609,
    "vgg13": 11.308,
    "vgg16c": 11.771,
    "vgg16": 15.470,
    "vgg19": 19.632,
    "resnet18": 1.814,
    "resnet34": 3.664,
    "resnet50": 4.089,
    "resnet101": 7.801,
    "resnet152": 11.514,
}
# Mega-MACs at 32 pixels and 10 classes, by arithmetic.
MEGA_MACS = {
    "resnet20": 40.6,
    "resnet32": 68.9,
    "resnet44": 97.2,
    "resnet56": 125.5,
    "resnet110": 252.9,
    "resnet1202": 2829,
}


@pytest.mark.parametrize("name", GIGA_MACS)
def test_macs_on_imagenet(name: str) -> None:
    assert round(stored_summary(name).macs / 1e9, 3) == GIGA_MACS[name]


@pytest.mark.parametrize("name", MEGA_MACS)
def test_macs_on_cifar(name: str) -> None:
    decimals = 0 if name == "resnet1202" else 1
    assert round(stored_summary(name).macs / 1e6, decimals) == MEGA_MACS[name]


@pytest.mark.parametrize(("name", "published"), [("resnet50", 3.8), ("resnet101", 7.6), ("resnet152", 11.3)])
def test_macs_of_the_papers_bottlenecks(name: str, published: float) -> None:
    """Table 1 counts bottlenecks with the stride in the first 1x1: a flag."""
    reference = dataclasses.asdict(zoo.model_info(name).reference)
    assert summarize(name, **reference, stride_in_1x1=True).macs / 1e9 == pytest.approx(published, abs=0.1)


@pytest.mark.parametrize("name", zoo.list_models())
def test_stored_layer_tables_are_the_networks(name: str) -> None:
    info, stored = zoo.model_info(name), stored_summary(name)
    assert summarize(name, **dataclasses.asdict(info.reference)) == stored, "run: python -m zoo.summary"
    assert stored.parameters == info.parameters
    assert sum(row.parameters for row in stored.layers) == stored.parameters
    assert sum(row.macs for row in stored.layers) == stored.macs
    assert stored.layers[-1].output == (info.reference.num_classes,)


def parameters(name: str, **flags: object) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in zoo.create_model(name, **flags).parameters())


def test_shortcuts_cost_what_the_paper_says() -> None:
    """Section 4.2: identity shortcuts have no parameters, so plain and residual networks are of one size."""
    sizes = {shortcut: parameters("resnet20", shortcut=shortcut) for shortcut in get_args(Shortcut)}
    assert sizes["A"] == sizes["none"] == 269_722
    assert sizes["B"] == sizes["A"] + (16 * 32 + 64) + (32 * 64 + 128)  # two projections with their batch norms
    assert sizes["C"] == sizes["B"] + 3 * (256 + 32) + 2 * (1024 + 64) + 2 * (4096 + 128)  # one in each other block


def test_alexnet_flags_reach_the_known_sizes() -> None:
    at = {"num_classes": 1000, "image_size": 224}
    assert parameters("alexnet_2012", **at, groups=1) == 62_378_344  # one column with the widths of 2012
    assert parameters("alexnet_2012", **at, lrn=False, overlapping=False) == 60_965_224


def test_cifar_head_of_vgg_features() -> None:
    """The convolutions alone, as in the VGG table of published results."""
    sizes = {"vgg11": 9_220_480, "vgg13": 9_404_992, "vgg16c": 9_996_096, "vgg16": 14_714_688, "vgg19": 20_024_384}
    for name, expected in sizes.items():
        with torch.device("meta"):
            features = zoo.create_model(name).features
        assert sum(p.numel() for p in features.parameters()) == expected


def test_mlps_of_the_published_tables() -> None:
    sizes = {(300,): 238_510, (1000,): 795_010, (300, 100): 266_610, (500, 150): 469_160, (800, 800): 1_276_810}
    for hidden, expected in sizes.items():
        assert parameters("mlp", hidden=list(hidden)) == expected


def test_keras_table_has_timms_sizes() -> None:
    rows = [line.split("|")[1:4] for line in (timm_docstring or "").splitlines() if line.startswith("| ")]
    keras = [[cell.strip() for cell in row] for row in rows if row[2].strip()[0].isdigit() and row[0].strip() != "timm"]
    assert len(keras) == 14
    for _, backbone, count in keras:
        assert parameters("timm", backbone=backbone, num_classes=1000, image_size=331) == int(count.replace(",", ""))
