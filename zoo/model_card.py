"""The model card: the README of a published model, written from what the model and its run say about themselves."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.registry import MODELS
from zoo.weights import Weights, all_weights

OWN_LICENCE, TEST = "apache-2.0", "test set"
MOST_NAMES = 20
"""Of more classes, only so many are named; all are in config.json."""
_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&$])")  # what Markdown might take for more than text
_NAMES = ("classes", "class_subset")  # lists of class names, which may hold a slash
_PLACES = ("root", "file")  # always places on one machine
_RUN = ("seed", "epochs", "steps", "seconds", "precision", "devices", "started", "command")
_MACHINE = ("processor", "cores", "gpus")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def publishable(description: Mapping[str, Any]) -> dict[str, Any]:
    """What `ImageClassifier.description` says, without places on this machine and addresses, which may hold secrets.

    Args:
        description: Plain values; not changed.
    """
    data = dict(description.get("data", {}))
    if "args" in data:
        data["args"] = _without_places(data["args"])
    public = {**description, "args": _without_places(description["args"]), "data": data}
    started = str(description.get("pretrained", ""))
    if _is_place("pretrained", started):
        public["pretrained"] = re.split(r"[/\\]", started)[-1]
    return public


def _without_places(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key in _NAMES or not _is_place(key, value)}


def _is_place(key: str, value: Any) -> bool:
    if key in _PLACES:
        return True
    if isinstance(value, Mapping):
        return any(_is_place(name, part) for name, part in value.items())
    if isinstance(value, list | tuple):
        return any(_is_place("", part) for part in value)
    text = value if isinstance(value, str) else ""
    if text.startswith(("hf-hub:", "timm/")):
        return False
    is_on_hub = key == "path" and _REPOSITORY.fullmatch(text) is not None and not Path(text).exists()
    return not is_on_hub and (bool(re.search(r"[/\\]|^~", text)) or (bool(Path(text).suffix) and Path(text).is_file()))


def model_card(
    description: Mapping[str, Any],
    record: Mapping[str, Any] | None,
    repository: str | None,
    *,
    has_curves: bool = False,
) -> str:
    """The card of a model as Markdown with a YAML header. Every number in it comes from the arguments or the registry.

    Args:
        description: What `ImageClassifier.description` says; places on this machine are left out.
        record: What run.json says about the run that ended with these weights, if it is known.
        repository: Where the card will be published, user/name.
        has_curves: Whether curves.png lies beside it.
    """
    facts, run = publishable(description), record or {}
    results = [*_results(run)]
    parts = [
        f"---\n{_header(facts, results)}---",
        f"# {_title(facts)}",
        *_introduction(facts),
        "## The model",
        _table(("", ""), _model_rows(facts, run)),
        *_measured(results, run, has_curves=has_curves),
        "## Training",
        _table(("", ""), _training_rows(facts, run)),
        "## Use",
        _usage(facts, repository),
        *_deviations(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _header(facts: Mapping[str, Any], results: Sequence[tuple[str, float, int | None]]) -> str:
    import yaml

    header: dict[str, Any] = {
        "license": _licence(facts)[0],
        "library_name": "lightning-zoo",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "pytorch", "lightning", "lightning-zoo", facts["name"]],
    }
    tested = [value for where, value, _ in results if where == TEST]
    data = facts["data"].get("name")
    if tested and data:
        header["metrics"] = ["accuracy"]
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"name": data, "type": data, "split": "test"},
            "metrics": [{"type": "accuracy", "value": tested[0]}],
        }
        header["model-index"] = [{"name": facts["name"], "results": [result]}]
    text: str = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return text


def _licence(facts: Mapping[str, Any]) -> tuple[str, str]:
    """The licence as the hub spells it, and what else is to be said about it."""
    started, known = str(facts.get("pretrained", "")), _known(facts)
    terms = known.licence if known else ""
    if not started or terms.lower() == OWN_LICENCE:
        return OWN_LICENCE, ""
    return "other", f"It started from the weights {_text(started)}, whose terms apply" + (f": {terms}" if terms else "")


def _known(facts: Mapping[str, Any]) -> Weights | None:
    """What is known about the weights that it started from."""
    return next((known for known in all_weights() if f"{known.model}.{known.name}" == facts.get("pretrained")), None)


def _title(facts: Mapping[str, Any]) -> str:
    data = facts["data"].get("name")
    return f"{_text(facts['name'])} trained on {_text(data)}" if data else _text(facts["name"])


def _introduction(facts: Mapping[str, Any]) -> Iterator[str]:
    info = MODELS.get(facts["name"])
    if info is not None:
        paper = info.paper
        yield f"{_text(info.summary[:1].upper() + info.summary[1:])}."
        yield f"Paper: {_text(paper.authors)}, [{_text(paper.title)}]({paper.url}), {_text(paper.venue)} {paper.year}."
    terms = _licence(facts)[1]
    if terms:
        yield f"{terms}."


def _model_rows(facts: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "made with", f"lightning-zoo {facts['version']}"
    if "parameters" in run:
        yield "parameters", f"{run['parameters']:,}"
    for key, value in facts["args"].items():
        yield key, _shown(value)
    for key, value in facts["data"].get("preprocessing", {}).items():
        yield f"images: {key}", _shown(value)
    names = facts["data"].get("class_names") or []
    if names:
        more = f", ... ({len(names)}, all in config.json)" if len(names) > MOST_NAMES else ""
        yield "class names", ", ".join(_text(name) for name in names[:MOST_NAMES]) + more


def _results(run: Mapping[str, Any]) -> Iterator[tuple[str, float, int | None]]:
    """What was measured: where, the accuracy as a fraction, on how many images."""
    images, metrics = run.get("images", {}), run.get("metrics", {})
    values = {TEST: (metrics.get("test/acc"), "test"), "validation split": (run.get("best_val_acc"), "val")}
    for where, (value, split) in values.items():
        if value is not None:
            count = images.get(split)
            yield where, round(round(value * count) / count if count else value, 6), count


def _measured(
    results: Sequence[tuple[str, float, int | None]], run: Mapping[str, Any], *, has_curves: bool
) -> Iterator[str]:
    if results:
        rows = ((where, f"{100 * value:.2f} %", f"{count:,}" if count else "") for where, value, count in results)
        yield "## Results"
        yield _table(("measured on", "accuracy", "images"), rows)
        if len(results) > 1:
            yield "The epoch was chosen by the validation split; the test set was used once, at the end."
    if has_curves:
        yield "![loss and accuracy by epoch](curves.png)"


def _training_rows(facts: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if facts.get("pretrained"):
        yield "started from", _text(facts["pretrained"])
    if not facts["data"].get("args"):  # not trained since: what is to be said is what is known about those weights
        known = _known(facts)
        told = (
            {"data": known.data, "recipe": known.recipe, **known.results, "measured": known.measured} if known else {}
        )
        yield from ((key, _text(value)) for key, value in told.items())
        return
    for key, value in facts["data"].get("args", {}).items():
        if key != "classes":  # named above
            yield f"data: {key}", _shown(value)
    for split, count in run.get("images", {}).items():
        yield f"images: {split}", f"{count:,}"
    for key, value in facts["recipe"].items():
        yield f"recipe: {key}", _shown(value)
    if facts.get("pretrained"):
        for key, value in facts.get("finetune", {}).items():
            yield f"finetune: {key}", _shown(value)
    hardware = {key: value for key, value in run.get("hardware", {}).items() if key in _MACHINE and value}
    course = {key: run[key] for key in _RUN if key in run and not _is_place(key, run[key])}
    if "earlier" in run:  # the time is that of the last part only
        course.pop("seconds", None)
    for key, value in {**course, **hardware, **run.get("versions", {})}.items():
        yield key, _shown(value)


def _usage(facts: Mapping[str, Any], repository: str | None) -> str:
    where = f"hf-hub:{repository}" if repository else "model.safetensors"
    backbone = facts["args"].get("backbone", "")
    model = f"timm --model.backbone {backbone}" if backbone else facts["name"]
    return (
        f'```python\nimport zoo\n\nmodel = zoo.load("{where}")  # class_names, preprocessing; logits of images\n```\n\n'
        "```\n"
        "pip install lightning-zoo\n"
        f"zoo predict --ckpt_path {where} photo.png folder/\n"
        f"zoo fit --model {model} --model.pretrained {where} --data folder --data.root DIR\n"
        "```"
    )


def _deviations(facts: Mapping[str, Any]) -> Iterator[str]:
    info = MODELS.get(facts["name"])
    if info is not None and info.deviations:
        yield "## Deviations from the paper"
        yield "\n".join(
            f"- {_text(each.what)}: {_text(each.why)}" + (f" (removed by `{each.flag}`)" if each.flag else "")
            for each in info.deviations
        )


def _table(heading: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: Any) -> str:
    """A value of a setting in a table's cell."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    """A text on one line in which Markdown and HTML find nothing to interpret."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())
    return _SPECIAL.sub(r"\\\1", line)
