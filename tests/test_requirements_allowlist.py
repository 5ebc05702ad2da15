"""REQ-C8, REQ-S2: what a command line or a file may name is imported from few packages, whichever command reads it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Zoo, environment
from tests.here import assert_one_line
from zoo.cli.parser import ALLOWED_IMPORTS

MODULE = "from pathlib import Path\nPath('marker').touch()\nclass Evil: pass\n"
VERBS: dict[str, tuple[str, ...]] = {
    "features": ("features", "--ckpt_path=lenet5.mnist"),
    "probe": ("probe", "--ckpt_path=lenet5.mnist"),
    "export": ("export", "lenet5.mnist", "--format=safetensors"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_imports_the_data_that_it_is_told(
    verb: str, zoo_command: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-C8: in a process that has parsed nothing else before, the verbs that take a trained model refuse too."""
    (tmp_path / "evilmodule.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    assert_one_line(zoo_command(*VERBS[verb], "--data", "evilmodule.Evil"), "evilmodule.Evil")
    assert [path.name for path in tmp_path.iterdir()] == ["evilmodule.py"]
    subprocess.run([sys.executable, "-c", "import evilmodule"], cwd=tmp_path, env=environment(), check=True)
    assert (tmp_path / "marker").exists(), "it could have been imported"


def test_four_packages_are_allowed() -> None:
    """REQ-C8: one more is a decision: whatever a package has by any name can then be called from a file."""
    assert ALLOWED_IMPORTS == ["zoo", "lightning.pytorch", "torch.optim", "torch.nn"]


@pytest.mark.parametrize("path", ["torch.hub.load", "torch.load", "builtins.exec", "shutil.rmtree", "pickle.loads"])
def test_functions_of_other_packages_are_refused(path: str, zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C8: neither parents of allowed packages nor the standard library, as a callback or as what it calls."""
    function = f"{{class_path: lightning.pytorch.callbacks.LambdaCallback, init_args: {{on_fit_start: {path}}}}}"
    for value in (path, f"{{class_path: {path}}}", function):
        (tmp_path / "run.yaml").write_text(f"model: mlp\ntrainer: {{fast_dev_run: true, callbacks: {value}}}")
        assert_one_line(zoo_main("fit", "--config=run.yaml"), path, "not allowed")


def test_the_settings_of_a_resumed_run_are_plain_values(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-S2: what a run folder says of its weights is read even where the settings come from another file."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("pretrained: !!python/object/apply:os.mkdir [marker]\n")
    (tmp_path / "sound.yaml").write_text("model: mlp\n")
    outcome = zoo_main("fit", "--config=sound.yaml", "--run_dir=run", "--resume")
    assert_one_line(outcome, "run/config.yaml", "is damaged", "python/object/apply")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["config.yaml", "run", "sound.yaml"]
