"""Put the weights of finished runs into the package: `python -m zoo.benchmarks.embed RUN_FOLDER...`.

Each run becomes `zoo/<model>_<data>.safetensors` and an entry of `zoo/embedded.json` with all that is known about it,
taken from the run's own files. The accuracy is the one that the run measured once, at its end, on the test set.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from zoo.checkpoint import load
from zoo.classifier import ImageClassifier
from zoo.datamodules.registry import dataset_spec
from zoo.weight_files import write_weights
from zoo.weights import FOLDER

NOT_IN_THE_WEIGHTS = {"num_classes", "in_channels", "image_size", "dropout", "init", "zero_init_residual", "head"}
"""Arguments that may differ from those that the weights were trained with."""


def embed(run: Path) -> str:
    """Write the weights of a run into the package; the name under which they are known then."""
    record = json.loads((run / "run.json").read_text())
    model = load(run / "checkpoints" / "best.ckpt")
    name = f"{record['model']}.{record['data']}"
    path = FOLDER / f"{name.replace('.', '_')}.safetensors"
    model.data = {"preprocessing": model.preprocessing, "class_names": model.class_names}  # not where the images lay
    write_weights(path, model.state_dict(), model.description())
    known = json.loads((FOLDER / "embedded.json").read_text())
    known[name] = facts(record, model, path)
    (FOLDER / "embedded.json").write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n")
    return name


def facts(record: dict[str, Any], model: ImageClassifier, path: Path) -> dict[str, Any]:
    """What `zoo.weights.Weights` holds about the weights in a file."""
    images, accuracy, data = record["images"], record["metrics"]["test/acc"], dataset_spec(record["data"])
    correct = round(accuracy * images["test"])
    arguments = {key: value for key, value in model.hparams.items() if key not in NOT_IN_THE_WEIGHTS}
    return {
        "model": record["model"],
        "name": record["data"],
        "data": f"{images['train']:,} training images of: {data.title}",
        "results": {"test accuracy": f"{100 * accuracy:.2f} % ({correct:,} of {images['test']:,})"},
        "measured": f"the whole test set, once, by this package at the end of the run (seed {record['seed']})",
        "recipe": f"zoo fit --model {record['model']} --data {record['data']} --data.root DIR",
        "licence": "Apache-2.0",
        "size": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "preprocessing": model.preprocessing,
        "num_classes": model.num_classes,
        "class_names": model.class_names,
        "arguments": arguments,
    }


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        print(embed(Path(folder)))
