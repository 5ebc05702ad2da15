"""From a `Recipe` to an optimiser and a schedule. The rate is a pure function of the step, so resuming is exact."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from zoo.recipe import Recipe


def make_optimizer(
    model: nn.Module, stages: list[nn.Module], recipe: Recipe, *, head_lr: float = 0.0, fused: bool | None = None
) -> torch.optim.Optimizer:
    """The recipe's optimiser over `model`'s trainable parameters; `fused` as torch's optimisers take it."""
    groups = list(parameter_groups(model, stages, recipe, head_lr))
    if recipe.optimizer in ("sgd", "nesterov"):
        nesterov = recipe.optimizer == "nesterov"
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=fused)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=recipe.lr, betas=(recipe.momentum, 0.999), fused=fused)


def parameter_groups(
    model: nn.Module, stages: list[nn.Module], recipe: Recipe, head_lr: float = 0.0
) -> Iterator[dict[str, Any]]:
    """Groups by rate (each stage has its own under `layer_decay`) and by whether weights decay, no more than differ.

    Biases and norm parameters are the tensors with one dimension; they are not decayed unless `decay_all`. The last
    stage, the output layer, has the rate `head_lr` unless that is 0.
    """
    seen: set[int] = set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    # The model itself catches what no stage holds, such as a position embedding: that stands at the input.
    for depth, stage in [*enumerate(stages), (0, model)]:
        owned = [p for p in stage.parameters() if p.requires_grad and id(p) not in seen]
        seen.update(id(p) for p in owned)
        lr = recipe.lr * recipe.layer_decay ** (len(stages) - 1 - depth)
        lr = head_lr if head_lr and depth == len(stages) - 1 and stage is not model else lr
        for parameter in owned:
            decay = recipe.weight_decay if recipe.decay_all or parameter.ndim > 1 else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
    for (lr, decay), parameters in groups.items():
        yield {"params": parameters, "lr": lr, "weight_decay": decay}


def rate_factor(recipe: Recipe, step: int, total_steps: float, steps_per_epoch: float) -> float:
    """What the peak rate is multiplied with at `step` (0 is the first).

    Example:
        >>> [round(rate_factor(Recipe(schedule="cosine"), step, 4, 1), 3) for step in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / (math.ceil(warmup) + 1)
    progress = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if recipe.schedule == "linear":
        return 1 - progress
    if recipe.schedule == "step":
        return float(0.1 ** sum(step / total_steps >= milestone for milestone in recipe.milestones))
    return 1.0
