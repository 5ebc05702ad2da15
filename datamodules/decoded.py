"""Every image file decoded once: what is broken is known before training, and later epochs read pixels, not files.

The result is a folder with `index.npy`, one row an image, `broken.json`, and `pixels.bin`, which is mapped into memory
and so shared by all processes. It is written beside its place and renamed when it is whole.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.datamodules.arrays import Indices, Pixels, a_few
from zoo.datamodules.batch import squares
from zoo.datamodules.cache import one_at_a_time
from zoo.datamodules.decode import image_size_of, read_image
from zoo.datamodules.download import Progress
from zoo.datamodules.loader import identity, one_thread
from zoo.datamodules.machine import available_cpus

FORMAT = 2  # part of every key: another one makes files of the old format unknown rather than wrong
_ROW = np.dtype([("offset", np.int64), ("height", np.int32), ("width", np.int32)])  # height 0: broken
_BATCH = 64
_MOST_BYTES = 8 << 30
_FREE_SHARE = 0.5  # of the disk


@dataclass(frozen=True)
class Job:
    """Which files are decoded, and how.

    Attributes:
        paths: Paths as bytes; an array, because a list of so many strings is copied into every worker.
        in_channels: 1 for grey, 3 for colour.
        side: Images with a shorter side above this are cut and resized to it; 0: every image stays as it is.
        interpolation: How they are resized.
    """

    paths: npt.NDArray[np.bytes_]
    in_channels: int
    side: int
    interpolation: str = field(default="bilinear", kw_only=True)

    def read(self, position: int) -> Pixels:
        """One image, decoded and if need be cut: uint8 (H, W, C).

        Raises:
            ValueError: It is broken, or no image.
            OSError: It cannot be read.
        """
        image = self.decode(position)
        is_large = self.side and min(image.shape[:2]) > self.side
        return squares([image], self.side, self.interpolation)[0] if is_large else image

    def decode(self, position: int) -> Pixels:
        """One image as it is in its file."""
        return read_image(os.fsdecode(self.paths[position]), self.in_channels)

    def key(self) -> str:
        """A hash of what the pixels depend on: files, their sizes and dates, and how they are decoded."""
        digest = hashlib.sha256(f"{FORMAT} {self.in_channels} {self.side} {len(self.paths)}".encode())
        digest.update(np.ascontiguousarray(self.paths).data)
        digest.update(sizes_and_dates(self.paths))
        return digest.hexdigest()[:32]

    def content(self) -> str:
        """A hash of the files' names below the folder that holds them all, of their sizes, and of what is in a few."""
        names = [os.fsdecode(path) for path in self.paths]
        folder = os.path.commonpath({name.rpartition(os.sep)[0] for name in names})
        digest = hashlib.sha256()
        for name in names:
            digest.update(os.fsencode(f"{name.removeprefix(folder)} {_bytes_of(name)}\n"))
        for row in a_few(len(names)):  # some formats have one size
            with suppress(OSError):
                digest.update(Path(names[row]).read_bytes())
        return digest.hexdigest()

    def expected_bytes(self) -> int:
        """About how much memory the decoded images take, judged by a few of them."""
        rows = a_few(len(self.paths))
        sizes = []
        for row in rows:
            try:
                height, width = image_size_of(os.fsdecode(self.paths[row]))
            except (ValueError, OSError):
                continue
            is_cut = self.side and min(height, width) > self.side
            sizes.append(self.side**2 if is_cut else height * width)
        return int(np.mean(sizes or [0]) * self.in_channels * len(self.paths))


def sizes_and_dates(paths: Sequence[str | bytes] | npt.NDArray[np.bytes_]) -> bytes:
    """What changes when one of these files does, or if the paths are relative, the folder that they start from."""
    facts = np.zeros((len(paths), 2), dtype=np.int64)
    for row, path in enumerate(paths):
        try:
            status = os.stat(path)  # noqa: PTH116  # a Path object a file takes twice the time
            facts[row] = status.st_size, status.st_mtime_ns
        except OSError:
            continue  # decoding says what is wrong
    start = b"" if all(map(os.path.isabs, paths)) else os.fsencode(Path.cwd())
    return start + facts.tobytes()


def _bytes_of(name: str) -> int:
    """The size of a file; 0 of one that has gone, whose pixels may be kept."""
    try:
        return os.stat(name).st_size  # noqa: PTH116  # a Path object a file takes twice the time
    except OSError:
        return 0


class Decoded:
    """What `decode` left on the disk.

    Attributes:
        folder: Where it is.
        broken: The reason for each file that cannot be used, by its position.
        has_pixels: Whether the pixels were kept too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = np.load(folder / "index.npy")
        self._offsets: Indices = index["offset"]
        self._shapes = np.stack([index["height"], index["width"]], axis=1)
        facts = json.loads((folder / "broken.json").read_text())
        self.broken = {int(position): reason for position, reason in facts["broken"].items()}
        self.has_pixels: bool = facts["has_pixels"]
        self._channels: int = facts["in_channels"]
        self._path = folder / "pixels.bin"
        self._data: Pixels | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_data": None}  # a worker maps the file anew; pickling would copy it

    @property
    def data(self) -> Pixels:
        """All pixels as one flat array, mapped from the file."""
        if self._data is None:
            self._data = np.asarray(np.memmap(self._path, dtype=np.uint8, mode="r"))
        return self._data

    def read(self, positions: Indices) -> list[Pixels]:
        """Copies of the images at these positions, each uint8 (H, W, C)."""
        shapes = self._shapes[positions]
        height, width = shapes[0]
        size = int(height * width) * self._channels
        offsets = self._offsets[positions]
        if (shapes == shapes[0]).all() and not (offsets % size).any():
            # The usual case of equal images is one gather.
            rows = self.data[: len(self.data) // size * size].reshape(-1, size)[offsets // size]
            return list(rows.reshape(len(positions), height, width, self._channels))
        return [
            self.data[offset : offset + h * w * self._channels].reshape(h, w, self._channels).copy()
            for offset, (h, w) in zip(offsets.tolist(), shapes.tolist(), strict=True)
        ]


def decode(job: Job, folder: Path, *, keep_pixels: bool, progress: Progress | None = None) -> Decoded:
    """Decode all files, on all processors; a second time, what the first left is used.

    Args:
        job: What to decode.
        folder: Where the results of all jobs are kept.
        keep_pixels: Keep the pixels, rather than only what is broken.
        progress: Called with the number of files done and of all files.
    """
    resized = "" if job.interpolation == "bilinear" else f"-{job.interpolation}"
    place = folder / f"{job.key()}{resized}-{'pixels' if keep_pixels else 'checked'}"
    with one_at_a_time(place):
        if not _is_final(place):
            _build(job, place, keep_pixels, progress)
    return Decoded(place)


def fits(jobs: Iterable[Job], folder: Path) -> bool:
    """Whether the decoded images are so few that keeping them troubles nobody: 8 GiB, and half of the free disk."""
    folder.mkdir(parents=True, exist_ok=True)
    return sum(job.expected_bytes() for job in jobs) < min(_MOST_BYTES, _FREE_SHARE * shutil.disk_usage(folder).free)


def _is_final(place: Path) -> bool:
    """Whether the result is there and does not say of a file that it could not be read, which may have passed."""
    facts = place / "broken.json"
    return facts.is_file() and not json.loads(facts.read_text())["may_pass"]


def _build(job: Job, place: Path, keep_pixels: bool, progress: Progress | None) -> None:
    for old in (place, *place.parent.glob(f".{place.name}.*")):  # what a killed process left
        shutil.rmtree(old, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        _write(job, part, keep_pixels, progress)
        part.replace(place)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        remedy = "--data.cache false keeps none, $ZOO_CACHE names another disk"
        raise OSError(f"{place.parent}: no space left for decoded images; {remedy}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(job: Job, part: Path, keep_pixels: bool, progress: Progress | None) -> None:
    count, offset, done = len(job.paths), 0, 0
    index = np.zeros(count, dtype=_ROW)
    broken: dict[int, str] = {}
    any_may_pass = False
    with (part / "pixels.bin").open("wb") as file:
        for flat, shapes, reasons, may_pass in _loader(job, keep_pixels):
            any_may_pass |= may_pass
            for row, (height, width) in enumerate(shapes.tolist()):
                index[done + row] = offset, height, width
                offset += height * width * job.in_channels
            broken |= {done + row: reason for row, reason in reasons.items()}
            if keep_pixels:
                file.write(flat.numpy())
            done += len(shapes)
            if progress is not None:
                progress(done, count)
        file.flush()
        os.fsync(file.fileno())
    np.save(part / "index.npy", index)
    facts = {"broken": broken, "may_pass": any_may_pass, "has_pixels": keep_pixels, "in_channels": job.in_channels}
    (part / "broken.json").write_text(json.dumps(facts))


def _loader(job: Job, keep_pixels: bool) -> "DataLoader[Any]":
    workers = available_cpus() if len(job.paths) > 4 * _BATCH else 0
    dataset = _Files(job, keep_pixels)
    return DataLoader(
        dataset, batch_size=_BATCH, num_workers=workers, collate_fn=identity, worker_init_fn=_start_worker
    )


def _start_worker(number: int) -> None:
    one_thread(number)
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an exception of a thread, but not that of one that hands over pixels to a process that Ctrl-C has ended."""
    if not issubclass(kind, OSError | EOFError):
        sys.__excepthook__(kind, error, trace)


class _Files(Dataset[Any]):
    def __init__(self, job: Job, keep_pixels: bool) -> None:
        self.job = job
        self.keep_pixels = keep_pixels

    def __len__(self) -> int:
        return len(self.job.paths)

    def __getitems__(self, positions: Sequence[int]) -> tuple[Tensor, Tensor, dict[int, str], bool]:
        """Pixels of all images as one flat tensor, which goes through shared memory; their shapes; what is broken."""
        flat, shapes, reasons = [np.zeros(0, np.uint8)], np.zeros((len(positions), 2), np.int64), {}
        may_pass = False
        for row, position in enumerate(positions):
            try:
                image = self.job.read(position)
            except (ValueError, OSError) as error:
                reasons[row] = " ".join(str(error).split())
                may_pass |= isinstance(error, OSError)  # rights, a network disk
                continue
            shapes[row] = image.shape[:2]
            if self.keep_pixels:
                flat.append(image.ravel())
        return torch.from_numpy(np.concatenate(flat)), torch.from_numpy(shapes), reasons, may_pass
