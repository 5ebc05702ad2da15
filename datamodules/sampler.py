"""Which image comes when. Both samplers are functions of their arguments; neither keeps a stream of random numbers.

They yield whole batches: the rows of the images and the epoch, from which augmentation draws. A Python step for every
image would cost a small network several percent of its training time.

They derive from `DistributedSampler` for one reason: Lightning then leaves them in place instead of wrapping them in
one that repeats samples.
"""

from collections.abc import Callable, Iterator, Sized
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, DistributedSampler

Position = Callable[[int], tuple[int, int]]
Batch = tuple[npt.NDArray[np.int64], int]  # rows, epoch


def epoch_order(size: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of an epoch, a function of the seed and the epoch."""
    # The key keeps this stream apart from that of augmentation, which also starts from (seed, epoch, ...).
    state = np.random.SeedSequence((seed, epoch), spawn_key=(1,)).generate_state(1, np.uint64)
    order: npt.NDArray[np.int64] = torch.randperm(size, generator=torch.Generator().manual_seed(int(state[0]))).numpy()
    return order


def balanced_order(labels: npt.NDArray[np.int64], seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """As many images as there are, with as many of each class: those of small classes several times, in turn.

    The second time an image comes in an epoch, the number of all images is added to its row, the third time twice that,
    so that augmentation, which depends on the row, makes another picture of it; see `ImageDataset`.

    Args:
        labels: The class of each image.
        seed: The seed of the run.
        epoch: The epoch.
    """
    random = np.random.default_rng(np.random.SeedSequence((seed, epoch), spawn_key=(2,)))
    classes = random.permutation(np.unique(labels))  # which classes get one more when they cannot all have the same
    quota, more = divmod(len(labels), len(classes))
    chosen = []
    for place, label in enumerate(classes):
        images, wanted = np.flatnonzero(labels == label), quota + (place < more)
        rounds = [random.permutation(images) + turn * len(labels) for turn in range(-(-wanted // len(images)))]
        chosen.append(np.concatenate(rounds)[:wanted])
    return random.permutation(np.concatenate(chosen))


def epoch_and_step(done: int, steps: int, limit: int | float = 1.0) -> tuple[int, int]:
    """The epoch that a run is in, and how many of its steps are done.

    Args:
        done: Steps done since the run began.
        steps: Batches that an epoch has.
        limit: Lightning's `limit_train_batches`: a number of batches, or a fraction of an epoch.
    """
    steps = min(steps, limit) if isinstance(limit, int) else int(steps * limit)
    return divmod(done, max(1, steps))


def fitting_batch_size(batch_size: int, images: int, world: int) -> int:
    """The global batch size that is used: the one asked for, or less if there are not so many images.

    Raises:
        ValueError: It cannot be shared equally by the devices, or there are fewer images than devices.
    """
    if batch_size % world:
        nearest = max(world, round(batch_size / world) * world)
        raise ValueError(f"batch_size {batch_size} cannot be shared equally by {world} devices: use {nearest}")
    if images < world:
        raise ValueError(f"{images} training images are too few for {world} devices: use at most {images} devices")
    return min(batch_size, images // world * world)


class TrainSampler(DistributedSampler[Batch]):
    """Shuffles by (seed, epoch) and deals every global batch out to the devices.

    Step s takes the images `order[s * G : (s + 1) * G]`, whatever the number of devices; device r takes every world-th
    of them.

    Args:
        dataset: What is sampled; only its length matters.
        batch_size: The global batch size G, a multiple of `world`.
        seed: The seed of the order.
        rank: This device.
        world: How many devices there are.
        position: Tells, for a number of steps per epoch, the epoch and the steps of it that are done already. It is
            asked when an epoch starts rather than when the sampler is made, because Lightning may build the loader
            before it restores its counters. None: the sampler counts its own epochs, starting from `set_epoch`.
        drop_last: Leave out the images of a last batch that is not full. Without it, every image is visited exactly
            once an epoch, but for a rest of fewer images than there are devices.
        labels: The classes of the images, to show all classes equally often (`balanced_order`).
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        position: Position | None = None,
        drop_last: bool = True,
        labels: npt.NDArray[np.int64] | None = None,
    ) -> None:
        assert batch_size % world == 0, (batch_size, world)
        super().__init__(dataset, num_replicas=world, rank=rank, seed=seed)
        self.batch_size = batch_size
        self.position = position
        self.drop_last = drop_last
        self.labels = labels

    @property
    def _rest(self) -> int:
        """Images of the last batch that is not full, as far as every device can have one."""
        rest = len(cast(Sized, self.dataset)) % self.batch_size
        return 0 if self.drop_last or rest < self.num_replicas else rest

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return len(cast(Sized, self.dataset)) // self.batch_size + (self._rest > 0)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        epoch, done = self._place()
        size = len(cast(Sized, self.dataset))
        if self.labels is None:
            order = epoch_order(size, self.seed, epoch)
        else:
            order = balanced_order(self.labels, self.seed, epoch)
        for step in range(done, self.steps):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield batch[self.rank :: self.num_replicas], epoch

    def _place(self) -> tuple[int, int]:
        if self.position is not None:
            return self.position(self.steps)
        self.epoch += 1
        return self.epoch - 1, 0


class EvalSampler(DistributedSampler[Batch]):
    """Every sample exactly once over all devices, in order; no sample is repeated to make the shares equal.

    Args:
        dataset: What is sampled; only its length matters.
        batch_size: Samples in a batch of one device.
        rank: This device.
        world: How many devices there are.
    """

    def __init__(self, dataset: Dataset[Any], batch_size: int, *, rank: int = 0, world: int = 1) -> None:
        super().__init__(dataset, num_replicas=world, rank=rank, shuffle=False)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(range(self.rank, len(cast(Sized, self.dataset)), self.num_replicas)) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        share = np.arange(self.rank, len(cast(Sized, self.dataset)), self.num_replicas)
        for start in range(0, len(share), self.batch_size):
            yield share[start : start + self.batch_size], 0
