"""Images in shards, read as a stream: for data that are larger than a disk."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Unpack, cast

import numpy as np
from lightning.pytorch import Trainer

from zoo.datamodules.arrays import Split
from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.checks import choice, grey_or_colour
from zoo.datamodules.dataset import ImageDataset
from zoo.datamodules.layout import shown
from zoo.datamodules.loader import decoding_num_workers, is_on_gpu, place
from zoo.datamodules.options import given_options, shared_options
from zoo.datamodules.sampler import fitting_batch_size
from zoo.datamodules.shard_batch import BatchMaker
from zoo.datamodules.shard_index import look_through
from zoo.datamodules.shard_loader import (
    EvalRows,
    EvalStream,
    StreamLoader,
    TrainStream,
    rows_loader,
    stream_loader,
    train_loader,
)
from zoo.datamodules.shard_names import find_classes, find_shards, is_remote
from zoo.datamodules.shard_options import ShardOptions, refuse_options
from zoo.datamodules.shard_parts import HEAD, Part, ShardReader
from zoo.datamodules.shard_source import ShardSource
from zoo.datamodules.shard_stream import LocalSamples, Plan, RemoteSamples
from zoo.datamodules.splits import DEFAULT_VAL_SIZE, Selection

_NAMED = 3  # samples that a message names


class WebDataset(ImageDataModule):
    """Images in shards: tar files as the library webdataset writes them, read from their beginning to their end.

    A sample is an image, KEY.jpg or another image suffix, beside KEY.cls with the number of its class or KEY.json with
    a "label". Local shards are looked through once, over which no image is read; what is on the network is known only
    when it arrives, so that `train_samples` must be given.

    Training: the shards come in random order, and the next sample is drawn from a buffer of 1,000. An epoch visits no
    image of local shards twice, and leaves out less than a batch. Shards on the network are dealt out whole to devices
    and loader processes, each of which begins again if it has too few: there an epoch is so many images, not every
    image once. Evaluation visits every image exactly once.

    What is exact: the split into training and validation, augmentation (a function of seed, epoch and key), and a
    resumed run with as many devices and workers. The order of training images depends on both numbers.

    Args:
        train: Shards: a pattern such as data/train-{000..099}.tar or data/train-*.tar, or a folder of .tar files;
            or, if `download` is set, addresses that begin with https://.
        val: The same for validation. If not given, `val_size` of the training samples are held out: of local shards
            as of any other data; of shards on the network by their keys, and every validation reads all of them.
        test: The same for testing.
        download: Allow addresses.
        **options: See `ShardOptions` and `DataOptions`.
    """

    dataset = "webdataset"
    is_stream = True

    def __init__(
        self,
        train: str,
        val: str | None = None,
        test: str | None = None,
        download: bool = False,
        **options: Unpack[ShardOptions],
    ) -> None:
        given = given_options(type(self), options, ShardOptions)
        super().__init__(None, download, **shared_options(options))
        patterns = {"train": train, "val": val, "test": test}
        self.patterns = {name: None if pattern is None else str(pattern) for name, pattern in patterns.items()}
        is_all_local = not any(map(is_remote, filter(None, self.patterns.values())))
        refuse_options(given, is_all_local=is_all_local)
        if not is_all_local:
            self.selection = _AsRead(**asdict(self.selection))
        self.on_error = choice("on_error", given.get("on_error", "raise"), ("raise", "skip"))
        channels = grey_or_colour(given.get("in_channels", 3))
        self.train_samples: int | None = given.get("train_samples")
        names = find_classes(str(train), given.get("classes"), given.get("num_classes"), download=download)
        self.spec = replace(self.spec, class_names=names, in_channels=channels)
        self._streams: dict[str, Part] = {}  # the splits, if one of them is on the network
        self._left_out = Counter[str]()

    @property
    def sizes(self) -> dict[str, int]:
        """How many images each split has, as far as that is known, once `setup` has run."""
        streams = {name: part.count for name, part in self._streams.items() if part.count is not None}
        return streams if self._streams else super().sizes

    @property
    def class_counts(self) -> list[int]:
        """How many training images each class has, once `setup` has run.

        Raises:
            ValueError: The shards are on the network.
        """
        if self._streams and isinstance(self._streams["train"].samples, RemoteSamples):
            raise ValueError("how many images each class has is not known of shards on the network")
        return super().class_counts

    def default_num_workers(self) -> int:
        """As many processes as there are processors: most of the time goes into images."""
        return decoding_num_workers()

    def arguments(self) -> dict[str, Any]:
        """The arguments that build these data again; `download` is not among them."""
        own = {"classes": list(self.spec.class_names), "in_channels": self.in_channels, "on_error": self.on_error}
        given = {**self.patterns, "train_samples": self.train_samples}
        return {**super().arguments(), **own, **{name: value for name, value in given.items() if value is not None}}

    def prepare_data(self) -> None:
        """Look through local shards, unless that was done in an earlier run."""
        for shards in self._find().values():
            if not is_remote(shards[0]):
                look_through(shards, self.progress)

    def load(self) -> dict[str, Split]:
        """The samples of each split."""
        shards, strict = self._find(), self.on_error == "raise"
        reader = ShardReader(self.in_channels, self.spec.class_names, strict, self._report, self.progress)
        parts = {
            name: reader.read(found, self.train_samples if name == "train" else None) for name, found in shards.items()
        }
        if isinstance(self.selection, _AsRead):
            if "val" not in shards:
                size = DEFAULT_VAL_SIZE if self.selection.val_size is None else self.selection.val_size
                parts["train"], parts["val"] = reader.hold_out(parts["train"], size, self.seed)
            self._streams = parts
        return {name: part.split for name, part in parts.items()}

    def _part(self, name: str) -> Part:
        """A split as a stream."""
        if name in self._streams:
            return self._streams[name]
        split = self.splits[name]
        samples = cast(ShardSource, split.source).samples
        assert isinstance(samples, LocalSamples)
        return Part(LocalSamples(samples.index, split.positions), split, len(split))

    def _find(self) -> dict[str, tuple[str, ...]]:
        """The shards of each split."""
        given = {name: pattern for name, pattern in self.patterns.items() if pattern is not None}
        shards = {name: find_shards(pattern, download=self.download) for name, pattern in given.items()}
        for name in ("val", "test"):
            if shared := set(shards["train"]) & set(shards.get(name, ())):
                raise ValueError(f"{shown(min(shared))}: is among the shards of train and of {name}")
        if "val" in shards and self.selection.val_size is not None:
            raise ValueError(f"val_size is {self.selection.val_size}, but there are shards for validation: give one")
        if is_remote(shards["train"][0]) == (self.train_samples is None):
            need = "leave train_samples out, local ones are counted" if self.train_samples else "give train_samples"
            raise ValueError(f"{shown(shards['train'][0])}: how many samples do the training shards hold? {need}")
        return shards

    def _normalize(self, train: Split) -> None:
        super()._normalize(train.take(np.arange(min(len(train), HEAD))))

    @property
    def _side(self) -> int:
        return self.sizing.side

    def train_dataloader(self) -> StreamLoader:
        """Shuffled, augmented training images in full batches."""
        self.setup()
        part, (rank, world) = self._part("train"), place(self.trainer)
        assert part.count is not None
        batch_size = fitting_batch_size(self.batch_size, part.count, world)
        if batch_size != self.batch_size:
            self._notice(f"batch_size {self.batch_size} is more than the training images: {batch_size} is used")
        workers = self._train_workers(part, world)
        plan = Plan(batch_size // world, part.count // batch_size, self.seed, rank, world, max(1, workers))
        stream = TrainStream(part.samples, plan, self._maker(is_training=True))
        position, pin_memory = None if self.trainer is None else self._position, is_on_gpu(self.trainer)
        return train_loader(stream, self._report, position=position, num_workers=workers, pin_memory=pin_memory)

    def make_dataset(self, name: str, *, is_training: bool = False) -> ImageDataset:
        """Single images of local shards, for pictures of them.

        Raises:
            ValueError: The shards are on the network.
        """
        if self._streams:
            raise ValueError("shards on the network are read as a stream only")
        return super().make_dataset(name, is_training=is_training)

    def _train_workers(self, part: Part, world: int) -> int:
        """Loader processes: of shards on the network, each needs one of its own."""
        if not isinstance(part.samples, RemoteSamples):
            return self.num_workers
        most = len(part.samples.addresses) // world
        if not most:
            raise ValueError(f"{len(part.samples.addresses)} training shards are too few for {world} devices")
        if most < self.num_workers:
            self._notice(f"num_workers {self.num_workers} is more than the shards for training: {most} are used")
        return min(most, self.num_workers)

    def ordered_loader(self, name: str) -> StreamLoader:
        """The images of a split, each exactly once, in the order of the shards."""
        self.setup()
        if name not in self.splits:
            raise ValueError(f"{self.spec.name} has no {name} images")
        samples, (rank, world), maker = self._part(name).samples, place(self.trainer), self._maker()
        batch_size = max(1, self.batch_size // world)
        workers, pin_memory = self.num_workers, is_on_gpu(self.trainer)
        if isinstance(samples, RemoteSamples):
            stream = EvalStream(samples, batch_size, maker, rank=rank, world=world)
            return stream_loader(stream, self._report, num_workers=workers, pin_memory=pin_memory)
        rows = EvalRows(samples, maker, rank=rank, world=world)
        return rows_loader(rows, self._report, batch_size, num_workers=workers, pin_memory=pin_memory)

    def _maker(self, *, is_training: bool = False) -> BatchMaker:
        augment = self.make_augment() if is_training else None
        names, chosen = self.spec.class_names, self.selection.classes(self.spec.class_names)
        places = {number: place for place, number in enumerate(chosen)}
        return BatchMaker(self.in_channels, names, places, self.sizing, augment)

    def _facts(self, trainer: Trainer | None) -> dict[str, Any]:
        return {**super()._facts(trainer), "num_workers": self.num_workers}

    def _report(self, faults: Sequence[str]) -> None:
        """Refuse samples that cannot be used, or count them."""
        if self.on_error == "raise":
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise ValueError(f"{faults[0]}{more}: --data.on_error skip leaves such samples out")
        before = _summary(self._left_out)
        self._left_out |= Counter(faults)  # the same again, in a later epoch, counts once
        self.notices[:] = [line for line in self.notices if line != before]
        self._notice(_summary(self._left_out))


def _summary(faults: Counter[str]) -> str:
    named = "; ".join(list(faults)[:_NAMED]) + ("; ..." if len(faults) > _NAMED else "")
    return f"samples left out because they cannot be used: {faults.total():,} ({named})"


@dataclass(frozen=True)
class _AsRead(Selection):
    """What the user chose, when parts that are on the network are divided as they are read."""

    def apply(self, parts: dict[str, Split], names: Sequence[str]) -> dict[str, Split]:
        """The parts as they are."""
        return parts
