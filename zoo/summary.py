"""The layer table of a model: output shapes, parameters, and multiply-adds as torch's flop counter finds them.

The tables at each paper's own input size are kept in `layer_tables.json`, so that they can be shown without torch.
`python -m zoo.summary` writes that file anew.
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLES = Path(__file__).parent / "layer_tables.json"
MOST_ROWS = 40
"""A table with more rows than this is drawn one level higher."""


@dataclass(frozen=True)
class LayerRow:
    """One line of a layer table, or `count` lines that are the same.

    Args:
        name: Name of the module; of the first one if there are several.
        kind: What it is.
        output: Shape of its output without the batch.
        parameters: Parameters of all `count` modules.
        macs: Multiply-adds of all `count` modules for one image, of convolutions and matrix products.
        count: How many such modules follow each other.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    macs: int
    count: int = 1


@dataclass(frozen=True)
class Summary:
    """The layer table of a model, with its totals."""

    parameters: int
    macs: int
    layers: tuple[LayerRow, ...]

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> "Summary":
        """The summary that `as_dict` turned into plain values."""
        rows = (LayerRow(name, kind, tuple(output), *numbers) for name, kind, output, *numbers in facts["layers"])
        return cls(facts["parameters"], facts["macs"], tuple(rows))

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "layers": [list(dataclasses.astuple(row)) for row in self.layers]}


def stored_summary(name: str) -> Summary:
    """The table of a registered model at its reference input size, without torch."""
    return Summary.from_dict(json.loads(TABLES.read_text())[name])


def summarize(name: str, **arguments: Any) -> Summary:
    """The table of the model that `create_model` builds from the same arguments; nothing is computed in earnest.

    Raises:
        ValueError: If an argument's value is not allowed.
    """
    import torch  # a second; the stored tables need none
    from torch.utils.flop_counter import FlopCounterMode

    from zoo.registry import model_class

    with torch.device("meta"), torch.no_grad():
        model = model_class(name)(**arguments).eval()  # `create_model` could be told to fetch weights
        shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        for module_name, module in model.named_modules():
            _record(module, module_name, shapes)
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, model.in_channels, model.image_size, model.image_size))
    flops = {key.partition(".")[2]: sum(ops.values()) for key, ops in counter.get_flop_counts().items()}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    inside = 1 if hasattr(model, "backbone") else 0  # timm's network is one module
    for depth in (2 + inside, 1 + inside):
        rows = [*_merged(_rows(model, shapes, flops, depth))]
        if len(rows) <= MOST_ROWS:
            break
    if rest := parameters - sum(row.parameters for row in rows):  # such as the position embedding of a transformer
        rows.append(LayerRow("other", "Parameter", (), rest, 0))
    return Summary(parameters, counter.get_total_flops() // 2, tuple(rows))


def _record(module: Any, name: str, shapes: dict[str, Any]) -> None:
    """Let a module note its input's and output's shape, in the order of the calls: a part comes after its whole."""

    def before(_: Any, inputs: Any) -> None:
        shapes.setdefault(name, ((), ()))

    def after(_: Any, inputs: Any, output: Any) -> None:
        if inputs and hasattr(inputs[0], "shape") and hasattr(output, "shape"):
            shapes[name] = (tuple(inputs[0].shape), tuple(output.shape))

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)


def _rows(model: Any, shapes: dict[str, Any], flops: dict[str, int], depth: int) -> Iterator[LayerRow]:
    """The modules at this depth, and those above it whose parts have no parameters, in the order of their calls."""
    modules, unit = dict(model.named_modules()), "(none yet)"
    for name in shapes:
        module = modules[name]
        level = name.count(".") + 1
        if not name or level > depth or name.startswith(unit):
            continue
        if level < depth and any(sum(1 for _ in child.parameters()) for child in module.children()):
            continue
        unit = f"{name}."
        before, after = shapes[name]
        parameters = sum(parameter.numel() for parameter in module.parameters())
        if parameters or before != after or type(module).__name__ == "LocalResponseNorm":
            yield LayerRow(name, _kind(module), after[1:], parameters, flops.get(name, 0) // 2)


def _kind(module: Any) -> str:
    """The class of a module; of a convolution or pooling also its size and stride."""
    kind, size = type(module).__name__, getattr(module, "kernel_size", None)
    if size is None:
        return kind
    height, width = size if isinstance(size, tuple) else (size, size)
    stride = module.stride[0] if isinstance(module.stride, tuple) else module.stride
    return f"{kind} {height}x{width}" + (f" / {stride}" if stride != 1 else "")


def _merged(rows: Iterator[LayerRow]) -> Iterator[LayerRow]:
    """Neighbours that differ in nothing but their names become one row."""
    last: LayerRow | None = None
    for row in rows:
        if last and (row.kind, row.output) == (last.kind, last.output) and _same_cost(last, row):
            total = (last.parameters + row.parameters, last.macs + row.macs)
            last = LayerRow(last.name, last.kind, last.output, *total, last.count + 1)
        else:
            if last:
                yield last
            last = row
    if last:
        yield last


def _same_cost(several: LayerRow, one: LayerRow) -> bool:
    cost = (one.parameters * several.count, one.macs * several.count)
    return cost == (several.parameters, several.macs)


def write_tables() -> None:
    """Write the stored tables of all registered models."""
    from zoo.registry import MODELS

    tables = {name: summarize(name, **dataclasses.asdict(info.reference)).as_dict() for name, info in MODELS.items()}
    lines = [f"{json.dumps(name)}: {json.dumps(table)}" for name, table in tables.items()]
    TABLES.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write_tables()
