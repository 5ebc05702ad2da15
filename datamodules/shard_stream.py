"""The samples of a split as streams: who reads what, and in which order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Protocol

import numpy as np

from zoo.datamodules.arrays import Indices
from zoo.datamodules.random_keys import bits, open_streams
from zoo.datamodules.shard_index import Index
from zoo.datamodules.shard_read import Item, read_address, read_rows

_NO_EPOCH = 2**64 - 1  # of a random number that stands for the whole run


@dataclass(frozen=True)
class Plan:
    """The training batches of one device.

    Attributes:
        batch_size: Samples in a batch of this device.
        steps: Batches of an epoch.
        seed: The seed of the run.
        rank: This device.
        world: How many devices there are.
        lanes: Loader processes of each device, at least 1: batch s comes from lane s % lanes.
    """

    batch_size: int
    steps: int
    seed: int
    rank: int
    world: int
    lanes: int

    def random(self, epoch: int, *key: int) -> np.random.Generator:
        """Random numbers for an epoch, other ones for another key."""
        return np.random.default_rng(np.random.SeedSequence((self.seed, epoch), spawn_key=(3, *key)))


class Samples(Protocol):
    """The samples of a split."""

    def lane(self, plan: Plan, epoch: int, lane: int) -> Iterator[Iterator[Item]]:
        """The samples for the batches of a lane in an epoch, in passes that are shuffled one by one."""


@dataclass(frozen=True)
class LocalSamples:
    """Samples whose places are known.

    Attributes:
        index: What is in the shards.
        rows: int64, (N,): the samples, in the order of the shards.
    """

    index: Index
    rows: Indices

    def lane(self, plan: Plan, epoch: int, lane: int) -> Iterator[Iterator[Item]]:
        """One pass, a part of the epoch's order of exactly the size needed: no sample comes twice in an epoch.

        The shards are in random order. What the last full batch leaves over is another part of them every epoch.
        """
        counts = [len(range(number, plan.steps, plan.lanes)) * plan.batch_size for number in range(plan.lanes)]
        start = plan.rank * plan.steps * plan.batch_size + sum(counts[:lane])
        return iter([read_rows(self.index, self._order(plan, epoch)[start : start + counts[lane]])])

    def _order(self, plan: Plan, epoch: int) -> Indices:
        generator = plan.random(epoch)
        shards = np.split(self.rows, np.flatnonzero(np.diff(self.index.shard[self.rows])) + 1)
        order = np.concatenate([shards[place] for place in generator.permutation(len(shards))])
        return np.roll(order, -int(generator.integers(len(order))))


@dataclass(frozen=True)
class RemoteSamples:
    """Samples that are known only when they arrive.

    Attributes:
        addresses: The shards.
        is_wanted: Told the `key_number` of a sample, says whether it belongs to the split; None: all do.
    """

    addresses: tuple[str, ...]
    is_wanted: "HeldOut | None" = None

    def share(self, number: int, of: int) -> Iterator[Item]:
        """Every sample exactly once over all `number`s from 0 to `of` - 1, which take every `of`-th shard each."""
        return self._read(self.addresses[number::of])

    def lane(self, plan: Plan, epoch: int, lane: int) -> Iterator[Iterator[Item]]:
        """Some of the shards in random order, as often as need be."""
        order = [self.addresses[place] for place in plan.random(epoch).permutation(len(self.addresses))]
        chosen = order[plan.rank :: plan.world][lane :: plan.lanes]
        return (self._read(chosen) for _ in repeat(None))

    def _read(self, addresses: Sequence[str]) -> Iterator[Item]:
        for item in chain.from_iterable(map(read_address, addresses)):
            if self.is_wanted is None or isinstance(item, str) or self.is_wanted(item.number):
                yield item


@dataclass(frozen=True)
class HeldOut:
    """Whether a sample is held out for validation, by its key and the seed alone.

    Attributes:
        size: Part of the samples that is.
        seed: The seed of the run.
        wanted: What the answer is turned into: with False, whether it is not held out.
    """

    size: float
    seed: int
    wanted: bool = True

    def __call__(self, number: int) -> bool:
        """Whether the sample with this `key_number` belongs to the part."""
        share = bits(open_streams(self.seed, [(number, _NO_EPOCH)]), 1)[0, 0] / 2.0**64
        return bool((share < self.size) == self.wanted)
