"""The check of image files finds what was planted, and nothing else; `zoo data check` says so."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.cli import data_check
from zoo.cli.errors import UserError
from zoo.datamodules.audit import audit
from zoo.datamodules.table import read_table
from zoo.datamodules.tree import read_tree

LEAK, CONFLICT = "the same picture in several splits", "the same picture with different labels"
REPEAT, SKIPPED = "the same picture more than once in a split", "files that are not read"
LACKING, IMBALANCE = "classes that a split lacks", "classes of very different sizes"


def draw(path: Path, number: int, size: tuple[int, int] = (8, 6)) -> Path:
    """A picture like no other number's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def plant(root: Path, classes: tuple[str, ...] = ("cat", "dog"), images: int = 3) -> Path:
    """A sound tree."""
    number = 0
    for split in ("train", "test"):
        for name in classes:
            for image in range(images):
                number += 1
                draw(root / split / name / f"{image}.png", number)
    return root


def test_a_sound_tree_has_no_problems(tmp_path: Path) -> None:
    report = audit(plant(tmp_path))
    assert (report.problems, report.notes) == ({}, {})
    assert report.counts == {"train": {"cat": 3, "dog": 3}, "test": {"cat": 3, "dog": 3}}
    assert report.sizes == {(8, 6): 12}


def test_equal_pictures(tmp_path: Path) -> None:
    root = plant(tmp_path)
    draw(root / "train/cat/leak.png", 100)
    draw(root / "test/cat/leak.bmp", 100)  # the files differ, the pictures do not
    draw(root / "train/cat/conflict.png", 101)
    draw(root / "train/dog/conflict.tif", 101)
    draw(root / "test/dog/twice.png", 102)
    draw(root / "test/dog/again/twice.png", 102)
    for name in ("a", "b", "c", "d"):
        draw(root / f"train/dog/many_{name}.png", 103)
    draw(root / "test/cat/many.png", 103)
    report = audit(root)
    assert report.problems == {
        LEAK: (
            "train/cat/leak.png (cat) = test/cat/leak.bmp (cat)",
            "train/dog/many_a.png (dog) = test/cat/many.png (cat) = train/dog/many_b.png (dog) and 2 more",
        ),
        CONFLICT: (
            "train/cat/conflict.png (cat) = train/dog/conflict.tif (dog)",
            "train/dog/many_a.png (dog) = test/cat/many.png (cat) = train/dog/many_b.png (dog) and 2 more",
        ),
    }
    assert report.notes == {
        REPEAT: (
            "train/cat/conflict.png (cat) = train/dog/conflict.tif (dog)",
            "train/dog/many_a.png (dog) = train/dog/many_b.png (dog) = train/dog/many_c.png (dog) and 1 more",
            "test/dog/again/twice.png (dog) = test/dog/twice.png (dog)",
        )
    }


def test_same_bytes_in_another_shape_are_another_picture(tmp_path: Path) -> None:
    root = plant(tmp_path)
    for split, size in (("train", (4, 8)), ("test", (8, 4))):
        path = root / split / "cat" / "black.png"
        Image.new("RGB", size).save(path)
    assert audit(root).problems == {}


def test_channels_decide_what_is_equal(tmp_path: Path) -> None:
    root = plant(tmp_path)
    color = Image.open(draw(root / "train/cat/color.png", 200))
    color.convert("L").save(root / "test/cat/grey.png")
    assert audit(root, in_channels=3).problems == {}
    assert list(audit(root, in_channels=1).problems) == [LEAK]


def test_broken_files_and_files_that_are_no_images(tmp_path: Path) -> None:
    """REQ-I3: `zoo data check` names broken files before they hurt."""
    root = plant(tmp_path)
    whole = (root / "train/cat/0.png").read_bytes()
    (root / "train/cat/half.png").write_bytes(whole[:60])
    (root / "test/dog/page.jpg").write_bytes(b"<html></html>")
    (root / "train/dog/gone.png").symlink_to(root / "nowhere.png")
    (root / "train/dog/notes.txt").touch()
    (root / "train/readme.md").touch()
    report = audit(root)
    assert list(report.problems) == ["broken files"]
    lines = report.problems["broken files"]
    assert lines[0] == "train/dog/gone.png: a link that points nowhere"
    assert lines[1].startswith("train/cat/half.png: damaged image (")
    assert lines[2].startswith("test/dog/page.jpg: not an image")
    assert len(lines) == 3
    assert report.notes == {SKIPPED: ("1 file: beside the class folders", "1 file: suffix .txt")}
    assert sum(report.sizes.values()) == 12


def test_layout_and_balance(tmp_path: Path) -> None:
    root = plant(tmp_path, ("cat", "dog", "owl"))
    (root / "test/owl").rename(root / "test/Owl")
    (root / "train/empty").mkdir()
    for number in range(31):
        draw(root / f"train/cat/more{number}.png", 1000 + number)
    report = audit(root)
    assert [line.removeprefix(f"{root}/") for line in report.problems.pop("layout")] == [
        "train/empty: a class folder without images",
        "test: class 'Owl' is not among the 4 training classes: did you mean 'owl'?",
    ]
    assert report.problems == {}
    assert report.notes == {
        LACKING: ("train has no images of 1 class: empty", "test has no images of 2 classes: empty, owl"),
        IMBALANCE: ("train: 34 images of cat, but 3 of dog",),
    }
    assert report.counts["test"] == {"cat": 3, "dog": 3, "empty": 0, "owl": 0}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_and_progress_change_nothing(workers: int, tmp_path: Path) -> None:
    root = plant(tmp_path, ("cat", "dog", "owl"), images=40)  # several tasks
    draw(root / "test/cat/leak.png", 7)  # also train/cat/6.png
    (root / "test/dog/0.png").write_bytes(b"broken")
    steps: list[tuple[int, int]] = []
    report = audit(root, workers=workers, progress=lambda done, total: steps.append((done, total)))
    assert report.problems[LEAK] == ("train/cat/6.png (cat) = test/cat/leak.png (cat)",)
    assert len(report.problems["broken files"]) == 1
    assert steps == [(64, 241), (128, 241), (192, 241), (241, 241)]
    with pytest.raises(ValueError, match=r"^workers must be a whole number of at least 1, not 0$"):
        audit(root, workers=0)


def test_trees_that_have_been_read(tmp_path: Path) -> None:
    root = plant(tmp_path)
    tree = read_tree(root, ["dog", "owl", "cat"])
    assert list(audit(tree).counts["train"]) == ["dog", "owl", "cat"]
    assert audit(tree, faults=["something"]).problems == {"layout": ("something",)}
    table = tmp_path / "table.csv"
    (root / "copy.png").write_bytes((root / "train/dog/0.png").read_bytes())
    table.write_text(
        f"path,label,split\ntrain/cat/0.png,cat,train\ntrain/dog/0.png,dog,train\n{root}/copy.png,dog,val\n"
    )
    (line,) = audit(read_table(table)).problems[LEAK]
    assert "train/dog/0.png (dog)" in line and "copy.png (dog)" in line


# The command


def test_command_on_a_sound_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_check.check([str(plant(tmp_path))]) == 0
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()[:4]] == [
        ["class", "train", "test"],
        ["cat", "3", "3"],
        ["dog", "3", "3"],
        ["2", "classes", "6", "6"],
    ]
    assert "1 size, width x height: 6 x 8\n" in out
    assert out.endswith("no problems\n")
    assert err == ""


def test_command_names_the_first_five(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = plant(tmp_path)
    for number in range(7):
        (root / f"train/cat/bad[{number}].png").write_bytes(b"x")
    draw(root / "train/dog/large.png", 50, (20, 30))
    assert data_check.check([str(root)]) == 1
    out = capsys.readouterr().out
    assert "problem: broken files (7)\n  train/cat/bad[0].png: not an image" in out
    assert out.count("not an image") == 5
    assert "  and 2 more: --json names all\n" in out
    assert "2 sizes, width x height: 6 x 8 to 30 x 20\n" in out
    assert out.endswith("\n7 problems\n")
    assert data_check.check([str(root), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert len(facts["problems"]["broken files"]) == 7
    assert facts["counts"]["train"] == {"cat": 10, "dog": 4}
    assert {"height": 20, "width": 30, "images": 1} in facts["sizes"]


def test_command_on_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = plant(tmp_path / "images")
    table = tmp_path / "table.csv"
    table.write_text("path,label\ntrain/cat/0.png,cat\ntrain/dog/0.png,dog\n")
    assert data_check.check([str(root), "--csv", str(table)]) == 0
    table.write_text("path,label\nimages/train/cat/0.png,cat\nimages/train/dog/0.png,dog\nx.png,dog\n")
    assert data_check.check(["--csv", str(table)]) == 1
    assert "problem: layout (1)\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"^zoo data check needs a folder: zoo data check ROOT, or --csv FILE$"),
        (["nowhere"], r"^nowhere: no such folder; expected ROOT/train/CLASS/"),
        (["."], r"^\.: no class folders: it needs one folder per class; expected ROOT"),
        ([".", "--csv", "x.csv"], r"^x\.csv: no such file$"),
        (["--sjon", "."], r"^unrecognized arguments: --sjon: see zoo data check --help$"),
    ],
)
def test_command_refuses(words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        data_check.check(words)


def test_many_classes_are_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(tmp_path, tuple(f"class{number:02}" for number in range(53)), images=1)
    assert data_check.check([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "class49" in out and "class50" not in out
    assert "... 3 more" in out and "53 classes     53    53" in out
