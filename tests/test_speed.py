"""Measurements of speed: contenders take turns, their figures are their own, and the fitted costs are right."""

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import Zoo
from zoo.benchmarks.speed_growth import line, page, write_pictures
from zoo.benchmarks.speed_promises import promises_table
from zoo.benchmarks.speed_table import smaller_tree
from zoo.benchmarks.turns import Measured, bare, ratio, take_turns, zoo_fit
from zoo.cli.speed import STEPS, default_image_size, default_steps
from zoo.datamodules.registry import dataset_spec

CONTENDER = """
import sys
from pathlib import Path
from zoo.benchmarks.turns import Turns
turns, ballast = Turns(), bytearray(int(sys.argv[2]))
for epoch in range(3):
    turns.wait()
    with open(sys.argv[3], "a") as file:
        file.write(sys.argv[1])
    turns.step()
    turns.done(10)
"""


def contender(name: str, path: Path, mebibytes: int = 0) -> list[str]:
    return [sys.executable, "-c", CONTENDER, name, str(mebibytes * 2**20), str(path)]


def test_contenders_train_one_at_a_time_in_turns(tmp_path: Path) -> None:
    order = tmp_path / "order"
    found = take_turns({name: contender(name, order) for name in "abc"}, rounds=2)
    assert order.read_text() == "abcabcabc"
    assert [len(found[name].images_per_second) for name in "abc"] == [2, 2, 2]  # the first epoch does not count


def test_what_is_done_after_a_turn_is_over_before_the_next_one(tmp_path: Path) -> None:
    order = tmp_path / "order"
    slow = """
import sys, time
from zoo.benchmarks.turns import Turns
turns = Turns()
for epoch in range(3):
    turns.wait()
    turns.done(10)
    time.sleep(0.3)
    open(sys.argv[3], "a").write("tidied ")
"""
    words = [sys.executable, "-c", slow, "a", "0", str(order)]
    take_turns({"slow": words, "b": contender("b", order)}, rounds=2)
    assert order.read_text().replace("b", "trained ").split() == ["tidied", "trained"] * 3


def test_peak_memory_is_each_contenders_own(tmp_path: Path) -> None:
    found = take_turns({str(size): contender("a", tmp_path / "order", size) for size in (0, 64)}, rounds=2)
    assert found["64"].peak_bytes - found["0"].peak_bytes == pytest.approx(64 * 2**20, rel=0.2)


def test_what_a_failed_contender_said_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^b: no such luck$"):
        take_turns({"b": [sys.executable, "-c", "raise SystemExit('no such luck')"]}, rounds=1)


def test_the_ratio_is_of_epochs_side_by_side() -> None:
    # A machine that becomes ten times slower: the medians alone would say 1.
    assert ratio(Measured([20.0, 20.0, 2.0, 2.0]), Measured([10.0, 10.0, 1.0, 1.0])) == 2.0


def test_zoo_fit_and_the_bare_loop_take_turns(tmp_path: Path) -> None:
    data = ["--data", "fake", "--data.train_size", "64", "--data.num_samples", "200", "--recipe.batch_size", "32"]
    ours = zoo_fit("--model", "mlp", *data, "--recipe.epochs", "2")
    shape = ["--model", "mlp", "--samples", "64", "--batch_size", "32"]
    found = take_turns({"zoo": ours, "bare": bare("tensors", *shape, "--epochs", "2")}, rounds=1)
    for measured in found.values():
        assert measured.images_per_second[0] > 0
        assert measured.first_step_seconds > 0


def test_a_smaller_tree_has_as_many_images_of_each_class(tmp_path: Path) -> None:
    for split, number in (("train", 30), ("test", 600)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for row in range(number):
                (tmp_path / split / name / f"{row:03}.jpg").touch()
    with smaller_tree(tmp_path, 20) as tree:
        counts = {split: [len([*f.iterdir()]) for f in sorted((tree / split).iterdir())] for split in ("train", "val")}
        assert counts == {"train": [10, 10], "val": [250, 250]}
        both = [{(f.parent.name, f.name) for f in (tree / split).rglob("*.jpg")} for split in ("val", "test")]
        assert len(both[1]) == 500
        assert not both[0] & both[1]
    assert not tree.exists()


def test_fixed_and_growing_costs_are_told_apart() -> None:
    batches = [1, 8, 64, 512]
    fixed, each = line(batches, [0.004 + 0.0005 * batch for batch in batches])
    assert fixed == pytest.approx(0.004)
    assert each == pytest.approx(0.0005)


def test_the_page_of_growth_says_where_the_knee_is(tmp_path: Path) -> None:
    common = {"model": "resnet20", "image_size": 32, "batch_size": 32}
    rates = {batch: batch / (0.004 + 0.0005 * batch) for batch in (1, 8, 64, 512)}
    found = {
        "image_size": [{**common, "image_size": s, "zoo": 1e6 / s**2, "tensors": 1e6 / s**2} for s in (32, 64)],
        "batch_size": [{**common, "batch_size": b, "zoo": rate, "tensors": rate} for b, rate in rates.items()],
        "data_size": [{**common, "images": n, "zoo": n / (0.1 + 1e-4 * n), "tensors": 1.0} for n in (1000, 60_000)],
        "processes": [{"processes": n, "batch_size": 128, "zoo": 100.0 * n} for n in (1, 2)],
    }
    text = page(found, "here")
    assert "A step costs 4.0 ms whatever the batch" in text
    assert "at 8 images" in text
    assert "An epoch costs 100 ms" in text
    assert "at 1,000 images" in text
    assert "2.00 times as many" in text
    assert "matrix products" not in text
    found["image_size"][0]["tensors"] /= 1.5
    assert "At 32 pixels `zoo fit` is 1.50 times as fast as the loop" in page(found, "here")
    assert all(path.name in text for path in write_pictures(found, tmp_path))


def test_benchmark_speed_shows_and_writes_its_figures(zoo_main: Zoo, tmp_path: Path) -> None:
    words = ("--model", "mlp", "--batch-size", "16", "--steps", "2", "--rounds", "1", "--output", "speed.json")
    done = zoo_main("benchmark", "speed", *words)
    assert done.status == 0, done.err
    (found,) = json.loads((tmp_path / "speed.json").read_text())["results"]
    assert found["ratio"] == pytest.approx(
        found["zoo"]["images_per_second"] / found["bare"]["images_per_second"], rel=0.01
    )
    assert f"{found['ratio']:.2f}" in done.out
    assert f"{found['zoo']['peak_bytes'] / 2**20:,.0f} MiB" in done.out


def test_small_networks_train_more_steps_in_an_epoch() -> None:
    digits, fake, folder = (dataset_spec(name) for name in ("digits", "fake", "folder"))
    sizes = [default_image_size(*each) for each in (("mlp", digits), ("lenet5", digits), ("resnet20", fake))]
    assert sizes == [digits.image_size, 32, 32]
    assert default_image_size("vgg16", folder) == 224
    assert default_steps("mlp", 1, 28, 64) == STEPS[1]
    assert STEPS[0] < default_steps("resnet20", 3, 32, 64) < STEPS[1]
    assert default_steps("vgg16", 3, 224, 64) == STEPS[0]


def test_benchmark_speed_takes_no_more_than_the_data_have(zoo_main: Zoo, tmp_path: Path) -> None:
    words = ("--model", "mlp", "--data", "digits", "--batch-size", "512", "--steps", "9", "--rounds", "1")
    done = zoo_main("benchmark", "speed", *words, "--output", "speed.json")
    assert done.status == 0, done.err
    (found,) = json.loads((tmp_path / "speed.json").read_text())["results"]
    assert found["zoo"]["images_per_second"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "mlpp"), "Did you mean 'mlp'"),
        (("--precision", "bf16"), "Did you mean 'bf16-"),
        (("--rounds", "0"), "must be a whole number, at least 1"),
        (("--output", "speed.txt"), "must end in .json"),
        (("--model", "mlp", "--data", "mnist", "--data.root", "nowhere"), "nowhere"),
    ],
)
def test_wrong_options_of_benchmark_speed_are_one_line(zoo_main: Zoo, words: tuple[str, ...], message: str) -> None:
    done = zoo_main("benchmark", "speed", *words)
    assert done.status == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_promises_hold_on_their_own_side() -> None:
    found = {"startup": {"ratio": 1.6}, "lightning": {"over_lightning": 3.2, "memory_over_lightning": 1.1}}
    lines = promises_table(found).splitlines()[2:]
    assert [line.split(" | ")[2:] for line in lines] == [
        ["at least 3 x", "3.20 x", "holds |"],
        ["at most 1.2 x", "1.10 x", "holds |"],
        ["at most 1.5 x", "1.60 x", "falls short |"],
    ]
