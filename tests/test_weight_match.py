"""Fitting the tensors of a file to a model: names, output layers, channels, and what the report says."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

import zoo
from zoo.weight_files import read_weights
from zoo.weight_match import Report, adapt_channels, fit_weights

CLASSES = "1000 classes in the file, 37 here"


def network(in_channels: int = 3, num_classes: int = 7, hidden: int = 6) -> nn.Module:
    """A small network of layers that the rules speak of, with random weights and statistics."""
    layers = nn.Sequential()
    layers.add_module("conv1", nn.Conv2d(in_channels, 4, 3))
    layers.add_module("bn1", nn.BatchNorm2d(4))
    layers.add_module("conv2", nn.Conv2d(4, hidden, 3))
    layers.add_module("pool", nn.AdaptiveAvgPool2d(1))
    layers.add_module("flat", nn.Flatten())
    layers.add_module("output", nn.Linear(hidden, num_classes))
    for tensor in layers.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return layers.eval()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def is_same(model: nn.Module, tensors: Mapping[str, Tensor], but: tuple[str, ...] = ()) -> bool:
    return all(torch.equal(value, tensors[name]) for name, value in state(model).items() if not name.startswith(but))


def renamed(tensors: Mapping[str, Tensor], change: Callable[[str], str]) -> dict[str, Tensor]:
    return {change(name): tensor for name, tensor in tensors.items()}


# Names

PREFIXES = ["", "model.", "module.", "_orig_mod.", "network.", "net.", "backbone."]
PREFIXES += ["model.module.", "module._orig_mod.", "_orig_mod.module.model.", "net.network.model.module._orig_mod."]
PREFIXES += ["model.backbone.", "_orig_mod.backbone.net."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_are_taken_off(prefix: str) -> None:
    source, model = state(network()), network()
    report = fit_weights(model, renamed(source, lambda name: prefix + name), strict=True)
    assert is_same(model, source)
    assert report == Report(tuple(source), (), (), ())
    assert report.lines() == [f"{len(source)} of {len(source)} tensors loaded"]


@pytest.mark.parametrize("ours", ["backbone", "model", "net"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_the_model_are_put_on(prefix: str, ours: str) -> None:
    source, model = state(network()), nn.ModuleDict({ours: network()})
    fit_weights(model, renamed(source, lambda name: prefix + name), strict=True)
    assert is_same(model[ours], source)


def test_a_layer_called_like_a_prefix_keeps_its_name() -> None:
    def build() -> nn.Module:
        return nn.ModuleDict({"net": nn.Linear(2, 2), "model": nn.Linear(2, 2), "module": nn.Linear(3, 2)})

    source, model = state(build()), build()
    for prefix in ("", "net.", "model.net.", "_orig_mod."):
        fit_weights(model, renamed(source, lambda name: prefix + name), strict=True)  # noqa: B023  called at once
        assert is_same(model, source)


def test_compiled_parts_on_either_side() -> None:
    source, model = state(network()), network()
    compiled = renamed(source, lambda name: f"model.{name.replace('.', '._orig_mod.')}")
    assert "model.conv1._orig_mod.weight" in compiled
    fit_weights(model, compiled, strict=True)
    assert is_same(model, source)

    model = network()
    wrapped = nn.ModuleDict({"_orig_mod": model})  # what torch.compile returns has these names
    report = fit_weights(wrapped, source, strict=True)
    assert is_same(model, source)
    assert report.loaded == tuple(source)


def test_a_layer_whose_name_ends_like_that_of_a_compiled_part_keeps_it() -> None:
    source, model = nn.ModuleDict({"my_orig_mod": nn.Linear(2, 2)}), nn.ModuleDict({"my_orig_mod": nn.Linear(2, 2)})
    assert fit_weights(model, source.state_dict()).loaded == ("my_orig_mod.weight", "my_orig_mod.bias")


def test_of_two_networks_in_a_file_the_one_that_fits_is_taken() -> None:
    student, teacher, model = state(network()), state(network(hidden=9)), network()
    tensors = renamed(teacher, lambda name: f"net.{name}") | renamed(student, lambda name: f"model.{name}")
    report = fit_weights(model, tensors)
    assert is_same(model, student)
    assert report.unused == tuple(f"net.{name}" for name in teacher)


def test_no_tensor_of_a_file_is_used_twice_and_none_of_the_model_filled_twice() -> None:
    ours, other = state(network()), state(network())
    for tensors in (ours | renamed(other, lambda name: f"model.{name}"), renamed(other, lambda n: f"model.{n}") | ours):
        model = network()
        report = fit_weights(model, tensors)
        assert is_same(model, ours), "the names as they are come first"
        assert sorted(report.unused) == sorted(f"model.{name}" for name in other)


def test_a_head_beside_a_wrapped_network() -> None:
    source, model = state(network()), network()
    tensors = renamed(source, lambda name: name if name.startswith("output") else f"model.{name}")
    fit_weights(model, {**tensors, "criterion.weight": torch.ones(7)})
    assert is_same(model, source)


def test_a_stray_tensor_does_not_take_the_place_of_a_wrapped_one() -> None:
    source, model = state(network()), network()
    stray = {"conv1.weight": torch.zeros_like(source["conv1.weight"])}
    report = fit_weights(model, stray | renamed(source, lambda name: f"model.{name}"))
    assert is_same(model, source)
    assert report.unused == ("conv1.weight",)


# The output layer


@pytest.mark.parametrize("num_classes", [3, 7])
def test_output_of_other_classes_or_unwanted_stays(num_classes: int) -> None:
    source, model = state(network()), network(num_classes=num_classes)
    before = state(model)
    report = fit_weights(model, source, keep_output=False, strict=True)
    assert is_same(model, source, but=("output",))
    assert torch.equal(model.output.weight, before["output.weight"])
    assert torch.equal(model.output.bias, before["output.bias"])
    assert [name for name, _ in report.skipped] == ["output.weight", "output.bias"]
    assert report.lines()[1:] == ["not loaded: output.weight, output.bias (new, for other classes)"]
    assert not report.unused
    if num_classes == 3:
        assert fit_weights(model, source, strict=True).lines() == [
            "9 of 11 tensors loaded",
            "not loaded: output.weight, output.bias (7 classes in the file, 3 here)",
        ]
        assert torch.equal(model.output.weight, before["output.weight"])


def test_output_with_other_features_stays_as_a_whole() -> None:
    source, model = state(network(hidden=9)), network()
    before = state(model)
    report = fit_weights(model, source)
    assert torch.equal(model.output.bias, before["output.bias"]), "a bias of another layer means nothing"
    assert dict(report.skipped) == {
        "conv2.weight": "9 x 4 x 3 x 3 in the file, 6 x 4 x 3 x 3 here",
        "conv2.bias": "9 in the file, 6 here",
        "output.weight": "7 x 9 in the file, 7 x 6 here",
        "output.bias": "the weight of its layer is not loaded",
    }


def test_a_model_that_is_all_output() -> None:
    model = zoo.create_model("softmax")
    source = state(zoo.create_model("softmax"))
    assert fit_weights(model, source).lines() == ["2 of 2 tensors loaded"]
    assert fit_weights(zoo.create_model("softmax"), source, keep_output=False).loaded == ()


@pytest.mark.parametrize("backbone", ["deit_tiny_distilled_patch16_224", "resnet18"])
def test_networks_of_timm_with_one_head_or_two(backbone: str) -> None:
    import timm

    source = timm.create_model(backbone, num_classes=5).state_dict()
    model = zoo.create_model("timm", backbone=backbone, num_classes=5, in_channels=1)
    report = fit_weights(model, source, strict=True)
    assert len(report.adapted) == 1
    assert len(report.loaded) == len(source) - 1
    assert is_same(model.backbone, source, but=("conv1", "patch_embed.proj"))

    model = zoo.create_model("timm", backbone=backbone, num_classes=6)
    names = [name for name, _ in fit_weights(model, source, strict=True).skipped]
    heads = ["head", "head_dist"] if backbone.startswith("deit") else ["fc"]
    assert names == [f"backbone.{head}.{part}" for head in heads for part in ("weight", "bias")]

    plain = timm.create_model(backbone, num_classes=6)
    fit_weights(plain, model.state_dict(), strict=True)  # and back: the prefix is taken off
    assert is_same(plain, model.backbone.state_dict())


# The first convolution


@pytest.mark.parametrize("theirs", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("ours", [1, 2, 3, 4, 6, 9])
def test_a_grey_picture_gives_the_same_response(theirs: int, ours: int) -> None:
    # In double precision, in which the order of a sum does not matter.
    source, model = network(in_channels=theirs).double(), network(in_channels=ours).double()
    report = fit_weights(model, state(source), strict=True)
    grey = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    expected = source(grey.expand(-1, theirs, -1, -1))
    torch.testing.assert_close(model(grey.expand(-1, ours, -1, -1)), expected, rtol=1e-10, atol=1e-10)
    assert [name for name, _ in report.adapted] == (["conv1.weight"] if ours != theirs else [])
    assert len(report.loaded) + len(report.adapted) == len(source.state_dict())


def test_channels_are_summed_or_spread() -> None:
    red, green, blue = kernels = torch.randn(3, 5, 2, 2)
    colour = kernels.transpose(0, 1)
    for channels, expected in {
        1: [red + green + blue],
        2: [red + blue, green],
        3: [red, green, blue],
        4: [red / 2, green, blue, red / 2],
        6: [red / 2, green / 2, blue / 2] * 2,
    }.items():
        torch.testing.assert_close(adapt_channels(colour, channels), torch.stack(expected, dim=1))
    torch.testing.assert_close(adapt_channels(red[:, None], 3), torch.stack([red / 3] * 3, dim=1))


def test_what_was_done_to_the_channels_is_said() -> None:
    said = {(3, 1): "3 channels summed to 1", (1, 3): "1 channel spread over 3", (3, 4): "3 channels spread over 4"}
    for (theirs, ours), what in said.items():
        report = fit_weights(network(in_channels=ours), state(network(in_channels=theirs)))
        assert report.lines() == ["11 of 11 tensors loaded", f"conv1.weight: {what}"]


def test_only_the_first_convolution_is_adapted() -> None:
    def build(width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, 2, 1))

    report = fit_weights(build(4), nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(6, 2, 1)).state_dict())
    assert [name for name, _ in report.adapted] == ["0.weight"]
    assert [name for name, _ in report.skipped] == ["1.weight", "1.bias"]

    grouped = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Linear(2, 2))
    tensors = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Linear(2, 2)).state_dict()
    assert [name for name, _ in fit_weights(grouped, tensors).skipped] == ["0.weight", "0.bias"]
    for shape in [(4, 0, 3, 3), (4, 5, 5, 5), (8, 5, 3, 3), (4, 5, 3), ()]:
        tensors = {**state(network()), "conv1.weight": torch.ones(shape)}
        assert dict(fit_weights(network(), tensors).skipped).keys() == {"conv1.weight", "conv1.bias"}


# Numbers


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(kind: torch.dtype) -> None:
    source = {name: tensor.to(kind) for name, tensor in state(network(in_channels=1)).items()}
    model = network()
    report = fit_weights(model, source)
    assert len(report.loaded) == 10
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    assert torch.equal(model.conv2.weight, source["conv2.weight"].float())
    torch.testing.assert_close(model.conv1.weight.sum(dim=1, keepdim=True), source["conv1.weight"].float())


def test_tensors_are_copied_in_place_and_stay_the_models_own() -> None:
    source, model = state(network()), network().to(memory_format=torch.channels_last)
    parameter = model.conv2.weight
    fit_weights(model, source)
    assert model.conv2.weight is parameter
    assert parameter.requires_grad
    assert parameter.is_contiguous(memory_format=torch.channels_last)
    source["conv2.weight"].zero_()
    assert parameter.abs().min() > 0


def test_old_files_without_counters_are_complete() -> None:
    source = {name: tensor for name, tensor in state(network()).items() if "num_batches" not in name}
    model = network()
    model.bn1.num_batches_tracked.fill_(5)
    report = fit_weights(model, source, strict=True)
    assert report.lines() == ["10 of 10 tensors loaded"]
    assert model.bn1.num_batches_tracked == 5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused_and_nothing_is_copied(value: float) -> None:
    source, model = renamed(state(network()), lambda name: f"model.{name}"), network()
    source["model.output.bias"][3] = value
    before = state(model)
    with pytest.raises(ValueError, match=r"^model\.output\.bias holds nan or infinity: "):
        fit_weights(model, source)
    assert is_same(model, before)
    fit_weights(model, source, keep_output=False)  # what is not loaded does no harm


# What does not fit


def test_another_network_is_refused_with_both_first_names() -> None:
    model = network()
    before = state(model)
    with pytest.raises(
        ValueError,
        match=r"^no tensor of the file fits the model: layer\.0\.weight \(3 x 2\) is the first there, "
        r"conv1\.weight \(4 x 3 x 3 x 3\) is the first here$",
    ):
        fit_weights(model, {"layer.0.weight": torch.ones(3, 2)})
    with pytest.raises(ValueError, match=r"nothing there, conv1\.weight .* here$"):
        fit_weights(model, {})
    with pytest.raises(ValueError, match=r"^no tensor of the file fits the model"):  # its output layer alone does
        fit_weights(model, {"conv1.weight": torch.ones(2, 2), "output.weight": torch.ones(7, 6)})
    assert is_same(model, before)


def test_strict_names_the_first_difference_and_changes_nothing() -> None:
    source = state(network())
    wider = state(network(hidden=9))
    cases = {
        r"^the file does not fit the model: conv2.weight \(9 x 4 x 3 x 3 in the file, 6 x 4 x 3 x 3 here\)$": wider,
        r"^the file does not fit the model: bn1\.weight \(not in the file\)$": {
            name: tensor for name, tensor in source.items() if not name.startswith("bn1")
        },
        r"^the file does not fit the model: aux\.weight is not in the model$": {**source, "aux.weight": torch.ones(1)},
    }
    for message, tensors in cases.items():
        model = network()
        before = state(model)
        with pytest.raises(ValueError, match=message):
            fit_weights(model, tensors, strict=True)
        assert is_same(model, before)
        fit_weights(model, tensors)


def test_a_report_is_short_and_counts_everything() -> None:
    report = Report(
        loaded=("a", "b"),
        adapted=(("c", "3 channels summed to 1"),),
        skipped=(*((f"s{i}", "not in the file") for i in range(7)), *((f"t{i}", f"{i} here") for i in range(9))),
        unused=tuple(f"u{i}" for i in range(12)),
    )
    assert report.lines() == [
        "3 of 19 tensors loaded",
        "c: 3 channels summed to 1",
        "not loaded: s0, s1, s2, s3, s4, ... (7) (not in the file)",
        "not loaded: t0 (0 here)",
        "not loaded: t1 (1 here)",
        "not loaded: t2 (2 here)",
        "not loaded: t3 (3 here)",
        "not loaded: 5 more tensors",
        "not in the model: u0, u1, u2, u3, u4, ... (12)",
    ]


# Torchvision's files


def random_network(build: Callable[[], nn.Module]) -> nn.Module:
    """A network with random weights, statistics included, in a fraction of the time that initialisation takes."""
    with torch.device("meta"):
        model = build()
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.normal_(std=(2 / max(tensor[0].numel(), 50)) ** 0.5)
            else:
                tensor.fill_(3)
    return model.eval()


def empty(name: str, **flags: str | int) -> nn.Module:
    """One of our networks full of nan: what is not loaded shows."""
    with torch.device("meta"):
        model = zoo.create_model(name, **flags)
    model.to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
    return model.eval()


@pytest.mark.parametrize(
    ("reference", "name", "flags"),
    [("vgg11_bn", "vgg11", {"norm": "batch"}), ("resnet18", "resnet18", {}), ("alexnet", "alexnet", {})],
)
def test_state_dicts_of_torchvision_give_the_same_logits(
    reference: str, name: str, flags: dict[str, str], tmp_path: Path
) -> None:
    theirs = random_network(getattr(torchvision.models, reference))
    tensors = theirs.state_dict()
    if reference == "resnet18":  # small enough to go through a file, as a training program wraps it
        torch.save({"model": renamed(tensors, lambda key: f"module.{key}"), "epoch": 1}, tmp_path / "weights.pth")
        tensors = read_weights(tmp_path / "weights.pth").tensors
    ours = empty(name, num_classes=1000, image_size=224, **flags)
    report = fit_weights(ours, tensors, strict=True)
    assert report.lines() == [f"{len(tensors)} of {len(tensors)} tensors loaded"]
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 1e-3, "the comparison would be empty"
        # Ours sums in another order (channels last); a wrong tensor would differ by the deviation itself.
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-4 * expected.std().item())


def test_torchvisions_resnet_for_grey_images_of_37_classes() -> None:
    theirs = random_network(torchvision.models.resnet18)
    ours = zoo.create_model("resnet18", num_classes=37, in_channels=1, image_size=64).eval()
    report = fit_weights(ours, theirs.state_dict(), strict=True)
    assert report.lines() == [
        "120 of 122 tensors loaded",
        "conv1.weight: 3 channels summed to 1",
        f"not loaded: fc.weight, fc.bias ({CLASSES})",
    ]
    grey = torch.randn(2, 1, 64, 64)
    theirs.fc = nn.Identity()
    with torch.no_grad():
        features = ours.forward_features(grey).mean(dim=(2, 3))
        torch.testing.assert_close(features, theirs(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)
