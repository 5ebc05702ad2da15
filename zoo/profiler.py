"""Where the time of a training step goes, as a profiler of Lightning's: `Trainer(profiler=StepTimes())`.

Lightning tells a profiler when each of its actions starts and stops; here they are added up into the parts of a step.
A step lasts from fetching its batch to fetching the next one, so that nothing falls between two steps.
"""

import time
from collections import defaultdict
from collections.abc import Sequence

import torch
from lightning.pytorch.profilers import Profiler

PARTS = {
    "data": "waiting for the batch",
    "transfer": "to the device, as normalised floats",
    "forward": "the network and the loss",
    "backward": "the gradients",
    "optimiser": "clipping, the update, the schedule",
    "logging": "callbacks: progress, records, checkpoints",
    "rest": "Lightning's own loop",
}
"""The parts of a step, in its order, and what they are."""
WARM_UP = 10
"""Steps at the start of a run that are left out where there are twice as many: memory and caches are not yet filled."""
_FETCH, _EPOCH = "[_TrainingEpochLoop].train_dataloader_next", "run_training_epoch"
_ENDINGS = {
    ".batch_to_device": "transfer",
    ".on_before_batch_transfer": "transfer",
    ".training_step": "forward",
    ".backward": "backward",
    ".optimizer_step": "optimiser",
    ".lr_scheduler_step": "optimiser",
    ".on_train_batch_start": "logging",
    ".on_train_batch_end": "logging",
}


class StepTimes(Profiler):
    """Adds up the parts of each training step.

    An action within another is taken off it: the optimiser's step calls the forward and backward pass. On a CUDA device
    it waits for the device wherever a part begins or ends: the parts are true, and the run is a little slower.

    Attributes:
        steps: The seconds of each part, for each step that was followed by another one in the same epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[dict[str, float]] = []
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._running: list[tuple[str, str]] = []  # actions and their parts, the innermost last
        self._since = 0.0
        self._is_in_step = False

    def start(self, action_name: str) -> None:
        """Count the time until now for what was going on, and go over to this action."""
        if action_name == _FETCH:
            self._finish_step()
            self._is_in_step, part = True, "data"
        else:
            part = next((part for ending, part in _ENDINGS.items() if action_name.endswith(ending)), "")
        if part and self._is_in_step:
            self._count()
            self._running.append((action_name, part))

    def stop(self, action_name: str) -> None:
        """Count the time until now for this action, and go back to what it lies within."""
        if self._running and self._running[-1][0] == action_name:
            self._count()
            self._running.pop()
        elif action_name == _EPOCH:  # validation and the end of the epoch are no part of a step
            self._is_in_step = False

    def summary(self) -> str:
        """Nothing: the table is the caller's (`typical_step`)."""
        return ""

    def _count(self) -> None:
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it untyped
            torch.cuda.synchronize()
        now = time.perf_counter()
        self._spent[self._running[-1][1] if self._running else "rest"] += now - self._since
        self._since = now

    def _finish_step(self) -> None:
        if self._is_in_step:
            self._count()
            self.steps.append({part: self._spent[part] for part in PARTS})
        self._spent.clear()
        self._running.clear()
        self._since = time.perf_counter()


def typical_step(steps: Sequence[dict[str, float]]) -> tuple[dict[str, float], int]:
    """What the parts of a step take: the mean of the fifth of the steps whose time is nearest to the median.

    The medians of the parts would not add up to the step.

    Args:
        steps: As `StepTimes.steps`; not empty.

    Returns:
        Seconds of each part, and the number of steps that followed the warm-up.
    """
    counted = steps[WARM_UP:] if len(steps) >= 2 * WARM_UP else steps
    by_time = sorted(counted, key=lambda step: sum(step.values()))
    half = len(by_time) // 10
    middle = by_time[(len(by_time) - 1) // 2 - half : len(by_time) // 2 + half + 1]
    return {part: sum(step[part] for step in middle) / len(middle) for part in PARTS}, len(counted)
