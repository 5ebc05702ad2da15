"""The figures of the long reliability runs: kept in `benchmarks/results/reliability`, shown in the README."""

import json
import time
from pathlib import Path

from tests.conftest import ROOT
from zoo.benchmarks.environment import environment

FOLDER = ROOT / "benchmarks" / "results" / "reliability"


def write_figures(name: str, figures: dict[str, int | float | str]) -> Path:
    """Keep what a long run counted, with the date, versions and hardware that it was counted on."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    content = {"name": name, "date": time.strftime("%Y-%m-%d"), "figures": figures, **environment()}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path
