"""Checkpoints and files of weights changed at random: each is refused in one line, or gives what it says.

python -m tests.fuzz_checkpoints --cases 500 --seed 0       the long run; --write keeps its figures
python -m tests.fuzz_checkpoints --case 17 --seed 0         one case again
"""

import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch

import zoo
from tests.campaign import Figures, run, say, told
from tests.fuzz_checkpoints_mutations import mutate
from tests.fuzz_checkpoints_sources import FIT, NETWORKS, Source, command, digits, make_sources
from tests.isolation import Failure, isolated
from zoo.classifier import ImageClassifier
from zoo.cli import evaluation, export, prediction, training  # all that the verbs import: once, not in each case
from zoo.weight_files import read_content

DOCUMENTED = (ValueError, FileNotFoundError, PermissionError, ConnectionError)
KINDS = ("ckpt", "ckpt", "ckpt", "safetensors", "safetensors", "pt")
VERBS = {"test": evaluation, "predict": prediction, "fit": training, "export": export}


@dataclass
class Verdict:
    """What came of a case; it is sound if there are no problems."""

    what: str
    is_read: bool = False
    is_loaded: bool = False
    status: int = -1
    message: str = ""
    answer: str = ""
    problems: list[str] = field(default_factory=list)


# One case


def run_case(folder: Path, sources: Sequence[Source], seed: int, number: int, *, has_verb: bool = True) -> Verdict:
    """Damage a file, load it in Python, and give it to one of the verbs, in a process of its own.

    Args:
        folder: What `make_sources` filled.
        sources: What it returned.
        seed: The seed of the campaign.
        number: Which case of it.
        has_verb: Whether a verb gets it too.
    """
    random = Random(f"{seed} {number}")
    kind = random.choice(KINDS)
    source = random.choice([source for source in sources if source.kind == kind])
    what, data = mutate(random, source.data, [other.data for other in sources])
    verb = random.choice(list(VERBS)) if has_verb else ""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        if verb and verb not in source.answers:
            expected = _judged(Path(place) / "sound", folder, source, "bytes: none", source.data, verb)
            assert not expected.problems, (expected.what, expected.problems)
            source.answers[verb] = expected.answer
        return _judged(Path(place) / "case", folder, source, what, data, verb)


def _judged(work: Path, folder: Path, source: Source, what: str, data: bytes, verb: str) -> Verdict:
    work.mkdir()
    path = work / f"weights.{source.kind}"
    path.write_bytes(data)
    label = f"{source.network}.{source.kind}, {what}, {verb}"
    verdict = isolated(lambda: _check(source, path, folder / "digits", what, verb))
    if isinstance(verdict, Failure):
        return Verdict(label, problems=[verdict.text])
    verdict.what = label
    return verdict


def _check(source: Source, path: Path, photos: Path, what: str, verb: str) -> Verdict:
    verdict = Verdict(what)
    with contextlib.suppress(*DOCUMENTED):
        verdict.is_read = bool(read_content(path))
    is_same = False
    try:
        model = _load(source, path)
    except DOCUMENTED as error:
        verdict.message = str(error)
        if not verdict.message.isprintable():
            verdict.problems.append(f"no line: {verdict.message!r}")
    else:
        verdict.is_loaded = True
        images = digits(source.model.image_size)
        is_same = _are_equal(model, source.model)
        if what.startswith("bytes") and not (is_same and torch.equal(model(images), source.model(images))):
            verdict.problems.append("it loads as something else")
    if verb:
        _check_verb(verdict, source, path, photos, verb, is_same=is_same)
    return verdict


def _load(source: Source, path: Path) -> ImageClassifier:
    if source.kind != "pt":
        return zoo.load(path)
    return zoo.create_model(source.network, pretrained=str(path), **dict(source.model.hparams)).eval()


def _are_equal(found: ImageClassifier, expected: ImageClassifier) -> bool:
    """Whether two models are one, as far as anything that they answer can tell."""
    theirs, ours = found.state_dict(), expected.state_dict()
    return (
        theirs.keys() == ours.keys()
        and all(torch.equal(theirs[name], ours[name]) for name in ours)
        and dict(found.hparams) == dict(expected.hparams)
        and found.data in ({}, expected.data)
    )


# The verbs


def _check_verb(verdict: Verdict, source: Source, path: Path, photos: Path, verb: str, *, is_same: bool) -> None:
    work = path.parent
    before = sorted(work.rglob("*"))
    status, out, err = command(work, _words(source, verb, path, photos))
    verdict.status = status
    lines = err.strip().splitlines()
    is_rebuilt = source.kind != "pt" and verb != "fit"  # from the file alone, as `zoo.load` does
    if status == 2:
        verdict.message = lines[-1] if lines else ""
        if len(lines) != 1 or not lines[0].startswith("zoo: error: ") or not lines[0].isprintable():
            verdict.problems.append(f"no line: {err[-2000:]}")
        if left := set(work.rglob("*")) - set(before):
            verdict.problems.append(f"left behind: {sorted(map(str, left))}")
        if is_rebuilt and is_same:
            verdict.problems.append(f"refused, though it is the same model: {verdict.message}")
    elif status != 0 and not (verb == "fit" and "try a lower --recipe.lr" in out):
        verdict.problems.append(f"status {status}: {err[-2000:]}")
    elif is_rebuilt and not verdict.is_loaded:
        verdict.problems.append(f"status {status}, though zoo.load refuses it")
    if status == 0:
        verdict.answer = _answer(work, verb, out)
        is_untouched = verdict.what.startswith("bytes") or (is_same and verb in ("predict", "export"))
        if is_untouched and source.answers.get(verb, verdict.answer) != verdict.answer:
            verdict.problems.append("it answers something else")


def _words(source: Source, verb: str, path: Path, photos: Path) -> list[str]:
    model = [f"--model={source.network}", *NETWORKS[source.network]]
    if verb == "fit":
        option = "--ckpt_path" if source.kind == "ckpt" else "--pretrained"
        return ["fit", *model, *FIT, "--recipe.epochs=2", f"{option}={path}"]
    if verb == "export":
        return ["export", str(path), "--format=safetensors", "--output=out.safetensors", "--images=20"]
    if verb == "predict":
        return ["predict", f"--ckpt_path={path}", "--output=out.csv", str(photos)]
    if source.kind == "pt":
        return ["test", *model, "--data=digits", f"--pretrained={path}"]
    return ["test", f"--ckpt_path={path}"]


def _answer(work: Path, verb: str, out: str) -> str:
    """What a verb found, as text that is equal for equal files."""
    if verb == "predict":
        return (work / "out.csv").read_text()
    if verb == "test":
        return out
    written = work / ("out.safetensors" if verb == "export" else "run/checkpoints/last.ckpt")
    return str({name: tensor.tolist() for name, tensor in sorted(read_content(written)["state_dict"].items())})


# Many cases


def campaign(seed: int, numbers: range) -> Figures:
    """Run cases, tell of every violation, and count."""
    counts: Counter[str] = Counter()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        sources = make_sources(Path(folder), list(NETWORKS))
        for number in told(numbers, lambda: counts["violations"], every=25):
            verdict = run_case(Path(folder), sources, seed, number)
            group = verdict.what.split(", ")[1].partition(":")[0]
            for name in (group, "all"):
                counts.update(
                    {f"{name}_cases": 1, f"{name}_read": verdict.is_read, f"{name}_loaded": verdict.is_loaded}
                )
                counts.update({f"{name}_commands_done": verdict.status == 0})
            counts["violations"] += bool(verdict.problems)
            for problem in verdict.problems:
                say(f"case {number} of seed {seed} ({verdict.what}): {problem}")
    return {"seed": seed, **dict(sorted(counts.items())), "seconds": round(time.perf_counter() - start)}


if __name__ == "__main__":
    sys.exit(run(__doc__, "fuzz_checkpoints", 500, campaign))
