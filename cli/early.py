"""What can be said about weights on the network before seconds of imports: that it cannot be reached."""

from collections.abc import Sequence

from zoo.cli import front
from zoo.cli.errors import user_errors
from zoo.weights import weights_of

HUB = "hf-hub:"
"""What a name on the Hugging Face hub begins with."""


def check_network(arguments: Sequence[str], *, are_options: bool) -> None:
    """Fetch, or at least ask for, the weights on the network that a command will need.

    Args:
        arguments: The words after the verb, as they were typed.
        are_options: Whether they are options with values; else the first word may name a model.

    Raises:
        UserError: If the weights are not in a cache, and the network cannot be reached; said within 5 s.
    """
    words = front.plain(arguments) if are_options else list(arguments[:1])
    with user_errors(ValueError, OSError):
        for word in words:
            if (name := word.rpartition("=")[2]).startswith(HUB):
                from zoo.hub import hub_file

                repository, _, revision = name.removeprefix(HUB).partition("@")
                hub_file(repository, "model.safetensors", revision or None)
        _check_model(words)


def _check_model(words: list[str]) -> None:
    source, model = front.option(words, "--pretrained"), (front.option(words, "--model") or "").rpartition(".")[2]
    backbone = front.option(words, "--model.backbone")
    if source is None or source.startswith(HUB) or "/" in source:
        return
    if model == "timm" and backbone and source not in ("false", "null"):
        from zoo.hub import require_timm_file

        require_timm_file(backbone)
    known = weights_of(model)
    wanted = known[0].name if source == "true" and known else source
    fitting = [weights for weights in known if weights.name == wanted]
    if fitting and all(weights.entry for weights in fitting):
        from zoo.hub import require_web_file

        norm = front.option(words, "--model.norm")
        chosen = [weights for weights in fitting if norm in (None, weights.arguments["norm"])]
        require_web_file((chosen or fitting)[0].url)
