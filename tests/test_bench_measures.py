"""What is measured of a network besides its accuracy, each against a computation of its own."""

import json
import subprocess
import sys
from collections.abc import Callable
from math import exp, log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

import zoo
from zoo.benchmarks import corruptions
from zoo.benchmarks.accuracy import topk, train_eval
from zoo.benchmarks.calibration import calibration, ece, reliability, temperature
from zoo.benchmarks.latency import depth, latency
from zoo.benchmarks.measures import MEASURES
from zoo.benchmarks.monte_carlo import monte_carlo
from zoo.benchmarks.passes import Answers, answers
from zoo.benchmarks.robustness import corruptions as measure_corruptions
from zoo.benchmarks.signals import activations, gradients
from zoo.classifier import ImageClassifier
from zoo.datamodules import Digits, Fake, ImageDataModule


@pytest.fixture(scope="module")
def digits() -> ImageDataModule:
    data = Digits(augment="affine", batch_size=7)
    data.setup("fit")
    return data


def mlp(**arguments: Any) -> ImageClassifier:
    torch.manual_seed(0)
    return zoo.create_model("mlp", **{"hidden": [12], "image_size": 8, "in_channels": 1, **arguments})


def tensors(data: ImageDataModule, split: str) -> tuple[Tensor, Tensor]:
    """All images of a split as the network takes them, without anything of the measures."""
    part = data.splits[split]
    pixels = np.stack([np.asarray(part.square(np.array([row]), 8, "bilinear"))[0] for row in range(len(part))])
    mean, std = data.spec.mean[0], data.spec.std[0]
    return torch.from_numpy((pixels / 255 - mean) / std).float().permute(0, 3, 1, 2), torch.from_numpy(part.labels)


def linear_layers(model: ImageClassifier) -> list[nn.Linear]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]


# What holds for all of them


def test_names_are_known_without_torch() -> None:
    script = "import sys, zoo.benchmarks.measures as m; print(len(m.MEASURES), 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.split() == [str(len(MEASURES)), "False"]


@pytest.mark.parametrize("name", MEASURES)
def test_measures_leave_the_network_alone_and_give_plain_values(name: str, digits: ImageDataModule) -> None:
    model = mlp(norm="batch", dropout=0.3)
    for number, module in enumerate(model.modules()):
        module.training = number % 3 > 0  # modes that no single call of `train` would give
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    first = MEASURES[name].function(model, digits)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert json.loads(json.dumps(first, allow_nan=False)) == [first[0], first[1]]
    if name != "latency":
        assert MEASURES[name].function(model, digits) == first


def test_only_what_is_random_depends_on_the_seed(digits: ImageDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    model = mlp(dropout=0.5)
    found: dict[str, list[Any]] = {name: [] for name in MEASURES if name != "latency"}
    for seed in "12":
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        for name, results in found.items():
            results.append(MEASURES[name].function(model, digits))
    changed = {name for name, (first, second) in found.items() if first != second}
    assert changed == {"gradients", "activations", "monte_carlo", "corruptions"}


# Before training


def test_gradients_of_a_network_with_one_hidden_layer(digits: ImageDataModule) -> None:
    model = mlp()
    metrics, sizes = gradients(model, digits)
    images, labels = (part[:256] for part in tensors(digits, "train"))
    hidden, output = linear_layers(model)
    x = images.flatten(1)
    z = x @ hidden.weight.T + hidden.bias
    error = (F.relu(z) @ output.weight.T + output.bias).softmax(1) - F.one_hot(labels, 10)
    of_output = error.T @ F.relu(z) / 256
    of_hidden = ((error @ output.weight) * (z > 0)).T @ x / 256
    expected = [float(part.detach().norm()) / sqrt(part.numel()) for part in (of_hidden, of_output)]
    assert sizes == pytest.approx(expected, rel=1e-4)
    assert metrics == pytest.approx(
        {"gradients/first": expected[0], "gradients/ratio": expected[0] / expected[1]}, 1e-4
    )


def test_gradients_vanish_behind_many_sigmoids(digits: ImageDataModule) -> None:
    model = mlp(hidden=[16] * 20, activation="sigmoid", init="normal")
    metrics, sizes = gradients(model, digits)
    assert len(sizes) == 21
    assert 0 < metrics["gradients/ratio"] < 1e-6


def test_gradients_that_are_no_numbers_are_left_out(digits: ImageDataModule) -> None:
    model = mlp()
    with torch.no_grad():
        linear_layers(model)[0].weight.fill_(float("nan"))
    metrics, sizes = gradients(model, digits)
    assert metrics == {}
    assert sizes == [None, None]


def test_activations_are_those_of_the_training_batch(digits: ImageDataModule) -> None:
    model = mlp()
    images, _ = tensors(digits, "train")
    hidden, output = linear_layers(model)
    z = images[:256].flatten(1) @ hidden.weight.T + hidden.bias
    logits = F.relu(z) @ output.weight.T + output.bias
    expected = [float(np.std(part.detach().numpy())) for part in (z, logits)]
    assert activations(model, digits) == ({}, pytest.approx(expected, rel=1e-4))


# Accuracy


def test_accuracy_on_training_and_test_images(digits: ImageDataModule) -> None:
    model = mlp(dropout=0.5)
    with torch.no_grad():
        logits = {split: model.eval()(tensors(digits, split)[0]) for split in ("train", "test")}
    labels = {split: tensors(digits, split)[1] for split in logits}
    right = {split: float((logits[split].argmax(1) == labels[split]).float().mean()) for split in logits}
    found, _ = train_eval(model.train(), digits)
    assert found["train_eval/acc"] == pytest.approx(right["train"])
    assert found["train_eval/loss"] == pytest.approx(float(F.cross_entropy(logits["train"], labels["train"])), rel=1e-5)
    assert found["gap"] == pytest.approx(right["train"] - right["test"])
    ranks = (-logits["test"]).argsort(1).argsort(1)[torch.arange(360), labels["test"]]
    expected = {"top1": float((ranks < 1).float().mean()), "top5": float((ranks < 5).float().mean())}
    assert topk(model, digits)[0] == pytest.approx(expected)


def test_fewer_than_five_classes() -> None:
    data = Fake(num_classes=3, in_channels=1, num_samples=60, image_size=8)
    data.setup("fit")
    assert topk(mlp(num_classes=3), data)[0]["top5"] == 1


# Calibration


def guesses(number: int = 400, classes: int = 4) -> Answers:
    random = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(number, classes, generator=random)
    labels = torch.distributions.Categorical(logits=logits / 2).probs.multinomial(1, generator=random).squeeze(1)
    return Answers(logits, labels)


def test_calibration_error_by_hand_and_by_torchmetrics() -> None:
    found = guesses()
    probabilities = found.logits.double().softmax(1).numpy()
    total = 0.0
    for lower in range(15):
        inside = [
            (max(row), int(row.argmax() == label))
            for row, label in zip(probabilities, found.labels.numpy(), strict=True)
            if lower / 15 < max(row) <= (lower + 1) / 15
        ]
        if inside:
            confidence, is_right = np.mean(inside, axis=0)
            total += len(inside) / 400 * abs(confidence - is_right)
    assert ece(found) == pytest.approx(total, abs=1e-12)
    theirs = multiclass_calibration_error(torch.from_numpy(probabilities), found.labels, 4, n_bins=15)
    assert ece(found) == pytest.approx(float(theirs), abs=1e-6)


def test_certainty_is_in_the_last_bin() -> None:
    logits = torch.tensor([[200.0, 0.0], [200.0, 0.0], [3.0, 0.0], [0.0, 200.0]])
    diagram = reliability(Answers(logits, torch.tensor([0, 1, 0, 1])))
    assert diagram["count"] == [0] * 14 + [4]
    assert diagram["accuracy"][-1] == 0.75
    assert diagram["confidence"][-1] == pytest.approx((3 + 1 / (1 + exp(-3))) / 4)


def test_temperature_is_the_best_of_many() -> None:
    found = guesses()
    tried = [exp(step / 1000) for step in range(-2000, 2000)]
    losses = [float(F.cross_entropy(found.logits / heat, found.labels)) for heat in tried]
    best = tried[int(np.argmin(losses))]
    assert temperature(found) == pytest.approx(best, rel=2e-2)
    assert 1.5 < best < 3  # the labels were drawn at 2
    assert log(temperature(Answers(5 * found.logits, found.labels)) / temperature(found)) == pytest.approx(
        log(5), abs=1e-3
    )


def test_temperature_is_of_the_validation_images(digits: ImageDataModule) -> None:
    model = mlp()
    metrics, extra = calibration(model, digits)
    assert metrics["calibration/temperature"] == temperature(answers(model, digits, "val"))
    images, labels = tensors(digits, "test")
    with torch.no_grad():
        scaled = model(images) / metrics["calibration/temperature"]
    assert metrics["calibration/nll_scaled"] == pytest.approx(float(F.cross_entropy(scaled, labels)), rel=1e-5)
    assert metrics["calibration/nll_scaled"] < metrics["calibration/nll"]
    assert [sum(extra[part]["count"]) for part in ("before", "after")] == [360, 360]


# Monte-Carlo dropout


def test_monte_carlo_averages_probabilities(digits: ImageDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    model = mlp(dropout=0.5, norm="batch")
    draws: list[Tensor] = []
    training: set[str] = set()
    forward = ImageClassifier.forward

    def record(self: ImageClassifier, x: Tensor) -> Tensor:
        logits = forward(self, x)
        training.update(type(layer).__name__ for layer in self.modules() if layer.training)
        draws.append(logits.softmax(1))
        return logits

    monkeypatch.setattr(ImageClassifier, "forward", record)
    found, curve = monte_carlo(model, digits, passes=6)
    assert curve["passes"] == [1, 2, 5, 6]
    assert training == {"Dropout"}
    chunks = [torch.stack(draws[:6]), torch.stack(draws[6:])]  # 256 and 104 images
    labels = torch.from_numpy(digits.splits["test"].labels)
    for done, accuracy in zip(curve["passes"], curve["acc"], strict=True):
        average = torch.cat([chunk[:done].mean(0) for chunk in chunks])
        assert accuracy == pytest.approx(float((average.argmax(1) == labels).float().mean()))
    assert found["monte_carlo/acc"] == curve["acc"][-1]
    assert not torch.equal(draws[0], draws[1])


def test_monte_carlo_without_dropout_is_the_test_accuracy(digits: ImageDataModule) -> None:
    model = mlp()
    metrics, curve = monte_carlo(model, digits)
    assert set(curve["acc"]) == {metrics["monte_carlo/acc"]} == {answers(model, digits, "test").accuracy}


# Cost


@pytest.mark.parametrize(("name", "layers", "parameters"), [("vgg16", 16, 138_357_544), ("resnet50", 107, 25_557_032)])
def test_depth_is_counted_as_keras_counts_it(name: str, layers: int, parameters: int) -> None:
    with torch.device("meta"):
        model = zoo.create_model(name, num_classes=1000, image_size=224)
    assert depth(model) == layers
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_size_counts_weights_and_running_averages(digits: ImageDataModule) -> None:
    model = mlp(norm="batch")
    metrics, _ = latency(model, digits)
    weights = 64 * 12 + 12 * 10 + 10 + 2 * 12 + (12 if linear_layers(model)[0].bias is not None else 0)
    assert metrics["parameters"] == weights
    assert metrics["size_mb"] == (weights + 2 * 12) * 4 / 2**20
    assert metrics["latency/32_per_image"] == metrics["latency/32"] / 32
    assert metrics["latency/1"] > 0


def test_latency_is_of_both_batches_at_the_size_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    modes: set[bool] = set()

    def forward(self: ImageClassifier, x: Tensor) -> Tensor:
        shapes.append(tuple(x.shape))
        modes.add(self.training or torch.is_grad_enabled())
        return x

    monkeypatch.setattr(ImageClassifier, "forward", forward)
    latency(mlp().train(), Digits(image_size=12))
    assert set(shapes) == {(1, 1, 12, 12), (32, 1, 12, 12)}
    assert min(shapes.count(shape) for shape in set(shapes)) >= 13
    assert modes == {False}


# Corruptions, see test_bench_corruptions.py too

Images = npt.NDArray[Any]


@pytest.fixture
def as_they_are(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Corruptions that do nothing but count images."""
    seen: list[int] = []

    def keep(images: Images, name: str, severity: int, random: np.random.Generator) -> Images:
        seen.append(len(images))
        return images if severity < 5 else np.zeros_like(images)

    monkeypatch.setattr("zoo.benchmarks.robustness.corrupt", keep)
    return seen


def test_corruptions_are_of_the_first_test_images(digits: ImageDataModule, as_they_are: list[int]) -> None:
    model = mlp()
    metrics, table = measure_corruptions(model, digits, images=300)
    images, labels = (part[:300] for part in tensors(digits, "test"))
    mean, std = digits.spec.mean[0], digits.spec.std[0]
    with torch.no_grad():
        clean = float((model(images).argmax(1) == labels).double().mean())
        black = float((model(torch.full_like(images, -mean / std)).argmax(1) == labels).double().mean())
    assert sum(as_they_are) == 300 * 13 * 5
    assert list(table) == list(corruptions.CORRUPTIONS)
    assert all(row == pytest.approx([clean] * 4 + [black]) for row in table.values())
    assert metrics["corruptions/acc"] == pytest.approx((4 * clean + black) / 5)


@pytest.mark.parametrize("function", [measure_corruptions, monte_carlo, topk])
def test_images_are_normalised_as_in_training(
    function: Callable[..., Any], digits: ImageDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    model = mlp()
    monkeypatch.setattr(ImageClassifier, "forward", lambda self, x: seen.append(x) or torch.zeros(len(x), 10))
    function(model, digits)
    images = torch.cat(seen)
    mean, std = digits.spec.mean[0], digits.spec.std[0]
    assert images.shape[1:] == (1, 8, 8)
    assert float(images.min()) == pytest.approx(-mean / std, abs=1e-5)
    assert float(images.max()) == pytest.approx((1 - mean) / std, abs=1e-5)
