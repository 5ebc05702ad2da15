"""Optimisers, L1 and max-norm of a recipe against the same steps written by hand, and L-BFGS in a whole run."""

import copy
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from tests.conftest import Zoo
from zoo.checkpoint import read_checkpoint
from zoo.classifier import ImageClassifier
from zoo.cli.recipes import resolve_recipe
from zoo.datamodules import Digits
from zoo.optim import clip_by_norm, limit_norms, make_optimizer
from zoo.recipe import Recipe

PLAIN = {"weight_decay": 0.0, "schedule": "constant", "batch_size": 100}
NO_FILES = {"enable_checkpointing": False}


def train(model: ImageClassifier, folder: Path, epochs: int = 2, **options: Any) -> L.Trainer:
    """Train on 300 of the digits."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    resume = options.pop("ckpt_path", None)
    L.seed_everything(3, verbose=False)
    settings = {"limit_val_batches": 0, **quiet, **options}
    trainer = L.Trainer(max_epochs=epochs, default_root_dir=folder, **settings)
    size, batch_size = model.image_size, model.recipe.batch_size
    data = Digits(batch_size=batch_size, train_size=300, num_workers=0, augment="none", image_size=size)
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    return trainer


def network(name: str = "mlp", **recipe: Any) -> ImageClassifier:
    """A small network, the same each time; in batches of 100 and without decay if nothing else is said."""
    torch.manual_seed(0)
    model = zoo.create_model(name, num_classes=10, in_channels=1, image_size=16)
    assert isinstance(model, ImageClassifier)
    model.recipe = Recipe(**{**PLAIN, **recipe})
    return model


def same(first: nn.Module, second: nn.Module) -> bool:
    """Whether all parameters and statistics are equal, bit for bit."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


class Record(Callback):
    """The batch, the rate and the counted loss of each step."""

    def __init__(self) -> None:
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append(batch)
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, ImageClassifier)
        self.losses.append(float(pl_module._seen[-1][0]))


# Optimisers


def adagrad(w: Tensor, g: Tensor, s: dict[str, Tensor], lr: float) -> Tensor:
    """Duchi et al. 2011."""
    s["sum"] = s.get("sum", torch.zeros_like(w)) + g**2
    return w - lr * g / (s["sum"].sqrt() + 1e-10)


def adadelta(w: Tensor, g: Tensor, s: dict[str, Tensor], lr: float) -> Tensor:
    """Zeiler 2012, algorithm 1, with rho 0.9 and epsilon 1e-6."""
    s["g"] = 0.9 * s.get("g", torch.zeros_like(w)) + 0.1 * g**2
    step = ((s.get("x", torch.zeros_like(w)) + 1e-6) / (s["g"] + 1e-6)).sqrt() * g
    s["x"] = 0.9 * s.get("x", torch.zeros_like(w)) + 0.1 * step**2
    return w - lr * step


def rmsprop(w: Tensor, g: Tensor, s: dict[str, Tensor], lr: float, momentum: float = 0.0) -> Tensor:
    """Hinton's lecture 6e with a share of 0.01 for the newest gradient, and with heavy-ball momentum."""
    s["g"] = 0.99 * s.get("g", torch.zeros_like(w)) + 0.01 * g**2
    s["v"] = momentum * s.get("v", torch.zeros_like(w)) + g / (s["g"].sqrt() + 1e-8)
    return w - lr * s["v"]


def rmsprop_with_momentum(w: Tensor, g: Tensor, s: dict[str, Tensor], lr: float) -> Tensor:
    return rmsprop(w, g, s, lr, momentum=0.9)


@pytest.mark.parametrize(
    ("name", "momentum", "step"),
    [
        ("adagrad", 0.9, adagrad),
        ("adadelta", 0.9, adadelta),
        ("rmsprop", 0.0, rmsprop),
        ("rmsprop", 0.9, rmsprop_with_momentum),
    ],
)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_those_of_the_papers(name: str, momentum: float, step: Callable[..., Tensor], decay: float) -> None:
    """Five steps on a quadratic whose gradient is known; weight decay is part of the gradient."""
    target = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]], dtype=torch.double)
    layer = nn.Linear(3, 2, bias=False, dtype=torch.double)
    weights, state = layer.weight.detach().clone(), {}
    recipe = Recipe(optimizer=name, lr=0.05, momentum=momentum, weight_decay=decay)
    optimizer = make_optimizer(layer, [layer], recipe)
    for _ in range(5):
        optimizer.zero_grad()
        (0.5 * (layer.weight - target).square().sum()).backward()
        optimizer.step()
        weights = step(weights, (weights - target) + decay * weights, state, 0.05)
    torch.testing.assert_close(layer.weight.detach(), weights, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "change",
    [{"weight_decay": 0.1}, {"layer_decay": 0.5}, {"gradient_clip": 1.0}, {"max_norm": 3.0}],
    ids=lambda change: next(iter(change)),
)
def test_lbfgs_refuses_what_it_cannot_do(change: dict[str, float]) -> None:
    (name, value), *_ = change.items()
    off = 1 if name == "layer_decay" else 0
    with pytest.raises(ValueError, match=rf"recipe\.{name} is {value}: it must be {off} with the optimizer lbfgs"):
        Recipe(optimizer="lbfgs", **{"weight_decay": 0.0, **change})


def test_lbfgs_refuses_a_rate_of_the_head() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"finetune\.head_lr is 0\.1: it must be 0 with the optimizer lbfgs"):
        make_optimizer(layer, [layer], Recipe(optimizer="lbfgs", weight_decay=0.0), head_lr=0.1)


@pytest.mark.parametrize(("name", "value"), [("accumulate_grad_batches", 2), ("gradient_clip_val", 1.0)])
def test_lbfgs_refuses_a_trainer_that_alters_its_gradients(name: str, value: float, tmp_path: Path) -> None:
    number = 1 if name == "accumulate_grad_batches" else 0
    with pytest.raises(ValueError, match=rf"trainer\.{name} is {value}: it must be {number} with the optimizer lbfgs"):
        train(network(optimizer="lbfgs"), tmp_path, **{name: value})


# L-BFGS in a run


def test_lbfgs_trains_as_torch_does_by_itself(tmp_path: Path) -> None:
    """A convolutional network: the same weights, bit for bit, at the rates of the schedule."""
    model, record = network("lenet5", optimizer="lbfgs", lr=0.5, schedule="linear"), Record()
    alone = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.LBFGS(alone.parameters(), lr=0.5, line_search_fn="strong_wolfe")
    train(model, tmp_path, epochs=2, callbacks=[record], **NO_FILES)

    def closure(images: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(alone(images), labels)
        loss.backward()
        return loss.detach()

    losses, rates = [], [0.5 * (1 - step / 6) for step in range(6)]
    for batch, rate in zip(record.batches, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        losses.append(float(optimizer.step(partial(closure, *batch))))
    assert record.rates == pytest.approx(rates)
    assert record.losses == pytest.approx(losses)  # each before its step
    assert same(model, alone)


def test_lbfgs_counts_each_image_once(tmp_path: Path) -> None:
    model = network(optimizer="lbfgs", lr=1.0, batch_size=64)
    sizes = []
    average = model.on_train_epoch_end

    def note() -> None:
        sizes.append([int(size) for _, _, size in model._seen])
        average()

    model.on_train_epoch_end = note  # type: ignore[method-assign]  # to see what is averaged
    train(model, tmp_path, **NO_FILES)
    assert sizes == [[64] * 4, [64] * 4]


def test_lbfgs_draws_the_same_in_each_evaluation_of_a_step(tmp_path: Path) -> None:
    """Mixing and dropout draw alike; batch normalisation sees each batch once."""
    model = network("lenet5", optimizer="lbfgs", lr=1.0, mixup=0.4)
    dropout, norm = nn.Dropout(0.5), nn.BatchNorm2d(1)
    model.features = nn.Sequential(dropout, norm, *model.features)
    seen: dict[int, list[Tensor]] = {}
    dropout.register_forward_hook(
        lambda _layer, _images, dropped: seen.setdefault(model.trainer.global_step, []).append(dropped.clone())
    )
    steps = train(model, tmp_path, **NO_FILES).global_step
    assert list(seen) == list(range(steps)) == list(range(6))
    assert all(len(evaluations) > 2 for evaluations in seen.values())
    assert all(torch.equal(images, step[0]) for step in seen.values() for images in step)
    assert int(norm.num_batches_tracked or 0) == steps
    assert norm.track_running_stats


@pytest.mark.parametrize("change", [{"optimizer": "lbfgs"}, {"optimizer": "adagrad", "max_norm": 1.0, "l1": 0.001}])
def test_resumed_equals_uninterrupted(change: dict[str, Any], tmp_path: Path) -> None:
    """From the middle of an epoch, with dropout."""
    options: dict[str, Any] = {"lr": 0.5, "schedule": "cosine", **change}

    def fit(folder: Path, resume: Path | None = None) -> ImageClassifier:
        model = network(**options)
        model.classifier = nn.Sequential(nn.Dropout(0.2), model.classifier)
        saver = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=2, save_top_k=-1)
        train(model, folder, callbacks=[saver], ckpt_path=resume)
        return model

    whole = fit(tmp_path / "whole")
    path = tmp_path / "whole/step=2.ckpt"
    assert read_checkpoint(path)["zoo"]["recipe"].items() >= change.items()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The dirpath has changed")
        assert same(fit(tmp_path / "resumed", path), whole)


def test_a_run_that_is_made_longer_goes_on_at_the_rate_of_the_longer_one(tmp_path: Path) -> None:
    """The checkpoint of its old end holds the rate 0."""
    options = {"optimizer": "sgd", "lr": 0.5, "schedule": "cosine", "batch_size": 300}
    record, path = Record(), tmp_path / "end.ckpt"
    train(network(**options), tmp_path, epochs=2, **NO_FILES).save_checkpoint(path)
    train(network(**options), tmp_path, epochs=4, callbacks=[record], ckpt_path=path, **NO_FILES)
    assert record.rates == pytest.approx([0.25, 0.5 * (1 - 0.5**0.5) / 2])


# Penalties


@pytest.mark.parametrize("decay_all", [False, True])
def test_l1_pulls_weights_by_their_sign(decay_all: bool, tmp_path: Path) -> None:
    """One step of plain gradient descent with and without it; what is frozen stays, and the logged loss is the same."""
    runs = []
    for l1 in (0.0, 0.02):
        model, record = network(optimizer="sgd", momentum=0.0, lr=0.1, l1=l1, decay_all=decay_all), Record()
        with torch.no_grad():
            model.features[0].bias.fill_(0.5)
        start = {name: value.detach().clone() for name, value in model.named_parameters()}
        model.classifier.requires_grad_(False)
        train(model, tmp_path, epochs=1, limit_train_batches=1, callbacks=[record], **NO_FILES)
        runs.append((dict(model.named_parameters()), record.losses))
    (without, loss), (with_l1, same_loss) = runs
    assert loss == same_loss
    for name, value in start.items():
        is_pulled = (decay_all or value.ndim > 1) and not name.startswith("classifier")
        pull = 0.1 * 0.02 * value.sign() if is_pulled else torch.zeros_like(value)
        torch.testing.assert_close(without[name].detach() - with_l1[name].detach(), pull, rtol=0, atol=1e-6)


def projected(weight: Tensor, max_norm: float) -> Tensor:
    """Each row or filter scaled down to the norm, by hand."""
    rows = [row * min(1.0, max_norm / float(row.square().sum().sqrt())) for row in weight]
    return torch.stack(rows)


def test_max_norm_scales_back_what_is_longer(tmp_path: Path) -> None:
    """After a step of plain gradient descent: hidden layers, not biases, the output or what is frozen."""
    options: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.5}
    free, limited = network("lenet5", **options), network("lenet5", max_norm=1.4, **options)
    for model in (free, limited):
        model.classifier[0].requires_grad_(False)
        train(model, tmp_path, epochs=1, limit_train_batches=1, **NO_FILES)
    theirs, shortened = dict(free.named_parameters()), 0
    for name, value in limited.named_parameters():
        is_hidden = value.ndim > 1 and value is not limited.output.weight and value.requires_grad
        expected = projected(theirs[name].detach(), 1.4) if is_hidden else theirs[name].detach()
        torch.testing.assert_close(value.detach(), expected, rtol=1e-6, atol=1e-7)
        shortened += int((expected != theirs[name]).flatten(1).any(dim=1).sum()) if is_hidden else 0
    units = sum(len(kernel) for layer in (limited.features, limited.classifier[1:-1]) for kernel in weights(layer))
    assert 0 < shortened < units  # some are short enough


def weights(network: nn.Module) -> list[Tensor]:
    return [layer.weight.detach() for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def test_max_norm_knows_the_layers_of_1998() -> None:
    """C3's maps have different numbers of inputs: each map's own kernels are limited together."""
    model = zoo.create_model("lenet5_1998")
    layer = next(layer for layer in model.modules() if hasattr(layer, "kernels"))
    before = [kernel.clone() for kernel, _ in layer.kernels()]
    limit_norms(model, model.output, 0.12)
    after = [kernel for kernel, _ in layer.kernels()]
    assert {len(kernel[0]) for kernel in after} == {3, 4, 6}
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, projected(old, 0.12), rtol=1e-6, atol=1e-7)
    assert any(float(kernel.norm()) > 0.12 for kernel in before)
    assert any(float(kernel.norm()) < 0.12 for kernel in before)


def test_the_moving_average_is_of_limited_weights(tmp_path: Path) -> None:
    """Averages of short vectors are short: a projection after the average was taken would leave longer ones."""
    model = network(optimizer="sgd", momentum=0.0, lr=5.0, max_norm=0.5, ema=0.1)
    train(model, tmp_path, **NO_FILES)  # ends with the average in place of the weights
    assert all(weight.norm(dim=1).max() <= 0.5 + 1e-6 for weight in weights(model)[:-1])


def test_max_norm_needs_a_hidden_layer(tmp_path: Path) -> None:
    message = r"recipe\.max_norm is 3\.0, but softmax has no hidden layer that is trained: it must be 0"
    with pytest.raises(ValueError, match=message):
        train(network("softmax", max_norm=3.0), tmp_path)


@pytest.mark.parametrize("name", ["l1", "max_norm"])
def test_penalties_are_not_negative(name: str) -> None:
    with pytest.raises(ValueError, match=rf"recipe\.{name} is -1: it must be 0 or more"):
        Recipe(**{name: -1})


# Rates that follow the batch size


def test_a_rate_is_for_its_batch_and_follows_it_once() -> None:
    recipe = Recipe(lr=0.1, batch_size=100, scale_lr=True)
    larger = recipe.replace(batch_size=250)
    assert larger.lr == pytest.approx(0.25)
    assert larger.replace(epochs=3).lr == larger.lr
    assert larger.replace(batch_size=100) == recipe
    assert recipe.replace(batch_size=50, lr=0.4).lr == pytest.approx(0.2)
    assert recipe.replace(batch_size=50, scale_lr=False).lr == 0.1


def test_the_command_scales_a_rate_once(zoo_main: Zoo, tmp_path: Path) -> None:
    own = zoo.model_info("mlp").recipe()
    words = ("--trainer.limit_train_batches", 2, "--recipe.epochs", 1, "--no-test", "--recipe.scale_lr", "true")
    done = zoo_main("fit", "--model", "mlp", *words, "--recipe.batch_size", 2 * own.batch_size, "--run_dir", "a")
    assert done.status == 0, done.err
    line = f"rate {own.lr:g} times 2 is {2 * own.lr:g}: a batch of {2 * own.batch_size} where it is for"
    assert line in done.out
    first = zoo.load(tmp_path / "a/checkpoints/last.ckpt").recipe
    assert (first.lr, first.scale_lr) == (2 * own.lr, False)
    resumed = zoo_main("fit", "--config", "a/config.yaml", "--recipe.epochs", 2, "--resume")
    assert (resumed.status, "scale_lr" in resumed.out) == (0, False), resumed.err
    assert zoo.load(tmp_path / "a/checkpoints/last.ckpt").recipe.lr == first.lr
    scaled = ("--recipe.scale_lr", "true", "--recipe.batch_size", own.batch_size, "--run_dir", "b")
    again = zoo_main("fit", "--config", "a/config.yaml", *scaled)
    assert again.status == 0, again.err
    assert f"rate {2 * own.lr:g} times 0.5 is {own.lr:g}" in again.out
    assert zoo.load(tmp_path / "b/checkpoints/last.ckpt").recipe.lr == own.lr


def test_a_file_that_asks_for_scaling_means_the_batch_of_the_recipe() -> None:
    base, said = Recipe(lr=0.1, batch_size=100), {"lr": 0.3, "batch_size": 200, "scale_lr": True}
    recipe, notice = resolve_recipe(base, said, said)
    assert (recipe.lr, recipe.scale_lr) == (pytest.approx(0.6), False)
    assert notice.startswith("rate 0.3 times 2 is 0.6: a batch of 200 where it is for 100")
    typed, _ = resolve_recipe(base, {**said, "batch_size": 400}, {"lr": 0.3, "batch_size": 200})
    assert typed.lr == pytest.approx(0.6)
    assert resolve_recipe(base, {"scale_lr": True}, {})[1] == ""


# The end of a run, and averages over it


class Accuracies(Callback):
    """Give validation accuracies that a test has chosen, before other callbacks see them."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ImageClassifier)
        pl_module.val_acc.reset()
        pl_module.val_acc.update(torch.tensor(100 * self.values[trainer.current_epoch]), 100)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_early_stopping_counts_from_the_best_epoch_and_stays_stopped(tmp_path: Path) -> None:
    accuracies = (0.5, 0.4, 0.6, 0.6, 0.5, 0.9)

    def run(early_stopping: int, name: str, **options: Any) -> L.Trainer:
        model, settings = network(early_stopping=early_stopping), {"limit_val_batches": 1, "num_sanity_val_steps": 0}
        save = ModelCheckpoint(tmp_path / name, filename="last", save_on_train_epoch_end=True)
        return train(model, tmp_path, 6, **settings, callbacks=[Accuracies(*accuracies), save], **options)

    assert run(0, "never").current_epoch == 6
    assert run(3, "late").current_epoch == 6
    ended = run(2, "ended")
    assert ended.current_epoch == 5
    resumed = run(2, "resumed", ckpt_path=tmp_path / "ended/last.ckpt")
    assert (resumed.current_epoch, resumed.global_step) == (5, ended.global_step)


def test_early_stopping_needs_validation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"recipe\.early_stopping is 2, but nothing is validated"):
        train(network(early_stopping=2), tmp_path)


class Weights(Callback):
    """The weights after each epoch, and those that are validated."""

    def __init__(self) -> None:
        self.trained: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.is_last_batch:
            self.trained.append(copy.deepcopy(pl_module.state_dict()))

    def on_validation_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.validated.append(copy.deepcopy(pl_module.state_dict()))


def test_swa_averages_the_last_epochs_with_statistics_of_the_average(tmp_path: Path) -> None:
    seen = Weights()
    torch.manual_seed(0)
    model = zoo.create_model("mlp", num_classes=10, in_channels=1, image_size=16, norm="batch", dropout=0.5)
    model.recipe = Recipe(**{**PLAIN, "swa": 0.5})
    train(model, tmp_path, 4, limit_val_batches=1, num_sanity_val_steps=0, callbacks=[seen], **NO_FILES)
    names = [name for name, _ in model.named_parameters()]
    tail = [{name: state[name] for name in names} for state in seen.trained[2:]]
    for before, after in zip(seen.trained[:2], seen.validated[:2], strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)
    for name in names:
        assert torch.equal(seen.validated[2][name], tail[0][name])
        torch.testing.assert_close(seen.validated[3][name], (tail[0][name] + tail[1][name]) / 2)
        assert torch.equal(model.state_dict()[name], seen.validated[3][name])
    data = Digits(batch_size=100, train_size=300, num_workers=0, augment="none", image_size=16)
    data.setup("fit")
    batches = [data.on_after_batch_transfer(batch, 0)[0] for batch in data.train_dataloader()]
    linear, norm = (next(m for m in model.modules() if isinstance(m, kind)) for kind in (nn.Linear, nn.BatchNorm1d))
    with torch.no_grad():
        outputs = linear(torch.cat(batches).flatten(1))
    assert norm.running_mean is not None
    assert norm.momentum == 0.1
    torch.testing.assert_close(norm.running_mean, outputs.mean(dim=0), rtol=1e-4, atol=1e-5)


def test_swa_leaves_the_training_alone(tmp_path: Path) -> None:
    """The weights that are trained on are those of a run without it."""
    runs = {}
    for swa in (0.0, 0.5):
        seen = Weights()
        torch.manual_seed(0)
        model = zoo.create_model("mlp", num_classes=10, in_channels=1, image_size=16, norm="batch", dropout=0.5)
        model.recipe = Recipe(**{**PLAIN, "swa": swa})
        train(model, tmp_path, 4, callbacks=[seen], **NO_FILES)
        runs[swa] = seen.trained[-1]
    assert all(torch.equal(runs[0.0][name], runs[0.5][name]) for name in runs[0.0])


def test_swa_wants_an_end_and_no_ema(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"recipe\.swa is 0\.5: it must be 0 when ema is on"):
        Recipe(swa=0.5, ema=0.9)
    with pytest.raises(ValueError, match=r"recipe\.swa is 0\.5, a fraction of the run: set trainer\.max_epochs"):
        train(network(swa=0.5), tmp_path, -1, **NO_FILES)


# The command


def test_the_command_trains_with_lbfgs(zoo_main: Zoo, tmp_path: Path) -> None:
    words = ("fit", "--model", "mlp", "--data.train_size", 200, "--recipe.epochs", 2, "--recipe.batch_size", 100)
    done = zoo_main(
        *words, "--recipe.optimizer", "lbfgs", "--recipe.lr", 1, "--recipe.weight_decay", 0, "--run_dir", "a"
    )
    assert done.status == 0, done.err
    again = zoo_main("fit", "--config", "a/config.yaml", "--recipe.epochs", 3, "--resume")
    assert again.status == 0, again.err
    assert read_checkpoint(tmp_path / "a/checkpoints/last.ckpt")["global_step"] == 6
    refused = zoo_main(*words, "--recipe.optimizer", "lbfgs", "--recipe.weight_decay", 0.1)
    assert (refused.status, "recipe.weight_decay is 0.1: it must be 0" in refused.err) == (2, True)


def test_the_command_limits_norms(zoo_main: Zoo, tmp_path: Path) -> None:
    words = ("fit", "--model", "mlp", "--data.train_size", 200, "--recipe.epochs", 1)
    words = (*words, "--recipe.optimizer", "adagrad", "--recipe.max_norm", 0.7)
    done = zoo_main(*words, "--recipe.l1", 0.001, "--run_dir", "run")
    assert done.status == 0, done.err
    model = zoo.load(tmp_path / "run/checkpoints/last.ckpt")
    assert (model.recipe.optimizer, model.recipe.l1, model.recipe.max_norm) == ("adagrad", 0.001, 0.7)
    norms = [float(weight.norm(dim=1).max()) for weight in weights(model)]
    assert max(norms[:-1]) == pytest.approx(0.7)
    assert norms[-1] > 0.7
    refused = zoo_main(*words, "--recipe.momentum", 0.9)
    assert (refused.status, "recipe.momentum is 0.9: adagrad has none" in refused.err) == (2, True)


@pytest.mark.parametrize("largest", [0.01, 1000.0])
@pytest.mark.parametrize("name", ["mlp", "resnet20"])
def test_gradients_are_shortened_as_torch_does(name: str, largest: float) -> None:
    """Weights in either memory layout, gradients that lie otherwise, and parameters without any."""
    models = [network(name), network(name)]
    for model in models:
        generator = torch.Generator().manual_seed(1)
        for number, parameter in enumerate(model.parameters()):
            if number != 1:
                gradient = torch.randn(parameter.shape, generator=generator)
                parameter.grad = gradient if number % 3 else torch.empty_like(parameter).copy_(gradient)
    ours, theirs = ([p for p in model.parameters() if p.grad is not None] for model in models)
    clip_by_norm(torch.optim.SGD(models[0].parameters(), lr=0.1), largest)
    torch.nn.utils.clip_grad_norm_(models[1].parameters(), largest)
    assert ours
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-5, atol=0)
