"""The training losses: from logits `(N, num_classes)` and labels `(N,)` or target probabilities to one number."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.optim import is_decayed
from zoo.recipe import Recipe

RUBBISH_PENALTY = 0.1
"""j in eq. 9 of LeCun et al. 1998: the penalty of the class "none of these". The paper says that it is positive."""


def compute_loss(
    name: str, logits: Tensor, targets: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """The loss that a recipe calls `name`, averaged over the batch.

    `label_smoothing` and `class_weights` `(num_classes,)` are for cross-entropy.
    """
    if name == "cross_entropy":
        return F.cross_entropy(logits, targets, weight=class_weights, label_smoothing=label_smoothing)
    if logits.dtype in (torch.float16, torch.bfloat16):  # as autocast does for cross-entropy
        logits = logits.float()
    return LOSSES[name](logits, probabilities(logits, targets))


def balanced_weights(counts: list[int] | None, num_classes: int) -> Tensor:
    """Weights `(num_classes,)` with which every class counts the same: scikit-learn's "balanced".

    Raises:
        ValueError: The data module does not tell how many training images each class has, or a class has none.
    """
    if counts is None:
        raise ValueError("recipe.class_weights is balanced: the data module must tell its class_counts")
    if 0 in counts:
        raise ValueError(f"recipe.class_weights is balanced, but class {counts.index(0)} has no training images")
    weights = torch.zeros(num_classes)  # outputs without a class count nothing
    weights[: len(counts)] = sum(counts) / (len(counts) * torch.tensor(counts))
    return weights


def mean_squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    """Half the squared distance between the outputs and the targets: 1 for the image's class, 0 for the others."""
    return (logits - targets).square().sum(dim=1).mean() / 2


def maximum_a_posteriori(logits: Tensor, targets: Tensor) -> Tensor:
    """Eq. 9 of LeCun et al. 1998: y_D + log(exp(-j) + sum_i exp(-y_i)), where a logit is minus the penalty y."""
    rubbish = torch.full_like(logits[:, :1], -RUBBISH_PENALTY)
    everything = torch.cat([logits, rubbish], dim=1).logsumexp(dim=1)
    return (everything - (logits * targets).sum(dim=1)).mean()


def perceptron(logits: Tensor, targets: Tensor) -> Tensor:
    """How far the image's class is behind the winner: its gradient is the perceptron rule (Rosenblatt 1958)."""
    return (logits.amax(dim=1) - (logits * targets).sum(dim=1)).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mean_squared_error,
    "map": maximum_a_posteriori,
    "perceptron": perceptron,
}


def l1_penalty(model: nn.Module, recipe: Recipe) -> Tensor | float:
    """The sum of the absolute values of the trained parameters that the recipe's weight decay is for."""
    return sum(p.abs().sum() for p in model.parameters() if p.requires_grad and is_decayed(p, recipe))


def probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """Labels as one-hot rows; target probabilities, as mixup makes them, as they are."""
    if targets.is_floating_point():
        return targets
    return F.one_hot(targets, logits.shape[1]).to(logits.dtype)


def mix(images: Tensor, labels: Tensor, recipe: Recipe, num_classes: int) -> tuple[Tensor, Tensor]:
    """Images `(N, C, H, W)` mixed with one another as the recipe says, and their targets `(N, num_classes)`."""
    from zoo.mixing import CutMix, MixUp  # half a second to import; few runs mix

    kind = MixUp if recipe.mixup else CutMix
    mixed: tuple[Tensor, Tensor] = kind(alpha=recipe.mixup or recipe.cutmix, num_classes=num_classes)(images, labels)
    return mixed
