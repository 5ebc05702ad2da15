"""Files that want to run code, or are broken, given to every command that takes weights: one line, and nothing runs."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
import zoo.names
from tests.conftest import Zoo
from zoo.classifier import ImageClassifier
from zoo.weight_files import write_weights


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def hostile(kind: str, folder: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of this kind; what it would run, or import, makes the marker."""
    model = zoo.load("lenet5.mnist")
    path = folder / "weights.ckpt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Payload(marker)}))
    elif kind == "payload beside tensors":
        torch.save({"state_dict": model.state_dict(), "zoo": model.description(), "more": Payload(marker)}, path)
    elif kind == "names a module":
        (folder / "evil").mkdir()
        (folder / "evil/evilmodule.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
        monkeypatch.syspath_prepend(folder / "evil")
        names = {"_class_path": "evilmodule.Evil", "_instantiator": "evilmodule.Evil"}
        description = {**model.description(), "name": "evilmodule.Evil", **names}
        torch.save({"state_dict": model.state_dict(), "zoo": description, "hyper_parameters": names, **names}, path)
    else:
        path = folder / "weights.safetensors"
        write_weights(path, model.state_dict(), model.description())
        content = bytearray(path.read_bytes())
        if kind == "bit-flipped safetensors":
            content[12] ^= 1
        path.write_bytes(content[: len(content) // 2] if kind == "truncated safetensors" else content)
    return path


KINDS = ("pickle", "payload beside tensors", "names a module", "truncated safetensors", "bit-flipped safetensors")
VERBS: dict[str, tuple[str, ...]] = {
    "test": ("test", "--data", "digits", "--ckpt_path", "FILE"),
    "validate": ("validate", "--data", "digits", "--ckpt_path", "FILE"),
    "predict": ("predict", "photo.png", "--ckpt_path", "FILE"),
    "features": ("features", "--output", "features.npz", "--data", "digits", "--ckpt_path", "FILE"),
    "probe": ("probe", "--data", "digits", "--ckpt_path", "FILE"),
    "export": ("export", "FILE", "--format", "safetensors", "--output", "out.safetensors"),
    "push": ("push", "FILE", "user/name", "--output", "published"),
    "fit": ("fit", "--model", "mlp", "--data", "digits", "--model.pretrained", "FILE"),
    "tune": ("tune", "--model", "mlp", "--data", "digits", "--pretrained", "FILE"),
    "search": (
        *("search", "--model", "mlp", "--data", "digits", "--pretrained", "FILE"),
        *("--vary", "recipe.lr=1e-4..1e-1", "--trials", "1"),
    ),
    "fit from it": ("fit", "--model", "lenet5", "--data", "digits", "--ckpt_path", "FILE"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_hostile_file_is_one_line_and_nothing_runs(
    verb: str, kind: str, zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-S2: every command that takes weights refuses them, also where torch's protection is said to be off."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = tmp_path / "marker"
    path = hostile(kind, tmp_path, marker, monkeypatch)
    before = {file.name for file in tmp_path.iterdir()}
    (tmp_path / "photo.png").touch()
    outcome = zoo_main(*(path if word == "FILE" else word for word in VERBS[verb]))
    assert outcome.status == 2, outcome.out + outcome.err
    assert len(outcome.err.strip().splitlines()) == 1, outcome.err
    assert str(path.name) in outcome.err or "evilmodule" in outcome.err or "fits" in outcome.err
    assert not marker.exists()
    assert {file.name for file in tmp_path.iterdir()} <= before | {"photo.png"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_file_does_nothing_in_python(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-S2: nor do `zoo.load`, `create_model` and Lightning's `load_from_checkpoint`, of any class."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = tmp_path / "marker"
    path = hostile(kind, tmp_path, marker, monkeypatch)
    for load in (zoo.load, ImageClassifier.load_from_checkpoint, zoo.names.lenet5.load_from_checkpoint):
        with pytest.raises(ValueError):
            load(path)
    if kind != "names a module":  # its tensors are sound: they are loaded, and its names are never looked at
        with pytest.raises(ValueError):
            zoo.create_model("lenet5", pretrained=str(path))
    else:
        assert zoo.create_model("lenet5", pretrained=str(path)).loaded
    assert not marker.exists()
