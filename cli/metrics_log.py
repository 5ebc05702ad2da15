"""metrics.csv: one row an epoch, one row for the test; goes on after a resume. And curves.png, drawn from it."""

import csv
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from zoo.cli.output import replacing

Row = dict[str, str | float | int]
FIRST_COLUMNS = ("epoch", "step", "train/loss", "train/acc", "val/loss", "val/acc", "test/loss", "test/acc")


class MetricsCSV(Logger):
    """Writes what Lightning logs to `<folder>/metrics.csv`.

    Lightning's own CSVLogger spreads an epoch over several rows and deletes the file when a run is resumed.

    Args:
        folder: Folder of the file; made when the first row is written.
        resume_step: Rows after this step are dropped first: the resumed run writes them again.
        last_row: What the last row before it must have: a run may be killed between its checkpoint and this file.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        resume_step: int | None = None,
        last_row: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self._path = Path(folder) / "metrics.csv"
        self._rows: list[Row] = []
        if resume_step is not None:
            self._rows = _rows_before(resume_step, self._path)
        if last_row is not None:
            is_there = bool(self._rows) and int(self._rows[-1]["step"]) == last_row["step"]
            self._rows.append({**last_row, **(self._rows.pop() if is_there else {})})
            self._write()

    @property
    def name(self) -> str:
        """Lightning's name for the kind of log."""
        return "csv"

    @property
    def version(self) -> str:
        """A run folder holds one version."""
        return ""

    @property
    def log_dir(self) -> str:
        """The folder of the file."""
        return str(self._path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run's config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add to the epoch's row, or start a new one if the row has these metrics already."""
        values: Row = {key: float(value) for key, value in metrics.items() if key != "epoch"}
        is_test = any(key.startswith("test/") for key in values)
        epoch = int(metrics.get("epoch", 0)) + (
            not is_test
        )  # people count epochs from 1; the test comes after the last
        last = self._rows[-1] if self._rows else {}
        if is_test or last.get("epoch") != epoch or values.keys() & last.keys():
            last = {"epoch": epoch}
            self._rows.append(last)
        last.update(values, step=max(int(last.get("step", 0)), step or 0))
        self._write()

    @rank_zero_only
    def _write(self) -> None:
        found = {key for row in self._rows for key in row}
        columns = [c for c in FIRST_COLUMNS if c in found] + sorted(found - set(FIRST_COLUMNS))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._path, newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self._rows)


class Events(TensorBoardLogger):
    """TensorBoard's event files, without the empty hparams.yaml that Lightning's logger leaves beside them."""

    @rank_zero_only
    def save(self) -> None:
        """Write what is buffered."""
        self.experiment.flush()


def _rows_before(step: int, path: Path) -> list[Row]:
    try:
        rows = read_metrics(path)
        for value in [value for row in rows for value in row.values()]:
            float(value)
        return [dict(row) for row in rows if int(row["step"]) < step and int(row["epoch"]) >= 0]
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise ValueError(f"'{path}' is damaged: repair it, or delete it to start it anew") from error


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv, empty cells left out; no rows if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def plot_curves(folder: Path, title: str) -> Path | None:
    """Draw loss and accuracy of training and validation over epochs into `<folder>/curves.png`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = read_metrics(folder / "metrics.csv")
    if not any("train/loss" in row for row in rows):
        return None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, metric, label, scale in zip(
        figure.subplots(1, 2), ("loss", "acc"), ("cross-entropy", "accuracy (%)"), (1, 100), strict=True
    ):
        for split, style in (("train", "o-"), ("val", "s-")):
            points = [(int(r["epoch"]), scale * float(r[k])) for r in rows if (k := f"{split}/{metric}") in r]
            if points:
                axes.plot(
                    *zip(*points, strict=True), style, markersize=3.5, label={"val": "validation"}.get(split, split)
                )
        for row in rows:
            if f"test/{metric}" in row:
                value = scale * float(row[f"test/{metric}"])
                axes.axhline(value, color="0.4", linestyle=":", label=f"test, best epoch: {value:.4g}")
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle(title)
    path = folder / "curves.png"
    with replacing(path, "wb") as file:
        figure.savefig(file, format="png", dpi=120)
    return path
