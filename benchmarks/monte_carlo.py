"""Monte-Carlo dropout: the network is asked many times with dropout switched on, and its answers are averaged."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from zoo.benchmarks.passes import batches, evaluating, run_seed
from zoo.classifier import ImageClassifier
from zoo.datamodules import ImageDataModule
from zoo.seeds import mixed_seed

PASSES = 50
"""So many are as good as weight scaling in Srivastava et al. 2014, Fig. 11."""
KEPT = (1, 2, 5, 10, 20)
"""After how many passes the accuracy is noted, besides the last."""


def monte_carlo(model: ImageClassifier, data: ImageDataModule, passes: int = PASSES) -> tuple[dict[str, float], Any]:
    """Accuracy on the test images of the averaged probabilities of many passes (Srivastava et al. 2014, section 7.5).

    Only dropout layers are in training mode: batch normalisation uses its running averages. Without dropout all passes
    are the same, and one is made.

    Args:
        model: The trained network.
        data: Its data.
        passes: How many networks are drawn for each image.

    Returns:
        `monte_carlo/acc`; the numbers of passes `passes` and the accuracy `acc` after each of them.
    """
    kept = [*(number for number in KEPT if number < passes), passes]
    correct, images_done = torch.zeros(len(kept), dtype=torch.int64), 0
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), evaluating(model):
        is_random = _switch_on_dropout(model)
        for number, (images, labels) in enumerate(batches(model, data, "test")):
            seed = mixed_seed(run_seed(), number)
            correct += _correct(model, images, labels, kept if is_random else [1] * len(kept), seed)
            images_done += len(labels)
    accuracies = (correct.double() / images_done).tolist()
    return {"monte_carlo/acc": accuracies[-1]}, {"passes": kept, "acc": accuracies}


def _switch_on_dropout(model: nn.Module) -> bool:
    """Whether there is any; what it was before is put back by `evaluating`."""
    layers = [layer for layer in model.modules() if isinstance(layer, _DropoutNd) and layer.p > 0]
    for layer in layers:
        layer.train()
    return bool(layers)


def _correct(model: ImageClassifier, images: Tensor, labels: Tensor, kept: list[int], seed: int) -> Tensor:
    """How many images (N, C, H, W) are right after each of these numbers of passes: (len(kept),)."""
    torch.manual_seed(seed)
    total = torch.zeros((), device=images.device)
    right: dict[int, int] = {}
    for done in range(1, kept[-1] + 1):
        total = total + model(images).float().softmax(dim=1)
        if done in kept:
            right[done] = int((total.argmax(dim=1) == labels).sum())
    return torch.tensor([right[number] for number in kept])
