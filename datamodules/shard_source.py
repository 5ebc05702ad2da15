"""Single images of shards, for statistics and pictures; training reads streams."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from zoo.datamodules.arrays import Indices, Pixels, a_few
from zoo.datamodules.batch import squares
from zoo.datamodules.shard_read import read_rows
from zoo.datamodules.shard_stream import LocalSamples, RemoteSamples


@dataclass(frozen=True)
class ShardSource:
    """Images of shards by position: rows of the index of local ones, or places in the stream of those on the network.

    Attributes:
        samples: Where they come from.
        in_channels: 1 for grey, 3 for colour.
        classes: The names of the classes.
        mark: A text that is another one for other images.
        is_strict: Whether a sample that cannot be used is an error; otherwise another one stands in for it.
    """

    samples: LocalSamples | RemoteSamples
    in_channels: int
    classes: tuple[str, ...]
    mark: str
    is_strict: bool

    def whole(self, positions: Indices) -> list[Pixels]:
        """Images as they are, each uint8 (H, W, C).

        Raises:
            ValueError: One cannot be used, or none can.
        """
        if isinstance(self.samples, LocalSamples):
            items = read_rows(self.samples.index, positions)
        else:
            wanted = set(positions.tolist())
            stream = enumerate(islice(self.samples.share(0, 1), max(wanted) + 1))
            items = (item for place, item in stream if place in wanted)
        images, fault = [], "no training images in the shards"
        for item in items:
            try:
                if isinstance(item, str):
                    raise ValueError(item)
                images.append(item.decode(self.in_channels, self.classes)[0])
            except ValueError as error:
                fault = str(error)
                if self.is_strict:
                    raise
        if not images:
            raise ValueError(fault)
        if not isinstance(self.samples, LocalSamples):
            return images  # how many there are is not known before
        return [images[place % len(images)] for place in range(len(positions))]

    def square(self, positions: Indices, side: int, interpolation: str = "bilinear") -> Pixels:
        """The images' centres, uint8 (N, side, side, C)."""
        return squares(self.whole(positions), side, interpolation)

    def fingerprint(self) -> str:
        """The mark."""
        return self.mark

    def content(self) -> str:
        """A hash of the samples' keys and of a few images; of those on the network, the mark, made of the addresses."""
        if not isinstance(self.samples, LocalSamples):
            return self.mark
        keys = self.samples.index.keys
        digest = hashlib.sha256(keys.tobytes())
        for item in read_rows(self.samples.index, a_few(len(keys))):
            with suppress(ValueError):
                digest.update(
                    b"" if isinstance(item, str) else item.decode(self.in_channels, self.classes)[0].tobytes()
                )
        return digest.hexdigest()
