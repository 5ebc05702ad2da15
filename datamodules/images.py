"""Image files for prediction: finding them, and preparing them as a model expects."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import Dataset

from zoo.datamodules.arrays import Pixels
from zoo.datamodules.batch import Sizing, add_border, prepare_batch, squares
from zoo.datamodules.checks import choice, whole_number
from zoo.datamodules.decode import image_size_of, read_image, read_image_bytes
from zoo.datamodules.layout import SUFFIXES, is_foreign, is_image
from zoo.datamodules.loader import StatelessLoader, build_loader, decoding_num_workers, is_on_gpu, place
from zoo.datamodules.sampler import Batch, EvalSampler
from zoo.datamodules.views import VIEW_CROP, VIEWS, views

__all__ = ["SUFFIXES", "ImageFiles", "collect_images", "image_size_of", "read_image", "read_image_bytes"]


def collect_images(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The image files that these paths name, each once.

    Files are taken as they are given, whatever their suffix. Folders are searched to the bottom for image suffixes,
    except in hidden folders, and what is found there is sorted.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: A folder holds no images, or no path was given.
        PermissionError: A folder may not be read.
    """
    if not paths:
        raise ValueError("no images given: name files or folders")
    found: dict[Path, None] = {}  # a dict keeps the order and drops repetitions
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        found.update(dict.fromkeys(_search(path) if path.is_dir() else [path]))
    return list(found)


class ImageFiles(LightningDataModule):
    """Image files for `Trainer.predict`, prepared as the images that a model was trained on.

    Batches are (images, positions in `paths`). On one device they come in order; on several every file comes once.
    With several views of each file, a batch holds them one after the other, each with the position of its file: average
    the probabilities of equal positions.

    Args:
        paths: The files.
        preprocessing: What `ImageDataModule.describe` says under that name: image_size, border, in_channels, mean, std,
            and crop and interpolation if they are not the usual ones.
        batch_size: Files per step over all devices together.
        views: Which views of a file, one of `zoo.datamodules.views.VIEWS`: none, flip or crops. For crops, the crop
            that the model was trained with is replaced by theirs.

    Raises:
        ValueError: An argument is not as described.
    """

    def __init__(
        self,
        paths: list[Path] | list[str],
        preprocessing: dict[str, Any],
        batch_size: int = 64,
        *,
        views: str = "none",
    ) -> None:
        super().__init__()
        self.paths = [Path(path) for path in paths]
        self.preprocessing = preprocessing
        self.batch_size = whole_number("batch_size", batch_size)
        self.views = choice("views", views, tuple(VIEWS))
        self.sizing = Sizing.of(preprocessing)
        if views == "crops":
            self.sizing = replace(self.sizing, crop=VIEW_CROP)
        self.allow_zero_length_dataloader_with_multiple_devices = True  # one file on two devices

    def predict_dataloader(self) -> StatelessLoader:
        """The files in order, each exactly once."""
        dataset = _FileDataset(self.paths, self.preprocessing["in_channels"], self.sizing, self.views)
        rank, world = place(self.trainer)
        sampler = EvalSampler(dataset, max(1, self.batch_size // world), rank=rank, world=world)
        return build_loader(dataset, sampler, pin_memory=is_on_gpu(self.trainer))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise on the device."""
        return prepare_batch(batch, self.preprocessing)


class _FileDataset(Dataset[tuple[Tensor, Tensor]]):
    # Threads instead of loader processes: decoding releases the interpreter lock, and an error arrives as it was
    # raised, in one line, instead of wrapped in a worker's traceback.

    def __init__(self, paths: list[Path], in_channels: int, sizing: Sizing, kind: str) -> None:
        self.paths = paths
        self.in_channels = in_channels
        self.sizing = sizing
        self.kind = kind

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        positions, _ = batch
        with ThreadPoolExecutor(decoding_num_workers()) as pool:
            images = list(pool.map(self._load, positions.tolist()))
        number_of_views = len(images[0])
        return torch.from_numpy(np.concatenate(images)), torch.from_numpy(positions.repeat(number_of_views))

    def _load(self, index: int) -> Pixels:
        """The views of a file, (V, image_size, image_size, C)."""
        image = read_image(self.paths[index], self.in_channels)
        larger = squares([image], self.sizing.side, self.sizing.interpolation)
        return add_border(views(larger, self.sizing.inner, self.kind)[0], self.sizing.border)


def _search(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not is_foreign(name)]
        found += [Path(parent, name) for name in files if is_image(name) and not is_foreign(name)]
    if not found:
        raise ValueError(f"{folder}: holds no images; suffixes looked for: {' '.join(sorted(SUFFIXES))}")
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise PermissionError(f"{error.filename}: may not be read; check the rights of the folder") from None
