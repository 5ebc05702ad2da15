"""Tables of the README, generated from the registry and the result files: `python -m zoo.benchmarks.tables`.

A result file is the run.json that `zoo fit` wrote, kept as `benchmarks/results/<data>/<name>.json`.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import list_models, model_info
from zoo.benchmarks import transfer
from zoo.benchmarks.results import Results, read_results
from zoo.benchmarks.speed_promises import promises_table
from zoo.benchmarks.speed_table import FAMILIES
from zoo.benchmarks.suite_file import load_suite
from zoo.benchmarks.verdicts import check_claims
from zoo.precision import BFLOAT16_OF_CPUS
from zoo.weights import all_weights, embedded

RESULTS = Path(__file__).resolve().parent / "results"
SUITE_RESULTS = RESULTS / "suites"
README = RESULTS.parent.parent / "README.md"


def read_runs(data: str) -> dict[str, dict[str, Any]]:
    """The committed runs on a data set, by the name of their file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((RESULTS / data).glob("*.json"))}


def models_table() -> str:
    """Every model with its paper, its size, and what its default recipe reaches on the embedded digits."""
    results = read_runs("digits")
    lines = [
        "| model | paper | parameters | counted at | digits, test accuracy | time |",
        "|---|---|---:|---|---:|---:|",
    ]
    for name in list_models():
        info = model_info(name)
        lines.append(
            f"| `{name}` | [{info.paper.authors} {info.year}]({info.paper.url}) | {info.parameters:,} | "
            f"{info.reference} | {_accuracy(results.get(name))} | {_seconds(results.get(name))} |"
        )
    return "\n".join(lines)


def runs_table() -> str:
    """The other committed runs, each with its command."""
    lines = ["| command | test accuracy | test images | time |", "|---|---:|---:|---:|"]
    for data in ("digits", "mnist"):
        for name, run in read_runs(data).items():
            if data == "digits" and name in list_models():
                continue
            lines.append(f"| `{_command(run)}` | {_accuracy(run)} | {run['images']['test']:,} | {_seconds(run)} |")
    return "\n".join(lines)


def summary() -> str:
    """How the first command of the README ends."""
    run = read_runs("digits")["vgg16"]
    metrics, count = run["metrics"], run["images"]["test"]
    return (
        f"```\nvgg16 on digits: test accuracy {_accuracy(run)} ({round(metrics['test/acc'] * count)} of {count}), "
        f"loss {metrics['test/loss']:.4f}\n{run['epochs']} epochs, {run['steps']} steps in {_seconds(run)}\n```"
    )


def speed_table() -> str:
    """What `python -m zoo.benchmarks.speed` measured."""
    found = read_runs("speed")
    loader, lenet5, resnet20 = found["loader"], found["lenet5"], found["resnet20"]
    tree, memory, linear = found["folder"], found["memory"], found["linear"]
    names = list(loader)[:3]
    rows = [
        *((f"32-pixel images in memory, {name}", f"{loader[name]:,.0f} images/s, one core") for name in names),
        ("LeNet-5 on MNIST, `zoo fit` / bare PyTorch loop over tensors in memory", f"{lenet5['ratio']:.2f}"),
        ("ResNet-20 on 32-pixel images, the same", f"{resnet20['ratio']:.2f}"),
        (f"{tree['images']:,} JPEG files: first epoch, which decodes all", f"{tree['first_epoch_seconds']:.1f} s"),
        ("the same: a later epoch", f"{tree['later_epoch_seconds']:.2f} s"),
        (
            "the same: torchvision's ImageFolder and transforms, 2 workers",
            f"{tree['script_epoch_seconds']:.1f} s",
        ),
        ("ResNet-18 on that tree: peak memory of `zoo fit`", f"{memory['zoo_bytes'] / 2**20:,.0f} MiB"),
        ("the same: a bare script without data", f"{memory['bare_bytes'] / 2**20:,.0f} MiB"),
        (
            f"`--finetune linear`, ResNet-18, {linear['training_images']:,} images of 32 pixels: an epoch on images",
            f"{linear['epoch_on_images_seconds']:.2f} s",
        ),
        ("the same: an epoch on features", f"{linear['epoch_on_features_seconds']:.3f} s, {linear['ratio']:.0f} x"),
        ("the same: computing the features, once", f"{linear['computing_features_seconds']:.2f} s"),
    ]
    place = f"{loader['hardware']['processor']}, {loader['hardware']['cores']} cores of a shared machine"
    versions = f"torch {loader['versions']['torch']}, lightning {loader['versions']['lightning']}"
    table = "\n".join(["| what | measured |", "|---|---:|", *(f"| {what} | {figure} |" for what, figure in rows)])
    promises = f"{promises_table(found)}\n\n{precision_table(found)}"
    return f"{promises}\n\n{table}\n\nMedians of several turns, `python -m zoo.benchmarks.speed`; {place}; {versions}."


def precision_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What bfloat16 gains on each kind of CPU that was measured, and what it gains one convolution."""
    runs = {name: found[f"precision-{name}"] for name in BFLOAT16_OF_CPUS if f"precision-{name}" in found}
    columns = [f"{name} ({run['hardware']['processor']})" for name, run in runs.items()]
    lines = [f"| `bf16-mixed` / `32-true` | {' | '.join(columns)} |", f"|---|{'---:|' * len(runs)}"]
    for family, (model, size, _, batch, _) in FAMILIES.items():
        ratios = [f"{run['families'][family]['ratio']:.2f} x" for run in runs.values()]
        lines.append(f"| {model} at {size} pixels, batch {batch} | {' | '.join(ratios)} |")
    ratios = [f"{run['convolution_ratio']:.1f} x" for run in runs.values()]
    return "\n".join([*lines, f"| one convolution of VGG, bfloat16 / float32 | {' | '.join(ratios)} |"])


def weights_table() -> str:
    """The weights in the package, and those of torchvision."""
    lines = ["| weights | trained on | measured | size |", "|---|---|---|---:|"]
    for name, known in embedded().items():
        result = ", ".join(f"{metric} {text}" for metric, text in known.results.items())
        lines.append(f"| `{name}` | {known.data} | {result} | {known.size / 1e6:.2f} MB |")
    theirs = [known for known in all_weights() if known.entry]
    names = ", ".join(dict.fromkeys(f"`{known.model}`" for known in theirs))
    second = ", ".join(f"`{known.model}`" for known in theirs if known.name == "imagenet_v2")
    return "\n".join([*lines, "", f"Torchvision's: `imagenet` for {names}; `imagenet_v2` for {second}."])


def transfer_tables() -> str:
    """Fine-tuning against training from random weights, where there are few images."""
    cifar = json.loads((RESULTS / "transfer" / "cifar.json").read_text())
    first = ", ".join(f"`{run['model']}` {100 * run['metrics']['test/acc']:.1f} %" for run in cifar["pretrained"])
    place = f"{cifar['hardware']['processor']}, torch {cifar['versions']['torch']}"
    rates = f"with the models' default recipes, in batches of {cifar['batch_size']}; linear has rate "
    rates += f"{transfer.LINEAR_RATE} and no augmentation"
    return "\n\n".join(
        [
            f"Test accuracy in %, mean and standard deviation over five seeds, {cifar['steps']} steps each {rates}. "
            "From MNIST to the 360 test images of the embedded digits, the same ten classes:",
            transfer.table("digits"),
            "![test accuracy against images of each class](benchmarks/results/transfer/digits.png)",
            f"From five classes of a JPEG copy of CIFAR-10 (there {first}) to the 5,000 test images of the other five, "
            "which the last layer does not know:",
            transfer.table("cifar"),
            f"`python -m zoo.benchmarks.transfer`; {place}.",
        ]
    )


def suites_table() -> str:
    """The suites with committed results: how many of their claims came out."""
    lines = ["| suite | question | runs | claims that came out | |", "|---|---|---:|---:|---|"]
    for name, size, found in committed_suites():
        suite = load_suite(name)
        verdicts = check_claims(suite, found.by_row, size)
        good = sum(verdict.outcome == "reproduced" for verdict in verdicts)
        page = f"benchmarks/results/suites/{name}/{size}/report.md"
        lines.append(f"| `{name}` | {suite.question} | {found.count} | {good} of {len(verdicts)} | [table]({page}) |")
    return "\n".join(lines)


def committed_suites() -> list[tuple[str, str, Results]]:
    """Name, size and results of each suite in `benchmarks/results/suites`."""
    folders = sorted(path for path in SUITE_RESULTS.glob("*/*") if any(path.glob("*.json")))
    places = [(folder.parent.name, folder.name) for folder in folders]
    return [(name, size, read_results(load_suite(name), size, SUITE_RESULTS)) for name, size in places]


COUNTED = {
    "fuzz_checkpoints": "{all_cases:,} changed checkpoints, {all_loaded:,} could be loaded: {violations} violations",
    "fuzz_configs": "{files:,} changed files and {lines:,} changed command lines, {files accepted:,} and "
    "{lines accepted:,} of them accepted: {violations} violations",
    "fuzz_files": "{cases:,} changed images, tables and archives, {accepted:,} accepted: {violations} violations",
    "fuzz_models": "{cases:,} networks: {sound trained:,} trained, {sound shaped:,} had their shapes checked, "
    "{sound refused:,} had options that do not fit and {wrong refused:,} wrong ones: {violations} violations",
    "kills": "{kills:,} kills of {runs:,} runs, {runs of two processes:,} of them on two processes: {equal:,} ended as "
    "if uninterrupted; {writers killed:,} kills while a checkpoint was written: "
    "{writers killed that left a torn file} torn",
    "load": "{epochs:,} epochs with two workers: {2 workers, epoch 20, megabytes:.0f} MB and "
    "{2 workers, epoch 20, files:.0f} open files after 20, {2 workers, epoch 200, megabytes:.0f} MB and "
    "{2 workers, epoch 200, files:.0f} at the end; {runs started at once:,} runs started at once left "
    "{whole runs that they left:,} whole ones",
}
"""What the README says of a long run, in the names of its figures."""


def reliability_table() -> str:
    """What the long runs of kills, of load and of damaged input counted."""
    lines = ["| long run | what it counted | date |", "|---|---|---|"]
    for path in sorted((RESULTS / "reliability").glob("*.json")):
        run = json.loads(path.read_text())
        counted = COUNTED[run["name"]].format_map(run["figures"])
        lines.append(f"| `python -m tests.{run['name']}` | {counted} | {run['date']} |")
    return "\n".join(lines)


def hardware_line() -> str:
    """What the committed runs ran on."""
    runs = [run for data in ("digits", "mnist") for run in read_runs(data).values()]
    places = {f"{run['hardware']['processor']}, {run['hardware']['cores']} cores" for run in runs}
    versions = {f"torch {run['versions']['torch']}, lightning {run['versions']['lightning']}" for run in runs}
    where = f"{'; '.join(sorted(places))} of a shared machine; {'; '.join(sorted(versions))}"
    return f"One run each, seed {runs[0]['seed']}; {where}."


def _command(run: dict[str, Any]) -> str:
    return str(re.sub(r"--data\.root \S+", "--data.root DIR", run["command"]))


def _accuracy(run: dict[str, Any] | None) -> str:
    return f"{100 * run['metrics']['test/acc']:.2f} %" if run else "not yet run"


def _seconds(run: dict[str, Any] | None) -> str:
    return f"{run['seconds']:.0f} s" if run else ""


def render(text: str) -> str:
    """`text` with the content between each pair of markers generated anew."""
    parts = {
        "summary": summary(),
        "models": models_table(),
        "runs": runs_table(),
        "hardware": hardware_line(),
        "speed": speed_table(),
        "weights": weights_table(),
        "transfer": transfer_tables(),
        "suites": suites_table(),
        "reliability": reliability_table(),
    }
    for name, content in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(pattern, lambda found, new=content: f"{found[1]}{new}\n{found[2]}", text, flags=re.S)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    README.write_text(render(README.read_text()))
    sys.stdout.write(f"wrote {README.name}\n")
