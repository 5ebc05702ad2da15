"""`Job`: one run of a suite as plain data, which any process on any machine with the same folders can do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.benchmarks.data import DataFacts
from zoo.benchmarks.settings import Settings


@dataclass(frozen=True)
class Job:
    """One (row, seed).

    Args:
        suite: Name of the suite.
        size: Name of the size.
        row: Name of the row.
        seed: Seed of the run.
        settings: `Settings.as_dict()`.
        data: What the data folder holds.
        root: The data folder.
        results: Folder of all results.
    """

    suite: str
    size: str
    row: str
    seed: int
    settings: dict[str, Any]
    data: DataFacts
    root: str | None
    results: Path

    @property
    def key(self) -> str:
        """Names the run: everything that its numbers depend on."""
        return Settings(**self.settings).key(self.seed, self.data.fingerprint)

    @property
    def path(self) -> Path:
        """The result file."""
        return self.results / self.suite / self.size / f"{self.row}.{self.seed}.{self.key}.json"

    @property
    def work(self) -> Path:
        """Where an unfinished run keeps its checkpoint and tells how far it is."""
        return self.results / self.suite / self.size / ".work" / f"{self.row}.{self.seed}.{self.key}"
