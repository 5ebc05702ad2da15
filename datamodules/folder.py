"""Images in class folders, and ImageNet, which is kept in that way."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zoo.datamodules.files import FileDataModule
from zoo.datamodules.tree import Tree, read_tree, tree_classes

IMAGENET_CLASSES = 1000


class Folder(FileDataModule):
    """Your own images, one folder for each class.

    Either ROOT/train/CLASS/*, with ROOT/val/CLASS/* and ROOT/test/CLASS/* if there are such, or ROOT/CLASS/*, of which
    a fifth is the test set. The names of the folders are those of the classes.

    Args:
        root: The folder.
        **options: See `FileOptions` and `DataOptions`.
    """

    dataset = "folder"

    def find_classes(self) -> Sequence[str]:
        """The names of the class folders."""
        return tree_classes(self._folder)

    def read_tree(self) -> Tree:
        """All image files of the tree."""
        return read_tree(self._folder, self.spec.class_names)

    @property
    def _folder(self) -> Path:
        return Path(self.root or "").expanduser()


class ImageNet(Folder):
    """The 1,281,167 training and 50,000 validation images of ILSVRC 2012, in class folders.

    ROOT/train/n01440764/*.JPEG and ROOT/val/n01440764/*.JPEG, as torchvision and timm read them. The official
    validation images are the test set here, as in the literature; validation images are cut off the training images.

    Args:
        root: Folder that holds train and val.
        **options: See `FileOptions` and `DataOptions`.
    """

    dataset = "imagenet"

    def find_classes(self) -> Sequence[str]:
        """The 1,000 names; folders are named by WordNet numbers, whose order is that of the labels."""
        return _readable_names()

    def read_tree(self) -> Tree:
        """All image files; those in val are the test set."""
        part = "train" if (self._folder / "train").is_dir() else "val"  # to test, val will do
        folders = tree_classes(self._folder if part == "train" else self._folder / part)
        if len(folders) != IMAGENET_CLASSES:
            raise ValueError(
                f"{self._folder}/{part} has {len(folders)} class folders, ImageNet has {IMAGENET_CLASSES}: "
                "--data folder reads any number"
            )
        tree = read_tree(self._folder, folders)
        if "val" not in tree.splits or "test" in tree.splits:
            raise ValueError(f"{self._folder} must hold the folders train and val, with one folder a class in each")
        names = {"train": "train", "val": "test"}
        return replace(tree, splits={names[name]: listing for name, listing in tree.splits.items()})


def _readable_names() -> list[str]:
    """tench, goldfish, ...; made different where two classes go by one name (crane, maillot)."""
    from torchvision.models import AlexNet_Weights

    names: list[str] = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    return [f"{name} ({place})" if names.count(name) > 1 else name for place, name in enumerate(names)]
