"""`--precision`: settled before anything is built, with a line on what was chosen or would be faster."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

import torch

from zoo.cli import front
from zoo.cli.errors import UserError
from zoo.precision import (
    AUTO,
    bfloat16_instructions,
    check_precision,
    choose_precision,
    find_device,
    resolve_precision,
)
from zoo.registry import MODELS, model_info

if TYPE_CHECKING:
    from zoo.cli.app import ZooCLI

NAMES = {"cpu": "CPU", "cuda": "GPU", "mps": "GPU", "tpu": "TPU"}
WORTH_SAYING = 1.1
"""A model that gains less needs no hint."""


def settle_precision(cli: "ZooCLI") -> str:
    """Give the trainer the precision asked for, and check that the device computes in it; add lines to the notices.

    Returns:
        The device, as `zoo.precision.find_device` names it.

    Raises:
        UserError: If two precisions are given.
        ValueError: If there is no such precision or device, or the device cannot compute in it.
    """
    trainer = cli.config.trainer
    accelerator = trainer.accelerator
    device = find_device(str(getattr(accelerator, "class_path", accelerator)))
    short, full = cli.config.precision, cli.said.get("trainer.precision")
    typed, typed_full = (front.option(cli.arguments, name) for name in ("--precision", "--trainer.precision"))
    if short and full and bool(typed) == bool(typed_full):
        raise UserError(f"precision is {short} and trainer.precision is {full}: say one of them")
    if short and not typed_full:
        trainer.precision = resolve_precision(short, device)
        if short == AUTO:
            trainer.precision, reason = _fastest(cli.model_name, device)
            cli.notices.append(f"precision auto is {trainer.precision}: {reason}")
    elif not full and cli.verb == "fit":
        cli.notices += _hint(cli.model_name, device)
    cli.config.precision = None  # a run's config.yaml has the trainer's
    check_precision(str(trainer.precision or "32-true"), device)
    _use_tensor_cores(cli, device)
    return device


def _fastest(model: str, device: str) -> tuple[str, str]:
    """What is fast on the device, and why; a model that was measured to gain nothing from bfloat16 goes without."""
    chosen, name = choose_precision(device), NAMES.get(device, device)
    if chosen == "32-true":
        return chosen, f"this {name} has no fast bfloat16"
    measured = _measured(model) if device == "cpu" else {}
    if measured and max(measured.values()) <= 1:
        return "32-true", f"bfloat16 was not faster (measured: {_figures(measured)})"
    return chosen, f"this {name} computes in bfloat16"


def _hint(model: str, device: str) -> list[str]:
    """That another precision is likely faster, and what it gained where it was measured."""
    faster = choose_precision(device)
    measured = _measured(model) if device == "cpu" else {}
    if faster == "32-true" or (measured and max(measured.values()) < WORTH_SAYING):
        return []
    how = f"is likely faster (measured: {_figures(measured)})" if measured else "may be faster"
    return [f"this {NAMES.get(device, device)} computes in bfloat16: --precision auto ({faster}) {how}"]


def _figures(measured: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {ratio:.2g} x" for name, ratio in measured.items())


def _measured(model: str) -> dict[str, float]:
    """How many times faster bf16-mixed was on such a CPU, for this model or else for others of its family."""
    file = resources.files("zoo.benchmarks") / "results" / "speed" / f"precision-{bfloat16_instructions()}.json"
    if not file.is_file():
        return {}
    content: dict[str, Any] = json.loads(file.read_text())["families"]
    found = {entry["model"]: float(entry["ratio"]) for entry in content.values()}
    if model in found or model not in MODELS:
        return {name: ratio for name, ratio in found.items() if name == model}
    family = model_info(model).family_name
    return {name: ratio for name, ratio in found.items() if model_info(name).family_name == family}


def _use_tensor_cores(cli: "ZooCLI", device: str) -> None:
    """Let NVIDIA's newer GPUs multiply 32-bit matrices in TF32, as they do convolutions anyway."""
    is_single = str(cli.config.trainer.precision or "32") in ("32", "32-true")
    if device == "cuda" and is_single and torch.cuda.get_device_capability() >= (8, 0):
        torch.set_float32_matmul_precision("high")
        cli.notices.append("matrix products of 32-bit numbers are computed in TF32, which has a mantissa of 10 bits")
