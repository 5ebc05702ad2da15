"""What is known about each dataset before any of it is loaded. Reading this needs no torch."""

import difflib
import fnmatch
from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetSpec:
    """The facts that a model, a table or a command needs to know about a dataset.

    Attributes:
        name: The one string used in Python, on the command line and in checkpoints.
        class_names: What the labels 0, 1, 2, ... mean; empty if the data say.
        in_channels: 1 for grey images, 3 for colour.
        image_size: The native side of the square images, in pixels.
        mean: Mean per channel over the training set, of images scaled to 0..1; empty if it is computed.
        std: Standard deviation per channel over the training set, of images scaled to 0..1.
        augment: The augmentation policy used unless another is asked for.
        title: One line: what the images are and where they come from.
        pad_to: A size that is reached by a black border instead of interpolation; 0 if there is none.
        needs_root: Whether the images are read from a folder that the user names.
        mirror: Whether a mirrored image still belongs to its class; a mirrored digit does not.
        any_size: Whether the images come in all sizes, so that the model decides.
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
    any_size: bool = False

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)


_TEN_DIGITS = tuple("0123456789")
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_HIRAGANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_MERGED = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
    dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
    leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
    otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
    road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""


def _own(name: str, title: str, *, needs_root: bool = False) -> DatasetSpec:
    """Images that the user brings: classes, mean and deviation are found in the data."""
    return DatasetSpec(name, (), 3, 224, (), (), "flip_crop", title, needs_root=needs_root, any_size=True)


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
        name="kmnist",
        class_names=_HIRAGANA,
        in_channels=1,
        image_size=28,
        mean=(0.1918,),
        std=(0.3483,),
        augment="affine",
        title="70,000 28x28 characters from classical Japanese books (Clanuwat et al. 2018)",
        pad_to=32,
        needs_root=True,
        mirror=False,
    ),
    DatasetSpec(
        name="emnist",
        class_names=_MERGED,
        in_channels=1,
        image_size=28,
        mean=(0.1751,),
        std=(0.3332,),
        augment="affine",
        title="131,600 handwritten 28x28 digits and letters, the balanced one of six splits (Cohen et al. 2017)",
        pad_to=32,
        needs_root=True,
        mirror=False,
    ),
    DatasetSpec(
        name="cifar10",
        class_names=_CIFAR10,
        in_channels=3,
        image_size=32,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        augment="flip_crop",
        title="60,000 32x32 photographs of animals and vehicles, ten classes (Krizhevsky 2009)",
        needs_root=True,
    ),
    DatasetSpec(
        name="cifar100",
        class_names=tuple(_CIFAR100.split()),
        in_channels=3,
        image_size=32,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        augment="flip_crop",
        title="60,000 32x32 photographs, a hundred classes with fine labels (Krizhevsky 2009)",
        needs_root=True,
    ),
    DatasetSpec(
        name="svhn",
        class_names=_TEN_DIGITS,
        in_channels=3,
        image_size=32,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        augment="flip_crop",
        title="99,289 32x32 photographs of digits in house numbers (Netzer et al. 2011)",
        needs_root=True,
        mirror=False,
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
    DatasetSpec(
        name="imagenet",
        class_names=(),  # 1,000 names, which torchvision has
        in_channels=3,
        image_size=224,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        augment="imagenet",
        title="ILSVRC 2012 in class folders: 1,281,167 training images, 50,000 to test on (Russakovsky et al. 2015)",
        needs_root=True,
        any_size=True,
    ),
    _own("folder", "your images: a folder with one folder for each class", needs_root=True),
    _own("csv", "your images: a CSV file with the columns path and label"),
    _own("huggingface", "a dataset of images from the Hugging Face hub, or saved by its library"),
    _own("webdataset", "shards of images in tar files, read as a stream"),
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
