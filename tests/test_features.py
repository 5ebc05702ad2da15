"""Features of a trained model: equal to what the last layer sees, without a trace in the model; the command's file."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import zoo
from tests.conftest import Zoo
from zoo.classifier import ImageClassifier
from zoo.datamodules import Digits, Fake, ImageDataModule
from zoo.features import can_cache, extract_features, logits_from_features

# Each with arguments that make it small; among them last layers after pooling, without hidden layers, of fixed bitmaps,
# and as a convolution.
MODELS: dict[str, dict[str, Any]] = {
    "softmax": {"image_size": 8},
    "mlp": {"image_size": 8},
    "lenet5": {},
    "lenet5_1998": {},
    "alexnet": {"image_size": 32, "in_channels": 1},
    "resnet20": {"image_size": 16},
    "timm/test_resnet": {"image_size": 32},
    "timm/test_vit": {"image_size": 32},
    "timm/resnetv2_18": {"image_size": 32},
}


def build(name: str) -> ImageClassifier:
    """A model of `MODELS` with random weights and batch statistics that are not the initial ones."""
    torch.manual_seed(0)
    kind, _, backbone = name.partition("/")
    model = zoo.create_model(kind, **MODELS[name], **({"backbone": backbone} if backbone else {}))
    for key, buffer in model.named_buffers():
        if key.endswith("running_mean"):
            torch.nn.init.uniform_(buffer, -0.1, 0.1)
        elif key.endswith("running_var"):
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
    return model


def images_for(model: ImageClassifier, number: int = 5) -> Tensor:
    return torch.randn(number, model.in_channels, model.image_size, model.image_size)


def save_trained(path: Path, model: ImageClassifier, data: ImageDataModule) -> Path:
    """The checkpoint of a model after one epoch."""
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(model, data)
    trainer.save_checkpoint(path, weights_only=True)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded images are kept outside the user's own cache."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet-5 after an epoch on the digits."""
    data = Digits(image_size=32, num_workers=0, seed=0)
    return save_trained(tmp_path_factory.mktemp("lenet5") / "best.ckpt", zoo.create_model("lenet5"), data)


# The library


@pytest.mark.parametrize("name", MODELS)
def test_the_last_layer_makes_the_networks_own_logits_of_the_features(name: str) -> None:
    model = build(name).eval()
    images = images_for(model)
    with torch.no_grad():
        expected = model(images)
    found = extract_features(model, [(images[:3], torch.arange(3)), (images[3:], torch.arange(3, 5))])
    assert found.features.dtype == torch.float32 and found.labels.tolist() == [0, 1, 2, 3, 4]
    assert found.features.shape == (5, int(np.prod(found.shape)))
    logits = logits_from_features(model, found.features, found.shape)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    assert can_cache(model, images)


def test_features_are_what_is_before_the_last_layer() -> None:
    lenet, resnet = build("lenet5").eval(), build("resnet20").eval()
    for model in (lenet, resnet):
        images = images_for(model)
        with torch.no_grad():
            z = model.forward_features(images)
            expected = z.mean(dim=(2, 3)) if model is resnet else model.classifier[:-1](z.flatten(1))  # type: ignore[index]
        found = extract_features(model, [(images, torch.zeros(5, dtype=torch.int64))])
        assert torch.equal(found.features, expected)
        assert found.shape == expected.shape[1:]


def test_the_shape_of_a_convolution_as_last_layer_is_kept() -> None:
    model = build("timm/resnetv2_18")
    assert isinstance(model.output, torch.nn.Conv2d)
    found = extract_features(model, [(images_for(model), torch.zeros(5, dtype=torch.int64))])
    assert found.shape == (model.output.in_channels, 1, 1)


def test_the_model_is_afterwards_as_it_was() -> None:
    model = build("resnet20").train()
    model.stages()[1].eval()  # a frozen part
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = images_for(model)
    found = extract_features(model, [(images, torch.zeros(5, dtype=torch.int64))])
    assert can_cache(model, images)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not model.output._forward_pre_hooks
    assert not found.features.requires_grad
    evaluated = extract_features(model.eval(), [(images, torch.zeros(5, dtype=torch.int64))])
    assert torch.equal(found.features, evaluated.features), "taken in evaluation mode, whatever the mode was"


def test_the_last_layer_is_trained_on_features_as_on_images() -> None:
    model = build("resnet20").eval()
    images, labels = images_for(model), torch.tensor([0, 1, 2, 3, 4])
    found = extract_features(model, [(images, labels)])
    gradients = []
    for logits in (model(images), logits_from_features(model, found.features, found.shape)):
        model.zero_grad()
        F.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
        gradients.append(model.output.weight.grad.clone())  # type: ignore[operator, union-attr]
    assert model.conv1.weight.grad is None, "nothing before the last layer has a gradient"  # type: ignore[union-attr]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_progress_counts_images() -> None:
    model = build("mlp")
    told: list[int] = []
    batches = [(images_for(model, number), torch.zeros(number, dtype=torch.int64)) for number in (4, 4, 1)]
    extract_features(model, batches, told.append)
    assert told == [4, 8, 9]


class Tempered(zoo.create_model("mlp").__class__):  # type: ignore[misc]
    """A network that does something after its last layer."""

    def forward_head(self, z: Tensor) -> Tensor:
        return super().forward_head(z) / 2  # type: ignore[no-any-return]


def test_networks_whose_features_cannot_stand_for_images_are_known() -> None:
    model = Tempered(image_size=8)
    assert not can_cache(model, images_for(model))
    distilled = zoo.create_model("timm", backbone="deit_tiny_distilled_patch16_224", image_size=32)
    assert not can_cache(distilled, images_for(distilled, 2))
    with pytest.raises(ValueError, match="no single layer gives the logits of timm"):
        extract_features(distilled, [(images_for(distilled, 2), torch.zeros(2, dtype=torch.int64))])


def test_no_images_no_features() -> None:
    with pytest.raises(ValueError, match="no images"):
        extract_features(build("mlp"), [])


# The command


def reference(checkpoint: Path, data: ImageDataModule) -> tuple[Tensor, list[int]]:
    """LeNet-5's hidden layer of a data module's test images, computed layer by layer."""
    model, rows, labels = zoo.load(checkpoint), [], []
    for batch in data.test_dataloader():
        images, batch_labels = data.on_after_batch_transfer(batch, 0)
        with torch.no_grad():
            rows.append(model.classifier[:-1](model.features(images).flatten(1)))  # type: ignore[index]
        labels += batch_labels.tolist()
    return torch.cat(rows), labels


def test_the_file_holds_the_features_of_every_split(checkpoint: Path, zoo_main: Zoo, tmp_path: Path) -> None:
    outcome = zoo_main("features", "--ckpt", checkpoint)
    assert outcome.status == 0, outcome.err
    assert "lenet5 on digits: 84 features of 1,293 train, 144 val, 360 test images" in outcome.out
    with np.load(tmp_path / "features.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert {name: array.shape for name, array in arrays.items()} == {
        "train_features": (1293, 84),
        "train_labels": (1293,),
        "val_features": (144, 84),
        "val_labels": (144,),
        "test_features": (360, 84),
        "test_labels": (360,),
        "class_names": (10,),
        "model": (),
        "data": (),
    }
    assert arrays["train_features"].dtype == np.float32 and arrays["train_labels"].dtype == np.int64
    assert arrays["class_names"].tolist() == list("0123456789")
    description = json.loads(str(arrays["model"]))
    assert description == json.loads(json.dumps(zoo.load(checkpoint).description()))
    expected, labels = reference(checkpoint, Digits(image_size=32, num_workers=0))
    np.testing.assert_allclose(arrays["test_features"], expected, rtol=1e-5, atol=1e-6)
    assert arrays["test_labels"].tolist() == labels
    # Without augmentation and in order: a second time gives the same bits, training images included.
    assert zoo_main("features", "--ckpt_path", checkpoint, "--output", "again.npz", "--splits", "val,train").status == 0
    with np.load(tmp_path / "again.npz", allow_pickle=False) as file:
        assert np.array_equal(file["train_features"], arrays["train_features"])
        assert "test_features" not in file.files


def test_images_of_other_classes_have_features_too(checkpoint: Path, zoo_main: Zoo, tmp_path: Path) -> None:
    words = ("--data", "digits", "--data.class_subset", "[7, 3]", "--splits", "test", "--output", "two.npz")
    outcome = zoo_main("features", "--ckpt_path", checkpoint, *words)
    assert outcome.status == 0, outcome.err
    expected, labels = reference(checkpoint, Digits(image_size=32, num_workers=0, class_subset=[7, 3]))
    with np.load(tmp_path / "two.npz") as file:
        assert file["class_names"].tolist() == ["7", "3"]
        assert file["test_labels"].tolist() == labels
        np.testing.assert_allclose(file["test_features"], expected, rtol=1e-5, atol=1e-6)


def test_a_folder_with_classes_that_the_model_has_never_seen(zoo_main: Zoo, tmp_path: Path) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    for name in ("ape", "bee"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 255, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "tree" / name / f"{number}.png")
            (tmp_path / "other" / f"{name}{number % 3}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "other" / f"{name}{number % 3}" / f"{number}.png")
    words = ("--model", "mlp", "--model.hidden", "[4]", "--recipe.epochs", 1, "--recipe.batch_size", 8)
    fit = zoo_main("fit", *words, "--data", "folder", "--data.root", tmp_path / "tree", "--run_dir", "run")
    assert fit.status == 0, fit.err
    folder = ("--data", "folder", "--data.root", tmp_path / "other", "--data.test_size", 0.3)
    outcome = zoo_main("features", "--ckpt_path", "run/checkpoints/best.ckpt", *folder, "--data.val_size", 0.3)
    assert outcome.status == 0, outcome.err
    with np.load(tmp_path / "features.npz") as file:
        assert file["class_names"].tolist() == ["ape0", "ape1", "ape2", "bee0", "bee1", "bee2"]
        assert len(file["train_labels"]) + len(file["val_labels"]) + len(file["test_labels"]) == 40


ERRORS: dict[str, tuple[tuple[str, ...], str]] = {
    "no model": ((), "needs a trained model: --ckpt_path"),
    "missing model": (("--ckpt_path", "none.ckpt"), "none.ckpt"),
    "another suffix": (("--ckpt_path", "{good}", "--output", "x.csv"), "its name must end in .npz"),
    "no folder": (("--ckpt_path", "{good}", "--output", "none/x.npz"), "there is no folder 'none'"),
    "unknown split": (("--ckpt_path", "{good}", "--splits", "train,tset"), "unknown split 'tset'. Did you mean 'test'"),
    "unknown option": (("--ckpt_path", "{good}", "--ouput", "x.npz"), "--ouput"),
    "unknown data option": (("--ckpt_path", "{good}", "--data.rot", "x"), "--data.rot"),
    "other channels": (("--ckpt_path", "{good}", "--data", "fake"), "images of fake have 3 channels, '{good}' takes 1"),
    "unknown data": (("--ckpt_path", "{good}", "--data", "digit"), "unknown data 'digit'. Did you mean 'digits'?"),
    "missing data": (("--ckpt_path", "{good}", "--data", "mnist", "--data.root", "nowhere"), "nowhere"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_input(case: str, checkpoint: Path, zoo_main: Zoo, tmp_path: Path) -> None:
    words, message = ERRORS[case]
    outcome = zoo_main("features", *(word.format(good=checkpoint) for word in words))
    assert outcome.status == 2
    assert message.format(good=checkpoint) in outcome.err
    assert len(outcome.err.splitlines()) == 1, outcome.err
    assert not list(tmp_path.iterdir())


def test_a_split_that_the_data_do_not_have(zoo_main: Zoo, tmp_path: Path) -> None:
    from PIL import Image

    for name in ("ape", "bee"):
        (tmp_path / "tree/train" / name).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (8, 8), (number, 9 * len(name), 0)).save(tmp_path / "tree/train" / name / f"{number}.png")
    model = zoo.create_model("mlp", in_channels=3, image_size=8, num_classes=10)
    path = save_trained(tmp_path / "mlp.ckpt", model, Fake(image_size=8, num_workers=0))
    words = ("--data", "folder", "--data.root", tmp_path / "tree")
    outcome = zoo_main("features", "--ckpt_path", path, *words, "--splits", "test")
    assert (outcome.status, "has no test images" in outcome.err) == (2, True), outcome.err
    assert zoo_main("features", "--ckpt_path", path, *words).status == 0
    with np.load(tmp_path / "features.npz") as file:
        assert {"train_features", "val_features"} <= set(file.files)
        assert "test_features" not in file.files


def test_a_failed_write_leaves_the_previous_file(
    checkpoint: Path, zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "features.npz").write_text("previous")

    def fill_disk(file: Any, **_: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fill_disk)
    outcome = zoo_main("features", "--ckpt_path", checkpoint, "--splits", "test")
    assert (outcome.status, outcome.err) == (2, "zoo: error: no space left on device: 'features.npz'\n")
    assert [path.name for path in tmp_path.iterdir()] == ["features.npz"]
    assert (tmp_path / "features.npz").read_text() == "previous"


def test_help_says_what_is_in_the_file(zoo_main: Zoo) -> None:
    outcome = zoo_main("features", "--help")
    assert outcome.status == 0
    assert "--splits" in outcome.out and "train_features (N, D)" in outcome.out
