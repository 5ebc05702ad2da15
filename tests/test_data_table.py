"""Tables of image files: the right labels, or one line that says which row is wrong."""

import csv
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.datamodules.table import read_table, survey_table, table_classes
from zoo.datamodules.tree import Tree

ROWS = [("a.png", "dog"), ("sub/b.png", "cat"), ("c,d.png", "dog"), ("größe.png", "cat")]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with the files that `ROWS` lists."""
    for name, _ in ROWS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, text: str, encoding: str = "utf-8", newline: str = "") -> Path:
    file = folder / "labels.csv"
    file.write_text(text, encoding=encoding, newline=newline)
    return file


def labelled(tree: Tree, split: str) -> list[tuple[str, str]]:
    listing = tree.splits[split]
    return [(path, tree.classes[label]) for path, label in zip(listing.paths, listing.labels, strict=True)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("header", [("path", "label"), ("Image", "class"), ("filename", "LABEL"), ("file", "label")])
def test_dialects(images: Path, delimiter: str, encoding: str, header: tuple[str, str]) -> None:
    file = images / "labels.csv"
    with file.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows([header, *ROWS])
    tree = read_table(file)
    assert tree.classes == table_classes(file) == ("cat", "dog")
    assert labelled(tree, "all") == ROWS
    assert tree.splits["all"].labels.dtype == np.int64
    assert tree.root == images


def test_without_a_header(images: Path) -> None:
    file = write(images, '"c,d.png",1\na.png,0\r\n\nsub/b.png,10\n')
    assert labelled(read_table(file), "all") == [("c,d.png", "1"), ("a.png", "0"), ("sub/b.png", "10")]
    assert table_classes(file) == ("0", "1", "10")


def test_numbers_sort_by_value_and_other_labels_by_letter(images: Path) -> None:
    names = [name for name, _ in ROWS]
    numbers = write(images, "path,label\n" + "".join(f'"{n}",{v}\n' for n, v in zip(names, (10, 9, 2, 1), strict=True)))
    assert read_table(numbers).classes == ("1", "2", "9", "10")
    assert read_table(numbers).splits["all"].labels.tolist() == [3, 2, 1, 0]
    text = "path,label\n" + "".join(f'"{n}",{v}\n' for n, v in zip(names, ("10", "9", "b", "2"), strict=True))
    words = write(images, text)
    assert read_table(words).classes == ("10", "2", "9", "b")


def test_numbers_of_thousands_of_digits_sort_too(images: Path) -> None:
    large = "1" + "0" * 5000
    rows = zip(("a.png", "sub/b.png", "größe.png", '"c,d.png"'), (large, "0007", "7", "12"), strict=True)
    table = read_table(write(images, "path,label\n" + "".join(f"{path},{label}\n" for path, label in rows)))
    assert table.classes == ("0007", "7", "12", large)


def test_splits_and_other_columns(images: Path) -> None:
    text = (
        "id,split,label,path\n1,train,dog,a.png\n2,Validation,dog,sub/b.png\n3,TRAIN,cat,größe.png\n4,train,dog,a.png\n"
    )
    tree = read_table(write(images, text))
    assert {split: listing.paths for split, listing in tree.splits.items()} == {
        "train": ("a.png", "größe.png"),
        "val": ("sub/b.png",),
    }, "the same row again is the same image"
    assert tree.splits["val"].labels.tolist() == [1]
    remark = "labels.csv: rows that repeat one above, which counts once: 1, in line 5"
    assert [line.rpartition("/")[2] for line in tree.remarks] == [remark]


def test_an_image_is_in_one_split(images: Path) -> None:
    file = write(images, "path,label,split\na.png,dog,train\nsub/b.png,cat,train\n./a.png,dog,test\n")
    with pytest.raises(ValueError, match=r"labels\.csv: line 4: './a\.png' is in test here, but in train in line 2$"):
        read_table(file)


def test_one_file_by_several_paths_has_one_label(images: Path) -> None:
    (images / "link.png").symlink_to("a.png")
    (images / "hard.png").hardlink_to(images / "a.png")
    (images / "elsewhere").symlink_to("sub")
    for again, first in {
        str(images / "a.png"): "a.png",
        "link.png": "a.png",
        "hard.png": "a.png",
        "elsewhere/b.png": "sub/b.png",
        "elsewhere/../a.png": "a.png",
    }.items():
        text = f"path,label\n{first},x\ngröße.png,y\n{again},"
        with pytest.raises(ValueError, match=rf": line 4: '{re.escape(again)}' is 'y' here, but 'x' in line 2$"):
            read_table(write(images, text + "y\n"))
        assert labelled(read_table(write(images, text + "x\n")), "all") == [(first, "x"), ("größe.png", "y")]


def test_paths_tell_files_apart_where_they_have_no_numbers(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.stat

    def without_numbers(path: str, **options: Any) -> Any:
        facts = list(whole(path, **options))
        return os.stat_result([facts[0], 0, *facts[2:]])

    monkeypatch.setattr(os, "stat", without_numbers)
    text = f"path,label\na.png,x\nsub/b.png,y\n{images / 'sub/../a.png'},"
    assert len(read_table(write(images, text + "x\n")).splits["all"]) == 2
    with pytest.raises(ValueError, match=r"a\.png' is 'y' here, but 'x' in line 2$"):
        read_table(write(images, text + "y\n"))


def test_root_and_paths_that_leave_it(images: Path) -> None:
    elsewhere = images / "tables" / "x"
    elsewhere.mkdir(parents=True)
    file = write(elsewhere, f"path,label\na.png,x\n{images / 'größe.png'},y\nsub/../sub/b.png,x\n")
    assert labelled(read_table(file, images), "all")[1] == (str(images / "größe.png"), "y")
    file = write(elsewhere, "../../a.png,x\n../../sub/b.png,y\n")
    tree = read_table(file)
    assert [(tree.root / path).resolve() for path in tree.splits["all"].paths] == [
        images / "a.png",
        images / "sub/b.png",
    ]


def test_given_classes_fix_the_order(images: Path) -> None:
    file = write(images, "path,label\na.png,dog\nsub/b.png,cat\n")
    tree = read_table(file, classes=["dog", "owl", "cat"])
    assert (tree.classes, tree.splits["all"].labels.tolist()) == (("dog", "owl", "cat"), [0, 2])
    with pytest.raises(
        ValueError, match=r"all: class 'cat' is not among the 2 training classes: did you mean 'cats'\?$"
    ):
        read_table(file, classes=["dog", "cats"])
    only_test = write(images, "path,label,split\na.png,cat,test\n")
    assert read_table(only_test, classes=["dog", "cat"]).splits["test"].labels.tolist() == [1]
    with pytest.raises(ValueError, match=r"labels\.csv: no row whose split is train$"):
        read_table(only_test)


HEADER = (
    r"the first row must name the columns path \(or image, file, filename\) and label \(or class\), and may name split"
)
WRONG = {
    "points nowhere": (
        "path,label\na.png,x\nb.png,y\nc.png,y\nd.png,x\n",
        r"line 3: no file 'b\.png' in \S+ \(and 2 more, .*\)",
    ),
    "folder": ("path,label\na.png,x\nsub,y\n", r"line 3: no file 'sub' in \S+"),
    "outside": (
        "path,label\n../../../nothing.png,x\na.png,y\n",
        r"line 2: no file '\.\./\.\./\.\./nothing\.png' in \S+",
    ),
    "absolute": ("path,label\n/nothing.png,x\na.png,y\n", r"line 2: no file '/nothing\.png' in \S+"),
    "empty label": ("path,label\na.png, \nsub/b.png,y\n", r"line 2: the label of 'a\.png' is empty"),
    "empty path": ("path,label\na.png,x\n,y\n", r"line 3: the path is empty"),
    "too few cells": ("path,label\na.png,x\nsub/b.png\n", r"line 3: 1 cell instead of 2"),
    "too many cells": ("path,label\na.png,x\nc,d.png,y\n", r"line 3: 3 cells instead of 2"),
    "two labels": (
        "path,label\na.png,x\nsub/b.png,y\n./a.png,y\n",
        r"line 4: '\./a\.png' is 'y' here, but 'x' in line 2",
    ),
    "unknown split": (
        "path,label,split\na.png,x,train\nsub/b.png,y,tets\n",
        r"line 3: unknown split 'tets': did you mean 'test'\? choose from train, val, test",
    ),
    "empty split": (
        "path,label,split\na.png,x,train\nsub/b.png,y,\n",
        r"line 3: unknown split '': choose from train, val, test",
    ),
    "unknown class": (
        "path,label,split\na.png,cat,train\nsub/b.png,dog,train\nsub/b.png,dogs,val\n",
        r"line 4: 'sub/b\.png' is 'dogs' here, but 'dog' in line 3",
    ),
    "class of val alone": (
        'path,label,split\na.png,cat,train\nsub/b.png,dog,train\n"c,d.png",dogs,val\n',
        r"val: class 'dogs' is not among the 2 training classes: did you mean 'dog'\?",
    ),
    "one class": ("path,label\na.png,x\nsub/b.png,x\n", r"only one class, 'x'; a classifier needs two"),
    "case": ("path,label\na.png,x\nsub/b.png,X\n", r"class 'x' and 'X' differ only in case .*"),
    "other header": ("name,kind\na.png,x\n", rf"{HEADER}, not 'name', 'kind'"),
    "half a header": ("path,kind\na.png,x\n", rf"{HEADER}, not 'path', 'kind'"),
    "two paths": ("path,file,label\na.png,a.png,x\n", r"'path' and 'file' both name the path"),
    "no header, no file": ("b.png,x\na.png,y\n", rf"{HEADER}, not 'b\.png', 'x'"),
    "empty": ("", rf"has no rows; {HEADER}"),
    "header alone": ("path,label\n\n", rf"has no rows; {HEADER}"),
    "open quote": ('path,label\n"a.png,x\n', r"line 2: unexpected end of data"),
    "swallowed rows": (
        'path,label\na.png,"x\nsub/b.png,y\n"\n',
        r"line 4: the label of 'a\.png' has a line break; an earlier quote may be one too many",
    ),
    "long cell": ("path,label\na.png,x\n" + "b" * 5000 + ",y\n", r"line 3: no file 'b{99}\.\.\.b{99}' in \S+"),
    "zero byte": ("path,label\na\0.png,x\nsub/b.png,y\n", r"line 2: 'a\\x00\.png' is no path"),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_line_says_what_is_wrong(name: str, images: Path) -> None:
    text, message = WRONG[name]
    file = write(images, text)
    with pytest.raises(ValueError, match=rf"^{file}(: |, ){message}$") as error:
        read_table(file)
    assert "\n" not in str(error.value)


def test_survey_leaves_wrong_rows_out(images: Path) -> None:
    file = write(images, "path,label\na.png,x\nnowhere.png,y\nsub/b.png,y\ngröße.png\n")
    tree, faults = survey_table(file)
    assert labelled(tree, "all") == [("a.png", "x"), ("sub/b.png", "y")]
    assert [fault.split(": ")[1] for fault in faults] == ["line 3", "line 5"]


def test_files_that_are_no_tables(images: Path) -> None:
    file = write(images, "path,label\ngröße.png,x\n", encoding="latin-1")
    with pytest.raises(ValueError, match=r"labels\.csv: is not UTF-8; save the table in that encoding$"):
        read_table(file)
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv: no such file$"):
        read_table(images / "nothing.csv")
    with pytest.raises(ValueError, match=r"sub: is a folder, not a table$"):
        read_table(images / "sub")
    with pytest.raises(FileNotFoundError, match=r"gone: no such folder, where the paths in labels\.csv should start$"):
        read_table(file, images / "gone")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_table_that_may_not_be_read(images: Path) -> None:
    file = write(images, "path,label\n")
    file.chmod(0)
    with pytest.raises(PermissionError, match=r"labels\.csv: may not be read; check the rights of the file$"):
        read_table(file)
