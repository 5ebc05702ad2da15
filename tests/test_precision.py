"""`--precision`: what a device is found to compute in, what is refused before any data are read, what is said."""

import json
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator, XLAAccelerator

import zoo
from tests.conftest import Zoo
from tests.here import assert_one_line
from zoo.cli import precision as hints
from zoo.datamodules import Fake
from zoo.metrics import Average
from zoo.precision import check_precision, choose_precision, find_device, resolve_precision

DRY = ("fit", "--model=mlp", "--data=digits", "--trainer.fast_dev_run=true")
FIT = ("fit", "--model=mlp", "--data=digits", "--trainer.max_steps=1", "--no-test", "--run_dir=run")
KINDS = {"cpu": CPUAccelerator, "cuda": CUDAAccelerator, "mps": MPSAccelerator, "tpu": XLAAccelerator}


def pretend(monkeypatch: pytest.MonkeyPatch, *devices: str, fast: bool = True) -> None:
    """A machine with these devices, which compute in bfloat16 or do not."""
    for name, kind in KINDS.items():
        monkeypatch.setattr(kind, "is_available", staticmethod(lambda name=name: name in devices))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: fast or including_emulation)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast, "amx_bf16": False})


@pytest.mark.parametrize(
    ("accelerator", "devices", "found"),
    [
        ("auto", ("cpu",), "cpu"),
        ("auto", ("cpu", "cuda"), "cuda"),
        ("auto", ("cpu", "tpu"), "tpu"),
        ("gpu", ("cpu", "mps"), "mps"),
        ("gpu", ("cpu", "cuda"), "cuda"),
        ("cpu", ("cpu", "cuda"), "cpu"),
        ("lightning.pytorch.accelerators.XLAAccelerator", ("cpu", "tpu"), "tpu"),
        ("ours", ("cpu",), "ours"),
    ],
)
def test_the_device_is_the_one_that_lightning_takes(
    accelerator: str, devices: tuple[str, ...], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, *devices)
    assert find_device(accelerator) == found


@pytest.mark.parametrize(
    ("device", "fast", "chosen"),
    [
        ("cpu", True, "bf16-mixed"),
        ("cpu", False, "32-true"),
        ("cuda", True, "bf16-mixed"),
        ("cuda", False, "32-true"),
        ("mps", True, "32-true"),
        ("tpu", False, "bf16-true"),
    ],
)
def test_auto_is_bfloat16_where_it_is_fast(
    device: str, fast: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, device, fast=fast)
    assert choose_precision(device) == resolve_precision("auto", device) == chosen
    check_precision(chosen, device)


@pytest.mark.parametrize(
    ("precision", "device", "remedy"),
    [
        ("16-mixed", "cpu", "needs a GPU"),
        ("16", "cpu", "needs a GPU"),
        ("16-true", "cpu", "needs a GPU"),
        ("bf16-mixed", "cuda", "compute capability 8.0"),
        ("bf16", "cuda", "compute capability 8.0"),
        ("64-true", "mps", "use 32-true"),
        ("64", "mps", "use 32-true"),
        ("bf16-mixed", "tpu", "use bf16-true"),
        ("16-mixed", "tpu", "use bf16-true"),
    ],
)
def test_what_a_device_cannot_do_names_what_it_can(
    precision: str, device: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, device, fast=False)
    with pytest.raises(ValueError, match=f"trainer.precision is {precision}, .*{remedy}"):
        check_precision(precision, device)


def test_what_devices_can_do_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "cpu", fast=False)
    for precision in ("32-true", "bf16-mixed", "bf16-true", "64-true", "32", "64"):
        check_precision(precision, "cpu")  # slowly
    for precision in ("32-true", "16-mixed", "64-true"):
        check_precision(precision, "cuda")
    check_precision("16-true", "tpu")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--precision=16-mixed",), ("trainer.precision is 16-mixed", "use bf16-mixed or 32-true")),
        (("--precision=bf16-mix",), ("unknown precision 'bf16-mix'", "Did you mean 'bf16-mixed'")),
        (("--precision=auto", "--trainer.precision=32-true"), ("precision is auto", "32-true: say one of them")),
        (("--trainer.accelerator=gpu",), ("trainer.accelerator is gpu", "use cpu or auto")),
        (("--trainer.accelerator=tpu",), ("trainer.accelerator is tpu", "use cpu or auto")),
    ],
)
def test_wrong_precisions_are_one_line_before_data_are_read(
    words: tuple[str, ...], parts: tuple[str, ...], zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, "cpu")
    unread = ("--data=folder", f"--data.root={tmp_path / 'nowhere'}")
    assert_one_line(zoo_main("fit", "--model=mlp", *unread, *words), *parts)


def test_the_precision_chosen_stands_in_the_run(zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "cpu", fast=True)
    first = zoo_main(*FIT, "--precision", "auto")
    assert "note: precision auto is bf16-mixed: this CPU computes in bfloat16\n" in first.out
    settings = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert settings["trainer"]["precision"] == "bf16-mixed"
    assert "precision" not in settings
    assert json.loads((tmp_path / "run/run.json").read_text())["precision"] == "bf16-mixed"
    pretend(monkeypatch, "cpu", fast=False)  # another machine: the run stays what it was
    again = zoo_main("fit", "--config=run/config.yaml", "--run_dir=again")
    assert json.loads((tmp_path / "again/run.json").read_text())["precision"] == "bf16-mixed", again.err
    evaluated = zoo_main("test", "--ckpt_path=run/checkpoints/last.ckpt", "--precision=64-true")
    assert evaluated.status == 0, evaluated.err


def test_sums_over_a_data_set_keep_their_bits() -> None:
    """In bfloat16, ten thousand ones would add up to 256."""
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        average = torch.nn.Sequential(Average()).to(dtype)[0]
        assert isinstance(average, Average)
        for _ in range(1000):
            average.update(torch.tensor(1.0), 3)
        assert average.compute().dtype == expected
        assert average.compute().item() == pytest.approx(1 / 3, rel=1e-6)
        average.reset()
        assert average.total.dtype == expected


def test_what_is_typed_wins_over_the_file(zoo_main: Zoo, tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text("precision: bf16-mixed\n")
    (tmp_path / "long.yaml").write_text("trainer: {precision: bf16-mixed}\n")
    (tmp_path / "both.yaml").write_text("precision: bf16-mixed\ntrainer: {precision: 64-true}\n")
    words = FIT[:-1]
    for number, (file, option, expected) in enumerate(
        [
            ("short", (), "bf16-mixed"),
            ("short", ("--trainer.precision=64-true",), "64-true"),
            ("long", ("--precision=64-true",), "64-true"),
        ]
    ):
        outcome = zoo_main(*words, "--config", f"{file}.yaml", *option, "--run_dir", number)
        assert outcome.status == 0, outcome.err
        assert json.loads((tmp_path / f"{number}/run.json").read_text())["precision"] == expected
    assert_one_line(zoo_main(*words, "--config=both.yaml"), "precision is bf16-mixed", "say one of them")


def test_a_hint_where_bfloat16_is_fast_and_nothing_was_said(zoo_main: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    hint = "note: this CPU computes in bfloat16: --precision auto (bf16-mixed)"
    monkeypatch.setattr(hints, "_measured", lambda _: {})
    for fast in (True, False):
        pretend(monkeypatch, "cpu", fast=fast)
        assert (hint in zoo_main(*DRY).out) == fast
    pretend(monkeypatch, "cpu", fast=True)
    assert hint not in zoo_main(*DRY, "--trainer.precision=32-true").out


def test_the_hint_has_figures_of_the_model_or_its_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "results/speed/precision-avx512_bf16.json"
    file.parent.mkdir(parents=True)
    ratios = {"lenet5": 0.9, "resnet20": 2.04, "resnet18": 3.0, "vgg16": 4.0}
    families = {name: {"model": name, "ratio": ratio} for name, ratio in ratios.items()}
    file.write_text(json.dumps({"families": families}))
    monkeypatch.setattr(hints.resources, "files", lambda _: tmp_path)
    pretend(monkeypatch, "cpu", fast=True)
    assert hints._hint("vgg16", "cpu")[0].endswith("is likely faster (measured: vgg16 4 x)")
    assert hints._hint("resnet56", "cpu")[0].endswith("(measured: resnet20 2 x, resnet18 3 x)")
    assert hints._hint("lenet5", "cpu") == [], "it was measured to be slower"
    assert hints._hint("mlp", "cpu")[0].endswith("may be faster")
    assert "measured" not in hints._hint("vgg16", "cuda")[0], "figures of a CPU say nothing about a GPU"
    assert hints._fastest("lenet5", "cpu") == ("32-true", "bfloat16 was not faster (measured: lenet5 0.9 x)")
    assert hints._fastest("vgg16", "cpu") == ("bf16-mixed", "this CPU computes in bfloat16")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True})
    assert hints._hint("vgg16", "cpu")[0].endswith("may be faster"), "it was measured on another kind of CPU"


def test_gradients_are_clipped_under_bf16_mixed_before_a_fused_step() -> None:
    """By their norm over all weights, as under 32-true."""
    norms: list[float] = []

    class Watch(L.Callback):
        def on_before_zero_grad(
            self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
        ) -> None:
            gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
            norms.extend([float(torch.nn.utils.get_total_norm(gradients))] if gradients else [])
            assert optimizer.param_groups[0]["fused"]

    largest = {}
    for value in (0.0, 0.01):
        norms.clear()
        model = zoo.create_model("mlp", image_size=8, in_channels=3, hidden=[16])
        model.recipe = model.recipe.replace(gradient_clip=value)
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        trainer = L.Trainer(
            max_steps=3, accelerator="cpu", precision="bf16-mixed", callbacks=[Watch()], limit_val_batches=0, **quiet
        )
        trainer.fit(model, Fake(num_samples=200, image_size=8, batch_size=32))
        largest[value] = max(norms)
    assert largest[0.0] > 0.1
    assert largest[0.01] == pytest.approx(0.01, rel=1e-3)
