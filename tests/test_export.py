"""Exported files: they compute what the model computes, say what is needed to run them, and are whole or not there."""

import importlib.util
import json
from pathlib import Path

import lightning as L
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import zoo
import zoo.export
from tests.conftest import ROOT
from zoo.datamodules.names import digits
from zoo.export import SUFFIXES, Parity, export, facts, parity
from zoo.weight_files import read_weights

# Small networks of the families, with whatever a graph could get wrong: a constant mask, branches, dropout, attention.
NETWORKS: dict[str, dict[str, object]] = {
    "mlp": {"activation": "maxout"},
    "lenet5": {},
    "lenet5_1998": {},
    "alexnet": {"image_size": 63},
    "vgg11": {"image_size": 32, "norm": "batch"},
    "resnet20": {"image_size": 16, "shortcut": "A"},
    "resnet18": {"image_size": 32, "preactivation": True},
    "timm": {"image_size": 32, "backbone": "test_vit"},
}
# Those that are not the largest: an ONNX file takes seconds.
IN_ONNX = ("mlp", "lenet5_1998", "resnet20", "timm")


def network(name: str, **arguments: object) -> zoo.ImageClassifier:
    torch.manual_seed(0)
    model = zoo.create_model(name, **{"num_classes": 5, **NETWORKS[name], **arguments})
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):  # statistics that matter
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 2)
    return model


def images(model: zoo.ImageClassifier, number: int) -> torch.Tensor:
    shape = (number, model.in_channels, model.image_size, model.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def logits(model: zoo.ImageClassifier, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(x)


def run_onnx(path: Path, x: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


def run_program(path: Path, x: torch.Tensor) -> torch.Tensor:
    return torch.export.load(path).module()(x)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_export_takes_any_number_of_images(name: str, tmp_path: Path) -> None:
    model, path = network(name), tmp_path / "network.pt2"
    export(model, path, "torch_export")
    for number in (1, 2, 7):
        x = images(model, number)
        close(run_program(path, x), logits(model, x))
    assert parity(model, path, "torch_export", images(model, 65)).holds


@pytest.mark.parametrize("name", IN_ONNX)
def test_onnx_takes_any_number_of_images(name: str, tmp_path: Path) -> None:
    model, path = network(name), tmp_path / "network.onnx"
    export(model, path, "onnx")
    onnx.checker.check_model(path, full_check=True)
    for number in (1, 2, 7):
        x = images(model, number)
        close(run_onnx(path, x), logits(model, x))
    assert parity(model, path, "onnx", images(model, 65)).holds
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]


@pytest.mark.parametrize("name", NETWORKS)
def test_safetensors_are_loaded_again_bit_for_bit(name: str, tmp_path: Path) -> None:
    model, path = network(name), tmp_path / "network.safetensors"
    export(model, path, "safetensors")
    loaded = zoo.load(path)
    assert type(loaded) is type(model)
    x = images(model, 3)
    assert torch.equal(logits(loaded, x), logits(model, x))
    assert parity(model, path, "safetensors", x) == Parity(3, 0.0, 1.0, 1e-3 * logits(model, x).abs().max().item())


@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_file_of_other_weights_is_found_out(kind: str, tmp_path: Path) -> None:
    model, path = network("mlp"), tmp_path / f"network{SUFFIXES[kind]}"
    export(model, path, kind)
    x = images(model, 70)
    before = logits(model, x)
    with torch.no_grad():
        model.output.weight[0, 0] += 10
    after = logits(model, x)
    result = parity(model, path, kind, x)
    assert not result.holds
    assert result.max_difference == pytest.approx((after - before).abs().max().item(), rel=1e-4)
    assert result.top1_agreement == pytest.approx((after.argmax(1) == before.argmax(1)).float().mean().item())
    with torch.no_grad():
        model.output.weight.fill_(float("nan"))
    assert not parity(model, path, kind, x).holds


def test_rounding_passes_and_more_does_not() -> None:
    assert Parity(images=9, max_difference=1e-3, top1_agreement=1.0, tolerance=1e-3).holds
    assert not Parity(images=9, max_difference=1.1e-3, top1_agreement=1.0, tolerance=1e-3).holds
    assert not Parity(images=9, max_difference=float("nan"), top1_agreement=1.0, tolerance=1e-3).holds


def described(root: Path) -> zoo.ImageClassifier:
    """A model that knows its data, as after a run."""
    model = network("mlp", num_classes=2)
    model.preprocessing = {"image_size": 28, "in_channels": 1, "border": 0, "mean": [0.5], "std": [0.25]}
    model.class_names = ["größer", 'a "b"']
    model.data = {"name": "folder", "args": {"root": str(root), "file": "labels.csv", "train": [str(root / "x")]}}
    model.pretrained = str(root / "start.safetensors")
    return model


@pytest.mark.parametrize("kind", SUFFIXES)
def test_files_say_what_is_needed_to_run_them(kind: str, tmp_path: Path) -> None:
    model, path = described(tmp_path / "private"), tmp_path / f"network{SUFFIXES[kind]}"
    export(model, path, kind)
    if kind == "safetensors":
        loaded = zoo.load(path)
        description = read_weights(path).description
        assert (loaded.preprocessing, loaded.class_names) == (model.preprocessing, model.class_names)
    else:
        found = metadata(path)
        description = found["description"]
        assert (found["preprocessing"], found["class_names"]) == (model.preprocessing, model.class_names)
        assert "softmax" in found["output"]
        assert found == facts(model)
    assert description["data"]["args"] == {}  # places on this machine, relative ones too
    assert description["pretrained"] == "start.safetensors"
    assert zoo.create_model(description["name"], **description["args"]).num_classes == 2


def metadata(path: Path) -> dict[str, object]:
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (images,) = session.get_inputs()
        assert (images.name, images.shape[1:], isinstance(images.shape[0], str)) == ("images", [1, 28, 28], True)
        assert [output.name for output in session.get_outputs()] == ["logits"]
        return {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    extra = {"zoo.json": ""}
    torch.export.load(path, extra_files=extra)
    content: dict[str, object] = json.loads(extra["zoo.json"])
    return content


@pytest.mark.parametrize("kind", SUFFIXES)
def test_files_hold_no_paths_of_this_machine(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"network{SUFFIXES[kind]}"
    export(described(tmp_path), path, kind)
    content = path.read_bytes()
    for folder in (ROOT, Path(torch.__file__).parent.parent, tmp_path):
        assert str(folder).encode() not in content


@pytest.mark.parametrize("kind", ["safetensors", "torch_export"])
def test_the_model_stays_as_it_was(kind: str, tmp_path: Path) -> None:
    model = network("resnet20").train()
    model.stages()[0].eval()  # frozen
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layout = [parameter.stride() for parameter in model.parameters()]
    path = tmp_path / f"network{SUFFIXES[kind]}"
    export(model, path, kind)
    assert parity(model, path, kind, images(model, 3)).holds, "its statistics are those of evaluation"
    assert [module.training for module in model.modules()] == modes
    assert [parameter.stride() for parameter in model.parameters()] == layout
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_model_is_exported_straight_after_training(kind: str, tmp_path: Path) -> None:
    model, data = zoo.create_model("lenet5", image_size=28, num_classes=10), digits(image_size=28, num_workers=0)
    trainer = L.Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, data)
    path = tmp_path / f"network{SUFFIXES[kind]}"
    export(model, path, kind)
    assert parity(model, path, kind, images(model, 3)).holds


@pytest.mark.parametrize("kind", SUFFIXES)
def test_an_older_file_survives_a_failure(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / f"network{SUFFIXES[kind]}"
    path.write_text("old")
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        export(network("mlp"), path, kind)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_arguments_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = network("mlp"), tmp_path / "network"
    with pytest.raises(ValueError, match=r"unknown format 'onxx'\. Did you mean 'onnx'"):
        export(model, path, "onxx")
    with pytest.raises(ValueError, match=r"the model is torch.float64 on cpu: call model.cpu\(\).float\(\)"):
        export(network("mlp").double(), path, "onnx")
    with pytest.raises(ValueError, match="there are 0 images"):
        parity(model, path, "torch_export", images(model, 0))
    monkeypatch.setattr(zoo.export, "ONNX_LIMIT", 1000)
    with pytest.raises(ValueError, match=r"one ONNX file holds 2.1 GB. Use torch_export"):
        export(model, path, "onnx")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(ValueError, match=r"ONNX needs onnxscript: pip install 'lightning-zoo\[onnx\]'"):
        export(model, path, "onnx")
    assert not path.exists()
