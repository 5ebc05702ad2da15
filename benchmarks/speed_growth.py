"""How the cost of training grows with the image size, the batch, the data set and the processes: points and plots.

Every point is `zoo fit` and the loop over tensors in memory, in turns, on synthetic images. The page that explains the
curves is made of the figures: what one step, one epoch or one image costs is fitted to the points.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from zoo.benchmarks.turns import bare, take_turns, zoo_fit

SIZES = (32, 48, 64, 96, 128, 160, 192, 224)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
DATA_SIZES = (1000, 2000, 5000, 10_000, 20_000, 40_000, 60_000)
PROCESSES = (1, 2)
DPI = 110


def growth(rounds: int) -> dict[str, Any]:
    """Measure all points, in four lists."""
    return {
        "image_size": [_point(rounds, "resnet18", size, 32, max(64, 512 * 32 * 32 // size**2)) for size in SIZES],
        "batch_size": [_point(rounds, "resnet20", 32, batch, max(64, 2 * batch)) for batch in BATCHES],
        "data_size": [_point(rounds, "lenet5", 32, 128, number) for number in DATA_SIZES],
        "processes": [_on_processes(rounds, number) for number in PROCESSES],
    }


def _point(rounds: int, model: str, size: int, batch: int, images: int) -> dict[str, Any]:
    """Images a second of both, for one setting; both have whole batches only."""
    images -= images % batch
    commands = {
        "zoo": zoo_fit(*_words(rounds, model, size, batch, images)),
        "tensors": bare("tensors", *_of_loop(rounds, model, size, batch, images)),
    }
    found = take_turns(commands, rounds)
    rates = {name: measured.as_dict()["images_per_second"] for name, measured in found.items()}
    peaks = {f"{name}_peak_bytes": measured.peak_bytes for name, measured in found.items()}
    return {"model": model, "image_size": size, "batch_size": batch, "images": images, **rates, **peaks}


def _words(rounds: int, model: str, size: int, batch: int, images: int) -> list[str]:
    data = ["--data", "fake", "--data.image_size", str(size), "--data.num_samples", str(images + max(images // 8, 100))]
    data += ["--data.train_size", str(images), "--data.in_channels", str(_channels(model)), "--data.augment", "none"]
    return ["--model", model, *data, "--recipe.batch_size", str(batch), "--recipe.epochs", str(rounds + 1)]


def _of_loop(rounds: int, model: str, size: int, batch: int, images: int) -> list[str]:
    shape = ["--model", model, "--image_size", str(size), "--in_channels", str(_channels(model))]
    return [*shape, "--batch_size", str(batch), "--samples", str(images), "--epochs", str(rounds + 1)]


def _channels(model: str) -> int:
    return 1 if model == "lenet5" else 3


def _on_processes(rounds: int, number: int) -> dict[str, Any]:
    """ResNet-20, batch 128 in all, on as many processes; torch divides the processors among them."""
    words = _words(rounds, "resnet20", 32, 128, 1280)
    hardware = ["--trainer.accelerator", "cpu", "--trainer.devices", str(number)]
    hardware += ["--trainer.strategy", "ddp"] if number > 1 else []
    measured = take_turns({"zoo": zoo_fit(*words, *hardware)}, rounds)["zoo"].as_dict()
    return {"processes": number, "batch_size": 128, "zoo": measured["images_per_second"]}


def line(units: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """What is fixed and what a unit costs, in seconds: the line of least relative error through the points.

    Args:
        units: Images of a step or an epoch.
        seconds: What it took, more than 0.
    """
    import numpy as np

    weights = 1 / np.asarray(seconds)
    design = np.stack([np.ones(len(units)), np.asarray(units, dtype=float)], axis=1)
    (fixed, each), *_ = np.linalg.lstsq(design * weights[:, None], np.asarray(seconds) * weights, rcond=None)
    return float(fixed), float(each)


def page(found: dict[str, Any], place: str) -> str:
    """The explanation of the curves, in Markdown, with the measured figures in it.

    Args:
        found: What `growth` measured.
        place: Hardware and versions, in words.
    """
    parts = [("image_size", _of_sizes), ("batch_size", _of_batches), ("data_size", _of_data)]
    lines = ["# How the cost of training grows", "", f"Images a second of `zoo fit`; {place}."]
    for name, explain in parts:
        lines += ["", f"![{name}](growth-{name}.png)", "", explain(found[name])]
    return "\n".join([*lines, "", _of_processes(found["processes"]), ""])


def _of_sizes(points: Sequence[dict[str, Any]]) -> str:
    pixels = [point["zoo"] * point["image_size"] ** 2 / 1e6 for point in points]
    knee = next(i for i, rate in enumerate(pixels) if rate > 0.8 * max(pixels))
    size, most = points[knee]["image_size"], max(pixels)
    text = (
        f"**Image size** ({points[0]['model']}, batch {points[0]['batch_size']}). A convolution costs as much as its "
    )
    text += f"image has pixels, so beyond the knee, at {size} pixels, the images a second fall with the square of the "
    text += f"side, at {most:.1f} million pixels a second. "
    if knee:
        text += f"Below it the last stages have feature maps of few positions ({points[0]['image_size']} pixels: "
        text += f"{max(1, points[0]['image_size'] // 32)} x {max(1, points[0]['image_size'] // 32)}), while their "
        text += f"weights are read, and updated, as at any size: {pixels[0]:.1f} million pixels a second."
    return text


def _of_batches(points: Sequence[dict[str, Any]]) -> str:
    batches = [point["batch_size"] for point in points]
    fixed, each = line(batches, [point["batch_size"] / point["zoo"] for point in points])
    bare_fixed, _ = line(batches, [point["batch_size"] / point["tensors"] for point in points])
    best = max(points, key=lambda point: point["zoo"])
    text = f"**Batch** ({points[0]['model']}). A step costs {1e3 * fixed:.1f} ms whatever the batch (calls of layers, "
    text += f"the optimiser over all weights, counters; {1e3 * bare_fixed:.1f} ms of them in the bare loop too) and "
    text += f"{1e3 * each:.2f} ms for each image. The knee is where both are equal, at {max(1, round(fixed / each))} "
    text += f"images. The fastest batch is {best['batch_size']}"
    last = points[-1]
    if last["zoo"] < 0.9 * best["zoo"]:
        text += f"; at {last['batch_size']} it is {last['zoo'] / best['zoo']:.2f} times as fast as that, because the "
        text += "outputs of the layers, which are kept for the backward pass, no longer fit into the processor's caches"
    return f"{text}."


def _of_data(points: Sequence[dict[str, Any]]) -> str:
    fixed, each = line([point["images"] for point in points], [point["images"] / point["zoo"] for point in points])
    text = f"**Data set** ({points[0]['model']}, batch {points[0]['batch_size']}). An epoch costs {1e3 * fixed:.0f} ms "
    text += f"whatever its length (the loader, averages) and {1e3 * each:.3f} ms for each image: the knee is at "
    text += (
        f"{max(0, round(fixed / each)):,} images, and beyond it a larger data set is as fast as a small one, because "
    )
    return f"{text}images are held as bytes and only a batch at a time becomes floats."


def _of_processes(points: Sequence[dict[str, Any]]) -> str:
    one, *more = points
    text = f"**Processes** (resnet20, batch {one['batch_size']} in all). One process, all cores: {one['zoo']:,.0f} "
    text += "images/s."
    for point in more:
        text += f" {point['processes']} processes, the cores divided: {point['zoo']:,.0f} images/s, "
        text += f"{point['zoo'] / one['zoo']:.2f} times as many. One process's threads meet at the end of every layer; "
        text += "processes meet once a step, to add up their gradients, but each has a smaller batch."
    return text


def write_pictures(found: dict[str, Any], folder: Path) -> list[Path]:
    """Draw one picture for each quantity but the processes, `growth-NAME.png`; the paths."""
    labels = {"image_size": "image size (pixels)", "batch_size": "batch", "data_size": "images of the data set"}
    written = []
    for name, label in labels.items():
        key = "images" if name == "data_size" else name
        path = folder / f"growth-{name}.png"
        path.write_bytes(_picture([(point[key], point["zoo"], point["tensors"]) for point in found[name]], label))
        written.append(path)
    return written


def _picture(points: Sequence[tuple[float, float, float]], label: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from zoo.benchmarks.axes import COLOURS, legend, logarithmic

    picture = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.subplots()
    places, ours, theirs = zip(*points, strict=True)
    axes.plot(places, ours, marker="o", color=COLOURS[0], label="zoo fit")
    axes.plot(places, theirs, marker="s", linestyle="--", color=COLOURS[1], label="loop over tensors in memory")
    axes.set(xlabel=label, ylabel="images/s")
    logarithmic(axes, "xy")
    axes.set_xticks(places, labels=[f"{place:,g}" for place in places], fontsize=8)
    axes.minorticks_off()
    legend(axes)
    axes.grid(alpha=0.3)
    file = BytesIO()
    picture.savefig(file, dpi=DPI, format="png", metadata={"Software": None})
    return file.getvalue()
