"""A picture of training images: originals above, what augmentation makes of them below, labels under them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.batch import permute_pixels
from zoo.datamodules.sampler import balanced_order

MOST_COLUMNS = 8
CELL_INCHES = 1.3


def draw(data: ImageDataModule, count: int, path: Path, policy: str) -> None:
    """Write a PNG of `count` training images, of as many classes as possible.

    Raises:
        OSError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    originals, augmented, labels = _images(data, count)
    columns = min(MOST_COLUMNS, len(labels))
    rows = -(-len(labels) // columns)
    figure = Figure(figsize=(CELL_INCHES * columns, 2.35 * CELL_INCHES * rows + 0.4))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02)  # inches
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for cell in axes.flat:
        cell.set(xticks=[], yticks=[])
        cell.spines[:].set_visible(False)
    for place, label in enumerate(labels):
        row, column = 2 * (place // columns), place % columns
        for below, image in enumerate((originals[place], augmented[place])):
            cell = axes[row + below, column]
            cell.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes[row + 1, column].set_xlabel(data.class_names[label], fontsize=9)
    figure.suptitle(f"{data.spec.name}: originals above, {policy} below", fontsize=10)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, dpi=120, format="png")
    part.replace(path)


def _images(
    data: ImageDataModule, count: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Originals and augmented images (N, H, W, C) of the first epoch, and their labels."""
    dataset = data.make_dataset("train", is_training=True)
    # In the order of an epoch that shows all classes equally often, classes in turn.
    order = balanced_order(data.splits["train"].labels, data.seed, 0) % len(data.splits["train"])
    labels = data.splits["train"].labels[order]
    turn = np.zeros(len(order), dtype=np.int64)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    chosen = order[np.argsort(turn, kind="stable")[:count]]
    augmented, shown = dataset[chosen, 0]
    dataset.augment = None
    originals, _ = dataset[chosen, 0]
    if data.permute_pixels is not None:
        seed = data.permute_pixels
        augmented = permute_pixels(augmented.permute(0, 3, 1, 2).contiguous(), seed).permute(0, 2, 3, 1)
    return originals.numpy(), augmented.numpy(), shown.numpy()
