"""The one metric: an average that is exact over all images, whatever the batches and the number of processes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric


class Average(Metric):
    """Sum of a quantity over images, divided by the number of images.

    torchmetrics' own Accuracy and MeanMetric check and reshape their input at every call, which costs a small network a
    tenth of its training time; synchronisation between processes is torchmetrics' here too.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Module:
        """Move the sums with the network, but never to fewer bits: in bfloat16, 256 + 1 is 256."""

        def keep(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.element_size() < tensor.element_size() else moved

        return super()._apply(keep, exclude_state)

    def update(self, total: Tensor, count: int | Tensor) -> None:
        """Add the sum of the quantity over `count` images."""
        self.total += total
        self.count += count

    def compute(self) -> Tensor:
        """The average over all images so far, float32, or float64 where the network is that."""
        return self.total / self.count
