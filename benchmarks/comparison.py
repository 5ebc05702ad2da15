"""Run folders of `zoo fit` as results, so that one's own runs have the same table."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zoo.benchmarks.ablation import OWN_SIZE
from zoo.benchmarks.networks import multiply_adds
from zoo.benchmarks.results import Result
from zoo.benchmarks.settings import RESULTS_VERSION
from zoo.benchmarks.suite import Row, Size, Suite

STATUSES = {"finished": "finished", "diverged": "diverged"}


def compare_runs(folders: Sequence[Path]) -> tuple[Suite, dict[str, list[Result]]]:
    """A suite with one row for each run, and the results; runs that differ in their seed alone share a row.

    Raises:
        ValueError: A folder holds no run, or two runs are the same.
    """
    runs = [(folder, read_run(folder)) for folder in folders]
    groups: dict[str, list[tuple[Path, Result]]] = {}
    for folder, result in runs:
        groups.setdefault(json.dumps(result["settings"], sort_keys=True), []).append((folder, result))
    rows, by_row = [], dict[str, list[Result]]()
    for members in groups.values():
        results = sorted((result for _, result in members), key=lambda result: int(result["seed"]))
        seeds = [result["seed"] for result in results]
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{' and '.join(str(folder) for folder, _ in members)} are runs of the same seed")
        name = str(members[0][0]) if len(members) == 1 else " ".join(str(folder) for folder, _ in members)
        rows.append(Row(name=name, label=_label(members[0][1], [group[0][1] for group in groups.values()], name)))
        by_row[name] = results
    suite = Suite(
        name="compare",
        title="Runs side by side",
        question="How do these runs differ?",
        metric="test error",
        rows=tuple(rows),
        sizes={OWN_SIZE: Size()},
        also=("training error", "validation error"),
    )
    return suite, by_row


def read_run(folder: Path) -> Result:
    """What a run folder says, in the form of a result.

    Raises:
        ValueError: It holds no run.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"'{folder}' holds no run.json: name run folders of zoo fit")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return _result(folder, record)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, csv.Error, yaml.YAMLError) as error:
        what = f"{type(error).__name__} {' '.join(str(error).split())}"
        raise ValueError(f"'{folder}' does not hold what zoo fit writes: {what}") from None


def _result(folder: Path, record: Mapping[str, Any]) -> Result:
    recipe = {name: value for name, value in record["recipe"].items() if name not in ("source", "name")}
    arguments = dict(record["arguments"])
    curve = _curve(folder / "metrics.csv")
    metrics = {name: value for row in curve[-1:] for name, value in row.items() if "/" in name}
    metrics |= {name: float(value) for name, value in (record.get("metrics") or {}).items()}
    return {
        "version": RESULTS_VERSION,
        "suite": "compare",
        "size": OWN_SIZE,
        "row": str(folder),
        "seed": record["seed"],
        "settings": {
            "model": record["model"],
            "model_arguments": arguments,
            "data": record["data"],
            "data_options": _data_options(folder),
            "images": record["images"],
            "recipe": recipe,
            "finetune": record.get("finetune", {}),
            "protocol": {"precision": record["precision"], "pretrained": record.get("pretrained", "")},
        },
        "status": STATUSES.get(record["status"], "failed"),
        "error": "" if record["status"] in STATUSES else f"the run is {record['status']}",
        "data": {
            "name": record["data"],
            "source": "",
            "fingerprint": "",
            "images": record["images"],
            "num_classes": arguments["num_classes"],
            "image_size": arguments["image_size"],
        },
        "parameters": record["parameters"],
        "macs": multiply_adds(record["model"], json.dumps(arguments)),
        "seconds": record.get("seconds_training", record.get("seconds", 0.0)),
        "steps": record.get("steps", 0),
        "metrics": metrics,
        "curve": curve,
        "extra": {},
        "environment": {name: record.get(name) for name in ("versions", "hardware", "git_commit")},
    }


def _data_options(folder: Path) -> dict[str, Any]:
    """What config.yaml tells the data module, but for its place and what the recipe and the seed decide."""
    import yaml

    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    options = (config.get("data") or {}).get("init_args") or {}
    others = ("root", "download", "seed", "batch_size", "num_workers")
    return {name: value for name, value in options.items() if name not in others and value is not None}


def _curve(path: Path) -> list[dict[str, Any]]:
    """The epochs of a metrics.csv."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return [row for row in rows if "train/loss" in row]


def _label(result: Result, all_results: Sequence[Result], name: str) -> str:
    """The model, and the settings in which the runs differ; the folder's name if there are none."""
    flat = [_flat(one["settings"]) for one in all_results]
    own = _flat(result["settings"])
    differing = [key for key in own if len({json.dumps(other.get(key)) for other in flat}) > 1 and key != "model"]
    shown = [f"{key.rpartition('.')[2]} {own[key]}" for key in differing[:4]]
    return ", ".join([str(result["settings"]["model"]), *shown]) if len(all_results) > 1 else name


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
