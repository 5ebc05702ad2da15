"""From a `Recipe` to an optimiser, what it does in a step, and a schedule.

The rate is a pure function of the step, so resuming is exact.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.layers import kernels
from zoo.recipe import Recipe


def make_optimizer(
    model: nn.Module, stages: list[nn.Module], recipe: Recipe, *, head_lr: float = 0.0, fused: bool | None = None
) -> torch.optim.Optimizer:
    """The recipe's optimiser over `model`'s trainable parameters.

    Args:
        model: What is trained.
        stages: Its blocks from input to output.
        recipe: How it is trained.
        head_lr: Peak rate of the last stage; 0 is the recipe's.
        fused: As those of torch's optimisers take it that have a fused step.

    Raises:
        ValueError: If `head_lr` is set with lbfgs, which has one rate for all.
    """
    groups = list(parameter_groups(model, stages, recipe, head_lr))
    match recipe.optimizer:
        case "sgd" | "nesterov":
            nesterov = recipe.optimizer == "nesterov"
            return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=fused)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr=recipe.lr, fused=fused)
        case "adadelta":
            return torch.optim.Adadelta(groups, lr=recipe.lr)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=recipe.lr, momentum=recipe.momentum)
        case "lbfgs":
            if head_lr:
                raise ValueError(f"finetune.head_lr is {head_lr}: it must be 0 with the optimizer lbfgs")
            model.to(memory_format=torch.contiguous_format)  # it flattens gradients with `view`
            return torch.optim.LBFGS(groups, lr=recipe.lr, line_search_fn="strong_wolfe")
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=recipe.lr, betas=(recipe.momentum, 0.999), fused=fused)


def clip_by_norm(optimizer: torch.optim.Optimizer, largest: float) -> None:
    """What `torch.nn.utils.clip_grad_norm_` does with all parameters, of 32 bits, on a CPU, but faster.

    Its norm takes twice as long as BLAS's product of the gradient with itself, which is 2 % of VGG-16's step.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    flat = [_in_memory_order(p.grad) for p in parameters]
    norm = torch.stack([torch.dot(gradient, gradient) for gradient in flat]).sum().sqrt()
    torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)


def _in_memory_order(tensor: Tensor) -> Tensor:
    is_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor.permute(0, 2, 3, 1).flatten() if is_last else tensor.flatten()


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
            decay = recipe.weight_decay if is_decayed(parameter, recipe) else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
    for (lr, decay), parameters in groups.items():
        yield {"params": parameters, "lr": lr, "weight_decay": decay}


def is_decayed(parameter: Tensor, recipe: Recipe) -> bool:
    """Whether penalties are for this parameter: not for biases and norm parameters, unless `decay_all`."""
    return recipe.decay_all or parameter.ndim > 1


def hidden_layers(model: nn.Module, output: nn.Module) -> list[nn.Module]:
    """The trained layers of `model` that have kernels, without its `output`."""
    outside = set(output.modules())
    layers = [layer for layer in model.modules() if layer not in outside and kernels(layer)]
    return [layer for layer in layers if any(p.requires_grad for p in layer.parameters(recurse=False))]


@torch.no_grad()
def limit_norms(model: nn.Module, output: nn.Module, max_norm: float) -> None:
    """Scale the incoming weights of each hidden unit to the L2 norm `max_norm` if they are longer.

    Srivastava et al. 2014, section 5.1, constrain the weight vector of hidden units: biases and the `output` are left
    alone, and so is what is not trained.
    """
    for layer in hidden_layers(model, output):
        for kernel, _ in kernels(layer):
            kernel.renorm_(2, 0, max_norm)  # row by row, without a look at the numbers from the host


def check_line_search(trainer: Trainer) -> None:
    """Raise ValueError unless L-BFGS can evaluate the loss of a whole step, with its gradient, as often as it wants.

    Each of several devices would search for itself; of accumulated batches it could evaluate the last one only; a
    gradient that is clipped, or scaled as 16-mixed does, is not that of the loss.
    """
    for name, value, needed in (
        ("devices", trainer.world_size, 1),
        ("accumulate_grad_batches", trainer.accumulate_grad_batches, 1),
        ("gradient_clip_val", trainer.gradient_clip_val or 0, 0),
    ):
        if value != needed:
            raise ValueError(f"trainer.{name} is {value}: it must be {needed} with the optimizer lbfgs")
    if trainer.precision == "16-mixed":
        raise ValueError("trainer.precision is 16-mixed: it must be 32-true or bf16-mixed with the optimizer lbfgs")


def repeatable(model: nn.Module, seed: Callable[[], None], closure: Callable[[], Any]) -> Callable[[], Any]:
    """A closure that gives the same loss at the same weights, however often an optimiser calls it in one step.

    Args:
        model: Its batch normalisation takes the first evaluation into its statistics, and no trial of a line search.
        seed: Called before each evaluation.
        closure: Evaluates the loss and its gradients.
    """
    evaluations = 0

    def evaluate() -> Any:
        nonlocal evaluations
        seed()
        evaluations += 1
        if evaluations == 1:
            return closure()
        with _kept_statistics(model):
            return closure()

    return evaluate


@contextmanager
def _kept_statistics(model: nn.Module) -> Iterator[None]:
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


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
