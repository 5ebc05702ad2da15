"""`zoo push`: what it writes, what arrives at a hub that exists only here, and what it keeps to itself."""

import errno
import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import zoo
from tests.conftest import Zoo
from tests.test_hub import Hub, apart, server, silent, use_endpoint
from zoo.cli.push import run_of
from zoo.model_card import model_card, publishable
from zoo.weight_files import read_weights
from zoo.weights import embedded

__all__ = ["apart", "server", "silent"]  # fixtures

NAMES = ["T-shirt/top", "a|b", "c:\n- 'd'", "<script>", *"456789"]
DATA: dict[str, Any] = {
    "name": "folder",
    "args": {
        "root": "/home/me/photos",
        "augment": "/home/me/policy.yaml",
        "batch_size": 16,
        "classes": NAMES,
        "seed": 0,
    },
    "preprocessing": {"image_size": 32, "in_channels": 1, "border": 2, "mean": [0.5], "std": [0.25]},
    "class_names": NAMES,
}
RECORD: dict[str, Any] = {
    "status": "finished",
    "model": "lenet5",
    "data": "folder",
    "seed": 3,
    "parameters": 61_706,
    "images": {"train": 900, "val": 100, "test": 360},
    "command": "zoo fit --model lenet5 --data folder --data.root /home/me/photos",
    "hardware": {"processor": "Some Processor", "cores": 2, "gpus": [], "system": "Linux-secret-host"},
    "versions": {"torch": "2.15.0"},
    "git_commit": "0123456789abcdef",
    "epochs": 7,
    "notices": ["/home/me/photos/broken.jpg cannot be read"],
    "metrics": {"test/acc": 0.9722222089767456, "test/loss": 0.1},
    "best_val_acc": 0.9800000190734863,
}
WHERE = ("--output", "out")
UPLOADS = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # inside huggingface_hub 2.4


def save_model(path: Path, **changes: Any) -> zoo.ImageClassifier:
    """A checkpoint of a network with random weights that says it was trained."""
    torch.manual_seed(0)
    model = zoo.create_model("lenet5", num_classes=10)
    model.data, model.preprocessing, model.class_names = DATA, DATA["preprocessing"], NAMES
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": model.state_dict(), "zoo": {**model.description(), **changes}}, path)
    return model.eval()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The best checkpoint of a finished run, with what else the run left."""
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    save_model(path)
    (tmp_path / "run" / "run.json").write_text(json.dumps(RECORD))
    (tmp_path / "run" / "curves.png").write_bytes(b"a picture")
    (tmp_path / "run" / "config.yaml").write_text("trainer:\n  fast_dev_run: false\n")
    return path


def parts(card: str) -> tuple[dict[str, Any], str]:
    """Header and text of a card."""
    _, header, text = card.split("---\n", 2)
    return yaml.safe_load(header), text


def cells(text: str) -> dict[str, str]:
    """First and second column of the card's tables."""
    rows = [re.split(r"(?<!\\)\|", line)[1:3] for line in text.splitlines() if line.startswith("|")]
    return {key.strip(): re.sub(r"\\(\W|_)", r"\1", value).strip() for key, value in rows}


# The folder


def test_the_folder_holds_the_model(checkpoint: Path, tmp_path: Path, zoo_main: Zoo) -> None:
    done = zoo_main("push", checkpoint, "user/net", *WHERE)
    assert (done.status, done.err) == (0, "")
    names = ["README.md", "config.json", "curves.png", "model.safetensors"]
    assert done.out == f"folder: out ({', '.join(names)})\n"
    folder = tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "curves.png").read_bytes() == b"a picture"
    model, again = zoo.load(checkpoint), zoo.load(folder / "model.safetensors")
    images = torch.rand(3, 1, 32, 32)
    assert torch.equal(model(images), again(images))
    assert (again.class_names, again.preprocessing) == (NAMES, DATA["preprocessing"])
    description = read_weights(folder / "model.safetensors").description
    assert description == json.loads((folder / "config.json").read_text())
    assert description == {
        **model.description(),
        "data": {**DATA, "args": {"batch_size": 16, "classes": NAMES, "seed": 0}},
    }


def test_nothing_local_is_published(checkpoint: Path, tmp_path: Path, zoo_main: Zoo) -> None:
    assert zoo_main("push", checkpoint, "user/net", *WHERE).status == 0
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        for secret in (b"/home/me", b"photos", b"secret-host", str(tmp_path).encode(), b"0123456789abcdef"):
            assert secret not in content, (path.name, secret)


def test_the_card_says_what_the_run_said(checkpoint: Path, tmp_path: Path, zoo_main: Zoo) -> None:
    zoo_main("push", checkpoint, "user/net", *WHERE)
    header, text = parts((tmp_path / "out" / "README.md").read_text())
    assert (header["license"], header["library_name"], header["pipeline_tag"]) == (
        "apache-2.0", "lightning-zoo", "image-classification"
    )  # fmt: skip
    (entry,) = header["model-index"]
    (result,) = entry["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": 0.972222}]
    assert result["dataset"]["split"] == "test"
    facts = cells(text)
    assert facts["parameters"] == "61,706"
    assert (facts["test set"], facts["validation split"]) == ("97.22 %", "98.00 %")
    assert (facts["seed"], facts["epochs"], facts["torch"]) == ("3", "7", "2.15.0")
    assert facts["processor"] == "Some Processor"
    assert facts["recipe: lr"] == f"{zoo.model_info('lenet5').recipe().lr:g}"
    assert "command" not in facts
    assert "![loss and accuracy by epoch](curves.png)" in text
    assert 'zoo.load("hf-hub:user/net")' in text
    assert "zoo predict --ckpt_path hf-hub:user/net photo.png" in text
    assert "zoo fit --model lenet5 --model.pretrained hf-hub:user/net --data" in text
    assert text.count("\n- ") >= len(zoo.model_info("lenet5").deviations)
    assert zoo.model_info("lenet5").paper.url in text


def test_class_names_break_nothing(checkpoint: Path, tmp_path: Path, zoo_main: Zoo) -> None:
    zoo_main("push", checkpoint, "user/net", *WHERE)
    _, text = parts((tmp_path / "out" / "README.md").read_text())
    assert "\n" + r"| class names | T-shirt/top, a\|b, c: - 'd', \<script\>, 4, 5, 6, 7, 8, 9 |" + "\n" in text


@pytest.mark.parametrize("case", ["last", "running", "limited", "other model", "no run", "resumed"])
def test_only_results_of_these_weights(case: str, checkpoint: Path) -> None:
    folder = checkpoint.parent.parent
    changes: dict[str, Any] = {"running": {"status": "running"}, "resumed": {"earlier": [{}]}}.get(case, {})
    (folder / "run.json").write_text(json.dumps(RECORD | {"seconds": 5.0} | changes))
    path = checkpoint
    if case == "last":
        path = checkpoint.with_name("last.ckpt")
        path.write_bytes(checkpoint.read_bytes())
    if case == "limited":
        (folder / "config.yaml").write_text("trainer:\n  limit_test_batches: 0.5\n")
    if case == "no run":
        (folder / "run.json").unlink()
    model = "resnet20" if case == "other model" else "lenet5"
    _, record = run_of(path, model)
    facts = cells(model_card(zoo.load(path).description(), record, "user/net"))
    expected = {"limited": (False, True), "resumed": (True, True)}.get(case, (False, False))
    assert ("test set" in facts, "validation split" in facts) == expected
    assert ("seed" in facts) == (case not in ("other model", "no run"))
    assert ("seconds" in facts) == (case in ("last", "running", "limited"))


def test_without_a_best_epoch_the_last_one_was_tested(checkpoint: Path) -> None:
    last = checkpoint.rename(checkpoint.with_name("last.ckpt"))
    assert run_of(last, "lenet5")[1]["metrics"] == RECORD["metrics"]


def test_a_run_of_the_command(tmp_path: Path, zoo_main: Zoo) -> None:
    """What `zoo fit` writes is what the card reads."""
    words = ["fit", "--model", "lenet5", "--recipe.epochs", "1", "--run_dir", "run", "--trainer.accelerator", "cpu"]
    assert zoo_main(*words).status == 0
    assert zoo_main("push", "run/checkpoints/best.ckpt", "user/net", *WHERE).status == 0
    _, text = parts((tmp_path / "out" / "README.md").read_text())
    facts, record = cells(text), json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["test set"] == f"{100 * record['metrics']['test/acc']:.2f} %"
    assert facts["validation split"] == f"{100 * record['best_val_acc']:.2f} %"
    assert facts["images: test"] == "360"
    assert facts["command"] == "zoo " + " ".join(words)
    assert (tmp_path / "out" / "curves.png").read_bytes() == (tmp_path / "run" / "curves.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ({"path": "user/data", "revision": "main"}, {"path": "user/data", "revision": "main"}),
        ({"path": "here/data", "config": None}, {"config": None}),
        ({"train": "https://host/a-{0..3}.tar?token=x", "val": "pipe:cat /x", "drop_last": True}, {"drop_last": True}),
        ({"augment": [{"name": "Rotate", "file": "C:\\x"}], "normalize": "auto"}, {"normalize": "auto"}),
        (
            {"file": "table.csv", "root": "images", "augment": "~/p.yaml", "class_subset": ["a/b"]},
            {"class_subset": ["a/b"]},
        ),
        ({"augment": "policy.yaml"}, {}),
        ({"augment": "affine"}, {"augment": "affine"}),
    ],
)
def test_places_are_left_out(
    arguments: dict[str, Any], kept: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "data").mkdir(parents=True)
    (tmp_path / "policy.yaml").touch()
    description = {
        "args": {"backbone": "resnet18.a1_in1k"},
        "data": {"args": arguments},
        "pretrained": "/home/me/w.ckpt",
    }
    public = publishable(description)
    assert public["data"]["args"] == kept
    assert (public["args"], public["pretrained"]) == (description["args"], "w.ckpt")
    assert description["data"] == {"args": arguments}


@pytest.mark.parametrize(
    ("pretrained", "licence", "says"),
    [
        ("", "apache-2.0", ""),
        ("resnet18.imagenet", "other", "terms of ImageNet"),
        ("hf-hub:a/b", "other", "hf-hub:a/b"),
    ],
)
def test_the_terms_of_the_weights_it_started_from(pretrained: str, licence: str, says: str) -> None:
    description = zoo.create_model("lenet5", num_classes=10).description() | {"pretrained": pretrained}
    header, text = parts(model_card(description, None, None))
    assert header["license"] == licence
    assert says in text
    assert ("whose terms apply" in text) == (licence == "other")
    assert 'zoo.load("model.safetensors")' in text
    assert "test set" not in text


def test_weights_that_were_not_trained_since(tmp_path: Path, zoo_main: Zoo) -> None:
    """The recipe of the model is not how they came about."""
    known = embedded()["lenet5.mnist"]
    assert zoo_main("push", "lenet5.mnist", "user/net", *WHERE).status == 0
    header, text = parts((tmp_path / "out" / "README.md").read_text())
    facts = cells(text)
    assert (facts["started from"], facts["data"], header["license"]) == ("lenet5.mnist", known.data, "apache-2.0")
    assert all(facts[key] == value for key, value in known.results.items())
    assert not any(key.startswith("recipe:") for key in facts)


# The hub


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda token: monkeypatch.setenv("HF_TOKEN", token)


@UPLOADS
def test_what_arrives(checkpoint: Path, server: Hub, login: Any, tmp_path: Path, zoo_main: Zoo) -> None:
    login("right")
    zoo_main("push", checkpoint, "user/net", *WHERE)
    assert server.asked == []
    done = zoo_main("push", checkpoint, "user/net", "--message", "the first")
    assert (done.status, done.err) == (0, "")
    address = f"{server.endpoint}/user/net"
    assert done.out == f"published: {address}\nnext:  zoo predict --ckpt_path hf-hub:user/net IMAGE...\n"
    assert server.files["user/net"] == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert server.messages == ["the first"]
    assert server.private == set()
    images = torch.rand(3, 1, 32, 32)
    assert torch.equal(zoo.load("hf-hub:user/net")(images), zoo.load(checkpoint)(images))


@UPLOADS
def test_private(checkpoint: Path, server: Hub, login: Any, zoo_main: Zoo) -> None:
    login("right")
    server.files["user/public"] = {}
    refused = zoo_main("push", checkpoint, "user/public", "--private")
    assert refused.status == 2
    assert (
        f"'user/public' exists and is public: make it private at {server.endpoint}/user/public/settings" in refused.err
    )
    assert server.files["user/public"] == {}
    assert zoo_main("push", checkpoint, "user/hidden", "--private").status == 0
    assert server.private == {"user/hidden"}
    assert set(server.files["user/hidden"]) == {"README.md", "config.json", "curves.png", "model.safetensors"}


def test_nobody_is_logged_in(checkpoint: Path, server: Hub, login: Any, zoo_main: Zoo) -> None:
    done = zoo_main("push", checkpoint, "user/net")
    assert done.status == 2
    assert done.err == f"zoo: error: not logged in to {server.endpoint}: hf auth login, or set HF_TOKEN\n"
    login("wrong")
    done = zoo_main("push", checkpoint, "user/net")
    assert done.status == 2
    assert re.fullmatch(r"zoo: error: 'user/net' at \S+ does not allow it with this token: hf auth .*\n", done.err)
    assert server.files == {}


@pytest.mark.usefixtures("login")
def test_offline(silent: str, monkeypatch: pytest.MonkeyPatch, zoo_main: Zoo) -> None:
    use_endpoint(silent, monkeypatch)
    done = zoo_main("push", "never-read.ckpt", "user/net")
    assert done.status == 2
    assert re.fullmatch(rf"zoo: error: 'user/net' cannot be published: {silent} .*\n", done.err)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    done = zoo_main("push", "never-read.ckpt", "user/net")
    assert done.err == "zoo: error: 'user/net' cannot be published: HF_HUB_OFFLINE is set\n"


# What is wrong


@pytest.fixture
def unconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"network: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("unconnected")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.ckpt", "net"], "'net' is no name of a repository on the hub: user/name, in letters"),
        (["x.ckpt", "hf-hub:user/net", *WHERE], "'hf-hub:user/net' is no name of a repository"),
        (["x.ckpt", "user/net", *WHERE], "x.ckpt'"),
        (["x.ckpt", "user/net", "--output", "full"], "'full' is not empty: name another folder"),
        (["x.ckpt", "user/net", "--output", "full/file"], "'full/file' is a file: name a folder"),
        (["x.ckpt"], "USER/NAME: see zoo push --help"),
        (["x.ckpt", "user/net", "--privat"], "--privat: see zoo push --help"),
    ],
)
def test_one_line(words: list[str], message: str, tmp_path: Path, zoo_main: Zoo) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    done = zoo_main("push", *words)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("zoo: error: ")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


@pytest.mark.usefixtures("unconnected")
@pytest.mark.parametrize(
    ("name", "content"), [("run.json", "{"), ("run.json", "[]"), ("run.json", "{}"), ("config.yaml", "a: [")]
)
def test_a_damaged_run_folder(name: str, content: str, checkpoint: Path, tmp_path: Path, zoo_main: Zoo) -> None:
    (checkpoint.parent.parent / name).write_text(content)
    done = zoo_main("push", checkpoint, "user/net", *WHERE)
    assert done.status == 2
    assert f"{name}' is damaged: " in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("is_there", [False, True])
def test_on_a_full_disk_nothing_is_left(
    is_there: bool, checkpoint: Path, tmp_path: Path, zoo_main: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, *_: Any) -> None:
        path.write_text("half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if is_there:
        (tmp_path / "out").mkdir()
    monkeypatch.setattr("zoo.weight_files.write_weights", fail)
    done = zoo_main("push", checkpoint, "user/net", "--output", "out" if is_there else "out/net")
    assert (done.status, done.err) == (2, "zoo: error: no space left on device\n")
    assert (tmp_path / "out").exists() == is_there
    assert not is_there or not any((tmp_path / "out").iterdir())


def test_an_empty_folder_is_used(checkpoint: Path, tmp_path: Path, zoo_main: Zoo) -> None:
    (tmp_path / "out").mkdir()
    assert zoo_main("push", checkpoint, "user/net", *WHERE).status == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
