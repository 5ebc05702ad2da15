"""What an epoch's training averages are made of, step by step, so that an interruption does not change them."""

from typing import Any, Self

import torch
from torch import Tensor, distributed

TOGETHER = 32
"""So many steps' figures are put into one tensor at a time."""


class StepFigures:
    """Loss, correct images and images of each training step of an epoch."""

    def __init__(self) -> None:
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []

    def __len__(self) -> int:
        """How many steps they are."""
        return len(self._steps)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The figures of one of them, each of shape ()."""
        return self._steps[step]

    def add(self, loss: Tensor, correct: Tensor, images: Tensor) -> None:
        """Keep a step's average loss, correct images and images, many steps in one piece of memory.

        A small tensor of every step, each among the large ones that are freed, would keep their memory from being used
        again: 150 MB in an epoch of LeNet-5.
        """
        self._steps.append((loss, correct, images))
        if len(self._steps) % TOGETHER == 0:
            last = map(torch.stack, zip(*self._steps[-TOGETHER:], strict=True))
            self._steps[-TOGETHER:] = zip(*last, strict=True)

    def cut(self, steps: int) -> None:
        """Forget all but the first steps."""
        del self._steps[steps:]

    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """The sum of all images' losses, how many images were classified correctly, and how many there were."""
        losses, correct, images = map(torch.stack, zip(*self._steps, strict=True))
        return (losses.float() * images).sum(), correct.sum(), images.sum()

    def to(self, device: torch.device) -> Self:
        """Move them to a device."""
        self._steps = [
            (loss.to(device), correct.to(device), images.to(device)) for loss, correct, images in self._steps
        ]
        return self

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of them; there must be some."""
        losses, correct, images = map(torch.stack, zip(*self._steps, strict=True))
        return {"losses": losses, "correct": correct, "images": images.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        images = torch.tensor(state["images"])
        self._steps = list(zip(state["losses"], state["correct"], images, strict=True))


def over_processes(watched: Tensor, loss: Tensor, correct: Tensor, images: Tensor) -> tuple[Tensor, ...]:
    """The figures of a step over the batches of all processes, in one exchange of four numbers.

    Args:
        watched: The loss that is looked at, with its penalties, shape ().
        loss: The average loss of this process's images, shape ().
        correct: How many of them are classified correctly, shape ().
        images: How many they are, shape ().

    Returns:
        The same of all processes: the sum of the first, which is no finite number if one of them is none, then the
        average over all images, and both numbers.
    """
    total = torch.stack([watched.double(), loss.double() * images, correct.double(), images.double()])
    distributed.all_reduce(total)  # a strategy's own reduction has all wait for each other first
    of_all = (total[0], total[1] / total[3], total[2], total[3])
    return tuple(figure.to(own.dtype) for figure, own in zip(of_all, (watched, loss, correct, images), strict=True))
