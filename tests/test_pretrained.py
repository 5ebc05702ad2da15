"""Trained weights: what the registry says of them is true, and what is loaded is what was stored."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

import zoo
from tests.conftest import ROOT, Zoo
from zoo import pretrained, weights
from zoo.cli import early
from zoo.cli.errors import UserError
from zoo.pretrained import apply_pretrained, find_pretrained
from zoo.registry import create_model
from zoo.timm_weights import timm_weights
from zoo.weight_files import read_weights, verify, write_weights
from zoo.weights import FOLDER, Weights, all_weights, embedded, find_weights, weights_of

EMBEDDED = sorted(embedded())
TORCHVISION = [known for known in all_weights() if known.entry]


def test_the_embedded_weights_are_small_and_complete() -> None:
    assert {"lenet5.mnist", "lenet5_1998.mnist", "mlp.mnist", "resnet20.mnist"} <= set(EMBEDDED)
    files = {known.file for known in embedded().values()}
    assert files == {path.name for path in FOLDER.glob("*.safetensors")}
    assert sum(known.size for known in embedded().values()) < 4_000_000


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_weights_are_those_of_their_facts(name: str) -> None:
    known = embedded()[name]
    verify(FOLDER / known.file, known.sha256, known.size)
    description = read_weights(FOLDER / known.file).description
    assert description is not None
    assert description["data"] == {
        "preprocessing": dict(known.preprocessing),
        "class_names": list(known.class_names),
    }  # and not the folder in which the images lay
    model = zoo.load(name)
    assert type(model).__name__ == known.model
    assert model.class_names == list("0123456789")
    assert model.preprocessing == known.preprocessing
    assert not model.training
    assert len(model.loaded) == len(model.state_dict())


def test_a_flipped_byte_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-S5: released weights that are not the ones that were released."""
    known = embedded()["lenet5.mnist"]
    content = bytearray((FOLDER / known.file).read_bytes())
    content[-1000] ^= 1
    (tmp_path / known.file).write_bytes(content)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="is damaged: its SHA-256 is"):
        zoo.create_model("lenet5", pretrained="mnist")


@pytest.mark.parametrize("known", TORCHVISION, ids=lambda known: known.entry)
def test_facts_about_torchvisions_weights_are_torchvisions(known: Weights) -> None:
    enum, _, member = known.entry.partition(".")
    entry = getattr(getattr(torchvision.models, enum), member)
    assert known.url == entry.url
    assert known.sha256 == entry.url.rsplit("-", 1)[1].partition(".")[0]
    assert known.size == round(entry.meta["_file_size"] * 2**20)
    accuracies = entry.meta["_metrics"]["ImageNet-1K"]
    assert [*known.results.values()] == [f"{accuracies['acc@1']} %", f"{accuracies['acc@5']} %"]
    transform, facts = entry.transforms(), known.preprocessing
    assert transform.crop_size == [facts["image_size"]]
    assert transform.resize_size == [round(facts["image_size"] / facts["crop"])]
    assert (transform.mean, transform.std) == (facts["mean"], facts["std"])
    assert transform.interpolation.value == facts.get("interpolation", "bilinear")
    assert known.num_classes == len(entry.meta["categories"])


@pytest.mark.parametrize(
    ("model", "name", "arguments", "message"),
    [
        ("vgg16", "imagenet", {"norm": "group"}, "norm is group: vgg16's weights 'imagenet' are for norm none or norm"),
        ("resnet50", "imagenet_v3", {}, "resnet50 has no weights 'imagenet_v3', .* Did you mean 'imagenet"),
        ("plain20", True, {}, "plain20 has no trained weights of its own"),
        ("lenet5", True, {"activation": "tanh"}, "activation is tanh"),
    ],
)
def test_weights_that_are_not_there(model: str, name: str | bool, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_weights(model, name, arguments)


def test_batch_norm_chooses_torchvisions_other_weights() -> None:
    assert find_weights("vgg16", "imagenet", {}).entry == "VGG16_Weights.IMAGENET1K_V1"
    assert find_weights("vgg16", True, {"norm": "batch"}).entry == "VGG16_BN_Weights.IMAGENET1K_V1"
    assert [known.name for known in weights_of("resnet50")] == ["imagenet", "imagenet_v2"]


def test_new_classes_and_channels() -> None:
    old, new = zoo.load("lenet5.mnist"), zoo.create_model("lenet5", pretrained=True, num_classes=37, in_channels=3)
    states = old.state_dict(), new.state_dict()
    same = [name for name in states[0] if not name.startswith(("classifier.6", "features.0.weight"))]
    assert all(torch.equal(states[0][name], states[1][name]) for name in same)
    assert new.class_names == []
    grey = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(new.features(grey.expand(-1, 3, -1, -1)), old.features(grey))
    assert new.preprocessing == {**old.preprocessing, "in_channels": 3, "mean": [0.1307] * 3, "std": [0.3081] * 3}


def test_weights_say_how_the_network_is_built() -> None:
    assert zoo.create_model("mlp", pretrained="mnist").image_size == 28
    assert create_model("lenet5", pretrained="mnist").hparams["num_classes"] == 10
    with pytest.raises(ValueError, match=r"hidden is \[30\]: mlp's weights 'mnist' are for hidden None"):
        zoo.create_model("mlp", pretrained="mnist", hidden=[30])


def imagenet_file(folder: Path, builder: Any) -> tuple[Path, torch.nn.Module]:
    torch.manual_seed(1)
    network = builder(weights=None).eval()
    torch.save(network.state_dict(), folder / "file.pth")
    return folder / "file.pth", network


def test_torchvisions_weights_give_torchvisions_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, theirs = imagenet_file(tmp_path, torchvision.models.resnet18)
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(pretrained, "web_file", lambda url, sha256: asked.append((url, sha256)) or path)
    ours = zoo.create_model("resnet18", pretrained="imagenet").eval()
    assert asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd")]
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images))
    assert (ours.image_size, ours.num_classes, ours.class_names[1]) == (224, 1000, "goldfish")
    assert ours.preprocessing["crop"] == 0.875
    new = zoo.create_model("resnet18", pretrained="imagenet", num_classes=37)
    assert (new.output.weight.shape, new.class_names) == ((37, 512), [])
    with pytest.raises(ValueError, match=r"conv1\.weight"):
        zoo.create_model("resnet18", pretrained="imagenet", stem="small")


def test_a_smaller_vgg_takes_the_convolutions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, theirs = imagenet_file(tmp_path, torchvision.models.vgg11)
    monkeypatch.setattr(pretrained, "web_file", lambda *_: path)
    found = find_pretrained("vgg11", True, {"image_size": 32})
    model = zoo.create_model("vgg11", image_size=32, num_classes=5)
    report = apply_pretrained(model, found)
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(model.features(images), theirs.get_submodule("features")(images))
    skipped = {name for name, _ in report.skipped}
    assert skipped == {f"classifier.{i}.{what}" for i in (0, 6) for what in ("weight", "bias")}


def test_a_head_of_1998_for_other_classes() -> None:
    model = zoo.create_model("lenet5_1998", pretrained="mnist", head="linear", num_classes=26)
    old = zoo.load("lenet5_1998.mnist").state_dict()
    assert all(torch.equal(value, old[name]) for name, value in model.state_dict().items() if name in model.loaded)
    assert set(model.loaded) == set(old)
    assert model.output.weight.shape == (26, 84)


def test_a_perceptron_for_colour_takes_what_fits() -> None:
    model = zoo.create_model("mlp", pretrained="mnist", in_channels=3)
    assert "features.3.weight" in model.loaded
    assert "features.0.weight" not in model.loaded


def test_another_size_has_no_border() -> None:
    assert zoo.create_model("lenet5", pretrained="mnist", image_size=28).preprocessing["border"] == 0


def damaged(part: str) -> dict[str, Any]:
    """A description of lenet5 of which one part is wrong."""
    description = zoo.load("lenet5.mnist").description()
    wrong: dict[str, Any] = {
        "args": {"args": None},
        "unknown argument": {"args": {**description["args"], "colour": 3}},
        "recipe": {"recipe": {"speed": 3}},
        "finetune": {"finetune": {"speed": 3}},
        "data": {"data": None},
        "preprocessing": {"data": {"preprocessing": {"image_size": 32}}},
        "class_names": {"data": {"class_names": [1, 2]}},
        "name": {"name": 7},
        "pretrained": {"args": {**description["args"], "pretrained": "hf-hub:nobody/nothing"}},
    }
    return {**description, **wrong[part]}


PARTS = ("args", "unknown argument", "recipe", "finetune", "data", "preprocessing", "class_names", "name", "pretrained")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["safetensors", "ckpt"])
def test_a_wrong_description_is_one_line(part: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> Path:
        raise AssertionError("the file's word was taken for the user's")

    monkeypatch.setattr(pretrained, "hub_file", no_network)
    path, state = tmp_path / f"wrong.{kind}", zoo.load("lenet5.mnist").state_dict()
    if kind == "ckpt":
        torch.save({"state_dict": state, "zoo": damaged(part)}, path)
    else:
        write_weights(path, state, damaged(part))
    with pytest.raises(ValueError, match=r"wrong\.(ckpt|safetensors)' (describes its model wrongly|holds the model)"):
        zoo.load(path)


# timm, from the hub's cache


def hub_cache(folder: Path, backbone: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Random weights where the hub's library keeps what it has fetched."""
    from huggingface_hub import constants

    torch.manual_seed(2)
    state = timm.create_model(backbone).state_dict()
    repository, commit = folder / f"models--timm--{backbone}", "0" * 39 + "1"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    save_file(state, repository / "snapshots" / commit / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return state


@pytest.mark.parametrize("backbone", ["test_resnet.r160_in1k", "test_vit.r160_in1k", "test_convnext.r160_in1k"])
def test_timms_weights_come_from_the_hubs_cache(backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = hub_cache(tmp_path, backbone, monkeypatch)
    model = zoo.create_model("timm", backbone=backbone, pretrained=True).eval()
    assert {f"backbone.{name}" for name in state} == set(model.loaded)
    reference = timm.create_model(backbone).eval()
    reference.load_state_dict(state)
    images = torch.randn(2, 3, 160, 160)
    torch.testing.assert_close(model(images), reference(images))
    facts = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(backbone).to_dict())
    assert model.preprocessing["crop"] == pytest.approx(facts["crop_pct"], abs=1 / 160)
    assert model.preprocessing["interpolation"] == facts["interpolation"]
    assert model.preprocessing["image_size"] == facts["input_size"][-1]


def test_timms_weights_for_other_classes_and_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = hub_cache(tmp_path, "test_resnet.r160_in1k", monkeypatch)
    model = zoo.create_model("timm", backbone="test_resnet", pretrained="r160_in1k", num_classes=5, in_channels=1)
    convolution = next(name for name, value in state.items() if value.ndim == 4)
    torch.testing.assert_close(model.backbone.get_parameter(convolution), state[convolution].sum(dim=1, keepdim=True))
    assert f"backbone.{convolution}" in model.loaded
    assert not any(name.startswith("backbone.fc") for name in model.loaded)
    assert model.output.weight.shape[0] == 5


@pytest.mark.parametrize(
    ("backbone", "tag", "message"),
    [
        ("resnet18", "a9_in1k", "timm's resnet18 has no weights 'a9_in1k'.*a1_in1k"),
        ("resnet18.a1_in1k", "a2_in1k", "pretrained is a2_in1k, but the backbone resnet18.a1_in1k names a1_in1k"),
        ("resnet1888", True, "timm has no backbone 'resnet1888'"),
    ],
)
def test_timms_weights_that_are_not_there(backbone: str, tag: str | bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm_weights(backbone, tag)


def test_a_model_of_ours_comes_from_the_hub_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    published = zoo.load("lenet5.mnist")
    place, commit = tmp_path / "models--user--net", "0" * 39 + "2"
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text(commit)
    write_weights(place / "snapshots" / commit / "model.safetensors", published.state_dict(), published.description())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for model in (zoo.create_model("hf-hub:user/net"), zoo.load("hf-hub:user/net")):
        assert type(model).__name__ == "lenet5"
        assert all(torch.equal(value, published.state_dict()[name]) for name, value in model.state_dict().items())
        assert (model.class_names, model.preprocessing) == (published.class_names, published.preprocessing)
    other = zoo.create_model("hf-hub:user/net", num_classes=5, recipe="default")
    assert (other.output.weight.shape[0], other.pretrained) == (5, "hf-hub:user/net")


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "resnetv2_50x1_bit"])
def test_weights_that_timm_converted_come_from_the_hub(backbone: str) -> None:
    found = timm_weights(backbone, True)
    assert found.repository.startswith("timm/")
    assert found.filename == "model.safetensors"


def test_the_side_before_the_crop_is_timms() -> None:
    for backbone in ("resnet18.a1_in1k", "efficientnet_b0.ra_in1k", "convnext_tiny.fb_in1k"):
        found, facts = timm_weights(backbone, True).preprocessing, timm.get_pretrained_cfg(backbone)
        theirs = timm.data.create_transform(facts.input_size, crop_pct=facts.crop_pct, is_training=False)
        assert round(found["image_size"] / found["crop"]) == theirs.transforms[0].size


def test_weights_of_another_network_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_cache(tmp_path, "test_resnet.r160_in1k", monkeypatch)
    shutil.move(tmp_path / "models--timm--test_resnet.r160_in1k", tmp_path / "models--timm--test_vit.r160_in1k")
    with pytest.raises(ValueError, match=r"these are not the weights of timm's test_vit\.r160_in1k"):
        zoo.create_model("timm", backbone="test_vit.r160_in1k", pretrained=True)


# The command


def test_listed_weights_are_evaluated_without_a_checkpoint(zoo_main: Zoo, mnist_root: Path) -> None:
    data = ("--data", "mnist", "--data.root", mnist_root)  # of its few images no tenth could be held out
    first = zoo_main("test", "--model", "lenet5", "--model.pretrained", "mnist", *data)
    second = zoo_main("test", "--ckpt_path", "lenet5.mnist", *data)
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert first.out == second.out
    assert "lenet5 on mnist, 30 test images" in first.out


def test_weights_of_other_classes_are_not_evaluated(zoo_main: Zoo) -> None:
    words = ("test", "--model", "lenet5", "--model.pretrained", "mnist", "--data", "fake", "--data.num_classes", 4)
    outcome = zoo_main(*words)
    assert outcome.status == 2
    assert "lenet5.mnist: trained on the classes 0, 1, 2, 3, 4, ... (10), but fake has 0, 1, 2, 3" in outcome.err


def test_fit_starts_from_a_file_and_says_what_was_loaded(zoo_main: Zoo, tmp_path: Path) -> None:
    model = zoo.load("lenet5.mnist")
    wrapped = {f"module._orig_mod.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "mine.pth")
    words = ("fit", "--model", "lenet5", "--model.pretrained", "mine.pth", "--recipe.epochs", 1)
    outcome = zoo_main(*words, "--data", "fake", "--run_dir", "run")
    assert outcome.status == 0, outcome.err
    assert "lenet5 from mine.pth: 10 of 10 tensors loaded" in outcome.out
    assert "lenet5 from mine.pth: features.0.weight: 1 channel spread over 3" in outcome.out
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["pretrained"] == "mine.pth"


def test_preprocessing_follows_the_weights_unless_the_user_says_otherwise(zoo_main: Zoo, tmp_path: Path) -> None:
    model = zoo.create_model("resnet20", depth=8, num_classes=10, in_channels=1, image_size=24)
    model.preprocessing = {
        **{"image_size": 24, "in_channels": 1, "border": 1, "mean": [0.25], "std": [0.125]},
        **{"crop": 0.9, "interpolation": "bicubic"},
    }
    write_weights(tmp_path / "mine.safetensors", model.state_dict(), model.description())
    words = ("fit", "--model", "resnet20", "--pretrained", "mine.safetensors", "--recipe.epochs", 1)
    assert zoo_main(*words, "--run_dir", "first").status == 0
    assert zoo.load(tmp_path / "first/checkpoints/last.ckpt").preprocessing == model.preprocessing
    said = ("--data.image_size", 16, "--data.normalize", "auto", "--data.crop", 1, "--data.interpolation", "bilinear")
    outcome = zoo_main(*words, *said, "--run_dir", "second")
    assert outcome.status == 0, outcome.err
    after = zoo.load(tmp_path / "second/checkpoints/last.ckpt").preprocessing
    assert (after["image_size"], after["border"], after.get("crop", 1)) == (16, 0, 1)
    assert after.get("interpolation", "bilinear") == "bilinear"
    assert after["mean"] != [0.25]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "lenet5", "--model.pretrained", "mnits"), "lenet5 has no weights 'mnits'"),
        (("--model", "lenet5", "--model.pretrained", "no/such.ckpt"), "no/such.ckpt"),
        (("--model", "lenet5", "--finetune", "linear"), "finetune.method is linear, but lenet5 has random weights"),
        (("--model", "lenet5", "--finetune", "lineer"), "finetune.method is lineer: it must be one of none, linear"),
        (("--model", "lenet5", "--pretrained", "--finetune.l2sp", "1"), "nothing to pull back"),
        (("--model", "lenet5_1998", "--pretrained", "--finetune", "linear"), "has no weights: use full"),
        (("--model", "lenet5", "--pretrained", "hf-hub:nouser"), "hf-hub"),
        (("--model", "lenet5", "--pretrained", "https://a.b/c.pt"), "'https://a.b/c.pt' is an address"),
        (("--model", "lenet5", "--pretrained="), "option --pretrained needs a value"),
        (
            ("--model", "lenet5", "--pretrained", "--finetune", "gradual", "--trainer.max_steps", "30"),
            "the run has no last epoch: set finetune.unfreeze_every",
        ),
    ],
)
def test_wrong_input_is_one_line(words: tuple[str, ...], message: str, zoo_main: Zoo, tmp_path: Path) -> None:
    outcome = zoo_main("fit", *words)
    assert outcome.status == 2
    assert message.replace("hf-hub", "user/name") in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("finetune: [linear]", "finetune is ['linear']: it must be a method"),
        ("model.pretrained: mnist", "in a configuration file it stands beside model"),
        (
            "model: {class_path: lenet5, init_args: {pretrained: mnist}}",
            "in a configuration file it stands beside model",
        ),
    ],
)
def test_wrong_configuration_files(text: str, message: str, zoo_main: Zoo, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"{text}\n")
    outcome = zoo_main("fit", "--config", "mine.yaml", "--model", "lenet5", "--pretrained")
    assert (outcome.status, message in outcome.err) == (2, True), outcome.err


def test_a_method_in_a_configuration_file(zoo_main: Zoo, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model: lenet5\npretrained: mnist\nfinetune: linear\nrecipe: {epochs: 1}\n")
    outcome = zoo_main("fit", "--config", "mine.yaml", "--run_dir", "first")
    assert outcome.status == 0, outcome.err
    assert "the last layer alone, 850 parameters" in outcome.out
    assert "lenet5: 61,706 parameters" in outcome.out
    again = zoo_main("fit", "--config", "first/config.yaml", "--finetune", "full", "--run_dir", "second")
    assert again.status == 0, again.err
    augment = [
        zoo.load(tmp_path / run / "checkpoints/last.ckpt").data["args"]["augment"] for run in ("first", "second")
    ]
    assert augment == ["none", "affine"]


def test_a_run_goes_on_without_the_weights_that_it_started_from(zoo_main: Zoo, tmp_path: Path) -> None:
    model = zoo.load("lenet5.mnist")
    for name in ("mine", "other"):
        write_weights(tmp_path / f"{name}.safetensors", model.state_dict(), model.description())
    words = ("fit", "--model", "lenet5", "--pretrained", "mine.safetensors", "--finetune", "gradual")
    assert zoo_main(*words, "--finetune.unfreeze_every", 1, "--recipe.epochs", 2, "--run_dir", "run").status == 0
    (tmp_path / "mine.safetensors").unlink()
    for source in ("other.safetensors", "false"):
        refused = zoo_main("fit", "--run_dir", "run", "--resume", "--pretrained", source)
        assert (refused.status, "it cannot change within a run" in refused.err) == (2, True), refused.err
    resumed = zoo_main("fit", "--run_dir", "run", "--resume", "--trainer.max_epochs", 3)
    assert resumed.status == 0, resumed.err
    after = zoo.load(tmp_path / "run/checkpoints/last.ckpt")
    assert (after.preprocessing, after.pretrained) == (model.preprocessing, "mine.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lenet5.mnits", "Did you mean 'mnist'"),
        ("plain20.mnist", "plain20 has no trained weights of its own"),
        ("lenet5.ckpt", "no checkpoint at 'lenet5.ckpt'"),
        ("lenet.mnist", "no checkpoint at 'lenet.mnist'"),
    ],
)
def test_a_name_that_is_no_weights(name: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        zoo.load(name)


def test_evaluation_takes_one_source(zoo_main: Zoo) -> None:
    both = zoo_main("test", "--ckpt", "lenet5.mnist", "--pretrained", "mnist", "--data", "digits")
    assert "ckpt_path is lenet5.mnist and pretrained is mnist: say one of them" in both.err
    none = zoo_main("test", "--model", "lenet5", "--model.pretrained=false", "--data", "digits")
    assert (none.status, "test needs a checkpoint" in none.err) == (2, True)
    small = zoo_main("test", "--model", "lenet5", "--pretrained", "mnist", "--model.image_size", 28, "--data", "digits")
    assert (small.status, "do not fill this lenet5: not loaded" in small.err) == (2, True)


def test_evaluation_prepares_images_as_the_user_says(zoo_main: Zoo) -> None:
    words = ("test", "--ckpt", "lenet5.mnist", "--data", "digits")
    usual, cropped = zoo_main(*words), zoo_main(*words, "--data.crop", 0.6)
    assert (usual.status, cropped.status) == (0, 0), cropped.err
    assert usual.out != cropped.out


def test_weights_of_which_nothing_fits(zoo_main: Zoo, tmp_path: Path) -> None:
    model = zoo.load("lenet5.mnist")
    write_weights(tmp_path / "mine.safetensors", model.state_dict(), model.description())
    outcome = zoo_main("fit", "--model", "softmax", "--pretrained", "mine.safetensors")
    assert (outcome.status, "fits" in outcome.err) == (2, True), outcome.err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("fit --model resnet18 --model.pretrained imagenet --data digits", "resnet18-f37072fd.pth"),
        ("fit --model vgg16 --model.norm batch --pretrained", "vgg16_bn-6c64b313.pth"),
        ("fit --model timm --model.backbone resnet18.a1_in1k --model.pretrained true", "timm's resnet18.a1_in1k"),
        ("fit --model timm/resnet18 --pretrained=a1_in1k --finetune gradual", "timm's resnet18"),
        ("fit --model lenet5 --model.pretrained hf-hub:user/net", "model.safetensors of 'user/net'"),
        ("predict --ckpt hf-hub:user/net@v2 photo.png", "model.safetensors of 'user/net' at revision v2"),
        ("export hf-hub:user/net --format onnx", "model.safetensors of 'user/net'"),
    ],
)
def test_offline_is_said_before_torch_is_imported(words: str, wanted: str, tmp_path: Path) -> None:
    code = (
        "import sys, zoo.hub\nfrom zoo.cli import main\n"
        "zoo.hub._fault = lambda address, _: f'{address} cannot be reached'\n"
        f"status = main({words.split()!r})\n"
        "assert not {'torch', 'lightning', 'timm'} & sys.modules.keys()\nsys.exit(status)"
    )
    caches = {"TORCH_HOME": str(tmp_path / "torch"), "HF_HOME": str(tmp_path / "hub"), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=caches, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert wanted in done.stderr
    assert "weights in the package: lenet5.mnist" in done.stderr
    assert str(tmp_path) in done.stderr  # where a cached copy is looked for
    assert len(done.stderr.splitlines()) == 1


def test_the_default_backbone_is_timms_of_ours() -> None:
    assert weights.default_argument("timm", "backbone") == early.DEFAULT_BACKBONE


@pytest.mark.parametrize("source", ["false", "False", "null", "mine.pt", "./mine.pt"])
def test_local_work_asks_no_network(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.hub._fault", lambda *_: "the network cannot be reached")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    early.check_network(["--model", "timm", "--model.backbone", "resnet18", "--pretrained", source], are_options=True)
    with pytest.raises(UserError, match="the network cannot be reached"):
        early.check_network(["--model", "timm", "--pretrained", "true"], are_options=True)


def test_a_mirrored_digit_is_another_one(zoo_main: Zoo, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (28, 28)).save(tmp_path / "7.png")
    outcome = zoo_main("predict", "--ckpt", "lenet5.mnist", "7.png", "--tta", "flip")
    assert (outcome.status, "mirrors images: those of mnist change their class" in outcome.err) == (2, True)


def test_what_is_cached_needs_no_network(zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_cache(tmp_path / "cache", "test_resnet.r160_in1k", monkeypatch)
    monkeypatch.setattr("zoo.hub._fault", lambda *_: "the network cannot be reached")
    words = ("fit", "--model", "timm", "--model.backbone", "test_resnet.r160_in1k", "--model.pretrained", "true")
    outcome = zoo_main(*words, "--data", "fake", "--data.image_size", 32, "--trainer.fast_dev_run", "true")
    assert outcome.status == 0, outcome.err
    assert "timm from timm/test_resnet.r160_in1k:" in outcome.out


def test_info_lists_the_weights(zoo_main: Zoo) -> None:
    shown = zoo_main("info", "lenet5").out
    assert "mnist" in shown and weights.embedded()["lenet5.mnist"].results["test accuracy"] in shown
    assert "--model.pretrained imagenet_v2" in zoo_main("info", "resnet50").out
