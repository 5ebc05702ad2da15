"""The house rules: who may import whom, what the README promises, what a checkout and its package hold."""

import ast
import importlib.metadata
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.conftest import ROOT, Zoo, write_idx
from zoo.benchmarks import tables
from zoo.recipe import Recipe

README = (ROOT / "README.md").read_text()
# Which of our packages the files of a folder may import.
ALLOWED = {
    "zoo": {"zoo"},
    "datamodules": {"zoo.datamodules"},
    "benchmarks": {"zoo", "zoo.datamodules", "zoo.benchmarks"},
    "cli": {"zoo", "zoo.datamodules", "zoo.benchmarks", "zoo.cli"},
}
PACKAGES = ("zoo.datamodules", "zoo.benchmarks", "zoo.cli")


def imported(path: Path) -> set[str]:
    """Our packages that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    ours = {name for name in found if name == "zoo" or name.startswith("zoo.")}
    return {next((package for package in PACKAGES if f"{name}.".startswith(f"{package}.")), "zoo") for name in ours}


@pytest.mark.parametrize("folder", ALLOWED)
def test_arrows_point_one_way(folder: str) -> None:
    for path in (ROOT / folder).glob("*.py"):
        if path == ROOT / "zoo" / "__main__.py":  # `python -m zoo` is the command
            continue
        assert imported(path) <= ALLOWED[folder], path


def test_folders_are_flat_so_that_the_wheel_holds_all() -> None:
    for folder in ALLOWED:
        nested = [path for path in (ROOT / folder).glob("*/*.py") if not path.parent.is_symlink()]
        assert not nested


def test_version_and_licence() -> None:
    assert importlib.metadata.version("lightning-zoo") == zoo.__version__
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert f"## {zoo.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) < 60


def test_albumentations_successor_under_another_licence_is_not_installed_with_us() -> None:
    """REQ-A2: the successor of albumentations, under another licence, is not in our dependencies."""
    requirements = importlib.metadata.requires("lightning-zoo") or []
    assert "albumentations==2.0.8" in requirements
    installed = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    assert "albumentationsx" not in installed


def test_tables_in_the_readme_are_those_of_the_result_files() -> None:
    assert tables.render(README) == README


@pytest.mark.parametrize("name", sorted(tables.read_runs("digits")))
def test_results_are_of_the_recipes_that_the_models_have(name: str) -> None:
    """A recipe that changes needs a new run: else the README would promise what the command does not do."""
    run = tables.read_runs("digits")[name]
    recipe = zoo.model_info(run["model"]).recipe(run["recipe"]["name"])
    trained = {key: value for key, value in run["recipe"].items() if key not in ("name", "source")}
    assert Recipe(**trained, source=recipe.source) == recipe  # a field that is newer than the run has its default


def readme_commands() -> list[str]:
    # Fences in pairs, those of Python too: else the end of one would be taken for the beginning of the next.
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.S | re.M)
    blocks = [text for language, text in fenced if not language]
    lines = [re.split(r"\s{3,}", line)[0] for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("zoo ")]


def test_the_readme_has_commands() -> None:
    assert len(readme_commands()) >= 9


def write_pets(root: Path) -> None:
    """The folder that the README's commands name."""
    from PIL import Image

    for number, name in enumerate(["cat", "dog"] * 10):
        (root / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (10 * number, 0, 0)).save(root / name / f"{number}.png")


def write_what_is_classified(folder: Path) -> None:
    """A photograph, a folder of them, and a small MNIST."""
    from PIL import Image

    (folder / "folder").mkdir()
    for path in ("photo.png", "folder/one.png"):
        Image.new("L", (20, 20)).save(folder / path)
    generator = np.random.default_rng(0)
    for prefix, number in (("train", 200), ("t10k", 20)):
        raw = folder / f"data/MNIST/raw/{prefix}"
        write_idx(Path(f"{raw}-images-idx3-ubyte"), generator.integers(0, 255, (number, 28, 28)))
        write_idx(Path(f"{raw}-labels-idx1-ubyte"), np.arange(number) % 10)


@pytest.mark.parametrize("line", [line for line in readme_commands() if "RUN" not in line])
def test_readme_commands_work(line: str, zoo_main: Zoo, tmp_path: Path) -> None:
    write_pets(tmp_path / "pets")
    write_what_is_classified(tmp_path)
    words = shlex.split(line.replace("DIR", str(tmp_path / "data")))[1:]
    if words[0] == "probe":
        zoo_main(*shlex.split(next(command for command in readme_commands() if "zoo features" in command))[1:])
    outcome = zoo_main(*words, *(["--print_config"] if words[0] == "fit" else []))
    assert outcome.status == 0, outcome.err
    assert ("class_path: zoo.names." in outcome.out) == (words[0] == "fit")


def test_readme_commands_after_a_run(zoo_main: Zoo, tmp_path: Path) -> None:
    assert zoo_main("fit", "--model", "mlp", "--recipe.epochs", 1, "--run_dir", "runs/RUN").status == 0
    write_what_is_classified(tmp_path)
    for line in readme_commands():
        if "RUN" in line:
            offline = ["--output", "published"] if "zoo push" in line else []
            outcome = zoo_main(*shlex.split(line)[1:], *offline)
            assert outcome.status == 0, (line, outcome.err)


@pytest.mark.parametrize(
    "code", re.findall(r"```python\n(.*?)```", README, flags=re.S), ids=["weights", "train", "gradients"]
)
def test_readme_python_runs(code: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words", [["--version"], ["list"], ["info", "vgg16"], ["fit", "--model", "vgg61"], ["--help"], ["fit", "--model=x"]]
)
def test_quick_answers_need_no_torch(words: list[str]) -> None:
    """REQ-C7: what needs no network answers without importing torch."""
    code = (
        "import sys\nfrom zoo.cli import main\n"
        f"status = main({words!r})\n"
        "heavy = {'torch', 'lightning', 'numpy', 'matplotlib', 'timm', 'albumentations'} & sys.modules.keys()\n"
        "assert not heavy, heavy\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == (2 if "fit" in words else 0), done.stderr
    assert "Traceback" not in done.stderr


def test_fitting_opens_no_connection(zoo_main: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert zoo_main("fit", "--model", "mlp", "--recipe.epochs", 1).status == 0


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_help_starts_with_what_people_use(verb: str, zoo_main: Zoo) -> None:
    outcome = zoo_main(verb, "--help")
    assert outcome.status == 0, outcome.err
    assert f"usage: zoo {verb}" in outcome.out
    if verb != "predict":
        assert "--model.init he|xavier|lecun|normal|normal(STD)|orthogonal|paper" in outcome.out
    order = ["\n  --trainer.accelerator", "\n  --ckpt_path", "\n  --trainer.num_nodes"]
    assert sorted(order, key=outcome.out.index) == order
    assert max(map(len, outcome.out.splitlines())) <= 180


@pytest.mark.parametrize("name", zoo.list_models())
def test_info_tells_the_facts(name: str, zoo_main: Zoo) -> None:
    outcome = zoo_main("info", name)
    assert outcome.status == 0
    info = zoo.model_info(name)
    assert f"{info.parameters:,}" in outcome.out
    assert all(deviation.what in outcome.out for deviation in info.deviations)
    assert name in zoo_main("list").out


@pytest.mark.parametrize("name", zoo.list_models())
def test_every_default_recipe_runs(name: str, zoo_main: Zoo) -> None:
    outcome = zoo_main("fit", "--model", name, "--data", "fake", "--trainer.fast_dev_run", "true")
    assert outcome.status == 0, outcome.err
