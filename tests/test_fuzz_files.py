"""A hundred cases of the campaign on data files (`python -m tests.fuzz_files` runs a thousand), and its judge."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.fuzz_files_check import KINDS, Outcome, judge, make_case, run_case
from tests.fuzz_files_parts import Case
from zoo.datamodules import ImageDataModule

SEED, CASES = 2026, 100


def test_changed_files_are_read_right_or_refused_in_one_line(tmp_path: Path) -> None:
    """REQ-I2, REQ-I3: no traceback, no label of another file, nothing left behind, whatever bytes files have."""
    verdicts = Counter[str]()
    for number in range(CASES):
        work = tmp_path / str(number)
        work.mkdir()
        outcome = run_case(work, SEED, number, with_commands=number < 5)
        verdicts[outcome.verdict] += 1
        assert not outcome.problems, f"python -m tests.fuzz_files --seed {SEED} --case {number}: {outcome}"
    assert min(verdicts["accepted"], verdicts["refused"]) > CASES // 5, "most changes should get past the first check"


@pytest.mark.parametrize("build", KINDS)
def test_a_case_is_a_function_of_its_random_numbers(build: Callable[[Path, Random], Case], tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        case = build(tmp_path / name, Random("some case"))
        files = sorted(path for path in case.root.rglob("*") if path.is_file())
        contents.append([(path.relative_to(case.root), path.read_bytes()) for path in files])
        assert case.known or case.either or case.verdict == "refuse"
    # A .gz holds the time at which it was made; what is changed is in the same file all the same.
    assert [name for name, _ in contents[0]] == [name for name, _ in contents[1]]
    assert contents[0] == contents[1] or build.__name__ == "mnist"


def case_of(verdict: str = "") -> Case:
    def never() -> ImageDataModule:
        raise NotImplementedError

    known = [(b"one", "ant"), (b"two", "bee")]
    return Case("a case", Path(), never, known, either={b"three": "bee"}, free=["ant"], verdict=verdict)


GOOD = [(b"one", "ant"), (b"two", "bee")]


@pytest.mark.parametrize(
    ("pairs", "verdict", "problem"),
    [
        (GOOD, "", ""),
        ([*GOOD, (b"changed", "ant"), (b"three", "bee")], "accept", ""),
        (GOOD, "refuse", "accepted, but it should be refused"),
        (GOOD[:1], "", "1 of 2 untouched images are missing"),
        ([(b"one", "bee"), (b"two", "bee")], "", "1 of 2 untouched images are missing or have another class"),
        ([*GOOD, (b"three", "ant")], "", "an image of bee has the class ant"),
        ([*GOOD, (b"changed", "bee")], "", "images that nothing explains, of the classes ['bee']"),
        ([*GOOD, GOOD[0], GOOD[0]], "", "images that nothing explains, of the classes ['ant']"),
    ],
)
def test_the_judge_sees_wrong_labels(pairs: list[tuple[bytes, str]], verdict: str, problem: str) -> None:
    problems = judge(case_of(verdict), pairs)
    assert any(problem in line for line in problems) if problem else problems == []


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ValueError("photo.png: damaged"), ""),
        (FileNotFoundError("photo.png: no such file"), ""),
        (KeyError("label"), "an undocumented KeyError"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), "an undocumented UnicodeDecodeError"),
        (ValueError("two\nlines"), "no good line"),
        (ValueError("x" * 2000), "no good line"),
        (MemoryError(), "out of memory"),
    ],
)
def test_the_judge_sees_bad_errors(
    error: Exception, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(ImageDataModule, "prepare_data", refuse)
    monkeypatch.setattr("zoo.datamodules.Folder.prepare_data", refuse)
    monkeypatch.setattr("tests.fuzz_files_check.KINDS", {folder: 1 for folder in KINDS if folder.__name__ == "folder"})
    outcome: Outcome = run_case(tmp_path, SEED, 1, with_commands=False)
    assert outcome.verdict == "refused"
    assert any(problem in line for line in outcome.problems) if problem else outcome.problems == []


def test_cases_differ(tmp_path: Path) -> None:
    kinds = {make_case(tmp_path / str(number), SEED, number).what.partition(",")[0] for number in range(40)}
    assert kinds >= {"folder", "csv", "mnist", "cifar10"}
