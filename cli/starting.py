"""What a run starts from: the trained weights that the user asked for, and what fine-tuning them needs."""

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from zoo.cli import front
from zoo.cli.errors import UserError
from zoo.cli.resuming import newest_checkpoint
from zoo.cli.trained import OF_PREPROCESSING, shortened
from zoo.finetune import Finetune
from zoo.pretrained import Pretrained, apply_pretrained, find_pretrained

if TYPE_CHECKING:
    from zoo.cli.app import ZooCLI


def prepare_finetune(cli: "ZooCLI") -> None:
    """Set what fine-tuning needs of the other options."""
    finetune, trainer = cli.finetune, cli.config.trainer
    cli.derived = {key: cli.config.get(key) for key in ("data.init_args.augment", "trainer.strategy")}
    if finetune.method == "linear" and cli.said.get("data.init_args.augment") is None:
        # The same images every epoch: their features are computed once.
        cli.config["data.init_args.augment"] = "none"
        cli.notices.append("finetune linear: training images are not augmented, unless --data.augment says how")
    has_several = trainer.devices not in (1, "1") and (trainer.devices != "auto" or torch.accelerator.is_available())
    if finetune.changes and has_several and str(trainer.strategy) in ("auto", "ddp"):
        # Plain ddp waits for the gradient of every parameter that was not frozen at the start.
        trainer.strategy = "ddp_find_unused_parameters_true"


def read_finetune(cli: "ZooCLI") -> Finetune:
    """What the user says about fine-tuning; in a configuration file, a word is the method."""
    said = cli.config.get("finetune")
    if isinstance(said, str):
        return Finetune(said)
    if said is not None and not hasattr(said, "as_dict"):
        raise UserError(f"finetune is {said}: it must be a method, or fields such as method: linear")
    return Finetune() if said is None else Finetune(**said.as_dict())


def find_weights(cli: "ZooCLI") -> Pretrained | None:
    """Read the weights; the network is built as they need it where the user does not say otherwise."""
    if cli.config.get("pretrained") == "":
        raise UserError("pretrained is empty: true, a name from zoo info, a file, or hf-hub:user/name")
    if cli.verb == "fit" and cli.config.resume and (found := _of_the_run(cli)):
        return found
    if not cli.config.get("pretrained"):
        return None
    said, arguments = cli.said.get("model.init_args"), cli.config.model.init_args
    typed = {} if said is None else said.as_dict()
    found = find_pretrained(cli.model_name, cli.config.pretrained, typed)
    for name, value in found.arguments.items():
        if name not in typed and name in arguments:
            arguments[name] = value
    return found


def _config_of(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' is damaged: {' '.join(str(error).split())}") from error
    return config if isinstance(config, dict) else {}


def _of_the_run(cli: "ZooCLI") -> Pretrained | None:
    """What a run that is resumed started from, without its weights: the checkpoint has later ones.

    Only `finetune.l2sp` needs them again, as what weights are pulled back to.
    """
    folder = Path(cli.config.run_dir or front.config_folder(cli.arguments) or "")
    if not (folder / "config.yaml").is_file():
        return None  # said later, with the rest of what is wrong with the folder
    before = _config_of(folder).get("pretrained")
    if str(before) != str(cli.config.get("pretrained")):
        raise UserError(f"pretrained was {before} and is {cli.config.get('pretrained')}: it cannot change within a run")
    if not before or cli.finetune.l2sp:
        return None
    facts = newest_checkpoint(folder)[1]["zoo"]
    return Pretrained(facts["pretrained"], {}, preprocessing=facts["data"].get("preprocessing", {}))


def prepare_images(cli: "ZooCLI", found: Pretrained) -> None:
    """Let the data module prepare images as the weights expect them, except for what the user sets."""
    if found.preprocessing:
        typed = [name for name in OF_PREPROCESSING if cli.said.get(f"data.init_args.{name}") is not None]
        if cli.said.get("model.init_args.image_size") not in (None, found.preprocessing["image_size"]):
            typed.append("image_size")
        cli.datamodule.use_preprocessing(found.preprocessing, keep=typed)


def load_weights(cli: "ZooCLI", found: Pretrained) -> list[str]:
    """Load the weights, the last layer only if it knows the same classes; what became of them, in lines."""
    if not found.tensors:  # of a run that is resumed: they come with its checkpoint
        cli.model.pretrained, cli.model.loaded = found.label, tuple(cli.model.state_dict())
        return []
    known, data = list(found.class_names), cli.datamodule
    is_same = not known or known == data.class_names
    report = apply_pretrained(cli.model, found, keep_output=is_same)
    init, usual = front.option(cli.arguments, "--model.init"), signature(type(cli.model)).parameters.get("init")
    if init and usual and init != usual.default and not report.skipped:
        raise UserError(f"model.init is {init}, but all weights come from {found.label}: leave one of them out")
    if cli.verb != "fit" and not is_same:
        what = f"trained on the classes {shortened(known)}, but {data.spec.name} has {shortened(data.class_names)}"
        raise UserError(f"{found.label}: {what}")
    if cli.verb != "fit" and report.skipped:
        raise UserError(f"{found.label} do not fill this {cli.model_name}: {report.lines()[1]}")
    return [f"{cli.model_name} from {found.label}: {line}" for line in report.lines()]
