"""`Recipe`: how a network is trained, as plain values in one frozen dataclass."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from zoo.kinds import check_kinds, one_line

OPTIMIZERS = ("sgd", "nesterov", "adam", "adamw", "adagrad", "adadelta", "rmsprop", "lbfgs")
WITHOUT_MOMENTUM = ("adagrad", "adadelta", "lbfgs")
OFF_WITH_LBFGS = {"weight_decay": 0, "layer_decay": 1, "gradient_clip": 0, "max_norm": 0, "scale_lr": False}
"""It has one rate and no decay; its line search needs the gradient of the loss, and a history of unaltered steps."""
SCHEDULES = ("constant", "cosine", "linear", "step")
CLASS_WEIGHTS = ("none", "balanced")
LARGEST_NUMBER = 10**12
"""Of epochs, and of images in a batch: what is larger is a mistake, and no file format has to hold it."""
LOSSES = ("cross_entropy", "mse", "map", "perceptron")


@dataclass(frozen=True)
class Recipe:
    """The single owner of every training setting: nothing else sets the rate, the batch or the length of a run.

    Args:
        optimizer: One of sgd, nesterov, adam, adamw, adagrad, adadelta, rmsprop, lbfgs. What the recipe does not say is
            torch's default. lbfgs (Liu & Nocedal 1989) evaluates the batch up to 25 times in a step, with a line search
            that ends where the strong Wolfe conditions hold; it is for full or large batches, and `lr` is the length
            that the search tries first. It needs weight_decay 0.
        lr: Peak learning rate, for the global batch of `batch_size` images.
        scale_lr: Whether a change of `batch_size` changes `lr` in proportion: the linear scaling rule for sgd (Goyal et
            al. 2017, section 2.1), which wants `warmup_epochs` with large batches. `finetune.head_lr` stays as it is.
        momentum: Momentum of sgd, nesterov and rmsprop (0 is plain RMSProp); beta1 of adam and adamw. adagrad, adadelta
            and lbfgs have none: there it has no effect.
        weight_decay: L2 penalty (decoupled in adamw) on weights; biases and norm parameters are decayed too only
            when `decay_all` is true.
        decay_all: Decay biases and norm parameters as well, as papers before 2017 did.
        l1: Strength of the L1 penalty: times the sum of the absolute values that `weight_decay` is for, it is minimised
            with the loss and not logged as part of it; 0 is off.
        schedule: constant, cosine or linear (both down to zero), or step (divided by 10 at each milestone).
        milestones: Fractions of the run at which the step schedule divides the rate by 10.
        warmup_epochs: Epochs over which the rate grows linearly from near zero; may be fractional.
        batch_size: Images in one batch, over all devices together: with `trainer.accumulate_grad_batches` N, an
            optimiser step, the rate's unit of time, takes N such batches.
        epochs: Passes over the training split.
        early_stopping: Validations in a row, one an epoch if nothing else is said, without a higher accuracy, after
            which the run ends (Prechelt 1998, criterion UP); the schedule stays that of the whole run. 0 is off.
        loss: cross_entropy; mse, the squared distance to one-hot targets; map, the penalty of LeCun et al. 1998, eq. 9;
            perceptron, whose gradient is the perceptron rule.
        class_weights: none; balanced: a class counts in the training loss as the inverse of its share of the training
            images, so that all classes count the same.
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        mixup: Alpha of the Beta distribution of mixup (Zhang et al. 2018); 0 is off.
        cutmix: Alpha of the Beta distribution of CutMix (Yun et al. 2019); 0 is off.
        ema: Decay of an exponential moving average of the weights, used for evaluation; 0 is off.
        swa: Fraction of the run after which the weights at the ends of epochs are averaged, and the average is used for
            evaluation (Izmailov et al. 2018; a constant rate suits it). The statistics of batch normalisation are taken
            anew for it, in one more pass over the training images each time; 0 is off.
        layer_decay: The rate of each stage is this times the rate of the stage after it; 1 is off.
        gradient_clip: Largest global L2 norm of the gradient; 0 is off.
        max_norm: Largest L2 norm of the incoming weights of a hidden unit, a row of a linear layer or a filter of a
            convolution; longer ones are scaled back to it after each step (Srivastava et al. 2014, section 5.1). The
            output layer has no hidden units and is left alone; 0 is off.
        source: Where the values come from.

    Raises:
        ValueError: If a value breaks its rule; the message names both.
    """

    optimizer: str = "sgd"
    lr: float = 0.01
    scale_lr: bool = False
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_all: bool = False
    l1: float = 0.0
    schedule: str = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    warmup_epochs: float = 0.0
    batch_size: int = 128
    epochs: int = 10
    early_stopping: int = 0
    loss: str = "cross_entropy"
    class_weights: str = "none"
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    swa: float = 0.0
    layer_decay: float = 1.0
    gradient_clip: float = 0.0
    max_norm: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        """Check every value once, where it enters."""
        check_kinds(vars(self), type(self), "recipe.")
        object.__setattr__(self, "milestones", tuple(self.milestones))
        _require(self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, f"one of {', '.join(OPTIMIZERS)}")
        _require(self.schedule in SCHEDULES, "schedule", self.schedule, f"one of {', '.join(SCHEDULES)}")
        _require(self.loss in LOSSES, "loss", self.loss, f"one of {', '.join(LOSSES)}")
        weighted = f"one of {', '.join(CLASS_WEIGHTS)}"
        _require(self.class_weights in CLASS_WEIGHTS, "class_weights", self.class_weights, weighted)
        for name in ("batch_size", "epochs"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
            _require(getattr(self, name) <= LARGEST_NUMBER, name, getattr(self, name), f"at most {LARGEST_NUMBER:,}")
        _require(self.lr > 0, "lr", self.lr, "greater than 0")
        for name in (
            "weight_decay",
            "l1",
            "warmup_epochs",
            "early_stopping",
            "mixup",
            "cutmix",
            "gradient_clip",
            "max_norm",
        ):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("momentum", "label_smoothing", "ema", "swa"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        _require(0 < self.layer_decay <= 1, "layer_decay", self.layer_decay, "in (0, 1]")
        _require(
            list(self.milestones) == sorted(self.milestones) and all(0 < m < 1 for m in self.milestones),
            "milestones",
            self.milestones,
            "growing fractions of the run between 0 and 1",
        )
        self._check_together()

    def _check_together(self) -> None:
        """Check the values that do not go with one another."""
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
        _require(
            self.optimizer != "nesterov" or self.momentum > 0,
            "momentum",
            self.momentum,
            "above 0 with nesterov",
        )
        _require(not (self.mixup and self.cutmix), "cutmix", self.cutmix, "0 when mixup is on: choose one")
        _require(not (self.ema and self.swa), "swa", self.swa, "0 when ema is on: choose one")
        for name, off in OFF_WITH_LBFGS.items() if self.optimizer == "lbfgs" else ():
            _require(getattr(self, name) == off, name, getattr(self, name), f"{off} with the optimizer lbfgs")

    def replace(self, **changes: Any) -> "Recipe":
        """A copy with `changes`, checked like any other recipe.

        With `scale_lr`, the rate, changed or not, is for the old batch size: it is multiplied by the new one over that.
        """
        changed = dataclasses.replace(self, **changes)
        if not changed.scale_lr or changed.batch_size == self.batch_size:
            return changed
        return dataclasses.replace(changed, lr=changed.lr * changed.batch_size / self.batch_size)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in checkpoints and result files."""
        return {**dataclasses.asdict(self), "milestones": list(self.milestones)}


def _require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise ValueError(f"recipe.{name} is {one_line(str(value))}: it must be {rule}")
