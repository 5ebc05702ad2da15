"""A few dozen of the long run's cases, what the long run has found, and whether it would find something."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoo.cli
from tests.conftest import ROOT, Zoo, environment
from tests.fuzz_configs import make_place
from tests.fuzz_configs_cases import DRY, Case, make_case
from tests.fuzz_configs_check import run_case
from zoo.cli.errors import UserError, memory_error


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the cases name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PL_GLOBAL_SEED", raising=False)
        patch.delenv("ZOO_RUN_DIR", raising=False)
        folder = tmp_path_factory.mktemp("fuzz") / "place"
        make_place(folder)
    return folder


def test_changed_files_and_command_lines_work_or_are_refused() -> None:
    """As the long run, in a process of its own: what other tests leave behind in this one is none of a command's."""
    words = [sys.executable, "-m", "tests.fuzz_configs", "--cases", "45", "--seed", "0"]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = {name: int(number) for name, number in re.findall(r"^([a-z ]+): (\d+)$", done.stdout, re.MULTILINE)}
    accepted, refused = (
        sum(figures[f"{kind} {what}"] for kind in ("files", "lines")) for what in ("accepted", "refused")
    )
    assert (figures["violations"], figures["cases"]) == (0, 45)
    assert min(accepted, refused) >= 10


def test_a_case_is_a_function_of_seed_and_number() -> None:
    assert [make_case(3, number) for number in range(20)] == [make_case(3, number) for number in range(20)]
    assert make_case(3, 0) != make_case(4, 0)
    assert len({str(make_case(3, number)) for number in range(200)}) > 150


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("raise TypeError('a bug')", "TypeError: a bug"),
        ("print('Traceback', file=sys.stderr); status = 1", "exit status 1"),
        ("status = 2", "0 lines of error"),
        ("Path('left').touch(); raise UserError('wrong')", "left ['../b/left']"),
        ("raise UserError('a word ' * 1000)", "a line of "),
        ("Path('run.json').write_text(RECORD)", "lr was 0.1 and became 0.2"),
    ],
)
def test_faults_would_be_found(
    fault: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = '{"model": "mlp", "arguments": {}, "recipe": {"lr": 0.2}, "seed": 0}'
    names = {"sys": __import__("sys"), "Path": Path, "UserError": UserError, "RECORD": record, "status": 0}

    def faulty(_: list[str]) -> int:
        exec(fault, names)  # one of the lines above
        return int(str(names["status"]))

    monkeypatch.setattr("zoo.cli._dispatch", faulty)
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    outcome = run_case(Case(["fit"], "model: mlp\nrecipe: {lr: 0.1}", ""))
    assert any(problem in found for found in outcome.problems), outcome


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"model: " + b"[" * 3000, "'case.yaml' is nested too deeply: settings have at most 30 levels"),
        (b"model: &m {class_path: mlp, init_args: {hidden: *m}}", "'case.yaml' is nested too deeply"),
        (
            b"a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
            b"c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\n"
            b"e: [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nmodel: mlp",
            "'case.yaml' has more than 10,000 settings",
        ),
        (b"model: m\xfclp", "'case.yaml' is no text in UTF-8: invalid start byte at byte 8"),
        (b"model: mlp\nseed_everything: 2020-13-45", "'case.yaml': month must be in 1..12"),
        (b"model: mlp\nrecipe: paper", "recipe is paper: it must be settings"),
        (b"model: " + b"a" * 5000, "unknown name '" + "a" * 119 + "..."),
        (b"3", "'case.yaml' has no settings, such as model: mlp"),
    ],
)
def test_files_that_were_tracebacks_or_had_no_end(text: bytes, message: str, zoo_main: Zoo, tmp_path: Path) -> None:
    (tmp_path / "case.yaml").write_bytes(text)
    outcome = zoo_main("fit", "--config", "case.yaml", *DRY)
    assert outcome.status == 2
    assert message in outcome.err
    assert len(outcome.err) < 1000
    assert outcome.err.count("\n") == 1


def test_a_callback_with_a_word_of_a_list_as_default_is_written_and_repeated(zoo_main: Zoo) -> None:
    """Lightning's Timer has an Enum, which jsonargparse did not write."""
    words = ("fit", "--model", "mlp", *DRY, "--trainer.callbacks", "lightning.pytorch.callbacks.Timer")
    assert "interval: step" in zoo_main(*words, "--print_config").out
    assert zoo_main(*words, "--run_dir", "run").status == 0
    again = zoo_main("fit", "--config", "run/config.yaml", "--run_dir", "again")
    assert again.status == 0, again.err


@pytest.mark.parametrize(
    ("error", "size"),
    [
        (MemoryError("Unable to allocate 745. GiB for an array with shape (100000000000,)"), " for 745. GiB"),
        (RuntimeError("can't allocate memory: you tried to allocate 256000000000 bytes."), " for 238.4 GiB"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has"), " for 2.50 GiB"),
        (RuntimeError("Storage size calculation overflowed with sizes=[300, 10000000000000000]"), ""),
        (MemoryError(), ""),
    ],
)
def test_what_does_not_fit_into_memory_is_said_in_one_line(
    error: Exception, size: str, zoo_main: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(zoo.cli, "_run", fail)
    outcome = zoo_main("fit", "--model", "mlp")
    assert outcome.status == 2
    assert f"zoo: error: memory does not suffice{size}: take a smaller model" in outcome.err


def test_other_errors_stay_what_they_are() -> None:
    assert memory_error(RuntimeError("a bug")) is None


def test_what_is_no_text_in_a_message_is_not_sent_to_the_terminal(zoo_main: Zoo) -> None:
    outcome = zoo_main("fit", "--model", "\x1b[2J\u202evgg")
    assert outcome.err.startswith("zoo: error: unknown model '?[2J?vgg'")
