"""The splits of sharded data: which samples belong to training, validation and testing, and what is known of them."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoo.datamodules.arrays import Split
from zoo.datamodules.download import Progress
from zoo.datamodules.layout import shown
from zoo.datamodules.shard_index import fingerprint, look_through
from zoo.datamodules.shard_names import is_remote
from zoo.datamodules.shard_sample import label_number
from zoo.datamodules.shard_source import ShardSource
from zoo.datamodules.shard_stream import HeldOut, LocalSamples, RemoteSamples

HEAD = 2048
"""Images from the first on: those that statistics are computed from, and all that shards on the network give singly."""


@dataclass(frozen=True)
class Part:
    """A split.

    Attributes:
        samples: Its samples as a stream.
        split: Its images by position; of shards on the network the first ones, with a 0 for the unknown labels.
        count: How many images it has; None if that is not known.
    """

    samples: LocalSamples | RemoteSamples
    split: Split
    count: int | None


@dataclass(frozen=True)
class ShardReader:
    """Makes parts of shards.

    Attributes:
        in_channels: 1 for grey, 3 for colour.
        classes: The names of the classes.
        is_strict: Whether a sample that cannot be used is an error.
        report: Told which samples cannot be used.
        progress: Told how many shards have been looked through.
    """

    in_channels: int
    classes: tuple[str, ...]
    is_strict: bool
    report: Callable[[Sequence[str]], None]
    progress: Progress | None = None

    def read(self, shards: tuple[str, ...], count: int | None = None) -> Part:
        """All samples of some shards.

        Args:
            shards: Their names.
            count: How many samples shards on the network hold, if that is known.

        Raises:
            ValueError: A sample cannot be used, or none can.
        """
        if is_remote(shards[0]):
            return self._remote(RemoteSamples(shards), count)
        index = look_through(shards, self.progress)
        numbers, faults = np.full(len(index.names), -1, dtype=np.int64), list(index.faults)
        for place, label in enumerate(index.names):
            try:
                numbers[place] = label_number(label, self.classes)
            except ValueError as error:
                having = index.labels == place
                first = index.shards[index.shard[np.argmax(having)]]
                faults += [f"{shown(first)}: {error}"] * int(having.sum())
        if faults:
            self.report(faults)
        labels = numbers[index.labels]
        rows = np.flatnonzero(labels >= 0)
        if not len(rows):
            raise ValueError(f"{shown(shards[0])}: no sample in the shards can be used")
        source = self._source(LocalSamples(index, rows), fingerprint(shards))
        return Part(LocalSamples(index, rows), Split(source, rows, labels[rows]), len(rows))

    def hold_out(self, part: Part, size: float, seed: int) -> tuple[Part, Part]:
        """Training samples on the network divided by their keys: the rest, and the part for validation.

        Raises:
            ValueError: They are local, and others are on the network.
        """
        if isinstance(part.samples, LocalSamples):
            raise ValueError("local training shards with others on the network: give shards as val too")
        held_out = HeldOut(size, seed)
        samples = [replace(part.samples, is_wanted=replace(held_out, wanted=wanted)) for wanted in (False, True)]
        rest = None if part.count is None else round(part.count * (1 - size))
        return self._remote(samples[0], rest), self._remote(samples[1], None)

    def _remote(self, samples: RemoteSamples, count: int | None) -> Part:
        mark = hashlib.sha256(f"{samples.is_wanted} {' '.join(samples.addresses)}".encode()).hexdigest()
        positions = np.arange(0 if count is None else min(count, HEAD))
        return Part(samples, Split(self._source(samples, mark), positions, np.zeros_like(positions)), count)

    def _source(self, samples: LocalSamples | RemoteSamples, mark: str) -> ShardSource:
        return ShardSource(samples, self.in_channels, self.classes, mark, self.is_strict)
