"""What is required of training: deterministic algorithms, finite numbers, and checkpoints of compiled networks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch._inductor.utils import fresh_cache
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

import zoo
from tests.conftest import PYTHON_PATH, Zoo
from zoo.checkpoint import read_checkpoint
from zoo.classifier import ImageClassifier
from zoo.divergence import GPU_CHECK_INTERVAL, TOLERATED, DivergedError, LossWatch
from zoo.layers import krizhevsky_lrn
from zoo.losses import compute_loss
from zoo.recipe import LOSSES, Recipe

# REQ-D1

# torch.use_deterministic_algorithms: what raises on CUDA, by the names of the operations that do so. Of NLLLoss, it is
# the loss of images with a class for each pixel (nll_loss2d); of EmbeddingBag and bincount, one of their modes.
BANNED = {"avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward"}
BANNED |= {"adaptive_max_pool2d_backward", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward"}
BANNED |= {"max_unpool2d", "max_unpool3d", "upsample_linear1d_backward", "upsample_trilinear3d_backward"}
BANNED |= {f"{name}2d{aa}_backward" for name in ("upsample_bilinear", "upsample_bicubic") for aa in ("", "_aa")}
BANNED |= {"_upsample_bilinear2d_aa_backward", "_upsample_bicubic2d_aa_backward"}
BANNED |= {f"reflection_pad{dimensions}d_backward" for dimensions in (1, 2, 3)}
BANNED |= {"nll_loss2d_forward", "nll_loss2d_backward", "_ctc_loss_backward", "_embedding_bag_dense_backward"}
BANNED |= {"put", "put_", "histc", "bincount", "median", "nanmedian", "scatter_reduce", "scatter_reduce_"}
BANNED |= {"grid_sampler_2d_backward", "grid_sampler_3d_backward"}
# Beside the defaults of every model: flags that bring other operations.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("mlp", {"activation": "maxout", "norm": "layer"}),
    ("lenet5", {"subsampling": "average", "norm": "instance", "dropout": 0.5}),
    ("alexnet", {"overlapping": False, "norm": "batch"}),
    ("vgg11", {"norm": "layer"}),
    *(("resnet18", {"shortcut": shortcut, "preactivation": True}) for shortcut in "ABC"),
    *(("resnet20", {"norm": norm, "image_size": 32}) for norm in ("none", "group", "layer", "instance")),
    *(
        ("lenet5", {"activation": name})
        for name in ("tanh", "scaled_tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu")
    ),
]


class Recorder(TorchDispatchMode):
    """Notes the names of the operations that are computed, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def small(name: str, **flags: Any) -> ImageClassifier:
    """The model for images of the smallest size that the command line gives it, and four classes."""
    return zoo.create_model(name, **{"num_classes": 4, "image_size": max(zoo.model_info(name).image_size, 8), **flags})


def operations(network: nn.Module, images: Tensor, loss: str = "cross_entropy") -> set[str]:
    """What a step of training computes; on the meta device without memory, but by the same operations."""
    with Recorder() as recorder:
        labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
        compute_loss(loss, network(images), labels).backward()
    return recorder.names


@pytest.mark.parametrize(("name", "flags"), [*((name, {}) for name in zoo.list_models()), *VARIANTS])
def test_no_gradient_needs_an_operation_that_is_not_deterministic(name: str, flags: dict[str, Any]) -> None:
    """REQ-D1: on a GPU, deterministic algorithms suffice for every model: none of those that raise is used."""
    if name == "resnet1202":  # 200 times the blocks of resnet20
        flags = {"depth": 20}
    with torch.device("meta"):
        model = small(name, **flags)
        found = operations(model, torch.zeros(2, model.in_channels, model.image_size, model.image_size))
    assert found & {"addmm", "convolution", "mm"}, "nothing was recorded"
    assert not found & BANNED


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_mixing_are_deterministic(loss: str) -> None:
    """REQ-D1: nor does a loss need one."""
    with torch.device("meta"):
        model = small("lenet5")
        found = operations(model, torch.zeros(2, 1, 32, 32), loss)
    assert not found & BANNED


@pytest.mark.parametrize(
    ("layer", "banned"),
    [
        (nn.LocalResponseNorm(5), "avg_pool3d_backward"),
        (nn.AdaptiveAvgPool2d(3), "_adaptive_avg_pool2d_backward"),
        (nn.AdaptiveMaxPool2d(3), "adaptive_max_pool2d_backward"),
        (nn.Upsample(scale_factor=2, mode="bilinear"), "upsample_bilinear2d_backward"),
        (nn.ReflectionPad2d(1), "reflection_pad2d_backward"),
    ],
)
def test_the_recorder_sees_what_is_banned(layer: nn.Module, banned: str) -> None:
    images = torch.zeros(2, 3, 8, 8, device="meta")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), layer, nn.Flatten()).to("meta")
    assert operations(network, images) & BANNED == {banned}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_response_normalisation_is_torchs_bit_by_bit(memory_format: torch.memory_format) -> None:
    ours = krizhevsky_lrn()
    theirs = nn.LocalResponseNorm(ours.size, ours.alpha, ours.beta, ours.k)
    start = torch.randn(3, 7, 5, 4, generator=torch.Generator().manual_seed(0)).mul(20)
    found = []
    for layer in (ours, theirs):
        x = start.clone(memory_format=memory_format).requires_grad_()
        y = layer(x)
        y.square().sum().backward()
        found.append((y, x.grad))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert not torch.equal(found[0][0], start)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", zoo.list_models())
def test_every_model_takes_a_deterministic_step(name: str) -> None:
    """REQ-D1: on a CPU, a step of training runs under deterministic algorithms for every model."""
    torch.manual_seed(0)
    model = small(name)
    images = torch.randn(2, model.in_channels, model.image_size, model.image_size)
    with deterministic():
        loss = compute_loss(model.recipe.loss, model(images), torch.tensor([0, 1]))
        loss.backward()
        torch.optim.SGD(model.parameters(), lr=1e-3).step()
    assert loss.isfinite()


def test_the_command_trains_every_model_deterministically(zoo_main: Zoo) -> None:
    """REQ-D1: a step and an evaluation of every model but resnet1202, which takes minutes."""
    small = ("--data.train_size", 100, "--recipe.batch_size", 2, "--trainer.fast_dev_run", "true")
    try:
        for name in zoo.list_models():
            if name != "resnet1202":
                done = zoo_main("fit", "--model", name, *small, "--trainer.deterministic", "true", "--run_dir", name)
                assert done.status == 0, f"{name}: {done.err}"
                assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_command_trains_deterministically(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-D1: `--trainer.deterministic true` is all that a user says; the same run twice gives the same weights."""
    words = ("fit", "--model", "lenet5", "--data.train_size", 200, "--recipe.epochs", 1, "--trainer.deterministic")
    try:
        for run in "ab":
            done = zoo_main(*words, "true", "--run_dir", run)
            assert done.status == 0, done.err
            assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    one, other = (read_checkpoint(tmp_path / run / "checkpoints/last.ckpt")["state_dict"] for run in "ab")
    assert all(torch.equal(one[name], other[name]) for name in one)


# REQ-N1


def loss_on(device: str, value: float) -> Any:
    return SimpleNamespace(device=SimpleNamespace(type=device), item=lambda: value)


def trainer_of(precision: str) -> Any:
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.125}])
    return SimpleNamespace(precision=precision, optimizers=[optimizer], current_epoch=2, global_step=77, world_size=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_is_reported(value: float) -> None:
    """REQ-N1: the message has epoch, step, rate and loss; on a CPU every step is looked at."""
    message = rf"^the training loss is {value} at epoch 3, step 77, learning rate 0\.125: try a lower --recipe\.lr$"
    with pytest.raises(DivergedError, match=message):
        LossWatch().check(loss_on("cpu", value), 7, trainer_of("32-true"))


def test_a_gpu_is_asked_every_fifty_steps() -> None:
    """REQ-N1: reading a loss waits for a GPU, so that most steps are not looked at."""
    watch, trainer, asked = LossWatch(), trainer_of("32-true"), []
    for step in range(2 * GPU_CHECK_INTERVAL + 1):
        loss = loss_on("cuda", 0.5)
        loss.item = lambda step=step: asked.append(step) or 0.5
        watch.check(loss, step, trainer)
    assert asked == [0, 50, 100]
    with pytest.raises(DivergedError):
        watch.check(loss_on("cuda", float("nan")), 150, trainer)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_overflows_under_16_mixed_are_tolerated_for_a_few_steps(device: str) -> None:
    """REQ-N1: the gradient scaler leaves such steps out; only when they do not end, the run does."""
    watch, trainer, nan = LossWatch(), trainer_of("16-mixed"), float("nan")
    for step in range(TOLERATED):
        watch.check(loss_on(device, nan), step, trainer)
    watch.check(loss_on(device, 0.5), TOLERATED, trainer)  # which starts the count anew
    for step in range(50, 50 + TOLERATED):
        watch.check(loss_on(device, nan), step, trainer)
    with pytest.raises(DivergedError, match="the training loss is nan"):
        watch.check(loss_on(device, nan), 50 + TOLERATED, trainer)


def poison_weights(model: ImageClassifier, trainer: L.Trainer) -> None:
    model.output.get_parameter("weight").data[0, 0] = float("nan")


def poison_statistics(model: ImageClassifier, trainer: L.Trainer) -> None:
    next(layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)).running_var[0] = float("inf")


def poison_optimizer(model: ImageClassifier, trainer: L.Trainer) -> None:
    trainer.optimizers[0].state[model.output.get_parameter("bias")]["momentum_buffer"][0] = float("inf")


class Poison(Callback):
    """Does harm after the last step of the second epoch, which its loss does not show."""

    def __init__(self, harm: Any) -> None:
        self.harm = harm

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any, **__: Any) -> None:
        if trainer.current_epoch == 1 and trainer.is_last_batch:
            self.harm(pl_module, trainer)


@pytest.mark.parametrize("ema", [0.0, 0.5])
@pytest.mark.parametrize("validates", [True, False])
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (poison_weights, r"weights are not finite after epoch 2 \(.*fc\.weight\)"),
        (poison_statistics, r"weights are not finite after epoch 2 \(.*running_var\)"),
        (poison_optimizer, r"the optimizer's numbers are not finite after epoch 2 \(momentum_buffer\)"),
    ],
)
def test_what_is_not_finite_is_not_saved(harm: Any, message: str, validates: bool, ema: float, tmp_path: Path) -> None:
    """REQ-N1: weights, statistics and the optimiser's state are looked at before a checkpoint replaces a sound one."""
    torch.manual_seed(0)
    model = zoo.create_model("resnet20", depth=8, num_classes=2, in_channels=1, image_size=8)
    model.recipe = Recipe(optimizer="sgd", lr=0.01, batch_size=4, ema=ema)
    data = DataLoader(TensorDataset(torch.randn(8, 1, 8, 8), torch.arange(8) % 2), batch_size=4)
    save = ModelCheckpoint(tmp_path, "last", enable_version_counter=False, save_on_train_epoch_end=not validates)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=4,
        callbacks=[Poison(harm), save],
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **quiet,
    )
    with pytest.raises(DivergedError, match=rf"^{message}: try a lower --recipe\.lr$"):
        trainer.fit(model, data, data)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert read_checkpoint(tmp_path / "last.ckpt")["epoch"] == 0
    assert all(value.isfinite().all() for value in zoo.load(tmp_path / "last.ckpt").state_dict().values())


def test_the_command_ends_at_a_loss_that_is_no_number(
    zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-N1: the status is 1, and last.ckpt is that of the epoch before, with finite weights."""
    calls = 0

    def breaks(*arguments: Any) -> Tensor:
        nonlocal calls
        calls += torch.is_grad_enabled()
        return compute_loss(*arguments) * (float("nan") if calls > 15 else 1)

    monkeypatch.setattr("zoo.classifier.compute_loss", breaks)
    words = ("fit", "--model", "mlp", "--data.train_size", 200, "--recipe.epochs", 3, "--recipe.batch_size", 20)
    done = zoo_main(*words, "--run_dir", "run")  # ten steps an epoch
    assert done.status == 1
    lines = [line for line in (done.out + done.err).splitlines() if "training loss" in line]
    assert len(lines) == 1
    assert "the training loss is nan at epoch 2, step 15, learning rate 0.000" in lines[0]
    last = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert (last["epoch"], last["global_step"]) == (0, 10)
    assert all(value.isfinite().all() for value in last["state_dict"].values())


@pytest.mark.parametrize("process", [0, 1])
def test_all_processes_end_at_the_loss_of_one_that_is_no_number(
    process: int, zoo_command: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-N1: whichever of two it is, one line has epoch, step, rate and loss, and run.json says why the run ended."""
    monkeypatch.setenv("ZOO_ALLOW_IMPORTS", "tests")
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH)
    words = ["fit", "--model", "mlp", "--data.train_size", 200, "--recipe.epochs", 3, "--recipe.batch_size", 20]
    words += ["--trainer.accelerator", "cpu", "--trainer.devices", 2, "--trainer.strategy", "ddp", "--run_dir", "run"]
    words += ["--trainer.callbacks", "tests.poison.NoNumber", "--trainer.callbacks.process", process]
    done = zoo_command(*words)
    assert done.status == 1, done.err
    (line,) = [line for line in (done.out + done.err).splitlines() if line.startswith("zoo: ")]
    assert line.startswith("zoo: the training loss is nan at epoch 2, step 15, learning rate 0.000")
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "diverged"
    last = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert (last["epoch"], last["global_step"]) == (0, 10)
    assert all(value.isfinite().all() for value in last["state_dict"].values())


# REQ-T1


@pytest.mark.parametrize("name", ["mlp", "lenet5"])
def test_checkpoints_are_the_same_compiled_or_not(
    name: str, zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-T1: `--compile true` changes no name in a checkpoint, and it loads as any other.

    The graph is traced, but not translated to C++, which takes a quarter of a minute for each network.
    """
    traced, original = [], torch.compile

    def traces(function: Any, **options: Any) -> Any:
        traced.append(function)
        return original(function, **{**options, "backend": "eager"})

    monkeypatch.setattr(torch, "compile", traces)
    words = ("fit", "--model", name, "--data.train_size", 64, "--recipe.epochs", 1, "--recipe.batch_size", 32)
    states = {}
    for compiles in ("false", "true"):
        done = zoo_main(*words, "--compile", compiles, "--run_dir", compiles)
        assert done.status == 0, done.err
        assert bool(traced) == (compiles == "true")
        states[compiles] = read_checkpoint(tmp_path / compiles / "checkpoints/last.ckpt")["state_dict"]
    assert [*states["true"]] == [*states["false"]]
    for key, value in states["false"].items():
        torch.testing.assert_close(states["true"][key], value)
    loaded = zoo.load(tmp_path / "true/checkpoints/last.ckpt")
    assert loaded(torch.zeros(1, loaded.in_channels, loaded.image_size, loaded.image_size)).isfinite().all()
    torch.compiler.reset()


def test_without_a_compiler_compiling_ends_with_one_line(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-T1: where torch.compile finds no C++ compiler, one line says so; nothing is written."""
    # torch's own way to set and restore: what pytest's leaves behind has no cpp.cxx any more, for later tests.
    missing = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)})
    with missing, fresh_cache():  # else what was compiled before is taken
        done = zoo_main("fit", "--model", "mlp", "--compile", "true", "--run_dir", "run")
    assert done.status == 2
    assert "Traceback" not in done.err
    errors = [line for line in done.err.splitlines() if line.strip()]
    assert len(errors) == 1
    assert "compiler" in errors[0]
    assert not (tmp_path / "run").exists()
