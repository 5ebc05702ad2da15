"""`zoo fit --profile`: where the time of a training step goes, as a table and as profile.json."""

import json
from pathlib import Path

from rich.table import Table

from zoo.cli.output import replacing
from zoo.profiler import PARTS, StepTimes, typical_step

FILE = "profile.json"


def step_table(profiler: StepTimes, batch_size: int, folder: Path) -> Table | str:
    """Write profile.json to the run's folder.

    Args:
        profiler: It has watched the run.
        batch_size: Images of a step, on all devices.
        folder: Of the run.

    Returns:
        The table of the screen, or why there is none.
    """
    if not profiler.steps:
        return f"--profile: no step was timed, so there is no {FILE}: it takes an epoch of two steps or more"
    parts, count = typical_step(profiler.steps)
    total = sum(parts.values())
    record = {
        "milliseconds": {name: round(1000 * seconds, 4) for name, seconds in parts.items()},
        "step_milliseconds": round(1000 * total, 4),
        "images_per_second": round(batch_size / total, 1),
        "batch_size": batch_size,
        "steps": count,
    }
    with replacing(folder / FILE) as file:
        file.write(json.dumps(record, indent=2) + "\n")
    table = Table(box=None, pad_edge=False)
    for heading in ("a step", "ms", "%", ""):
        table.add_column(heading, justify="right" if heading in ("ms", "%") else "left", no_wrap=True)
    for name, seconds in parts.items():
        table.add_row(name, f"{1000 * seconds:.2f}", f"{100 * seconds / total:.1f}", PARTS[name])
    of_what = f"{batch_size / total:,.0f} images/s; median of {count:,} steps"
    table.add_row("all", f"{1000 * total:.2f}", "100.0", of_what, style="bold")
    return table
