"""`zoo predict`: the likeliest classes as a table, as CSV and as JSON, and the average over views of an image."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

import zoo
from tests.conftest import Zoo
from tests.test_features import save_trained
from zoo.classifier import ImageClassifier
from zoo.cli.prediction import Row, _table, best_classes
from zoo.datamodules import Digits, Fake
from zoo.datamodules.batch import resize_batch

SIDE = 37
"""Of the test images: round(32 / 0.875), so that the ten crops need no resizing."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet-5 after an epoch on synthetic colour images, which may be mirrored."""
    model = zoo.create_model("lenet5", in_channels=3)
    return save_trained(tmp_path_factory.mktemp("fake") / "best.ckpt", model, Fake(num_workers=0, seed=0))


@pytest.fixture(scope="module")
def digits_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network after an epoch on digits, which may not be mirrored."""
    model = zoo.create_model("mlp", image_size=8)
    return save_trained(tmp_path_factory.mktemp("digits") / "best.ckpt", model, Digits(num_workers=0, seed=0))


@pytest.fixture
def photos(tmp_path: Path) -> list[np.ndarray]:
    """Seven images in the folder photos, named so that their order is the alphabet's."""
    random = np.random.default_rng(0)
    (tmp_path / "photos/more").mkdir(parents=True)
    pixels = [random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(7)]
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "photos" / ("more" if number > 4 else "") / f"{number}.png")
    return pixels


def expected_probabilities(model: ImageClassifier, images: list[np.ndarray]) -> Tensor:
    """By hand: images (32, 32, 3) to the average of their probabilities."""
    mean, std = (torch.tensor(model.preprocessing[key]).view(3, 1, 1) for key in ("mean", "std"))
    batch = torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1) for image in images])
    with torch.no_grad():
        logits: Tensor = model((batch / 255 - mean) / std)
    return logits.softmax(dim=1).mean(dim=0)


def ten_crops(image: np.ndarray) -> list[np.ndarray]:
    """Corners and centre, each with its mirror image."""
    places = ((0, 0), (0, 5), (5, 0), (5, 5), (2, 2))
    crops = [image[top : top + 32, left : left + 32] for top, left in places]
    return [view for crop in crops for view in (crop, crop[:, ::-1])]


def resized(image: np.ndarray) -> np.ndarray:
    """The image at 32 pixels, as without views."""
    pixels: np.ndarray = resize_batch(torch.from_numpy(image[None]), 32)[0].numpy()
    return pixels


@pytest.mark.parametrize("tta", ["flip", "crops"])
def test_views_are_averaged(
    tta: str, checkpoint: Path, zoo_main: Zoo, tmp_path: Path, photos: list[np.ndarray]
) -> None:
    words = ("--tta", tta, "--top_k", 10, "--batch_size", 3, "--output", "out.json")
    outcome = zoo_main("predict", "--ckpt_path", checkpoint, "photos", *words)
    assert outcome.status == 0, outcome.err
    records = json.loads((tmp_path / "out.json").read_text())
    model = zoo.load(checkpoint)
    plain, averaged = [], []
    for image, record in zip(photos, records, strict=True):
        views = ten_crops(image) if tta == "crops" else [resized(image), resized(image)[:, ::-1]]
        expected = expected_probabilities(model, views)
        found = {guess["class"]: guess["probability"] for guess in record["predictions"]}
        shares = torch.tensor([found[name] for name in model.class_names])
        torch.testing.assert_close(shares, expected, rtol=1e-3, atol=1e-4)
        averaged.append(expected)
        plain.append(expected_probabilities(model, views[:1]))
    assert not torch.allclose(torch.stack(plain), torch.stack(averaged), rtol=1e-2), "the views differ"


def test_five_classes_in_json_csv_and_on_the_screen(
    checkpoint: Path, zoo_main: Zoo, tmp_path: Path, photos: list[np.ndarray]
) -> None:
    outcome = zoo_main("predict", "--ckpt", checkpoint, "photos", "--output", "out.json")
    assert outcome.status == 0, outcome.err
    records = json.loads((tmp_path / "out.json").read_text())
    names = [f"photos/{k}.png" for k in range(5)] + ["photos/more/5.png", "photos/more/6.png"]
    assert [record["image"] for record in records] == names
    model = zoo.load(checkpoint)
    for image, record in zip(photos, records, strict=True):
        expected = expected_probabilities(model, [resized(image)])
        best = expected.argsort(descending=True)[:5]
        assert [guess["class"] for guess in record["predictions"]] == [model.class_names[k] for k in best]
        shares = torch.tensor([guess["probability"] for guess in record["predictions"]])
        torch.testing.assert_close(shares, expected[best], rtol=1e-3, atol=1e-5)
    # The same in CSV and on the screen, whatever the batches are.
    words = ("--output", "out.csv", "--batch_size", 2)
    assert zoo_main("predict", "--ckpt_path", checkpoint, "photos", *words).out == outcome.out
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, record in zip(rows, records, strict=True):
        guesses = record["predictions"]
        assert row["image"] == record["image"]
        assert [row[f"class_{k}"] for k in range(1, 6)] == [guess["class"] for guess in guesses]
        written = [float(row[f"probability_{k}"]) for k in range(1, 6)]
        assert written == pytest.approx([guess["probability"] for guess in guesses], rel=1e-4)
        line = next(line for line in outcome.out.splitlines() if line.startswith(record["image"]))
        cells = "".join(line.removeprefix(record["image"]).split())
        assert cells == "".join(f"{g['class']}{100 * g['probability']:.1f}%" for g in guesses)


def test_fewer_classes_than_asked_for(digits_checkpoint: Path, zoo_main: Zoo, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    outcome = zoo_main("predict", "--ckpt_path", digits_checkpoint, "black.png", "--top_k", 50, "--output", "out.json")
    assert outcome.status == 0, outcome.err
    (record,) = json.loads((tmp_path / "out.json").read_text())
    assert sorted(guess["class"] for guess in record["predictions"]) == list("0123456789")
    assert sum(guess["probability"] for guess in record["predictions"]) == pytest.approx(1, abs=1e-5)
    assert "note: top_k is 50, but the model has 10 classes: these are all of them" in outcome.out
    exact = zoo_main("predict", "--ckpt_path", digits_checkpoint, "black.png", "--top_k", 10)
    assert (exact.status, "note:" in exact.out) == (0, False)


def test_views_of_one_image_may_lie_in_several_batches() -> None:
    model = zoo.create_model("mlp", image_size=8, num_classes=3)
    model.class_names = ["ape", "bee"]  # the third has a number
    batches = [
        (torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]), torch.tensor([2, 0])),
        (torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.4, 0.5]]), torch.tensor([2, 0])),
    ]
    rows = best_classes(batches, [Path("a"), Path("b"), Path("c")], model, top_k=2)
    assert [(file, [name for name, _ in guesses]) for file, guesses in rows] == [
        ("a", ["2", "bee"]),
        ("c", ["ape", "bee"]),
    ]
    assert [share for _, guesses in rows for _, share in guesses] == pytest.approx([0.6, 0.3, 0.4, 0.4])


LONG: list[Row] = [
    ("photos/" + "holiday " * 6 + f"{k}.jpg", [("great white shark", 0.8), ("electric ray", 0.15), ("cock", 0.05)])
    for k in range(2)
] + [("[red]x.png", [("7", 1.0), ("a [bold]class", 0.0), ("\x1b[31mred", 0.0)])]


@pytest.mark.parametrize("width", [80, 120])
def test_a_class_and_its_probability_stay_together(width: int) -> None:
    console = Console(width=width, highlight=False, soft_wrap=True)
    with console.capture() as capture:
        console.print(_table(LONG))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    assert text.count("great white shark 80.0 %") == text.count("electric ray 15.0 %") == 2
    assert "[red]x.png" in text and "a [bold]class 0.0 %" in text
    assert "\x1b" not in text, "what a name holds is not sent to the terminal"


def test_a_name_that_is_no_text_is_written_as_it_is(digits_checkpoint: Path, zoo_main: Zoo, tmp_path: Path) -> None:
    name = b"caf\xe9.png"
    try:
        Image.new("L", (8, 8)).save(tmp_path / "plain.png")
        (tmp_path / "plain.png").rename(tmp_path / os.fsdecode(name))
    except OSError:
        pytest.skip("this file system takes only names that are text")
    words = ("predict", "--ckpt_path", digits_checkpoint, ".", "--output")
    assert zoo_main(*words, "out.csv").status == 0
    assert (tmp_path / "out.csv").read_bytes().splitlines()[1].startswith(name + b",")
    assert zoo_main(*words, "out.json").status == 0
    assert os.fsencode(json.loads((tmp_path / "out.json").read_text())[0]["image"]) == name


@pytest.mark.parametrize("tta", ["flip", "crops"])
def test_digits_are_not_mirrored(tta: str, digits_checkpoint: Path, zoo_main: Zoo, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    outcome = zoo_main("predict", "--ckpt_path", digits_checkpoint, "--tta", tta, "black.png")
    assert outcome.status == 2
    assert f"tta is {tta}, which mirrors images: those of digits change their class" in outcome.err
    assert zoo_main("predict", "--ckpt_path", digits_checkpoint, "--tta", "none", "black.png").status == 0


def test_a_failed_write_leaves_the_previous_file(
    digits_checkpoint: Path, zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    (tmp_path / "out.csv").write_text("previous")

    def fill_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv, "writer", fill_disk)
    outcome = zoo_main("predict", "--ckpt_path", digits_checkpoint, "black.png", "--output", "out.csv")
    assert (outcome.status, outcome.err) == (2, "zoo: error: no space left on device: 'out.csv'\n")
    assert (tmp_path / "out.csv").read_text() == "previous"
    assert {path.name for path in tmp_path.iterdir()} == {"black.png", "out.csv"}


ERRORS: dict[str, tuple[tuple[str, ...], str]] = {
    "another suffix": (("--output", "out.txt"), "output is 'out.txt': its name must end in .csv or .json"),
    "no folder": (("--output", "none/out.csv"), "there is no folder 'none'"),
    "a folder": (("--output", "folder.csv"), "that is a folder"),
    "unknown views": (("--tta", "filp"), "--tta is 'filp'. Did you mean 'flip'?"),
    "no images in a batch": (("--batch_size", "0"), "batch_size must be a whole number of at least 1, not 0"),
    "no batches": (("--trainer.limit_predict_batches", "0"), "nothing to predict"),
    "missing model": (("--ckpt_path", "none.ckpt"), "none.ckpt"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_input(case: str, checkpoint: Path, zoo_main: Zoo, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "black.png")
    (tmp_path / "folder.csv").mkdir()
    before = set(tmp_path.iterdir())
    words, message = ERRORS[case]
    outcome = zoo_main("predict", "--ckpt_path", checkpoint, "black.png", *words)
    assert (outcome.status, message in outcome.err) == (2, True), outcome.err
    assert outcome.err.count("\n") == 1 and outcome.out == ""
    assert set(tmp_path.iterdir()) == before
