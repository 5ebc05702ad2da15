"""`Finetune`: which part of a trained network goes on learning, and when. All of it follows from the epoch."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.kinds import check_kinds, one_line

METHODS = ("none", "linear", "full", "gradual", "lpft")


@dataclass(frozen=True)
class Finetune:
    """How trained weights are adapted to new classes.

    What is frozen has no gradient and no optimiser state, and stays in evaluation mode: dropout is off there, and batch
    normalisation uses the statistics that it came with and keeps them.

    Args:
        method: none: everything is trained, also from random weights. linear: the last layer alone. full: everything,
            from the first step. gradual: the last layer first, then stage by stage towards the input (Howard & Ruder
            2018, section 3.3). lpft: the last layer alone, then everything (Kumar et al. 2022).
        freeze_bn: Keep the statistics of batch normalisation in frozen parts. When false, they follow the new images
            though the weights stay.
        head_lr: Peak learning rate of the last layer; 0 is the recipe's.
        l2sp: Strength of the pull of trained weights towards where they started: half of it times the squared distance
            is added to the loss (Li et al. 2018, L2-SP), beside the recipe's weight decay. A new last layer has none. 0
            is off. To resume in Python, give the trainer the model as `create_model(pretrained=...)` made it.
        unfreeze_every: gradual: epochs from one stage to the next; 0 spreads them over the first half of the run.
        probe_epochs: lpft: epochs in which the last layer alone is trained; 0 is the first half of the run.

    Raises:
        ValueError: If a value breaks its rule; the message names both.
    """

    method: str = "none"
    freeze_bn: bool = True
    head_lr: float = 0.0
    l2sp: float = 0.0
    unfreeze_every: int = 0
    probe_epochs: int = 0

    def __post_init__(self) -> None:
        """Check every value once, where it enters."""
        check_kinds(vars(self), type(self), "finetune.")
        if self.method not in METHODS:
            raise ValueError(f"finetune.method is {one_line(self.method)}: it must be one of {', '.join(METHODS)}")
        for name in ("head_lr", "l2sp", "unfreeze_every", "probe_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"finetune.{name} is {getattr(self, name)}: it must be 0 or more")
        for name, method in (("unfreeze_every", "gradual"), ("probe_epochs", "lpft")):
            if getattr(self, name) and self.method != method:
                raise ValueError(f"finetune.{name} is {getattr(self, name)}: only the method {method} has it")
        if not self.freeze_bn and not self.freezes:
            raise ValueError(f"finetune.freeze_bn is false: the method {self.method} freezes nothing")
        if self.l2sp and self.method in ("none", "linear"):
            raise ValueError(f"finetune.l2sp is {self.l2sp}: the method {self.method} has nothing to pull back")

    @property
    def freezes(self) -> bool:
        """Whether anything is frozen at some time of the run."""
        return self.method in ("linear", "gradual", "lpft")

    @property
    def changes(self) -> bool:
        """Whether what is frozen changes during the run."""
        return self.method in ("gradual", "lpft")

    def trained_stages(self, stages: int, epoch: int, epochs: int | None) -> int:
        """How many stages, counted from the output, are trained in an epoch (0 is the first).

        Args:
            stages: How many there are.
            epoch: The epoch.
            epochs: Epochs of the whole run; None if it has no end, which needs a schedule with numbers of its own.

        Example:
            >>> [Finetune("gradual").trained_stages(4, epoch, epochs=8) for epoch in range(8)]
            [1, 2, 3, 4, 4, 4, 4, 4]
        """
        if self.method == "linear":
            return 1
        if self.method == "lpft":
            return 1 if epoch < (self.probe_epochs or (epochs or 0) // 2) else stages
        if self.method == "gradual":
            if self.unfreeze_every:
                return min(stages, 1 + epoch // self.unfreeze_every)
            return min(stages, 1 + int(epoch * (stages - 1) / max(1.0, (epochs or 0) / 2 - 1)))
        return stages

    def most_trained(self, stages: int) -> int:
        """How many stages, counted from the output, are trained at some time of the run."""
        return 1 if self.method == "linear" else stages

    def check(self, name: str, output: nn.Module, *, is_trained: bool, is_endless: bool) -> None:
        """Raise ValueError if a network or a run cannot be fine-tuned in this way.

        Args:
            name: The network's, for the message.
            output: Its last layer.
            is_trained: Whether it has trained weights.
            is_endless: Whether the run has no last epoch.
        """
        needs_output = self.method in ("linear", "lpft")
        if (needs_output or self.head_lr) and next(output.parameters(), None) is None:
            what = f"method is {self.method}" if needs_output else f"head_lr is {self.head_lr}"
            raise ValueError(f"finetune.{what}, but the last layer of this {name} has no weights: use full")
        if self.method != "none" and not is_trained:
            raise ValueError(f"finetune.method is {self.method}, but {name} has random weights: load trained ones")
        if is_endless and self.changes and not (self.unfreeze_every or self.probe_epochs):
            field = "unfreeze_every" if self.method == "gradual" else "probe_epochs"
            raise ValueError(f"finetune.method is {self.method}, and the run has no last epoch: set finetune.{field}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in checkpoints and result files."""
        return dataclasses.asdict(self)


def freeze(model: nn.Module, stages: list[nn.Module], trained: int) -> None:
    """Let the last `trained` stages have gradients, and nothing else; when it is all of them, every parameter."""
    is_whole = trained >= len(stages)
    for parameter in model.parameters():
        parameter.requires_grad_(is_whole)
        if not is_whole:
            parameter.grad = None
    for stage in stages[len(stages) - trained :]:
        stage.requires_grad_(True)


def freeze_modes(model: nn.Module, stages: list[nn.Module], trained: int, *, freeze_bn: bool) -> None:
    """Put all layers but those of the last `trained` stages into evaluation mode."""
    if trained >= len(stages):
        return
    for child in model.children():
        child.eval()
    for stage in stages[len(stages) - trained :]:
        stage.train()
    if not freeze_bn:
        for layer in model.modules():
            if isinstance(layer, _BatchNorm):
                layer.train()


def start_penalty(model: nn.Module, start: dict[str, Tensor]) -> Tensor | float:
    """Half the squared distance of the trained parameters from where they started (Li et al. 2018, eq. 2)."""
    parameters = dict(model.named_parameters())
    moved = [(parameters[name], value) for name, value in start.items() if parameters[name].requires_grad]
    return 0.5 * sum((parameter - value.to(parameter)).square().sum() for parameter, value in moved)
