"""What `zoo info` shows of a model: the facts, its layers as a table, several models side by side."""

from rich.table import Table

from zoo.recipe import Recipe
from zoo.registry import ModelInfo
from zoo.summary import LayerRow, Summary
from zoo.weights import Weights


def describe(info: ModelInfo, summary: Summary) -> list[str | Table]:
    """The facts about one model: text, its layer table, text."""
    paper = info.paper
    above = [
        f"{info.name}: {info.summary}",
        "",
        f"  paper       {paper.authors}, {paper.title}, {paper.venue} {paper.year}",
        f"              {paper.url}",
        f"  parameters  {summary.parameters:,} ({info.reference})",
        f"  MACs        {summary.macs:,} for one image: convolutions and matrix products",
        "",
    ]
    below = ["", "Published results", *_published(info), "", "Deviations from the paper"]
    for deviation in info.deviations:
        below += [f"  {deviation.what}: {deviation.why}"]
        below += [f"    removed by {deviation.flag}"] if deviation.flag else []
    below += ["", "Notes", *(f"  {note}" for note in info.notes)] if info.notes else []
    if known := info.weights:
        below += ["", "Trained weights", *(line for weights in known for line in _weights(weights, known))]
    below += ["", "Recipes"]
    for name, recipe in info.recipes.items():
        flag = "" if name == "default" else f" (--recipe {name})"
        below += [f"  {name}{flag}: {_short(recipe)}", f"    {recipe.source}"]
    below += [
        "",
        f"Try it: zoo fit --model {info.name}",
        f"Its options: zoo fit --model.help {info.name.split('/')[0]}",
    ]
    return ["\n".join(above), layer_table(summary), "\n".join(below)]


def _published(info: ModelInfo) -> list[str]:
    return [f"  {r.text} {r.unit}  {r.metric} ({r.source})" for r in info.published] or ["  none"]


def _weights(weights: Weights, among: list[Weights]) -> list[str]:
    """Their facts, with the flags that choose them where several weights of one model have the same name."""
    is_one_of_several = sum(other.name == weights.name for other in among) > 1
    needs = "".join(f" --model.{key} {value}" for key, value in weights.arguments.items() if is_one_of_several)
    return [
        f"  --model.pretrained {weights.name}{needs}: "
        + ", ".join(f"{what} {text}" for what, text in weights.results.items()),
        f"    trained on  {weights.data}",
        f"    with        {weights.recipe}",
        f"    measured    {weights.measured}",
        f"    file        {weights.size / 1e6:.2f} MB, {weights.where}, SHA-256 {weights.sha256}",
        f"    licence     {weights.licence}",
    ]


def _short(recipe: Recipe) -> str:
    loss = "" if recipe.loss == "cross_entropy" else f", loss {recipe.loss}"
    return (
        f"{recipe.optimizer}, rate {recipe.lr:g} ({recipe.schedule}), batch {recipe.batch_size}, "
        f"{recipe.epochs} epochs{loss}"
    )


def layer_table(summary: Summary) -> Table:
    """Name, kind, output shape, parameters and multiply-adds of each layer or block."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("  layer", "kind", "output", "parameters", "MACs"):
        right = heading in ("parameters", "MACs")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for row in summary.layers:
        kind = row.kind if row.count == 1 else f"{row.count} x {row.kind}"
        output = " x ".join(map(str, row.output))
        table.add_row(f"  {row.name}", kind, output, f"{row.parameters:,}", f"{row.macs:,}")
    table.add_row("  total", "", "", f"{summary.parameters:,}", f"{summary.macs:,}")
    return table


def beside(counted: list[tuple[ModelInfo, Summary]]) -> Table:
    """Several models in columns: facts, published results, deviations, recipes, layers."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("")
    for info, _ in counted:
        table.add_column(info.name, overflow="fold")

    def add(heading: str, cells: list[str]) -> None:
        table.add_row(heading, *cells)

    infos = [info for info, _ in counted]
    add("what", [info.summary for info in infos])
    add("paper", [f"{info.paper.authors} {info.year}" for info in infos])
    add("", [info.paper.url for info in infos])
    add("counted at", [str(info.reference) for info in infos])
    add("parameters", [f"{summary.parameters:,}" for _, summary in counted])
    add("MACs", [f"{summary.macs:,}" for _, summary in counted])
    add("recipe", [_short(info.recipe()) for info in infos])
    table.add_row()
    metrics = dict.fromkeys(result.metric for info in infos for result in info.published)
    for metric in metrics:
        add(metric, ["\n".join(f"{r.text} {r.unit}" for r in info.published if r.metric == metric) for info in infos])
    table.add_row()
    add(
        "deviations",
        ["\n".join(f"- {d.what}" + (f" ({d.flag})" if d.flag else "") for d in i.deviations) for i in infos],
    )
    table.add_row()
    add("layers", ["\n".join(_layer(row) for row in summary.layers) for _, summary in counted])
    return table


def _layer(row: LayerRow) -> str:
    times = f"{row.count} x " if row.count > 1 else ""
    return f"{times}{row.kind} -> {' x '.join(map(str, row.output))}"
