"""`--hardware NAME`: the trainer's settings for a kind of machine, one YAML file each beside this module."""

import os
from pathlib import Path

FOLDER = Path(__file__).with_name("hardware")


def presets() -> list[str]:
    """The names of the kinds of machines."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def hardware_options(name: str) -> list[tuple[str, str]]:
    """The options that stand for a kind of machine, such as `("--trainer.accelerator", "gpu")`.

    A value `$NAME` is that variable of the environment; where it is not set, the option is left out.

    Args:
        name: One of `presets()`.
    """
    import yaml  # here: commands that name no hardware start without it

    settings = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    values = {key: os.path.expandvars(str(value)) for key, value in settings.items()}
    return [(f"--trainer.{key}", value) for key, value in values.items() if not value.startswith("$")]
