"""How an image folder is laid out: which folders are splits, which are classes, and which names classes may have."""

import difflib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Names of split folders, and the split that they hold."""
LAYOUT = "expected ROOT/train/CLASS/... (beside it val and test, if there are any) or ROOT/CLASS/..."
_NO_CLASSES = frozenset(("training", "testing"))  # folders of these names that hold folders are splits, misspelt
# What systems put into folders; __MACOSX is full of files that only look like images.
_FOREIGN = frozenset(("__macosx", "@eadir", "$recycle.bin", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini"))


def sort_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Numbers in the order of their values, other names in alphabetical order."""
    names = list(names)
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=_by_value))
    return tuple(sorted(names))


def _by_value(digits: str) -> tuple[int, str, str]:
    """Orders numbers by value without making integers of them, which Python refuses above 4,300 digits."""
    significant = digits.lstrip("0")
    return len(significant), significant, digits


def class_faults(names: Sequence[str], where: str, remedy: str = "a classifier needs two") -> list[str]:
    """A line for what is wrong with the names of the classes that stand at a place."""
    if len(names) < 2:
        number = f"only one class, {names[0]!r}" if names else "no classes"
        return [f"{shown(where)}: {number}; {remedy}"]
    faults, alike = [], dict[str, str]()
    for name in names:
        if other := alike.get(_fold(name)):
            what = (
                "is there twice"
                if other == name
                else f"and {other!r} differ only in case or in how accents are stored: rename or merge them"
            )
            faults.append(f"{shown(where)}: class {name!r} {what}")
        alike[_fold(name)] = name
    return faults


def unknown_classes(names: Iterable[str], classes: Sequence[str], where: str) -> list[str]:
    """A line if some of the names that stand at a place are no classes; the first is named, with the nearest class."""
    known = set(classes)
    strange = [name for name in sort_classes(names) if name not in known]
    if not strange:
        return []
    alike = [name for name in classes if _fold(name) == _fold(strange[0])]
    nearest = alike or difflib.get_close_matches(strange[0], classes, n=1, cutoff=0.4)
    hint = (
        f": did you mean {nearest[0]!r}?"
        if nearest
        else f"; they are {', '.join(classes[:5])}{', ...' * (len(classes) > 5)}"
    )
    more = f" ({len(strange) - 1} more are unknown)" if len(strange) > 1 else ""
    return [f"{shown(where)}: class {strange[0]!r} is not among the {len(classes)} training classes{hint}{more}"]


def shown(name: str) -> str:
    """A path as it can be printed in one line, whatever bytes are in it."""
    return name if name.isprintable() else ascii(name)


def is_foreign(name: str) -> bool:
    """Whether a file or folder of this name is hidden or was left behind by a system."""
    return name.startswith(".") or name.lower() in _FOREIGN


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def refuse(faults: Sequence[str]) -> None:
    """Raise ValueError with the first of the faults, if there are any, and the number of the others."""
    if faults:
        more = f" (and {len(faults) - 1} more, which zoo data check lists)" if len(faults) > 1 else ""
        raise ValueError(faults[0] + more)


# Folders


def checked_folder(root: Path) -> Path:
    """The folder with `~` written out.

    Raises:
        FileNotFoundError: There is no such folder.
        PermissionError: A folder above it may not be searched.
        ValueError: It is a file.
    """
    root = Path(root).expanduser()
    try:
        if root.is_dir():
            return root
        exists = root.exists()
    except OSError as error:  # a folder above may not be searched
        raise PermissionError(f"{shown(str(root))}: may not be read; check the rights of the folder") from error
    if exists:
        raise ValueError(f"{shown(str(root))}: is a file, not a folder (unpack an archive first); {LAYOUT}")
    raise FileNotFoundError(f"{shown(str(root))}: no such folder; {LAYOUT}")


def split_folders(root: Path, *, needs_train: bool) -> dict[str, Path]:
    """The folder of each split, train first, or the root itself under "all".

    Raises:
        ValueError: There are no class folders where they are expected.
    """
    level = Level(root)
    if not level.folders:
        raise ValueError(flat(level))
    found: dict[str, Path] = {}
    for name in level.folders:
        split = SPLITS.get(name.lower(), name)
        if split in found:
            raise ValueError(f"{shown(str(root))}: {found[split].name!r} and {name!r} are both the {split} split")
        found[split] = root / name
    others = [name for name in found if name not in SPLITS]
    splits: dict[str, Path] = {name: found[name] for name in ("train", "val", "test") if name in found}
    if "train" in splits and _is_split(splits["train"], others):
        return splits
    return _without_train(root, splits, others, needs_train=needs_train)


def _is_split(train: Path, others: list[str]) -> bool:
    level = Level(train)
    if not level.folders and not others:
        raise ValueError(flat(level))
    return bool(level.folders) and not (level.images and others)


def _without_train(root: Path, splits: dict[str, Path], others: list[str], *, needs_train: bool) -> dict[str, Path]:
    """The layout if there is no training split: a single tree, unless some folders hold class folders."""
    levels = [Level(root / name) for name in others if name.lower() in _NO_CLASSES]
    levels += [Level(folder) for name, folder in splits.items() if name != "train"]
    for level in levels:
        if level.folders and not level.images:
            if not needs_train and not others:
                return splits
            problem = f"{level.path.name!r} holds class folders, but 'train' does not or is missing"
            raise ValueError(f"{shown(str(root))}: {problem}; {LAYOUT}")
    if not others and needs_train:
        raise ValueError(f"{shown(str(root))}: no folder 'train' beside {', '.join(splits)}; {LAYOUT}")
    return {"all": root}


def flat(level: "Level") -> str:
    """What is wrong with a folder without class folders."""
    images = f"{level.images:,} image{'s' * (level.images > 1)}, but " if level.images else ""
    return f"{shown(str(level.path))}: {images}no class folders: it needs one folder per class; {LAYOUT}"


class Level:
    """What lies directly in a folder; `folders` are names of folders, links to folders included."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folders, self.broken = list[str](), list[str]()
        self.images = self.files = 0
        for entry in entries(str(path)):
            kind = kind_of(entry)
            if kind == "folder":
                self.folders.append(entry.name)
            elif kind == "broken":
                self.broken.append(entry.name)
            else:
                self.files += 1
                self.images += is_image(entry.name)


def entries(folder: str) -> list["os.DirEntry[str]"]:
    """What lies in a folder, by name, without what is foreign.

    Raises:
        PermissionError: The folder may not be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not is_foreign(entry.name)), key=lambda entry: entry.name)
    except PermissionError:
        raise PermissionError(f"{shown(folder)}: may not be read; check the rights of the folder") from None


def kind_of(entry: "os.DirEntry[str]") -> str:
    """Whether it is a "file", a "folder", a "broken" link or something "special" (a pipe); links are followed."""
    try:
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "folder"
        return "special" if os.path.exists(entry) else "broken"  # noqa: PTH110  # a link without its target
    except OSError:  # a link to itself, or into a folder that may not be searched
        return "broken"


def is_image(name: str) -> bool:
    """Whether a file of this name should be an image."""
    return name[name.rfind(".") :].lower() in SUFFIXES
