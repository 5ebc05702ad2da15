"""`zoo data`, and training on one's own images from the command line."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Zoo
from zoo.datamodules import Fake, list_datasets


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three kinds of noise, told apart by their brightness; unequal numbers."""
    random = np.random.default_rng(0)
    for label, (name, count) in enumerate((("coal", 60), ("mist", 30), ("snow", 20))):
        for number in range(count):
            path = tmp_path / "tree" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 60, (20, 16, 3)) + 90 * label
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return tmp_path / "tree"


def test_list_names_every_dataset_and_filters(zoo_main: Zoo) -> None:
    lines = zoo_main("data", "list").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list_datasets()
    assert [line.split()[0] for line in zoo_main("data", "list", "cifar*").out.splitlines()[1:]] == [
        "cifar10",
        "cifar100",
    ]
    assert zoo_main("data").out.startswith("usage: zoo data COMMAND")


def test_list_as_json_and_its_help(zoo_main: Zoo) -> None:
    facts = json.loads(zoo_main("data", "list", "mnist", "cifar*", "cifar10", "--json").out)
    assert [entry["name"] for entry in facts] == ["mnist", "cifar10", "cifar100"]
    assert (facts[1]["image_size"], len(facts[1]["class_names"])) == (32, 10)
    assert zoo_main("data", "list", "--help").out.startswith("usage: zoo data list")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mnist", "nonsense"), "no data set matches 'nonsense'. Known: "),
        (("mnist", "cifar11"), "no data set matches 'cifar11'. Did you mean 'cifar10"),
        (("--jsn",), "unrecognized arguments: --jsn: see zoo data list --help"),
    ],
)
def test_list_drops_no_word(words: tuple[str, ...], message: str, zoo_main: Zoo) -> None:
    outcome = zoo_main("data", "list", *words)
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert message in outcome.err


@pytest.mark.parametrize("words", [("--data.download", "false"), ("--data.download=no",)])
def test_prepare_fetches_nothing_if_it_is_told_so(
    words: tuple[str, ...], zoo_main: Zoo, mnist_root: Path, tmp_path: Path
) -> None:
    """The tests refuse the network, and fail if it is asked for."""
    command = ("data", "prepare", "--data", "mnist", "--data.val_size", "0.2", *words, "--data.root")
    there, missing = zoo_main(*command, mnist_root), zoo_main(*command, tmp_path / "nowhere")
    assert there.status == 0, there.err
    assert "mnist: 64 train, 16 val, 30 test images" in there.out
    assert (missing.status, missing.err.count("\n")) == (2, 1)
    assert "--data.download true fetches it" in missing.err
    assert not (tmp_path / "nowhere").exists()


def test_prepare_fetches_without_being_told(zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("zoo.datamodules.mnist.MNIST._fetch", lambda data: asked.append(data.download))
    assert zoo_main("data", "prepare", "--data", "mnist", "--data.root", tmp_path / "nowhere").status == 2
    assert asked == [True]


@pytest.mark.parametrize("words", [("--data.augment", "strong"), ("--data.permute_pixels", "3", "--images", "11")])
def test_show_draws_originals_above_and_augmented_below(zoo_main: Zoo, tmp_path: Path, words: tuple[str, ...]) -> None:
    outcome = zoo_main("data", "show", "--data", "fake", "--output", "picture.png", *words)
    assert outcome.status == 0, outcome.err
    picture = np.asarray(Image.open(tmp_path / "picture.png").convert("RGB")).astype(int)
    assert (np.ptp(picture, axis=2) > 30).mean() > 0.3, "fake images are colourful"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture.png"]


def test_what_show_draws_is_what_training_sees() -> None:
    from zoo.cli.picture import _images

    data = Fake(augment="strong", num_samples=200, image_size=16)
    originals, augmented, labels = _images(data, 12)
    assert sorted(labels[:10]) == list(range(10)), "classes take turns"
    dataset, split = data.make_dataset("train", is_training=True), data.splits["train"]
    rows = [int(np.flatnonzero((split.square(np.arange(180), 16) == image).all((1, 2, 3)))[0]) for image in originals]
    assert np.array_equal(split.labels[rows], labels)
    assert np.array_equal(dataset[np.array(rows), 0][0].numpy(), augmented)


def test_prepare_says_what_is_there_and_keeps_decoded_images(zoo_main: Zoo, tree: Path, cache: Path) -> None:
    words = ("data", "prepare", "--data", "folder", "--data.root", tree, "--data.image_size", "16")
    outcome = zoo_main(*words)
    assert outcome.status == 0, outcome.err
    assert "folder: 79 train, 9 val, 22 test images, 3 classes, 3 channels" in outcome.out
    assert "training images of a class: 14 (snow) to 43 (coal)" in outcome.out
    assert f"kept decoded in {cache}/images, for training at 16 x 16 (--data.image_size)" in outcome.out
    assert zoo_main(*words).out == outcome.out


@pytest.mark.parametrize(
    "option", ["data.augment strong", "data.batch_size 5", "data.sampler balanced", "data.drop_last true"]
)
def test_prepare_refuses_what_changes_nothing_in_it(option: str, zoo_main: Zoo) -> None:
    name, value = option.split()
    outcome = zoo_main("data", "prepare", "--data", "digits", f"--{name}", value)
    assert (outcome.status, outcome.out) == (2, "")
    what = f"{name} is {value}: it changes nothing in zoo data prepare, leave it out"
    assert outcome.err == f"zoo: error: {what}\n"


def test_prepare_keeps_image_files_as_their_augmentation_needs_them(zoo_main: Zoo, tree: Path, cache: Path) -> None:
    sizes = []
    for policy in ("none", "imagenet"):
        words = ("--data.root", tree, "--data.image_size", "8", "--data.augment", policy)
        outcome = zoo_main("data", "prepare", "--data", "folder", *words)
        assert outcome.status == 0, outcome.err
        sizes.append(sum(file.stat().st_size for file in cache.rglob("pixels.bin")))
    assert 0 < 2 * sizes[0] < sizes[1]


def test_check_reports_and_sets_the_exit_status(zoo_main: Zoo, tree: Path) -> None:
    """REQ-I3: files that are no images are reported before any training."""
    assert zoo_main("data", "check", tree).status == 0
    (tree / "coal/1.png").write_bytes(b"nothing")
    outcome = zoo_main("data", "check", tree)
    assert outcome.status == 1
    assert "coal/1.png" in outcome.out
    assert json.loads(zoo_main("data", "check", tree, "--json").out)["problems"]


def test_a_folder_is_trained_on_tested_and_classified(zoo_main: Zoo, tree: Path, tmp_path: Path) -> None:
    """REQ-I3: the classes come from the training folder, and the checkpoint has them."""
    fit = zoo_main(
        "fit", "--model", "lenet5", "--data", "folder", "--data.root", tree, "--recipe.epochs", "4", "--run_dir", "run",
        "--recipe.batch_size", "8", "--data.sampler", "balanced",
    )  # fmt: skip
    assert fit.status == 0, fit.err
    assert "folder: 79 train, 9 val, 22 test images of 3 x 32 x 32" in fit.out
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["metrics"]["test/acc"] > 0.9
    best = tmp_path / "run/checkpoints/best.ckpt"
    test = zoo_main("test", "--ckpt_path", best)
    assert f"test/acc  {record['metrics']['test/acc']!r}" in test.out
    assert "snow" in zoo_main("predict", "--ckpt_path", best, tree / "snow/1.png").out
    # Another tree, whose only classes are two of the three, keeps the labels that the model knows.
    for name in ("mist", "snow"):
        (tmp_path / f"other/train/{name}").mkdir(parents=True)
        (tmp_path / f"other/test/{name}").mkdir(parents=True)
        for number in range(12):
            (tmp_path / f"other/{'train' if number < 10 else 'test'}/{name}/{number}.png").write_bytes(
                (tree / name / f"{number}.png").read_bytes()
            )
    other = zoo_main("test", "--ckpt_path", best, "--data", "folder", "--data.root", tmp_path / "other")
    assert other.status == 0, other.err
    assert "4 test images" in other.out
    assert "100.00 %" in other.out


def test_a_tree_without_test_images_is_not_tested(zoo_main: Zoo, tree: Path, tmp_path: Path) -> None:
    for name in ("coal", "mist", "snow"):
        (tmp_path / "divided/train").mkdir(parents=True, exist_ok=True)
        (tree / name).rename(tmp_path / "divided/train" / name)
    words = ("--data", "folder", "--data.root", tmp_path / "divided", "--recipe.epochs", "1", "--run_dir", "run")
    fit = zoo_main("fit", "--model", "lenet5", *words)
    assert fit.status == 0, fit.err
    assert "validation accuracy" in fit.out
    test = zoo_main("test", "--ckpt_path", "run/checkpoints/best.ckpt")
    assert (test.status, "has no test images" in test.err) == (2, True)
    assert zoo_main("validate", "--ckpt_path", "run/checkpoints/best.ckpt").status == 0


def test_a_model_meets_only_the_classes_it_was_trained_on(zoo_main: Zoo, tmp_path: Path) -> None:
    one = ("fit", "--model", "mlp", "--recipe.epochs", "1", "--run_dir", "run", "--data.class_subset", "[3, 7]")
    assert zoo_main(*one).status == 0
    other = zoo_main("test", "--ckpt_path", "run/checkpoints/best.ckpt", "--data.class_subset", "[7, 3]")
    assert other.status == 2
    assert "was trained on the classes 3, 7, but digits has 7, 3" in other.err
    assert zoo_main("test", "--ckpt_path", "run/checkpoints/best.ckpt").status == 0


def test_own_policy_is_kept_by_the_run(zoo_main: Zoo, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("- HorizontalFlip: {p: 1.0}\n")
    options = ("--model", "mlp", "--recipe.epochs", "1")
    assert zoo_main("fit", *options, "--data.augment", "mine.yaml", "--run_dir", "run").status == 0
    (tmp_path / "mine.yaml").unlink()
    assert zoo_main("fit", "--config", "run/config.yaml", "--run_dir", "again").status == 0
    assert (tmp_path / "run/metrics.csv").read_text() == (tmp_path / "again/metrics.csv").read_text()
    assert zoo_main("test", "--ckpt_path", "run/checkpoints/best.ckpt").status == 0


def test_permuted_pixels_reach_training_test_and_prediction(zoo_main: Zoo, tmp_path: Path) -> None:
    from zoo import load
    from zoo.datamodules import Digits
    from zoo.datamodules.images import ImageFiles

    words = ("--model", "mlp", "--recipe.epochs", "8", "--data.augment", "none", "--data.permute_pixels", "5")
    assert zoo_main("fit", *words, "--run_dir", "run").status == 0
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["metrics"]["test/acc"] > 0.9
    test = zoo_main("test", "--ckpt_path", "run/checkpoints/best.ckpt")
    assert f"test/acc  {record['metrics']['test/acc']!r}" in test.out
    model = load(tmp_path / "run/checkpoints/best.ckpt")
    data = Digits(permute_pixels=5)
    images, labels = next(iter(data.test_dataloader()))
    seen, _ = data.on_after_batch_transfer((images, labels), 0)
    plain, _ = Digits().on_after_batch_transfer((images, labels), 0)
    assert not torch.equal(seen, plain)
    assert torch.equal(seen.flatten(1).sort().values, plain.flatten(1).sort().values)
    Image.fromarray(images[0, :, :, 0].numpy()).save(tmp_path / "digit.png")
    files = ImageFiles([tmp_path / "digit.png"], model.preprocessing)
    prepared, _ = files.on_after_batch_transfer(next(iter(files.predict_dataloader())), 0)
    assert torch.equal(prepared, seen[:1])


def test_the_command_trains_on_hub_data_and_shards(zoo_main: Zoo, tree: Path, tmp_path: Path) -> None:
    names = ("coal", "mist", "snow")
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for number in range(60):
            label = number % 3
            content = (tree / names[label] / f"{number // 3}.png").read_bytes()
            for suffix, data in (("png", content), ("cls", b"%d" % label)):
                info = tarfile.TarInfo(f"{number:04}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    common = ("--model", "lenet5", "--recipe.epochs", "3", "--recipe.batch_size", "8", "--data.num_workers", "0")
    for data, options in (
        ("huggingface", ("--data.path", tree)),
        ("webdataset", ("--data.train", "all.tar", "--data.classes", json.dumps(names), "--data.val_size", "0.2")),
    ):
        fit = zoo_main("fit", *common, "--data", data, *options, "--run_dir", data)
        assert fit.status == 0, fit.err
        validate = zoo_main("validate", "--ckpt_path", f"{data}/checkpoints/best.ckpt")
        assert validate.status == 0, validate.err
        record = json.loads((tmp_path / data / "run.json").read_text())
        assert f"val/acc  {record['best_val_acc']!r}" in validate.out
