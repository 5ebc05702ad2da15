"""`Recipe`: how a network is trained, as plain values in one frozen dataclass."""

import dataclasses
from dataclasses import dataclass
from typing import Any

OPTIMIZERS = ("sgd", "nesterov", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "linear", "step")
CLASS_WEIGHTS = ("none", "balanced")
LOSSES = ("cross_entropy", "mse", "map", "perceptron")


@dataclass(frozen=True)
class Recipe:
    """The single owner of every training setting: nothing else sets the rate, the batch or the length of a run.

    Args:
        optimizer: One of sgd, nesterov, adam, adamw.
        lr: Peak learning rate, for the global batch of `batch_size` images.
        momentum: Momentum of sgd and nesterov; beta1 of adam and adamw.
        weight_decay: L2 penalty (decoupled in adamw) on weights; biases and norm parameters are decayed too only
            when `decay_all` is true.
        decay_all: Decay biases and norm parameters as well, as papers before 2017 did.
        schedule: constant, cosine or linear (both down to zero), or step (divided by 10 at each milestone).
        milestones: Fractions of the run at which the step schedule divides the rate by 10.
        warmup_epochs: Epochs over which the rate grows linearly from near zero; may be fractional.
        batch_size: Images in one optimiser step, over all devices together.
        epochs: Passes over the training split.
        loss: cross_entropy; mse, the squared distance to one-hot targets; map, the penalty of LeCun et al. 1998, eq. 9;
            perceptron, whose gradient is the perceptron rule.
        class_weights: none; balanced: a class counts in the training loss as the inverse of its share of the training
            images, so that all classes count the same.
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        mixup: Alpha of the Beta distribution of mixup (Zhang et al. 2018); 0 is off.
        cutmix: Alpha of the Beta distribution of CutMix (Yun et al. 2019); 0 is off.
        ema: Decay of an exponential moving average of the weights, used for evaluation; 0 is off.
        layer_decay: The rate of each stage is this times the rate of the stage after it; 1 is off.
        gradient_clip: Largest global L2 norm of the gradient; 0 is off.
        source: Where the values come from.

    Raises:
        ValueError: If a value breaks its rule; the message names both.
    """

    optimizer: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_all: bool = False
    schedule: str = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    warmup_epochs: float = 0.0
    batch_size: int = 128
    epochs: int = 10
    loss: str = "cross_entropy"
    class_weights: str = "none"
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    layer_decay: float = 1.0
    gradient_clip: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        """Check every value once, where it enters."""
        object.__setattr__(self, "milestones", tuple(self.milestones))
        _require(self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, f"one of {', '.join(OPTIMIZERS)}")
        _require(self.schedule in SCHEDULES, "schedule", self.schedule, f"one of {', '.join(SCHEDULES)}")
        _require(self.loss in LOSSES, "loss", self.loss, f"one of {', '.join(LOSSES)}")
        weighted = f"one of {', '.join(CLASS_WEIGHTS)}"
        _require(self.class_weights in CLASS_WEIGHTS, "class_weights", self.class_weights, weighted)
        for name in ("batch_size", "epochs"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.lr > 0, "lr", self.lr, "greater than 0")
        for name in ("weight_decay", "warmup_epochs", "mixup", "cutmix", "gradient_clip"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("momentum", "label_smoothing", "ema"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        _require(0 < self.layer_decay <= 1, "layer_decay", self.layer_decay, "in (0, 1]")
        _require(
            list(self.milestones) == sorted(self.milestones) and all(0 < m < 1 for m in self.milestones),
            "milestones",
            self.milestones,
            "growing fractions of the run between 0 and 1",
        )
        is_entropy = self.loss == "cross_entropy"
        _require(
            is_entropy or not self.label_smoothing,
            "label_smoothing",
            self.label_smoothing,
            f"0 with the loss {self.loss}",
        )
        _require(
            is_entropy or self.class_weights == "none",
            "class_weights",
            self.class_weights,
            f"none with the loss {self.loss}",
        )
        _require(not (self.mixup and self.cutmix), "cutmix", self.cutmix, "0 when mixup is on: choose one")

    def replace(self, **changes: Any) -> "Recipe":
        """A copy with `changes`, checked like any other recipe."""
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in checkpoints and result files."""
        return {**dataclasses.asdict(self), "milestones": list(self.milestones)}


def _require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise ValueError(f"recipe.{name} is {value}: it must be {rule}")
