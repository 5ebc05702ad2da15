"""`zoo export`: what is written where, what is compared, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
import zoo.export
from tests.conftest import Zoo
from zoo.checkpoint import read_checkpoint
from zoo.cli import main
from zoo.cli.export import _spread
from zoo.datamodules import Folder
from zoo.export import SUFFIXES, export, facts


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network after an epoch on digits."""
    folder = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PL_GLOBAL_SEED", "0")  # so that what the run leaves in the environment goes again
        patch.setenv("ZOO_RUN_DIR", str(folder))
        assert main(["fit", "--model", "lenet5", "--recipe.epochs", "1", "--run_dir", str(folder)]) == 0
    return folder / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize("kind", SUFFIXES)
def test_command_writes_a_file_and_compares_on_test_images(kind: str, checkpoint: Path, zoo_main: Zoo) -> None:
    outcome = zoo_main("export", checkpoint, "--format", kind)
    assert outcome.status == 0, outcome.err
    path = checkpoint.with_suffix(SUFFIXES[kind])
    assert f"{path}: lenet5 as {kind}" in outcome.out
    assert "parity holds: the same class for 256 of 256 test images of digits" in outcome.out
    assert len(outcome.out.splitlines()) <= 4
    beside = path.with_name(f"{path.name}.json")
    assert beside.exists() == (kind != "safetensors")
    if beside.exists():
        assert json.loads(beside.read_text()) == facts(zoo.load(checkpoint))


def test_command_replaces_files_only_if_told_to(checkpoint: Path, zoo_main: Zoo, tmp_path: Path) -> None:
    words = ["export", "--images", 5, "--data", "digits", checkpoint, "--format", "torch_export", "--output", "net.pt2"]
    (tmp_path / "net.pt2").write_text("old")
    outcome = zoo_main(*words)
    assert outcome.status == 2
    assert outcome.err == "zoo: error: 'net.pt2' is there already: --force replaces it, --output FILE names another\n"
    assert (tmp_path / "net.pt2").read_text() == "old"
    outcome = zoo_main(*words, "--force")
    assert outcome.status == 0, outcome.err
    assert "the same class for 5 of 5 test images of digits" in outcome.out
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.pt2", "net.pt2.json"]


def test_command_keeps_no_file_that_computes_something_else(
    checkpoint: Path, zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export_other(model: zoo.ImageClassifier, path: Path, kind: str) -> None:
        export(zoo.create_model("lenet5", **model.hparams), path, kind)

    monkeypatch.setattr(zoo.export, "export", export_other)
    (tmp_path / "net.safetensors").write_text("old")
    outcome = zoo_main("export", checkpoint, "--format", "safetensors", "--output", "net.safetensors", "--force")
    assert outcome.status == 1
    assert outcome.out.startswith("parity fails: the same class for ")
    assert outcome.out.endswith("\nno file was written\n")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_command_says_when_images_are_random(checkpoint: Path, zoo_main: Zoo, tmp_path: Path) -> None:
    content = read_checkpoint(checkpoint)
    content["zoo"]["data"] |= {"name": "mnist", "args": {"root": "gone"}}
    torch.save(content, tmp_path / "moved.ckpt")
    words = ["export", "moved.ckpt", "--format", "safetensors", "--images", 9]
    outcome = zoo_main(*words)
    assert outcome.status == 0, outcome.err
    assert "note: random images are compared: " in outcome.out
    assert "gone" in outcome.out.splitlines()[0]
    assert "the same class for 9 of 9 random images" in outcome.out
    outcome = zoo_main(*words, "--force", "--data.root", "elsewhere")
    assert outcome.status == 2, "what the user names must be there"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "onx"], "unknown format 'onx'. Did you mean 'onnx'"),
        ([], "the following arguments are required: --format"),
        (["--format", "onnx", "--images", "0"], "images is 0: it must be at least 1"),
        (["--format", "onnx", "--output", "net.pt2"], "output is 'net.pt2': its name must end in .onnx"),
        (["--format", "onnx", "--data", "fake"], "images of fake have 3 channels"),
        (["--format", "onnx", "--data", "digts"], "unknown data 'digts'. Did you mean 'digits'"),
        (["--format", "onnx", "--date", "digits"], "unrecognized arguments: --date digits"),
    ],
)
def test_command_names_what_is_wrong(words: list[str], message: str, checkpoint: Path, zoo_main: Zoo) -> None:
    output = () if "--output" in words else ("--output", "x.onnx")
    outcome = zoo_main("export", checkpoint, *output, *words)
    assert outcome.status == 2
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_command_without_a_model(zoo_main: Zoo) -> None:
    outcome = zoo_main("export", "gone.ckpt", "--format", "onnx")
    assert (outcome.status, len(outcome.err.splitlines())) == (2, 1)
    assert "gone.ckpt" in outcome.err


def test_help_names_every_format(zoo_main: Zoo) -> None:
    outcome = zoo_main("export", "--help")
    assert outcome.status == 0
    assert all(kind in outcome.out for kind in SUFFIXES)


def test_compared_images_are_from_all_over_the_test_set(tmp_path: Path) -> None:
    """In a folder, one class comes after the other."""
    from PIL import Image

    for number, name in enumerate(("black", "grey", "white")):
        for split, count in (("train", 20), ("test", 10)):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                Image.new("L", (8, 8), 127 * number).save(folder / f"{k}.png")
    data = Folder(str(tmp_path), image_size=8, in_channels=1, num_workers=0)
    data.use_preprocessing({"image_size": 8, "in_channels": 1, "border": 0, "mean": [0.0], "std": [1.0]})
    found = _spread(data, "test", 3)
    np.testing.assert_allclose(found.mean(dim=(1, 2, 3)), [0, 127 / 255, 254 / 255], atol=1e-3)
    assert len(_spread(data, "test", 1000)) == 30
