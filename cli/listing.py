"""`zoo list` and `zoo info`: what is known about the models, without importing torch."""

from rich.console import Console
from rich.table import Table

from zoo.cli.errors import UserError
from zoo.cli.front import check_choice
from zoo.registry import MODELS, ModelInfo, list_models, model_info

LIST_HELP = "usage: zoo list [PATTERN]\n\nThe models whose names match a pattern such as 'vgg*'; without one, all."
INFO_HELP = "usage: zoo info NAME...\n\nPaper, parameters, recipes, published results and deviations from the paper."


def run(verb: str, words: list[str]) -> int:
    """Print the list, or the facts about each named model; the exit status."""
    if {"-h", "--help"} & set(words):
        print(LIST_HELP if verb == "list" else INFO_HELP)
        return 0
    if option := next((word for word in words if word.startswith("-")), None):
        raise UserError(f"zoo {verb} has no option {option}: zoo {verb} --help")
    return _list(words) if verb == "list" else _info(words)


def _list(patterns: list[str]) -> int:
    names = [name for pattern in patterns or ["*"] for name in list_models(pattern)]
    if not names:
        raise UserError(f"no model matches '{' '.join(patterns)}'. Known: {', '.join(MODELS)}.")
    table = Table(box=None, pad_edge=False)
    for heading, justify in (("name", "left"), ("parameters", "right"), ("counted at", "left"), ("paper", "left")):
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # literals, in a tuple
    for info in map(model_info, dict.fromkeys(names)):
        table.add_row(info.name, f"{info.parameters:,}", str(info.reference), f"{info.paper.authors} {info.year}")
    _print(table)
    return 0


def _info(names: list[str]) -> int:
    if not names:
        raise UserError(f"zoo info needs a name. Known: {', '.join(MODELS)}.")
    for name in names:
        check_choice("model", name, MODELS)
    for name in names:
        _print(_describe(model_info(name)))
    return 0


def _describe(info: ModelInfo) -> str:
    paper = info.paper
    lines = [
        f"{info.name}: {info.summary}",
        "",
        f"  paper       {paper.authors}, {paper.title}, {paper.venue} {paper.year}",
        f"              {paper.url}",
        f"  parameters  {info.parameters:,} ({info.reference})",
        "",
        "Published results",
        *(f"  {result.value:g} {result.unit}  {result.metric} ({result.source})" for result in info.published),
        "",
        "Deviations from the paper",
    ]
    for deviation in info.deviations:
        lines += [f"  {deviation.what}: {deviation.why}"]
        lines += [f"    removed by {deviation.flag}"] if deviation.flag else []
    lines += ["", "Recipes"]
    for name, recipe in info.recipes.items():
        flag = "" if name == "default" else f" (--recipe {name})"
        lines.append(
            f"  {name}{flag}: {recipe.optimizer}, rate {recipe.lr:g} ({recipe.schedule}), "
            f"batch {recipe.batch_size}, {recipe.epochs} epochs"
        )
        lines.append(f"    {recipe.source}")
    lines += ["", f"Try it: zoo fit --model {info.name}", f"Its options: zoo fit --model.help {info.name}"]
    return "\n".join(lines)


def _print(content: Table | str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 200  # a pipe has no width: nothing is cut
    console.print(content, markup=False) if isinstance(content, str) else console.print(content)
