"""Random numbers that are a function of (seed, epoch, index), for a whole batch of images at once.

A counter-based generator: every number is a hash of its key and of its place in the stream, so nothing is stored, and
the numbers of one image do not depend on which other images are in the batch. The hash is splitmix64 (Steele, Lea and
Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Keys = Sequence[tuple[int, int]] | npt.NDArray[np.int64]  # the (index, epoch) of every image of a batch, (N, 2)
Streams = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio: the increment of splitmix64


def open_streams(seed: int, keys: Keys) -> Streams:
    """The random stream of every image.

    Args:
        seed: The seed of the run, from 0 to 2**64 - 1.
        keys: The (index, epoch) of each image.

    Returns:
        (N,): what the functions below take.
    """
    pairs = np.array(keys, dtype=np.uint64).reshape(-1, 2)
    # Each value is hashed before the next is added: (seed 1, epoch 2) and (seed 2, epoch 1) have nothing in common.
    state = _mix(np.array([seed], dtype=np.uint64) + _GOLDEN)
    state = _mix(state + pairs[:, 1] + _GOLDEN)
    return _mix(state + pairs[:, 0] + _GOLDEN)


def bits(streams: Streams, count: int) -> npt.NDArray[np.uint64]:
    """The first numbers of every stream, 64 random bits each: (N, count)."""
    places = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    return _mix(streams[:, None] + places)


def uniform(streams: Streams, count: int) -> npt.NDArray[np.float64]:
    """The first numbers of every stream, uniform from 0 to just below 1: (N, count)."""
    return (bits(streams, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53  # 53 bits: what a float64 holds


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
