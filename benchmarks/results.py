"""Result files: one JSON for each (row, seed), written in one step; and which of them belong to a table."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.benchmarks.jobs import Job
from zoo.benchmarks.settings import RESULTS_VERSION, Settings
from zoo.benchmarks.suite import Suite
from zoo.weight_files import atomic_file

Result = dict[str, Any]
DONE = ("finished", "diverged")
"""What is not run again: a run that diverged diverges again, one that failed may not."""


@dataclass
class Results:
    """What a folder has of a suite at a size.

    Args:
        by_row: For each row of the suite, the results of its present settings, ordered by seed.
        other_settings: How many results are of other settings: of rows that have been changed or are gone.
        other_versions: How many are of another version of the results.
    """

    by_row: dict[str, list[Result]] = field(default_factory=dict)
    other_settings: int = 0
    other_versions: int = 0

    @property
    def count(self) -> int:
        """How many results there are."""
        return sum(map(len, self.by_row.values()))


def new_result(job: Job) -> Result:
    """The result of a job before anything is known but what is to be done."""
    settings = Settings(**job.settings)
    return {
        "version": RESULTS_VERSION,
        **{name: getattr(job, name) for name in ("suite", "size", "row", "seed", "key")},
        "digest": settings.digest(),
        "settings": job.settings,
        "status": "finished",
        "error": "",
        "data": {"name": settings.data, "source": job.data.source, "fingerprint": job.data.fingerprint},
        "parameters": None,
        "macs": None,
        "seconds": 0.0,
        "steps": 0,
        "metrics": {},
        "curve": [],
        "extra": {},
        "environment": {},
    }


def is_of(result: Result, settings: Settings) -> bool:
    """Whether a result is of these settings, in the values that were defaults then too."""
    if result["version"] != RESULTS_VERSION or result["digest"] != settings.digest():
        return False
    now = settings.as_dict()
    for name, part in result["settings"].items():
        known = part.items() if isinstance(part, dict) else ()
        if any(key in now[name] and now[name][key] != value for key, value in known):
            return False
    return True


def write_result(path: Path, result: Result) -> None:
    """Write a result so that a reader finds all of it or nothing."""
    # One line for each part: a curve is read as a whole, and the files stay small.
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(part, allow_nan=False)}" for name, part in result.items())
    with atomic_file(path) as file:
        file.write(f"{{\n{lines}\n}}\n".encode())


def read_result(path: Path) -> Result:
    """The result in a file.

    Raises:
        ValueError: It is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"'{path}' is not a result: {error}") from None
    needed = {"version", "row", "seed", "status", "settings", "digest", "data", "metrics", "seconds", "environment"}
    if not isinstance(content, dict) or not needed <= content.keys():
        raise ValueError(f"'{path}' is not a result of zoo benchmark run")
    return content


def read_results(suite: Suite, size: str, folder: Path, rows: Iterable[str] | None = None) -> Results:
    """What a folder has of a suite; results of other settings and versions are counted and left out.

    Args:
        suite: The suite as it is now.
        size: smoke, cpu or paper.
        folder: Folder of all results.
        rows: Names of the rows; all if not given.

    Raises:
        ValueError: A file is no result, or results of one data set are of different images.
    """
    wanted = {row.name: row for row in suite.rows if rows is None or row.name in rows}
    settings = {name: suite.settings_of(row, size) for name, row in wanted.items() if not row.not_run}
    found = Results({name: [] for name in wanted})
    for path in sorted((folder / suite.name / size).glob("*.json")):
        result = read_result(path)
        if result["version"] != RESULTS_VERSION:
            found.other_versions += 1
        elif result["row"] in settings and is_of(result, settings[result["row"]]):
            found.by_row[result["row"]].append(result)
        elif rows is None or result["row"] in wanted:
            found.other_settings += 1
    for results in found.by_row.values():
        results.sort(key=lambda result: int(result["seed"]))
    _check_data(found, folder / suite.name / size)
    return found


def _check_data(found: Results, folder: Path) -> None:
    """Results of the same data set must be of the same images, or their table would compare nothing."""
    known: dict[tuple[str, str], Result] = {}
    for results in found.by_row.values():
        for result in results:
            data = result["data"]
            place = (data["name"], json.dumps(_own_options(result)))
            before = known.setdefault(place, result)
            if before["data"]["fingerprint"] != data["fingerprint"]:
                two = f"{_name(before)} and {_name(result)}"
                raise ValueError(
                    f"'{folder}' has results on different images of {data['name']}: {two}. "
                    "Keep them in different folders (--results DIR)"
                )


def _own_options(result: Result) -> list[Any]:
    """The options that make other images of the same data set."""
    options = result["settings"]["data_options"]
    return [options.get(name) for name in ("image_size", "num_samples", "num_classes", "in_channels", "split")]


def _name(result: Result) -> str:
    return f"{result['row']}, seed {result['seed']}"
