"""Every family with every normalisation learns: one batch of real digits, its default recipe's optimiser, 20 steps.

Dropout is off, since it works against learning a batch by heart.
"""

import inspect
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

import zoo
from zoo.layers import Norm
from zoo.losses import compute_loss
from zoo.optim import make_optimizer
from zoo.registry import model_class

STEPS = 20
PER_IMAGE = (
    "without shortcuts, instance normalisation passes on little of what the average over positions can tell apart"
)
MORE_STEPS = {
    ("alexnet_2012", "none"): (
        100,
        "the paper's initialisation starts at a plateau: weights of 0.01 beside biases of 1",
    ),
    ("plain18", "instance"): (50, PER_IMAGE),
    ("plain20", "instance"): (100, PER_IMAGE),
    ("resnet20 preactivation", "instance"): (50, "as plain networks, until the branches have grown"),
}
# The smallest of each kind; deeper presets repeat the same blocks.
MODELS = {
    "perceptron": {},
    "softmax": {},
    "mlp": {},
    "lenet5": {},
    "lenet5_1998": {},
    "alexnet": {},
    "alexnet_2012": {},
    "vgg11": {},
    "vgg11_lrn": {},
    "vgg16c": {},
    "resnet18": {},
    "resnet50": {},
    "plain18": {},
    "resnet20": {},
    "plain20": {},
    "resnet20 preactivation": {"preactivation": True},
    "timm": {},
}
IMPOSSIBLE = {("mlp", "instance"), ("perceptron", "instance"), ("softmax", "instance")}


def digits(size: int, channels: int) -> tuple[Tensor, Tensor]:
    """One image of each digit from 0 to 7, enlarged and normalised."""
    data = load_digits()
    chosen = [int(np.flatnonzero(data.target == digit)[0]) for digit in range(8)]
    images = torch.tensor(data.images[chosen], dtype=torch.float32)[:, None]
    images = F.interpolate((images - images.mean()) / images.std(), size=(size, size), mode="bilinear")
    return images.expand(-1, channels, -1, -1).contiguous(), torch.tensor(data.target[chosen])


def cases() -> list[tuple[str, str | None]]:
    names = [(key, norm) for key in MODELS if key != "timm" for norm in get_args(Norm)]
    return [*(case for case in names if case not in IMPOSSIBLE), ("timm", None)]


@pytest.mark.parametrize(("key", "norm"), cases())
def test_loss_falls_under_half_in_twenty_steps(key: str, norm: str | None) -> None:
    name = key.split()[0]
    info = zoo.model_info(name)
    size = max(info.image_size, 8) + (1 if norm == "instance" and info.family_name == "resnet" else 0)
    flags = MODELS[key] | ({"norm": norm} if norm else {})
    if "dropout" in inspect.signature(model_class(name)).parameters:
        flags["dropout"] = 0.0
    torch.manual_seed(0)
    model = zoo.create_model(name, in_channels=1, image_size=size, **flags)
    images, labels = digits(size, 1)
    recipe = model.recipe
    optimizer = make_optimizer(model, model.stages(), recipe, fused=True)
    steps, _ = MORE_STEPS.get((key, norm or ""), (STEPS, ""))
    losses = []
    for step in range(steps + 1):
        logits = model(images)
        loss = compute_loss(recipe.loss, logits, labels)
        losses.append(loss.item())
        if step == steps:
            break
        optimizer.zero_grad()
        loss.backward()
        if recipe.gradient_clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        optimizer.step()
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] / 2, losses
    assert (logits.std(dim=0) > 0).all(), "an output that is the same for all images is dead"
