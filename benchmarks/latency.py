"""What a network costs: time of a forward pass, size, depth."""

import statistics
import time

import torch
from torch import Tensor, nn

from zoo.benchmarks.passes import evaluating
from zoo.classifier import ImageClassifier
from zoo.datamodules import ImageDataModule

WARM_UP = 3
FEWEST_STEPS, LEAST_STEPS, MOST_STEPS = 3, 10, 100
SLOW = 0.5  # seconds of a step from which on a few steps are enough
SECONDS = 0.2
"""Quick networks are timed for so long, since their times vary most."""


def latency(model: ImageClassifier, data: ImageDataModule) -> tuple[dict[str, float], None]:
    """Milliseconds of a forward pass in evaluation mode at batch 1 and 32, size in memory, depth and parameters.

    The images are random numbers of the data's image size, on the network's device and in its precision; the times are
    medians, and depend on the machine and its number of threads.

    `depth` counts the layers that hold weights (convolution, linear, normalisation), as Keras does today: VGG-16 has
    16 and ResNet-50 has 107. In 2019 Keras counted activations and others too, so that VGG-16 had 23; the papers leave
    out normalisation and projection shortcuts, so that ResNet-50 has 50. Keras counts a separable convolution as one
    layer, which is two here.

    Returns:
        `latency/1`, `latency/32` (ms per step), `latency/32_per_image` (ms), `size_mb` (MB of 2**20 bytes: parameters
        and buffers as float32), `depth`, `parameters`.
    """
    with evaluating(model):
        single, batch = (_milliseconds(model, _images(model, data, size)) for size in (1, 32))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    buffers = sum(buffer.numel() for buffer in model.buffers() if buffer.is_floating_point())
    metrics = {
        "latency/1": single,
        "latency/32": batch,
        "latency/32_per_image": batch / 32,
        "size_mb": 4 * (parameters + buffers) / 2**20,
        "depth": depth(model),
        "parameters": parameters,
    }
    return {name: float(value) for name, value in metrics.items()}, None


def depth(model: nn.Module) -> int:
    """The number of layers that hold weights."""
    return sum(1 for layer in model.modules() if next(layer.parameters(recurse=False), None) is not None)


def _images(model: ImageClassifier, data: ImageDataModule, number: int) -> Tensor:
    shape = (number, model.in_channels, data.image_size, data.image_size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return images.to(model.device).to(model.dtype).contiguous(memory_format=torch.channels_last)


def _milliseconds(model: ImageClassifier, images: Tensor) -> float:
    """The median time of a pass over these images (N, C, H, W)."""
    for _ in range(WARM_UP):
        if _seconds(model, images) > SLOW:
            break
    times: list[float] = []
    while len(times) < MOST_STEPS and (len(times) < _least(times) or sum(times) < SECONDS):
        times.append(_seconds(model, images))
    return 1000 * statistics.median(times)


def _least(times: list[float]) -> int:
    """How many steps there must be, after these: of a slow network a few say enough."""
    return FEWEST_STEPS if times and times[0] > SLOW else LEAST_STEPS


def _seconds(model: ImageClassifier, images: Tensor) -> float:
    started = time.perf_counter()
    model(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - started
