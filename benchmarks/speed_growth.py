"""How the cost of training grows with the image size, the batch, the data set and the processes: points and plots.

Every point is `zoo fit` and the loop over tensors in memory, in turns, on synthetic images. The page that explains the
curves is made of the figures: what one step, one epoch or one image costs is fitted to the points.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from zoo.benchmarks.turns import fake_images, loop_over_tensors, take_turns, zoo_fit

SIZES = (32, 48, 64, 96, 128, 160, 192, 224)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
DATA_SIZES = (1000, 2000, 5000, 10_000, 20_000, 40_000, 60_000)
PROCESSES = (1, 2)
LABELS = {
    "image_size": "image size (pixels)",
    "batch_size": "batch",
    "data_size": "images of the data set",
    "processes": "processes",
}
DPI = 110
PLAIN = 1.1
"""Times as fast that ask for an explanation."""


@dataclass(frozen=True)
class Setting:
    """A model and the images that it is trained on."""

    model: str
    image_size: int
    batch_size: int
    images: int

    def whole(self) -> "Setting":
        """With whole batches only, as the loop has."""
        return replace(self, images=self.images - self.images % self.batch_size)


def growth(rounds: int) -> dict[str, Any]:
    """Measure all points, in four lists."""
    sizes = [Setting("resnet18", size, 32, max(64, 512 * 32 * 32 // size**2)) for size in SIZES]
    batches = [Setting("resnet20", 32, batch, max(64, 2 * batch)) for batch in BATCHES]
    return {
        "image_size": [point for setting in sizes for point in _points(rounds, [setting])],
        "batch_size": [point for setting in batches for point in _points(rounds, [setting])],
        # Small networks, of which all fit into memory at once; their short epochs need more rounds.
        "data_size": _points(3 * rounds, [Setting("lenet5", 32, 128, number) for number in DATA_SIZES]),
        "processes": _on_processes(rounds),
    }


def _points(rounds: int, settings: Sequence[Setting]) -> list[dict[str, Any]]:
    """Images a second of both, for settings that all take turns."""
    commands = {}
    whole = [setting.whole() for setting in settings]
    for place, setting in enumerate(whole):
        commands[f"zoo {place}"] = zoo_fit(*_words(rounds, setting))
        commands[f"tensors {place}"] = loop_over_tensors(
            **asdict(setting), in_channels=_channels(setting.model), epochs=rounds + 1
        )
    found = take_turns(commands, rounds)
    points = []
    for place, setting in enumerate(whole):
        measured = {name: found[f"{name} {place}"] for name in ("zoo", "tensors")}
        rates = {name: one.as_dict()["images_per_second"] for name, one in measured.items()}
        peaks = {f"{name}_peak_bytes": one.peak_bytes for name, one in measured.items()}
        points.append({**asdict(setting), **rates, **peaks})
    return points


def _words(rounds: int, setting: Setting) -> list[str]:
    data = fake_images(setting.images, image_size=setting.image_size, in_channels=_channels(setting.model))
    recipe = ["--recipe.batch_size", str(setting.batch_size), "--recipe.epochs", str(rounds + 1)]
    return ["--model", setting.model, *data, *recipe]


def _channels(model: str) -> int:
    return 1 if model == "lenet5" else 3


def _on_processes(rounds: int) -> list[dict[str, Any]]:
    """ResNet-20, batch 128 in all, on as many processes; torch divides the processors among them."""
    words = _words(rounds, Setting("resnet20", 32, 128, 5120))
    commands = {}
    for number in PROCESSES:
        hardware = ["--trainer.accelerator", "cpu", "--trainer.devices", str(number)]
        hardware += ["--trainer.strategy", "ddp"] if number > 1 else []
        commands[str(number)] = zoo_fit(*words, *hardware)
    found = take_turns(commands, rounds)
    return [
        {"processes": number, "batch_size": 128, "zoo": found[str(number)].as_dict()["images_per_second"]}
        for number in PROCESSES
    ]


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
    parts = [
        ("image_size", _of_sizes),
        ("batch_size", _of_batches),
        ("data_size", _of_data),
        ("processes", _of_processes),
    ]
    lines = ["# How the cost of training grows", "", f"Images a second of `zoo fit`; {place}."]
    for name, explain in parts:
        lines += ["", f"![{name}](growth-{name}.png)", "", explain(found[name])]
    return "\n".join([*lines, ""])


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
    best = max(points, key=lambda point: point["zoo"] / point["tensors"])
    if (gain := best["zoo"] / best["tensors"]) > PLAIN:
        text += f" At {best['image_size']} pixels `zoo fit` is {gain:.2f} times as fast as the loop: it computes the "
        text += "convolutions of such feature maps as matrix products (`zoo/convolution.py`)."
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
    most = max(points, key=lambda point: point["tensors"])
    if last["tensors"] < 0.9 * most["tensors"]:
        text += f". The bare loop has a second knee, at {most['batch_size']}: larger blocks of memory go back to the "
        text += "system after every step and come again page by page, each filled with zeros. `zoo fit` keeps them "
        memory = last["zoo_peak_bytes"] / last["tensors_peak_bytes"]
        text += (
            f"(`zoo/allocator.py`): at {last['batch_size']} it is {last['zoo'] / last['tensors']:.2f} times as fast, "
        )
        text += f"with {memory:.2f} times the memory"
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
    """Draw one picture for each quantity, `growth-NAME.png`; the paths."""
    written = []
    for name, label in LABELS.items():
        key = "images" if name == "data_size" else name
        path = folder / f"growth-{name}.png"
        path.write_bytes(_picture(found[name], key, label))
        written.append(path)
    return written


def _picture(points: Sequence[dict[str, Any]], key: str, label: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from zoo.benchmarks.axes import COLOURS, legend, logarithmic

    picture = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.subplots()
    places = [point[key] for point in points]
    axes.plot(places, [point["zoo"] for point in points], marker="o", color=COLOURS[0], label="zoo fit")
    if "tensors" in points[0]:
        theirs = [point["tensors"] for point in points]
        axes.plot(places, theirs, marker="s", linestyle="--", color=COLOURS[1], label="loop over tensors in memory")
    is_flat = key in ("images", "processes")  # on a logarithmic axis a tenth would look like much
    logarithmic(axes, "x" if is_flat else "xy")
    if is_flat:
        axes.set_ylim(0, 1.1 * max(point.get(name, 0) for point in points for name in ("zoo", "tensors")))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel=label, ylabel="images/s")
    names = [f"{place / 1000:.2g}k" if key == "images" else f"{place:g}" for place in places]
    axes.set_xticks(places, labels=names, fontsize=8)
    axes.minorticks_off()
    legend(axes)
    axes.grid(alpha=0.3)
    file = BytesIO()
    picture.savefig(file, dpi=DPI, format="png", metadata={"Software": None})
    return file.getvalue()
