"""Image files for prediction: finding them, and decoding them without surprises."""

import os
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from zoo.datamodules.batch import normalize_first, resize_batch
from zoo.datamodules.checks import whole_number
from zoo.datamodules.loader import StatelessLoader, available_cpus, build_loader, is_on_gpu, place
from zoo.datamodules.sampler import EvalSampler

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
_FOREIGN = "__MACOSX"  # a folder that macOS puts into zip files, full of files that only look like images
_OPENING = threading.Lock()  # warnings filters belong to the process, not to a thread


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


def read_image(path: str | os.PathLike[str], in_channels: int) -> npt.NDArray[np.uint8]:
    """Decode an image file to uint8 (H, W, C), upright as a viewer would show it.

    - The camera's orientation mark is applied.
    - 16-bit grey is scaled to 0..255. Other integers and floats: values within 0..1 count as fractions, within 0..255
      as they are, within 0..65535 as 16-bit; anything else is stretched from its minimum to its maximum.
    - Palettes, CMYK and other colour spaces are converted; transparency is shown on white.
    - Of an animation, the first picture is taken.

    Args:
        path: The file.
        in_channels: 1 for grey, 3 for colour.

    Raises:
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: It is not an image, is damaged, or would be far too large when decoded.
    """
    if in_channels not in (1, 3):
        raise ValueError(f"in_channels must be 1 (grey) or 3 (colour), not {in_channels!r}")
    image = _decode(Path(path))
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_to_bytes(np.asarray(image), path))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    pixels = np.array(image.convert("L" if in_channels == 1 else "RGB"))  # a copy: asarray would be read-only
    return pixels.reshape(*pixels.shape[:2], in_channels)


class ImageFiles(LightningDataModule):
    """Image files for `Trainer.predict`, prepared as the images that a model was trained on.

    Batches are (images, positions in `paths`). On one device they come in order; on several every file comes once.

    Args:
        paths: The files.
        preprocessing: What `ImageDataModule.describe` says under that name: image_size, border, in_channels, mean, std.
        batch_size: Files per step over all devices together.
    """

    def __init__(self, paths: list[Path] | list[str], preprocessing: dict[str, Any], batch_size: int = 64) -> None:
        super().__init__()
        self.paths = [Path(path) for path in paths]
        self.preprocessing = preprocessing
        self.batch_size = whole_number("batch_size", batch_size)
        self.allow_zero_length_dataloader_with_multiple_devices = True  # one file on two devices

    def predict_dataloader(self) -> StatelessLoader:
        """The files in order, each exactly once."""
        dataset = _FileDataset(self.paths, self.preprocessing)
        rank, world = place(self.trainer)
        sampler = EvalSampler(dataset, rank=rank, world=world)
        batch_size = max(1, self.batch_size // world)
        return build_loader(dataset, sampler, batch_size=batch_size, pin_memory=is_on_gpu(self.trainer))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise on the device."""
        return normalize_first(batch, self.preprocessing["mean"], self.preprocessing["std"])


class _FileDataset(Dataset[tuple[Tensor, Tensor]]):
    # Threads instead of loader processes: decoding releases the interpreter lock, and an error arrives as it was
    # raised, in one line, instead of wrapped in a worker's traceback.

    def __init__(self, paths: list[Path], preprocessing: dict[str, Any]) -> None:
        self.paths = paths
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._load(index)[0], torch.tensor(index)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        with ThreadPoolExecutor(min(8, available_cpus())) as pool:
            images = list(pool.map(self._load, indices))
        return torch.cat(images), torch.tensor(indices)

    def _load(self, index: int) -> Tensor:
        facts = self.preprocessing
        image = torch.from_numpy(read_image(self.paths[index], facts["in_channels"]))
        return resize_batch(image[None], facts["image_size"], facts["border"])


def _decode(path: Path) -> Image.Image:
    try:
        with _OPENING, warnings.catch_warnings():
            # Pillow only warns below twice its limit of 89 million pixels.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path)  # reads the header; the pixels are decoded below
        with image:
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except PermissionError:
        raise PermissionError(f"{path}: may not be read; check the rights of the file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        most = f"{Image.MAX_IMAGE_PIXELS:,}" if Image.MAX_IMAGE_PIXELS else "the limit of"
        raise ValueError(f"{path}: refused, it has more than {most} pixels") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image, or of a kind that Pillow cannot read") from None
    except Exception as error:  # decoders of damaged files raise whatever they stumble on
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: damaged image ({reason})") from None


def _to_bytes(values: npt.NDArray[np.generic], path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    numbers = values.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if not np.isfinite(numbers).all():
        raise ValueError(f"{path}: holds values that are not finite")
    if values.dtype.itemsize == 2 or (low >= 0 and 255 < high <= 65535):
        numbers /= 257  # 65535 / 255
    elif low >= 0 and high <= 1:
        numbers *= 255
    elif low < 0 or high > 255:
        numbers = (numbers - low) * (255 / (high - low))
    return np.rint(numbers).astype(np.uint8)


def _search(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and name != _FOREIGN]
        shown = [name for name in files if not name.startswith(".")]
        found += [Path(parent, name) for name in shown if Path(name).suffix.lower() in SUFFIXES]
    if not found:
        raise ValueError(f"{folder}: holds no images; suffixes looked for: {' '.join(sorted(SUFFIXES))}")
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise PermissionError(f"{error.filename}: may not be read; check the rights of the folder") from None
