"""What a run starts from: the trained weights that the user asked for, and what fine-tuning them needs."""

from typing import TYPE_CHECKING

import torch

from zoo.cli.errors import UserError
from zoo.cli.trained import shortened
from zoo.pretrained import Pretrained, apply_pretrained, find_pretrained

if TYPE_CHECKING:
    from zoo.cli.app import ZooCLI

OF_PREPROCESSING = ("image_size", "normalize", "crop", "interpolation", "permute_pixels")
"""Options of the data that follow the weights unless the user says something else."""


def prepare_finetune(cli: "ZooCLI") -> None:
    """Set what fine-tuning needs of the other options."""
    finetune, trainer = cli.finetune, cli.config.trainer
    if finetune.method == "linear" and cli.said.get("data.init_args.augment") is None:
        # The same images every epoch: their features are computed once.
        cli.config["data.init_args.augment"] = "none"
        cli.notices.append("finetune linear: training images are not augmented, unless --data.augment says how")
    has_several = trainer.devices not in (1, "1") and (trainer.devices != "auto" or torch.accelerator.is_available())
    if finetune.changes and has_several and str(trainer.strategy) in ("auto", "ddp"):
        # Plain ddp waits for the gradient of every parameter that was not frozen at the start.
        trainer.strategy = "ddp_find_unused_parameters_true"


def find_weights(cli: "ZooCLI") -> Pretrained | None:
    """Read the weights; the network is built as they need it where the user does not say otherwise."""
    if not cli.config.get("pretrained"):
        return None
    said, arguments = cli.said.get("model.init_args"), cli.config.model.init_args
    typed = {} if said is None else said.as_dict()
    found = find_pretrained(cli.model_name, cli.config.pretrained, typed)
    for name, value in found.arguments.items():
        if name not in typed and name in arguments:
            arguments[name] = value
    return found


def prepare_images(cli: "ZooCLI", found: Pretrained) -> None:
    """Let the data module prepare images as the weights expect them, except for what the user sets."""
    if found.preprocessing:
        typed = [name for name in OF_PREPROCESSING if cli.said.get(f"data.init_args.{name}") is not None]
        if cli.said.get("model.init_args.image_size") not in (None, found.preprocessing["image_size"]):
            typed.append("image_size")
        cli.datamodule.use_preprocessing(found.preprocessing, keep=typed)


def load_weights(cli: "ZooCLI", found: Pretrained) -> list[str]:
    """Load the weights, the last layer only if it knows the same classes; what became of them, in lines."""
    known, data = list(found.class_names), cli.datamodule
    is_same = not known or known == data.class_names
    report = apply_pretrained(cli.model, found, keep_output=is_same)
    if cli.verb != "fit" and (not is_same or report.skipped):
        what = f"trained on the classes {shortened(known)}, but {data.spec.name} has {shortened(data.class_names)}"
        raise UserError(f"{found.label}: {what}")
    return [f"{cli.model_name} from {found.label}: {line}" for line in report.lines()]
