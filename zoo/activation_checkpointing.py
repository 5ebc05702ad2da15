"""Activation checkpointing: memory for time, by computing stages of a network again in the backward pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from zoo.classifier import ImageClassifier


def checkpoint_activations(model: ImageClassifier) -> None:
    """From now on, keep for the backward pass only what goes into each stage but the last, or into each residual block.

    In the backward pass it is computed again (Chen et al. 2016), with the random numbers that it had. Gradients,
    statistics and names of parameters stay as they are. A stage that is no layer of its own is done without if it is
    outside of `model.features`: such are the first convolution of a ResNet and hidden linear layers.

    Raises:
        ValueError: If nothing of the network could be computed again.
    """
    stages, layers = model.stages()[:-1], set(model.modules())
    features = getattr(model, "features", None)
    slices = [stage for stage in stages if stage not in layers and _is_made_of(stage, features)]
    if slices:
        assert isinstance(features, nn.Sequential)
        assert sum(map(_length, slices)) == len(features), "the stages leave out some of the features"
        features.forward = partial(_in_turn, slices)  # type: ignore[method-assign]  # this is the point
    units = list(_units(stages, layers))
    for unit in units:
        unit.forward = partial(_again, unit, unit.forward)
    if not units and not slices:
        raise ValueError(f"checkpoint_activations is true, but {type(model).__name__} has nothing to compute again")


def _is_made_of(stage: nn.Module, features: object) -> bool:
    return isinstance(features, nn.Sequential) and set(stage.children()) <= set(features)


def _length(stage: nn.Module) -> int:
    return len(list(stage.children()))


def _units(stages: Sequence[nn.Module], layers: set[nn.Module]) -> Iterator[nn.Module]:
    """Of the stages that the network calls, or of what of them it calls, the blocks; one layer would keep as much.

    Blocks rather than stages: a stage that is computed again takes the memory of all its blocks at once.
    """
    for stage in stages:
        for part in [stage] if stage in layers else [child for child in stage.children() if child in layers]:
            blocks = [*filter(_length, part.children())] if isinstance(part, nn.Sequential) else []
            yield from blocks or ([part] if _length(part) else [])


def _in_turn(stages: Sequence[nn.Module], x: Tensor) -> Tensor:
    for stage in stages:
        x = _again(stage, stage, x)
    return x


def _again(unit: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    contexts = partial(_contexts, unit)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _contexts(unit: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _unchanged_statistics(unit)


@contextmanager
def _unchanged_statistics(unit: nn.Module) -> Iterator[None]:
    """Keep batch normalisation from counting a batch twice: with momentum 0 its statistics stay as they are."""
    layers = [layer for layer in unit.modules() if isinstance(layer, _BatchNorm)]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    try:
        for layer in layers:
            layer.momentum, layer.num_batches_tracked = 0.0, None
        yield
    finally:
        for layer, (momentum, number) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, number
