"""What can be said about weights on the network before seconds of imports: that it cannot be reached."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from zoo.cli import front
from zoo.cli.errors import user_errors
from zoo.weights import HUB, SUFFIXES, is_listed, weights_of

FALSE = ("false", "null", "none", "no", "")
DEFAULT_BACKBONE = "mobilenetv2_100"
"""Of the model timm, which cannot be asked before torch is imported; a test compares."""


def check_network(arguments: Sequence[str], *, are_options: bool) -> None:
    """Fetch, or at least ask for, the weights on the network that a command will need.

    Args:
        arguments: The words after the verb, as they were typed.
        are_options: Whether they are options with values; else the first word may name a model.

    Raises:
        UserError: If the weights are not in a cache, and the network cannot be reached; said within 5 s.
    """
    words = front.plain(arguments) if are_options else _models(arguments)
    with user_errors(ValueError, OSError):
        for word in words:
            if (name := word.rpartition("=")[2]).startswith(HUB):
                from zoo.hub import hub_file

                repository, _, revision = name.removeprefix(HUB).partition("@")
                hub_file(repository, "model.safetensors", revision or None)
        _check_model(words)


def _models(arguments: Sequence[str]) -> list[str]:
    """The words of a command with options of its own that can name a model: the first, and what follows `--ckpt`."""
    options = ("--ckpt", "--ckpt_path")
    named = [word for before, word in pairwise(arguments) if before in options]
    return [*arguments[:1], *named, *(word for word in arguments if word.partition("=")[0] in options)]


def _check_model(words: list[str]) -> None:
    for word in words:
        if is_listed(name := word.rpartition("=")[2]) and not Path(name).exists():
            listed, _, weights = name.partition(".")
            _check_weights(listed, weights, norm=None)
    source, model = front.option(words, "--pretrained"), (front.option(words, "--model") or "").rpartition(".")[2]
    if source is None or source.lower() in FALSE or source.startswith(HUB):
        return
    if "/" in source or source.endswith(SUFFIXES) or Path(source).is_file():
        return
    if model == "timm":
        from zoo.hub import require_timm_file

        require_timm_file(front.option(words, "--model.backbone") or DEFAULT_BACKBONE)
    _check_weights(model, source, norm=front.option(words, "--model.norm"))


def _check_weights(model: str, name: str, norm: str | None) -> None:
    """Ask for torchvision's weights, if it is they."""
    known = weights_of(model)
    wanted = known[0].name if name.lower() == "true" and known else name
    fitting = [weights for weights in known if weights.name == wanted]
    if fitting and all(weights.entry for weights in fitting):
        from zoo.hub import require_web_file

        chosen = [weights for weights in fitting if norm in (None, weights.arguments["norm"])]
        require_web_file((chosen or fitting)[0].url)
