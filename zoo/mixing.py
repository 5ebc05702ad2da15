"""Mixing within a batch in a form that every device can run ahead of: no shape depends on what was drawn."""

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import MixUp as MixUp


class CutMix(v2.CutMix):  # type: ignore[misc]  # torchvision has no hints
    """torchvision's CutMix, with the same numbers: a mask chooses the box in place of indices.

    Indices of another box are another program to XLA, which would compile each step anew.
    """

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Images `(N, C, H, W)` with the box of their neighbour in the batch; labels as torchvision mixes them."""
        if inpt is params["labels"] or not isinstance(inpt, Tensor):
            return super().transform(inpt, params)
        left, top, right, bottom = params["box"]
        is_inside = torch.zeros(inpt.shape[-2:], dtype=torch.bool)
        is_inside[top:bottom, left:right] = True
        return torch.where(is_inside.to(inpt.device), inpt.roll(1, 0), inpt)
