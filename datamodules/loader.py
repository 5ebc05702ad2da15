"""The DataLoader that all DataModules use."""

import os
import sys
from typing import Any, TypeVar

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from zoo.datamodules.machine import available_cpus

T = TypeVar("T")

if sys.version_info < (3, 12) and hasattr(os, "register_at_fork"):
    # Python 3.11 lets a process hang for ever that is forked while another thread is in its list of threads, as those
    # are that exchange gradients. This waits until that thread is out of it: it leaves a tenth of such hangs.
    os.register_at_fork(before=sys._current_frames)


def default_num_workers() -> int:
    """Workers for images in memory: none on one or two processors, where they only get in the way, else up to four."""
    cpus = available_cpus()
    return 0 if cpus <= 2 else min(4, cpus // 2)


def decoding_num_workers() -> int:
    """Workers for images that they decode: as many as processors, up to eight; most of the time goes into images."""
    return min(8, available_cpus())


def place(trainer: Trainer | None) -> tuple[int, int]:
    """This device's rank and the number of devices."""
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def is_on_gpu(trainer: Trainer | None) -> bool:
    """Whether batches go to a CUDA device, which pinned memory speeds up."""
    return trainer is not None and trainer.strategy.root_device.type == "cuda"


class StatelessLoader(DataLoader[Any]):
    """A DataLoader that Lightning may stop and resume within an epoch.

    The position is a function of Lightning's own counters (see `ImageDataModule`), hence nothing is to be stored. The
    two methods exist because Lightning takes a loader without them for one that cannot be resumed, and warns.
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to do."""


def build_loader(
    dataset: Dataset[Any], sampler: Sampler[Any], *, num_workers: int = 0, pin_memory: bool = False
) -> StatelessLoader:
    """A loader over a dataset that returns whole batches for what the sampler yields."""
    return StatelessLoader(dataset, sampler=sampler, **whole_batches(num_workers, pin_memory=pin_memory))


def whole_batches(num_workers: int, *, pin_memory: bool) -> dict[str, Any]:
    """The arguments of a `DataLoader` over a dataset that returns whole batches."""
    return {
        "batch_size": None,  # torch collects nothing
        "collate_fn": identity,
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        "pin_memory": pin_memory,
        "worker_init_fn": one_thread,
    }


def identity(batch: T) -> T:
    """The batch itself, for a loader whose dataset returns whole batches.

    A worker puts its tensors into shared memory here. Left to the thread that sends them, a lack of memory would be
    printed there, and the run would wait for the batch for ever.
    """
    if get_worker_info() is not None:
        for part in batch if isinstance(batch, list | tuple) else [batch]:
            if isinstance(part, torch.Tensor):
                part.share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return batch


def one_thread(_: int) -> None:
    """Keep a loader process from starting threads: there are as many processes as processors."""
    import cv2  # only augmentation needs it

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
