"""Image folders as people have them: the right classes and labels, or one line that says what is wrong."""

import os
from pathlib import Path

import numpy as np
import pytest

from zoo.datamodules.tree import Tree, read_tree, survey_tree, tree_classes


def grow(root: Path, *files: str) -> Path:
    """Empty files; a tree is read without opening any. A path that ends with a slash is a folder."""
    for file in files:
        path = root / file
        (path if file.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not file.endswith("/"):
            path.touch()
    return root


def labelled(tree: Tree) -> dict[str, dict[str, str]]:
    """The class of every path, by split."""
    return {
        split: {path: tree.classes[label] for path, label in zip(listing.paths, listing.labels, strict=True)}
        for split, listing in tree.splits.items()
    }


def test_splits(tmp_path: Path) -> None:
    root = grow(tmp_path, "train/dog/a.jpg", "train/cat/b.JPG", "train/cat/deep/er/c.png", "test/dog/d.webp")
    grow(root, "valid/cat/e.tiff", "readme.txt", "train/list.csv", "train/cat/notes.txt", "train/cat/LICENSE")
    tree = read_tree(root)
    assert tree.classes == tree_classes(root) == ("cat", "dog")
    assert labelled(tree) == {
        "train": {"train/cat/b.JPG": "cat", "train/cat/deep/er/c.png": "cat", "train/dog/a.jpg": "dog"},
        "val": {"valid/cat/e.tiff": "cat"},
        "test": {"test/dog/d.webp": "dog"},
    }
    assert list(tree.splits) == ["train", "val", "test"]
    assert tree.splits["train"].labels.dtype == np.int64
    assert tree.skipped == {"suffix .txt": 1, "no suffix": 1, "beside the class folders": 2}
    assert all((tree.root / path).is_file() for path in tree.splits["train"].paths)


def test_single_tree_with_classes_that_are_called_like_splits(tmp_path: Path) -> None:
    root = grow(tmp_path, "bus/a.png", "train/b.png", "train/regional/c.png", "test/d.png", "stray.png")
    tree = read_tree(root)
    assert tree.classes == tree_classes(root) == ("bus", "test", "train")
    paths = {"bus/a.png": "bus", "test/d.png": "test", "train/b.png": "train", "train/regional/c.png": "train"}
    assert labelled(tree) == {"all": paths}
    assert tree.skipped == {"beside the class folders": 1}


def test_loose_images_beside_the_training_classes_make_no_class(tmp_path: Path) -> None:
    root = grow(tmp_path, "train/cat/a.png", "train/dog/b.png", "train/loose.png", "test/cat/c.png")
    tree = read_tree(root)
    assert tree.classes == ("cat", "dog")
    assert tree.skipped == {"beside the class folders": 1}


def test_a_class_that_val_lacks_shifts_no_label(tmp_path: Path) -> None:
    """REQ-I3: the classes are those of train; a class that val lacks shifts no label."""
    root = grow(tmp_path, *(f"train/{name}/1.png" for name in ("ant", "bee", "cow")), "val/cow/1.png", "val/bee/1.png")
    assert labelled(read_tree(root))["val"] == {"val/bee/1.png": "bee", "val/cow/1.png": "cow"}
    assert read_tree(root).splits["val"].labels.tolist() == [1, 2]


def test_order_of_classes(tmp_path: Path) -> None:
    numbers = grow(tmp_path / "numbers", *(f"{name}/x.png" for name in ("10", "2", "1", "100", "03")))
    assert read_tree(numbers).classes == ("1", "2", "03", "10", "100")
    mixed = grow(tmp_path / "mixed", *(f"{name}/x.png" for name in ("10", "2", "b", "B2")))
    assert read_tree(mixed).classes == ("10", "2", "B2", "b")


def test_given_classes_fix_the_order(tmp_path: Path) -> None:
    root = grow(tmp_path, "train/cat/a.png", "train/dog/b.png")
    tree = read_tree(root, ["dog", "owl", "cat"])
    assert tree.classes == ("dog", "owl", "cat")
    assert dict(zip(tree.splits["train"].paths, tree.splits["train"].labels.tolist(), strict=True)) == {
        "train/dog/b.png": 0,
        "train/cat/a.png": 2,
    }
    with pytest.raises(
        ValueError, match=r"train: class 'cat' is not among the 2 training classes: did you mean 'cats'\?"
    ):
        read_tree(root, ["cats", "dog"])
    only_test = grow(tmp_path / "only", "test/cat/a.png")
    assert read_tree(only_test, ["dog", "cat"]).splits["test"].labels.tolist() == [1]
    with pytest.raises(ValueError, match=r"the classes asked for: class 'cat' is there twice$"):
        read_tree(root, ["cat", "dog", "cat"])


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    """REQ-I3: hidden folders and those of systems are no classes."""
    root = grow(tmp_path, "train/cat/a.png", "train/dog/b.png", "train/.ipynb_checkpoints/c.png", "train/cat/._a.png")
    grow(
        root, "__MACOSX/train/cat/d.png", "train/__MACOSX/e.png", "train/cat/Thumbs.db", "train/.DS_Store", ".git/f.png"
    )
    grow(root, "train/cat/.ipynb_checkpoints/g.png", "train/dog/@eaDir/b.png", "train/desktop.ini")
    tree = read_tree(root)
    assert labelled(tree) == {"train": {"train/cat/a.png": "cat", "train/dog/b.png": "dog"}}
    assert tree.skipped == {}


def test_other_folders_beside_the_splits_are_counted(tmp_path: Path) -> None:
    root = grow(tmp_path, "train/cat/a.png", "train/dog/b.png", "labels/1.xml", "labels/old/2.xml", "empty/")
    assert read_tree(root).skipped == {"in labels, which is no split": 2}


def test_links(tmp_path: Path) -> None:
    outside = grow(tmp_path / "outside", "pool/p.png", "pool/more/q.png", "owls/o.png")
    root = grow(tmp_path / "root", "train/cat/a.png", "train/dog/b.png")
    (root / "train/owl").symlink_to(outside / "owls")  # a class
    (root / "train/cat/pool").symlink_to(outside / "pool")
    (root / "train/cat/pool_again").symlink_to(outside / "pool")
    (root / "train/cat/c.png").symlink_to(outside / "owls/o.png")
    (outside / "pool/back").symlink_to(outside / "pool")  # loops
    (root / "train/dog/up").symlink_to(root)
    (root / "train/dog/self").symlink_to(root / "train/dog/self")
    (root / "train/dog/gone.png").symlink_to(tmp_path / "gone.png")
    (root / "train/gone").symlink_to(tmp_path / "gone")
    (root / "val").symlink_to(root / "train")
    tree = read_tree(root)
    cats = ["a.png", "c.png", "pool/more/q.png", "pool/p.png"]
    expected = {f"cat/{name}": "cat" for name in cats} | {"dog/b.png": "dog", "owl/o.png": "owl"}
    for split in ("train", "val"):
        assert labelled(tree)[split] == {f"{split}/{path}": name for path, name in expected.items()}
    assert sorted(tree.broken) == sorted(
        f"{split}/{name}" for split in ("train", "val") for name in ("dog/gone.png", "dog/self", "gone")
    )


def test_pipes_are_counted(tmp_path: Path) -> None:
    root = grow(tmp_path, "cat/a.png", "dog/b.png")
    os.mkfifo(root / "cat" / "pipe.png")
    assert read_tree(root).skipped == {"no regular file": 1}


LAYOUT = r"expected ROOT/train/CLASS/\.\.\. \(beside it val and test, if there are any\) or ROOT/CLASS/\.\.\."
FLAT = f"no class folders: it needs one folder per class; {LAYOUT}"
NO_TRAIN = f"holds class folders, but 'train' does not or is missing; {LAYOUT}"
ALIKE = "differ only in case or in how accents are stored: rename or merge them"
HOSTILE: dict[str, tuple[list[str], str]] = {
    "empty": ([], rf"ROOT: {FLAT}"),
    "only files": (["a.png", "b.png", "c.txt"], rf"ROOT: 2 images, but {FLAT}"),
    "only hidden": ([".git/x", "__MACOSX/cat/a.png"], rf"ROOT: {FLAT}"),
    "flat val": (
        ["train/cat/a.png", "train/dog/b.png", *(f"val/{number}.png" for number in range(1200))],
        rf"ROOT/val: 1,200 images, but {FLAT}",
    ),
    "flat train": (["train/a.png", "test/b.png"], rf"ROOT/train: 1 image, but {FLAT}"),
    "flat train and more": (
        ["train/a.png", "test/cat/b.png", "test/dog/b.png", "extra/c.png"],
        rf"ROOT: 'test' {NO_TRAIN}",
    ),
    "no train": (["test/cat/a.png", "test/dog/a.png"], rf"ROOT: 'test' {NO_TRAIN}"),
    "flat splits without train": (["test/a.png", "val/a.png"], rf"ROOT: no folder 'train' beside val, test; {LAYOUT}"),
    "misspelt": (["training/cat/a.png", "training/dog/a.png", "testing/cat/a.png"], rf"ROOT: 'testing' {NO_TRAIN}"),
    "two for one": (
        ["train/cat/a.png", "val/cat/a.png", "valid/cat/a.png"],
        r"ROOT: 'val' and 'valid' are both the val split",
    ),
    "train twice": (["train/cat/a.png", "Train/cat/a.png"], r"ROOT: 'Train' and 'train' are both the train split"),
    "one class": (["train/cat/a.png"], rf"ROOT/train: only one class, 'cat'; {LAYOUT}"),
    "root too high": (["cifar/train/cat/a.png"], rf"ROOT: only one class, 'cifar'; {LAYOUT}"),
    "unknown class": (
        ["train/cat/a.png", "train/dog/a.png", "val/cats/a.png"],
        r"ROOT/val: class 'cats' is not among the 2 training classes: did you mean 'cat'\?",
    ),
    "unknown classes": (
        ["train/cat/a.png", "train/dog/a.png", *(f"test/{name}/a.png" for name in ("x1", "x2", "x3"))],
        r"ROOT/test: class 'x1' is not among the 2 training classes; they are cat, dog \(2 more are unknown\)",
    ),
    "case": (["Cat/a.png", "cat/a.png", "dog/a.png"], f"ROOT: class 'cat' and 'Cat' {ALIKE}"),
    "accents": (["cafe\u0301/a.png", "caf\u00e9/a.png"], f"ROOT: class 'café' and 'cafe\u0301' {ALIKE}"),
    "case of val": (
        ["train/cat/a.png", "train/dog/a.png", "val/Dog/a.png"],
        r"ROOT/val: class 'Dog' is not among the 2 training classes: did you mean 'dog'\?",
    ),
    "class without images": (["cat/a.png", "dog/notes.txt"], r"ROOT/dog: a class folder without images"),
    "empty class of val": (
        ["train/cat/a.png", "train/dog/a.png", "val/dog/"],
        r"ROOT/val/dog: a class folder without images",
    ),
    "two faults": (
        ["train/cat/a.png", "train/dog/", "train/owl/", "val/rat/a.png"],
        r"ROOT/train/dog: a class folder without images \(and 2 more, which zoo data check lists\)",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_one_line_says_what_is_wrong(name: str, tmp_path: Path) -> None:
    """REQ-I3: an unknown class in val or test is an error, as are other faults in the layout."""
    files, message = HOSTILE[name]
    root = tmp_path / "root"
    root.mkdir()
    grow(root, *files)
    with pytest.raises(ValueError, match=message.replace("ROOT", str(root), 1) + "$") as error:
        read_tree(root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name in ("case", "one class", "empty", "no train")])
def test_names_alone_reveal_some_faults(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^\S+: \S"):
        tree_classes(grow(tmp_path, *HOSTILE[name][0]))


def test_survey_goes_on_after_a_fault(tmp_path: Path) -> None:
    root = grow(tmp_path, "train/cat/a.png", "train/dog/b.png", "train/owl/", "val/cat/c.png", "val/rat/d.png")
    tree, faults = survey_tree(root)
    assert tree.classes == ("cat", "dog", "owl")
    assert labelled(tree)["val"] == {"val/cat/c.png": "cat"}
    assert len(faults) == 2


def test_roots_that_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "data.zip").touch()
    for read in (read_tree, tree_classes):
        with pytest.raises(FileNotFoundError, match=rf"nowhere: no such folder; {LAYOUT}$"):
            read(tmp_path / "nowhere")
        with pytest.raises(
            ValueError, match=rf"data\.zip: is a file, not a folder \(unpack an archive first\); {LAYOUT}$"
        ):
            read(tmp_path / "data.zip")


def test_names_that_cannot_be_printed(tmp_path: Path) -> None:
    root = grow(tmp_path, "train/cat/a.png", "train/do\ng/x.txt")
    with pytest.raises(ValueError, match=r"/train/do\\ng': a class folder without images$"):
        read_tree(root)
    (root / "train/do\ng").rename(root / "train" / os.fsdecode(b"\xff\xfe"))  # no UTF-8
    grow(root, "train/owl/a.png")
    with pytest.raises(ValueError, match=r"/train/\\udcff\\udcfe': a class folder without images$"):
        read_tree(root)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
@pytest.mark.parametrize("locked", ["", "train", "train/cat", "train/cat/deep"])
def test_folder_that_may_not_be_read(locked: str, tmp_path: Path) -> None:
    root = grow(tmp_path / "root", "train/cat/deep/a.png", "train/dog/b.png")
    (root / locked).chmod(0)
    try:
        with pytest.raises(PermissionError, match=r": may not be read; check the rights of the folder$"):
            read_tree(root)
    finally:
        (root / locked).chmod(0o700)
