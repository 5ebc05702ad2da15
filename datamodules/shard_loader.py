"""Loaders over streams of samples."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, IterableDataset, get_worker_info

from zoo.datamodules.arrays import Indices
from zoo.datamodules.loader import StatelessLoader, whole_batches
from zoo.datamodules.sampler import EvalSampler, Position
from zoo.datamodules.shard_batch import Batch, BatchMaker
from zoo.datamodules.shard_names import library
from zoo.datamodules.shard_read import Item, read_rows
from zoo.datamodules.shard_sample import Sample
from zoo.datamodules.shard_stream import LocalSamples, Plan, RemoteSamples, Samples

BUFFER = 1000
"""Samples among which the next one is drawn at random, in each loader process."""

Report = Callable[[Sequence[str]], None]
"""Told which samples cannot be used, a line for each; raises if that is an error."""
Step = tuple[int, int]
"""The number of a batch within an epoch, and the epoch."""


class TrainStream(Dataset[Batch]):
    """Training batches by (step, epoch).

    A batch depends on these two, the seed and the plan alone. The stream that is kept open is only there to be fast:
    the batches of a process are asked for in order. It starts anew when an epoch does; if that begins in the middle,
    because a run is resumed, the samples before are read, but not decoded.

    Args:
        samples: The training samples.
        plan: What this device takes of them.
        maker: How they become batches.
    """

    def __init__(self, samples: Samples, plan: Plan, maker: BatchMaker) -> None:
        self.samples = samples
        self.plan = plan
        self.maker = maker
        self._items: Iterator[Sample] = iter(())
        self._faults: list[str] = []  # found while reading, and not reported yet
        self._next: tuple[int, int, int] | None = None  # epoch, lane and place in the lane

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_items": iter(()), "_next": None}

    def __len__(self) -> int:
        return self.plan.steps

    def __getitem__(self, key: Step) -> Batch:
        step, epoch = key
        place, lane = divmod(step, self.plan.lanes)
        if self._next != (epoch, lane, place):
            self._items = self._shuffled(epoch, lane)
            skipped = place * self.plan.batch_size
            next(islice(self._items, skipped, skipped), None)
        samples = list(islice(self._items, self.plan.batch_size))
        self._next = (epoch, lane, place + 1)
        faults, self._faults = self._faults, []
        return self.maker.batch([*faults, *samples], epoch, self.plan.batch_size)

    def _shuffled(self, epoch: int, lane: int) -> Iterator[Sample]:
        generator = self.plan.random(epoch, self.plan.rank, lane)
        shuffle = library().shuffle(BUFFER, initial=BUFFER, rng=random.Random(int(generator.integers(2**63))))
        for items in self.samples.lane(self.plan, epoch, lane):
            count = 0
            for sample in shuffle(self._sifted(items)):
                count += 1
                yield sample
            if not count:
                return  # the next pass would find as little

    def _sifted(self, items: Iterator[Item]) -> Iterator[Sample]:
        for item in items:
            if isinstance(item, str):
                self._faults.append(item)
            else:
                yield item


class EvalRows(Dataset[Batch]):
    """A device's part of a split of local shards, in batches of any rows.

    Args:
        samples: The samples of the split.
        maker: How they become batches.
        rank: This device.
        world: How many devices there are.
    """

    def __init__(self, samples: LocalSamples, maker: BatchMaker, *, rank: int = 0, world: int = 1) -> None:
        self.index = samples.index
        self.rows = np.array_split(samples.rows, world)[rank]
        self.maker = maker

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[Indices, int]) -> Batch:
        positions, _ = key
        return self.maker.batch(list(read_rows(self.index, self.rows[positions])))


class EvalStream(IterableDataset[Batch]):
    """A split of shards on the network, whose size is not known; every sample once over devices and loader processes.

    Args:
        samples: The samples.
        batch_size: Samples in a batch.
        maker: How they become batches.
        rank: This device.
        world: How many devices there are.
    """

    def __init__(
        self, samples: RemoteSamples, batch_size: int, maker: BatchMaker, *, rank: int = 0, world: int = 1
    ) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.maker = maker
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, of = (0, 1) if worker is None else (worker.id, worker.num_workers)
        items = self.samples.share(self.rank * of + number, self.world * of)
        while chunk := list(islice(items, self.batch_size)):
            yield self.maker.batch(chunk)


class StepSampler(DistributedSampler[Step]):
    """The steps of an epoch as keys of `TrainStream`; Lightning leaves a `DistributedSampler` in place.

    Args:
        stream: The training batches of this device.
        position: As for `TrainSampler`: tells the epoch and the steps of it that are done already. None: the sampler
            counts its own epochs, starting from `set_epoch`.
    """

    def __init__(self, stream: TrainStream, position: Position | None = None) -> None:
        super().__init__(stream, num_replicas=stream.plan.world, rank=stream.plan.rank)
        self.steps = stream.plan.steps
        self.position = position

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Step]:
        if self.position is None:
            epoch, done = self.epoch, 0
            self.epoch += 1
        else:
            epoch, done = self.position(self.steps)
        yield from ((step, epoch) for step in range(done, self.steps))


class StreamLoader(StatelessLoader):
    """A loader that reports the samples that cannot be used, and hands out (images, labels).

    Args:
        dataset: A `TrainStream`, an `EvalRows` or an `EvalStream`.
        report: Called in the main process, so that an error is one line there instead of a worker's traceback.
        **options: What `DataLoader` takes.
    """

    def __init__(self, dataset: TrainStream | EvalRows | EvalStream, report: Report, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.report = report

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:  # type: ignore[override]  # an iterator will do
        for images, labels, faults in super().__iter__():
            if faults:
                self.report(faults)
            if len(labels):
                yield images, labels
            elif isinstance(self.dataset, TrainStream):  # devices that make fewer batches let the others wait for ever
                raise ValueError(f"no sample of a batch can be used: {next(iter(faults), 'the shards hold too few')}")


def train_loader(
    stream: TrainStream, report: Report, *, position: Position | None, num_workers: int, pin_memory: bool
) -> StreamLoader:
    """A loader over training batches."""
    return _loader(stream, StepSampler(stream, position), report, num_workers, pin_memory)


def rows_loader(rows: EvalRows, report: Report, batch_size: int, *, num_workers: int, pin_memory: bool) -> StreamLoader:
    """A loader over the rows in order."""
    return _loader(rows, EvalSampler(rows, batch_size), report, num_workers, pin_memory)


def stream_loader(stream: EvalStream, report: Report, *, num_workers: int, pin_memory: bool) -> StreamLoader:
    """A loader over a split whose size is not known."""
    return _loader(stream, None, report, num_workers, pin_memory)


def _loader(
    dataset: TrainStream | EvalRows | EvalStream,
    sampler: StepSampler | EvalSampler | None,
    report: Report,
    num_workers: int,
    pin_memory: bool,
) -> StreamLoader:
    return StreamLoader(dataset, report, sampler=sampler, **whole_batches(num_workers, pin_memory=pin_memory))
