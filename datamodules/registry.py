"""What is known about each dataset before any of it is loaded. Reading this needs no torch."""

import difflib
import fnmatch
from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetSpec:
    """The facts that a model, a table or a command needs to know about a dataset.

    Attributes:
        name: The one string used in Python, on the command line and in checkpoints.
        class_names: What the labels 0, 1, 2, ... mean.
        in_channels: 1 for grey images, 3 for colour.
        image_size: The native side of the square images, in pixels.
        mean: Mean per channel over the training set, of images scaled to 0..1.
        std: Standard deviation per channel over the training set, of images scaled to 0..1.
        augment: The augmentation policy used unless another is asked for.
        title: One line: what the images are and where they come from.
        pad_to: A size that is reached by a black border instead of interpolation; 0 if there is none.
        needs_root: Whether the images are read from a folder that the user names.
        mirror: Whether a mirrored image still belongs to its class; a mirrored digit does not.
    """

    name: str
    class_names: tuple[str, ...]
    in_channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str
    title: str
    pad_to: int = 0
    needs_root: bool = False
    mirror: bool = True

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)


_TEN_DIGITS = tuple("0123456789")
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

_SPECS = (
    DatasetSpec(
        name="digits",
        class_names=_TEN_DIGITS,
        in_channels=1,
        image_size=8,
        mean=(0.3054,),
        std=(0.3760,),
        augment="affine",
        title="1,797 handwritten 8x8 digits, embedded in scikit-learn (UCI); our fixed 20 % is the test set",
        mirror=False,
    ),
    DatasetSpec(
        name="mnist",
        class_names=_TEN_DIGITS,
        in_channels=1,
        image_size=28,
        mean=(0.1307,),
        std=(0.3081,),
        augment="affine",
        title="70,000 handwritten 28x28 digits (LeCun et al. 1998)",
        pad_to=32,  # LeCun et al. 1998, section II.B: the 28x28 digit stands in the centre of a 32x32 field
        needs_root=True,
        mirror=False,
    ),
    DatasetSpec(
        name="fashion_mnist",
        class_names=_CLOTHES,
        in_channels=1,
        image_size=28,
        mean=(0.2860,),
        std=(0.3530,),
        augment="flip_crop",
        title="70,000 28x28 pictures of clothes (Xiao et al. 2017)",
        pad_to=32,
        needs_root=True,
    ),
    DatasetSpec(
        name="fake",
        class_names=_TEN_DIGITS,
        in_channels=3,
        image_size=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        augment="none",
        title="synthetic images that a small network can learn, generated in memory",
    ),
)

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in _SPECS}


def list_datasets(pattern: str = "*") -> list[str]:
    """Names of the datasets that match a shell pattern, in alphabetical order."""
    return sorted(fnmatch.filter(DATASETS, pattern))


def dataset_spec(name: str) -> DatasetSpec:
    """The facts about one dataset.

    Raises:
        ValueError: There is no dataset of that name.
    """
    if name not in DATASETS:
        raise ValueError(unknown("dataset", name, list_datasets()))
    return DATASETS[name]


def unknown(kind: str, value: str, choices: list[str]) -> str:
    """One line for a name that does not exist: what was asked for, the nearest choice, all choices."""
    nearest = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"unknown {kind} {value!r}: {hint}choose from {', '.join(choices)}"
