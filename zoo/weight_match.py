"""Fitting the tensors of a file to a model: which goes where, what is adapted, what is left out and why."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

WRAPPERS = ("model.", "module.", "network.", "net.", "backbone.")
"""What stands before the names of a network that is part of another: of a LightningModule or a training program's own
class, of DistributedDataParallel, of our `timm`. torch.compile's `_orig_mod.` can stand anywhere."""

_COUNTER = "num_batches_tracked"
"""Batch normalisation counts its batches since torch 0.4; files that are older have no such tensor."""
_SHOWN = 5
"""Names in a line of a report, and reasons in a report."""


@dataclass(frozen=True)
class Report:
    """What `fit_weights` did.

    Attributes:
        loaded: The model's tensors that were copied as they are.
        adapted: The model's tensors that were made to fit, each with what was done.
        skipped: The model's tensors that stay as they were, each with the reason.
        unused: The file's tensors that have no place in the model.
    """

    loaded: tuple[str, ...]
    adapted: tuple[tuple[str, str], ...]
    skipped: tuple[tuple[str, str], ...]
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report for a reader: a few lines, however many tensors there are."""
        count = len(self.loaded) + len(self.adapted)
        lines = [f"{count} of {count + len(self.skipped)} tensors loaded"]
        lines += [f"{name}: {what}" for name, what in self.adapted]
        reasons: dict[str, list[str]] = {}
        for name, why in self.skipped:
            reasons.setdefault(why, []).append(name)
        lines += [f"not loaded: {_some(names)} ({why})" for why, names in [*reasons.items()][:_SHOWN]]
        if more := sum(map(len, [*reasons.values()][_SHOWN:])):
            lines.append(f"not loaded: {more} more tensors")
        return [*lines, f"not in the model: {_some(self.unused)}"] if self.unused else lines


def _some(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:_SHOWN]) + (f", ... ({len(known)})" if len(known) > _SHOWN else "")


def fit_weights(
    model: nn.Module, tensors: Mapping[str, Tensor], *, keep_output: bool = True, strict: bool = False
) -> Report:
    """Copy what fits of a file's tensors into a model, in place; numbers are converted to the model's precision.

    - Names: wrappers' prefixes (`WRAPPERS`, `_orig_mod.`) are taken off or put on where that makes more tensors fit.
    - The output layer, `model.output`, is left as it is where the number of classes differs.
    - The first convolution is adapted to another number of channels, see `adapt_channels`.
    - A tensor of another shape is left out, and what belongs to the same layer with it.

    Args:
        model: On any device; an `ImageClassifier` or any other network.
        tensors: Tensors by name, such as `read_weights(path).tensors`.
        keep_output: Whether the output layer is loaded where it fits.
        strict: Whether all but the output layer and the first convolution's channels must fit, one to one.

    Raises:
        ValueError: If nothing fits, if a tensor that fits is not finite, or if `strict` and something does not fit. The
            model is then as it was.
    """
    targets = {_bare(name): tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    places = match_names(tensors, targets)
    found = {name: tensors[place] for name, place in places.items()}
    output = _output_names(model, targets)
    adapted = _adapt_first_convolution(model, found, targets)
    skipped = _misfits(found, targets, output, keep_output=keep_output)
    fitting = {name: tensor.to(targets[name].dtype) for name, tensor in found.items() if name not in skipped}
    used = set(places.values())
    report = Report(
        loaded=tuple(name for name in fitting if name not in adapted),
        adapted=tuple((name, what) for name, what in adapted.items() if name in fitting),
        skipped=tuple(skipped.items()),
        unused=tuple(name for name in tensors if name not in used),
    )
    if not fitting.keys() - output and targets.keys() - output:
        raise ValueError(f"no tensor of the file fits the model: {_first(tensors)} there, {_first(targets)} here")
    if strict:
        _require_all(report, output)
    for name, tensor in fitting.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{places[name]} holds nan or infinity: the training diverged, or the file is damaged")
    with torch.no_grad():
        for name, tensor in fitting.items():
            targets[name].copy_(tensor)
    return report


def _first(tensors: Mapping[str, Tensor]) -> str:
    return next((f"{name} ({_shape(tensor)}) is the first" for name, tensor in tensors.items()), "nothing")


def _require_all(report: Report, output: set[str]) -> None:
    for name, why in report.skipped:
        if name not in output:
            raise ValueError(f"the file does not fit the model: {name} ({why})")
    if report.unused:
        raise ValueError(f"the file does not fit the model: {report.unused[0]} is not in the model")


# Names


def match_names(tensors: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, str]:
    """The file's name of each of the model's tensors that the file has.

    Of all ways to take one wrapper's prefix off the file's names and to put one of the model's on, the one with the
    most tensors of the right shape is taken; among equals the first, and no change is tried first. Names without the
    prefix stay.
    """
    ways = ((off, on) for off in _prefixes(tensors) for on in _prefixes(targets))
    candidates = (_rename(tensors, targets, off, on) for off, on in ways)

    def quality(places: dict[str, str]) -> tuple[int, int]:
        return sum(tensors[place].shape == targets[name].shape for name, place in places.items()), len(places)

    return max(candidates, key=quality)


def _rename(tensors: Iterable[str], targets: Iterable[str], off: str, on: str) -> dict[str, str]:
    """The file's names by the model's, with `off` replaced by `on`; a name that had the prefix goes before one without.

    The prefix can leave two names of the file equal: the first is taken.
    """
    places: dict[str, str] = {}
    for name in sorted(tensors, key=lambda name: not _bare(name).startswith(off)):
        bare = _bare(name)
        places.setdefault(on + bare.removeprefix(off) if bare.startswith(off) else bare, name)
    return {name: places[name] for name in targets if name in places}


def _prefixes(names: Iterable[str]) -> list[str]:
    """Nothing, and every chain of wrappers' prefixes that a name begins with."""
    found = {"": None}
    for name in names:
        rest = bare = _bare(name)
        while wrapper := next((wrapper for wrapper in WRAPPERS if rest.startswith(wrapper)), ""):
            rest = rest.removeprefix(wrapper)
            found[bare.removesuffix(rest)] = None
    return list(found)


def _bare(name: str) -> str:
    """A name without what torch.compile puts into it."""
    return re.sub(r"(^|(?<=\.))_orig_mod\.", "", name)


def _output_names(model: nn.Module, targets: Iterable[str]) -> set[str]:
    """The tensors of the output layer or, of a distilled network, layers."""
    output = getattr(model, "output", None)
    heads = [*output] if isinstance(output, nn.ModuleList) else [output]
    layers = [
        f"{_bare(name)}."
        for name, layer in model.named_modules(remove_duplicate=False)
        if any(layer is head for head in heads)
    ]
    return {name for name in targets if name.startswith(tuple(layers))}


# Shapes


def adapt_channels(kernels: Tensor, channels: int) -> Tensor:
    """Kernels of a first convolution for another number of channels, with the same response to a grey picture.

    To fewer channels, kernels are summed: 3 to 1 is the sum of all, 3 to 2 the first plus the third, and the second. To
    more channels, they repeat in turn, each divided by the number of its copies: 1 to 3 is a third, three times. So the
    sum over channels, all that a picture with equal channels sees, never changes, and the layers behind get what they
    were trained on.

    Args:
        kernels: `(outputs, inputs, height, width)`, at least one input.
        channels: The number of channels wanted.

    Returns:
        `(outputs, channels, height, width)`.
    """
    inputs = kernels.shape[1]
    period = min(inputs, channels)
    turns, sources = torch.arange(channels) % period, torch.arange(inputs) % period
    shares = (turns[:, None] == sources).to(kernels)
    shares /= shares.sum(dim=0)
    return torch.einsum("ci,oihw->ochw", shares, kernels)


def _adapt_first_convolution(
    model: nn.Module, found: dict[str, Tensor], targets: Mapping[str, Tensor]
) -> dict[str, str]:
    """Make the first convolution in `found` fit if nothing but its channels differs; what was done, by name."""
    name, first = next(
        ((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)), ("", None)
    )
    name = f"{_bare(name)}.weight"
    if first is None or first.groups != 1 or name not in found:
        return {}
    theirs, ours = found[name].shape, targets[name].shape
    if len(theirs) != 4 or not theirs[1] or theirs[1] == ours[1] or (theirs[0], theirs[2:]) != (ours[0], ours[2:]):
        return {}
    found[name] = adapt_channels(found[name].to(targets[name].dtype), ours[1])
    channels = f"{theirs[1]} channel{'s' if theirs[1] > 1 else ''}"
    return {name: f"{channels} {'summed to' if ours[1] < theirs[1] else 'spread over'} {ours[1]}"}


def _misfits(
    found: Mapping[str, Tensor], targets: Mapping[str, Tensor], output: set[str], *, keep_output: bool
) -> dict[str, str]:
    """The model's tensors that stay as they are, each with the reason."""
    reasons: dict[str, str] = {}
    for name, target in targets.items():
        if name in output and not keep_output:
            reasons[name] = "new, for other classes"
        elif name not in found:
            if not name.endswith(_COUNTER):
                reasons[name] = "not in the file"
        elif found[name].shape != target.shape:
            reasons[name] = _difference(found[name], target, is_output=name in output)
    for name in found.keys() - reasons.keys():
        if f"{name.rpartition('.')[0]}.weight" in reasons:
            reasons[name] = "the weight of its layer is not loaded"
    return {name: reasons[name] for name in targets if name in reasons}


def _difference(found: Tensor, target: Tensor, *, is_output: bool) -> str:
    if is_output and found.ndim == target.ndim and found.shape[0] != target.shape[0]:
        return f"{found.shape[0]} classes in the file, {target.shape[0]} here"
    return f"{_shape(found)} in the file, {_shape(target)} here"


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"
