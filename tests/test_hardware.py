"""`--hardware`: every preset is understood by the parser, and builds a trainer where its devices are."""

import tomllib
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator, XLAAccelerator
from lightning.pytorch.strategies import DDPStrategy

from tests.conftest import ROOT, Zoo
from tests.here import assert_one_line
from zoo.cli.app import ZooCLI
from zoo.cli.front import prepare
from zoo.cli.hardware import FOLDER, hardware_options, presets
from zoo.fsdp import FullySharded

FIT = ("fit", "--model", "mlp", "--trainer.max_steps", 1, "--no-test")


def test_there_is_a_preset_for_each_kind_of_machine() -> None:
    assert presets() == ["cpu", "ddp", "fsdp", "gpu", "slurm", "tpu"]
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["zoo.cli"]
    assert set(FOLDER.parent.glob(packaged[0])) == set(FOLDER.iterdir())


@pytest.mark.parametrize("name", presets())
def test_presets_are_parsed(name: str, zoo_main: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "3")
    outcome = zoo_main("fit", "--model=mlp", "--hardware", name, "--print_config")
    assert outcome.status == 0, outcome.err
    settings = yaml.safe_load(outcome.out)["trainer"]
    for option, value in hardware_options(name):
        assert str(settings[option.removeprefix("--trainer.")]) == value
    assert (settings["num_nodes"] == 3) == (name == "slurm")


def test_a_preset_comes_after_the_file_and_before_what_is_typed(tmp_path: Path) -> None:
    words = ["--trainer.devices=2", "--model=mlp", "--hardware=gpu", "--config=x.yaml"]
    found = prepare("test", words)
    order = ["--config=x.yaml", "--trainer.accelerator=gpu", "--trainer.devices=1", "--trainer.devices=2"]
    assert [word for word in found if word in order] == order
    assert not any(word.startswith("--hardware") for word in found)


def test_outside_a_job_of_slurm_the_number_of_nodes_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    assert "--trainer.num_nodes" not in dict(hardware_options("slurm"))


def test_an_unknown_name_is_one_line(zoo_main: Zoo) -> None:
    assert_one_line(zoo_main(*FIT, "--hardware", "fdsp"), "unknown hardware 'fdsp'", "Did you mean 'fsdp'")


@pytest.mark.parametrize("name", presets())
def test_presets_build_a_trainer_or_say_what_is_missing(
    name: str, zoo_main: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (CUDAAccelerator, MPSAccelerator, XLAAccelerator):
        monkeypatch.setattr(kind, "is_available", staticmethod(lambda: False))
    outcome = zoo_main(*FIT, "--hardware", name)
    if name == "cpu":
        assert outcome.status == 0, outcome.err
    else:
        device = "tpu" if name == "tpu" else "gpu"
        assert_one_line(outcome, f"trainer.accelerator is {device}: this machine has none")


@pytest.mark.parametrize("name", ["ddp", "fsdp", "slurm"])
def test_presets_for_several_devices_build_a_trainer_on_the_processors(name: str) -> None:
    words = ["--hardware", name, "--trainer.accelerator=cpu", "--trainer.devices=2"]
    cli = ZooCLI("test", prepare("test", ["--model=mlp", "--data=digits", *words]))
    assert isinstance(cli.trainer.strategy, FullySharded if name == "fsdp" else DDPStrategy)
    assert cli.trainer.world_size == 2
