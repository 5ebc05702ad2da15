"""Logistic regression and nearest neighbours on features, as scikit-learn has them, chosen without the test set."""

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import zoo
from tests.conftest import Zoo
from tests.test_features import save_trained
from zoo.cli import learners
from zoo.cli.learners import NEIGHBOURS, STRENGTHS, Part, logistic, nearest_neighbours, probe
from zoo.datamodules import Digits

Arrays = dict[str, np.ndarray[Any, Any]]


def blobs(number: int, seed: int) -> Part:
    """Four classes that overlap, and a feature that is always zero; every image far from the origin."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(number) % 4)
    centres = np.random.default_rng(99).normal(size=(4, 6)) * 1.2
    features = 3 + centres[labels] + random.normal(size=(number, 6))
    features[:, 5] = 0
    return Part(features, labels)


def arrays_of(parts: dict[str, Part]) -> Arrays:
    features = {f"{name}_features": part.features.astype(np.float32) for name, part in parts.items()}
    return {**features, **{f"{name}_labels": part.labels for name, part in parts.items()}}


@pytest.fixture
def parts() -> dict[str, Part]:
    return {"train": blobs(160, 1), "val": blobs(60, 2), "test": blobs(100, 3)}


def linear(strength: float) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000, tol=1e-6))


def neighbours(k: float) -> Any:
    return KNeighborsClassifier(int(k), metric="cosine")


REFERENCES = {"logistic": (linear, "C", STRENGTHS), "knn": (neighbours, "k", NEIGHBOURS)}


@pytest.mark.parametrize("name", REFERENCES)
def test_as_scikit_learn_does_with_a_validation_split(name: str, parts: dict[str, Part]) -> None:
    make, key, settings = REFERENCES[name]
    train, val, test = parts["train"], parts["val"], parts["test"]
    scores = [make(setting).fit(train.features, train.labels).score(val.features, val.labels) for setting in settings]
    best = int(np.argmax(scores))
    final = make(settings[best]).fit(
        np.vstack([train.features, val.features]), np.concatenate([train.labels, val.labels])
    )
    result = probe(name, parts, [])
    assert len(set(scores)) > 2, "the settings differ, so that choosing matters"
    assert result.setting == {key: settings[best]}
    assert result.val_accuracy == pytest.approx(scores[best])
    assert result.test_accuracy == pytest.approx(final.score(test.features, test.labels))
    assert 0.4 < result.val_accuracy < 0.99
    assert result.test_images == 100


@pytest.mark.parametrize("name", REFERENCES)
def test_as_scikit_learn_does_with_cross_validation(name: str, parts: dict[str, Part]) -> None:
    make, key, settings = REFERENCES[name]
    train, test = parts["train"], parts["test"]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    # All folds are equally large: the mean of their accuracies is the accuracy over all images.
    scores = [cross_val_score(make(s), train.features, train.labels, cv=folds).mean() for s in settings]
    result = probe(name, {"train": train, "test": test}, [])
    best = int(np.argmax(np.round(scores, 9)))
    assert result.setting == {key: settings[best]}
    assert result.val_accuracy == pytest.approx(scores[best])
    final = make(settings[best]).fit(train.features, train.labels)
    assert result.test_accuracy == pytest.approx(final.score(test.features, test.labels))


@pytest.mark.parametrize("name", REFERENCES)
def test_every_setting_predicts_as_scikit_learn_does(name: str, parts: dict[str, Part]) -> None:
    make, _, settings = REFERENCES[name]
    learner = logistic if name == "logistic" else nearest_neighbours
    train, test = parts["train"], parts["test"]
    labels = train.labels * 3 + 2  # classes need not be 0, 1, 2, ...
    predicted, remarks = learner(train.features, labels, test.features, settings)
    expected = [make(setting).fit(train.features, labels).predict(test.features) for setting in settings]
    assert (predicted == np.stack(expected)).mean(axis=1).min() >= 0.99  # two minima, each found to rounding
    assert predicted.shape == (len(settings), 100) and not remarks


def test_the_test_images_choose_nothing(parts: dict[str, Part]) -> None:
    shuffled = Part(parts["test"].features, parts["test"].labels[::-1].copy())
    for name in REFERENCES:
        honest, wrong = probe(name, parts, []), probe(name, {**parts, "test": shuffled}, [])
        assert (honest.setting, honest.val_accuracy) == (wrong.setting, wrong.val_accuracy)
        assert honest.test_accuracy != wrong.test_accuracy


def test_no_more_neighbours_than_images(parts: dict[str, Part]) -> None:
    few = parts["train"].take(np.arange(12))
    result = probe("knn", {**parts, "train": few}, [])
    assert result.setting["k"] <= 12


def test_what_has_not_converged_is_said(parts: dict[str, Part], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "MAX_ITERATIONS", 2)
    remarks: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe("logistic", parts, remarks)
    assert "logistic regression with C = 100 has not converged in 2 steps" in remarks


# The command


def test_the_table_and_the_file(zoo_main: Zoo, parts: dict[str, Part], tmp_path: Path) -> None:
    np.savez(tmp_path / "features.npz", **arrays_of(parts))  # type: ignore[arg-type]  # the names are not its options
    outcome = zoo_main("probe", "features.npz", "--output", "probe.json")
    assert outcome.status == 0, outcome.err
    record = json.loads((tmp_path / "probe.json").read_text())
    assert record["source"] == "features.npz"
    assert record["images"] == {"train": 160, "val": 60, "test": 100}
    exact = {name: Part(part.features.astype(np.float32).astype(float), part.labels) for name, part in parts.items()}
    for name, found in zip(REFERENCES, record["results"], strict=True):
        expected = probe(name, exact, [])
        assert found == {
            "learner": name,
            "setting": expected.setting,
            "val_accuracy": expected.val_accuracy,
            "test_accuracy": expected.test_accuracy,
            "test_images": 100,
        }
        ((key, value),) = expected.setting.items()
        assert expected.test_accuracy is not None
        right = round(100 * expected.test_accuracy)
        row = next(line for line in outcome.out.splitlines() if line.startswith(name)).split()
        shares = [f"{100 * expected.val_accuracy:.2f}", "%", f"{100 * expected.test_accuracy:.2f}", "%"]
        assert row == [name, key, "=", f"{value:g}", *shares, f"({right}", "of", "100)"]
    assert "val accuracy" in outcome.out and "learnt again from train and val" in outcome.out


def test_one_learner_without_validation_and_test_images(zoo_main: Zoo, parts: dict[str, Part], tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", **arrays_of({"train": parts["train"]}))  # type: ignore[arg-type]
    outcome = zoo_main("probe", "train.npz", "--learner", "knn")
    assert outcome.status == 0, outcome.err
    assert "5-fold accuracy" in outcome.out and "no test images" in outcome.out
    assert "logistic" not in outcome.out


def test_a_model_is_probed_as_its_features_are(zoo_main: Zoo, tmp_path: Path) -> None:
    data = Digits(image_size=8, num_workers=0, seed=0)
    save_trained(tmp_path / "mlp.ckpt", zoo.create_model("mlp", image_size=8), data)
    assert zoo_main("features", "--ckpt_path", "mlp.ckpt").status == 0
    from_file = zoo_main("probe", "features.npz", "--learner", "knn")
    at_once = zoo_main("probe", "--ckpt", "mlp.ckpt", "--learner=knn")
    assert at_once.status == 0, at_once.err
    first, blank, rest = at_once.out.split("\n", 2)
    assert (first, blank) == ("mlp on digits: 100 features of 1,293 train, 144 val, 360 test images", "")
    assert rest == from_file.out
    assert "of 360)" in rest


class Hostile:
    """Unpickling this writes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.mkdir, (self.marker,)  # type: ignore[return-value]


def write(folder: Path, arrays: Arrays) -> Path:
    np.savez(folder / "bad.npz", **arrays)  # type: ignore[arg-type]
    return folder / "bad.npz"


def test_pickled_objects_are_refused(zoo_main: Zoo, parts: dict[str, Part], tmp_path: Path) -> None:
    hostile = np.array([Hostile(tmp_path / "marker")], dtype=object)
    write(tmp_path, {**arrays_of(parts), "class_names": hostile})
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Hostile(tmp_path / "marker")))
    for name in ("bad.npz", "pickle.npz"):
        outcome = zoo_main("probe", name)
        assert (outcome.status, outcome.err.count("\n")) == (2, 1)
        assert f"'{name}' is no .npz file, is damaged, or holds more than plain arrays" in outcome.err
    assert not (tmp_path / "marker").exists()


def test_damaged_files_are_refused(zoo_main: Zoo, parts: dict[str, Part], tmp_path: Path) -> None:
    good = write(tmp_path, arrays_of(parts)).read_bytes()
    flipped = bytearray(good)
    flipped[400] ^= 1
    for content in (b"", b"text", good[:2000], bytes(flipped), b"\x93NUMPY" + good):
        (tmp_path / "bad.npz").write_bytes(content)
        outcome = zoo_main("probe", "bad.npz")
        assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome.err
        assert "is no .npz file, is damaged" in outcome.err


WRONG: dict[str, tuple[Any, str]] = {
    "no training images": (lambda a: {k: v for k, v in a.items() if "train" not in k}, "no train_features to learn"),
    "no labels": (lambda a: {k: v for k, v in a.items() if k != "val_labels"}, "val_features but no val_labels"),
    "labels of other images": (lambda a: {**a, "test_labels": a["test_labels"][1:]}, "int64 (99,)"),
    "labels that are no classes": (lambda a: {**a, "val_labels": a["val_labels"] + 0.5}, "float64 (60,)"),
    "features that are maps": (lambda a: {**a, "train_features": a["train_features"][..., None]}, "(160, 6, 1)"),
    "features of another model": (lambda a: {**a, "val_features": a["val_features"][:, :5]}, "{'train': 6, 'val': 5"),
    "not a number": (lambda a: {**a, "test_features": a["test_features"] * np.nan}, "test_features are not all finite"),
    "an empty split": (
        lambda a: {**a, "val_features": a["val_features"][:0], "val_labels": a["val_labels"][:0]},
        "(0,",
    ),
    "one class": (lambda a: {**a, "train_labels": a["train_labels"] * 0}, "160 training images are all of one class"),
    "one image of a class": (
        lambda a: {"train_features": a["train_features"][:4], "train_labels": np.array([0, 0, 0, 1])},
        "without val_features, every class needs two",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_arrays_that_do_not_fit(case: str, zoo_main: Zoo, parts: dict[str, Part], tmp_path: Path) -> None:
    change, message = WRONG[case]
    write(tmp_path, change(arrays_of(parts)))
    outcome = zoo_main("probe", "bad.npz", "--output", "out.json")
    assert outcome.status == 2
    assert message in outcome.err
    assert outcome.err.startswith("zoo: error: ") and outcome.err.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


ERRORS: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), "a file of zoo features, or --ckpt_path MODEL"),
    "both": (("{good}", "--ckpt_path", "x.ckpt"), "a file of zoo features, or --ckpt_path MODEL"),
    "missing file": (("none.npz",), "no file of features at 'none.npz'"),
    "a file, and other data": (("{good}", "--data", "digits"), "holds features already"),
    "unknown learner": (("{good}", "--learner", "logistc"), "unknown learner 'logistc'. Did you mean 'logistic'?"),
    "another suffix": (("{good}", "--output", "out.csv"), "its name must end in .json"),
    "unknown option": (("{good}", "--k", "5"), "--k"),
    "missing model": (("--ckpt_path", "none.ckpt"), "none.ckpt"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_input(case: str, zoo_main: Zoo, parts: dict[str, Part], tmp_path: Path) -> None:
    good = write(tmp_path, arrays_of(parts))
    words, message = ERRORS[case]
    outcome = zoo_main("probe", *(word.format(good=good) for word in words))
    assert (outcome.status, message in outcome.err) == (2, True), outcome.err
    assert outcome.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [good]
