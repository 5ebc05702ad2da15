"""Files from the hub and the web: a server that exists only here stands in for both."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from tests.conftest import ROOT
from zoo import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = bytes(range(256)) * 40
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
URL = f"https://weights.example/models/net-{DIGITS}.pth"


class Hub(ThreadingHTTPServer):
    """The part of the hub's protocol that fetching a file and uploading a folder use; notes what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.files: dict[str, dict[str, bytes]] = {}  # by repository
        self.large: dict[str, bytes] = {}  # by hash
        self.private: set[str] = set()
        self.errors: dict[str, tuple[int, str]] = {}  # status and error code by repository
        self.asked: list[str] = []
        self.messages: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the screen."""

    def answer(self, content: bytes = b"", status: int = 200, **headers: str) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def say(self, **facts: Any) -> None:
        self.answer(json.dumps(facts).encode())

    def do_HEAD(self) -> None:  # the standard library's name
        self.do_GET()

    def do_GET(self) -> None:
        repository, _, rest = self.path.removeprefix("/").removeprefix("api/models/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repository in self.server.errors:
            status, code = self.server.errors[repository]
            self.answer(b"", status, X_Error_Code=code)
        elif not repository:
            self.answer(b"the front page")
        elif repository not in self.server.files:
            self.answer(b"", 404, X_Error_Code="RepoNotFound")
        elif not rest:
            self.say(id=repository, sha=COMMIT, private=repository in self.server.private, siblings=[], tags=[])
        elif revision not in ("main", COMMIT):
            self.answer(b"", 404, X_Error_Code="RevisionNotFound")
        elif name not in self.server.files[repository]:
            self.answer(b"", 404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        else:
            content = self.server.files[repository][name]
            self.answer(content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=COMMIT)

    def do_PUT(self) -> None:
        self.server.large[self.path.rpartition("/")[2]] = self.body()
        self.answer()

    def do_POST(self) -> None:
        body = self.body()
        facts = {} if self.path.endswith("/commit/main") else json.loads(body)
        if self.headers["Authorization"] != "Bearer right":
            self.answer(b"{}", 401)
        elif self.path == "/api/repos/create":
            name = f"{facts['organization']}/{facts['name']}"
            if facts.get("visibility") == "private" and name not in self.server.files:
                self.server.private.add(name)
            self.server.files.setdefault(name, {})
            self.say(url=f"{self.server.endpoint}/{name}")
        elif "/preupload/" in self.path:
            modes = [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular"}
                for file in facts["files"]
            ]
            self.say(files=[{**mode, "shouldIgnore": False} for mode in modes])
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            place = f"{self.server.endpoint}/large"
            objects = [{**each, "actions": {"upload": {"href": f"{place}/{each['oid']}"}}} for each in facts["objects"]]
            self.say(objects=objects, transfer="basic")
        elif self.path.endswith("/commit/main"):
            self.commit(self.path.removeprefix("/api/models/").partition("/commit/")[0], body)
        else:
            self.say()  # the check of the card's header

    def commit(self, repository: str, body: bytes) -> None:
        import base64

        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.server.messages.append(value["summary"])
            elif line["key"] == "lfsFile":
                self.server.files[repository][value["path"]] = self.server.large[value["oid"]]
            else:
                self.server.files[repository][value["path"]] = base64.b64decode(value["content"])
        self.say(commitUrl=f"{self.server.endpoint}/{repository}/commit/{COMMIT}", commitOid=COMMIT)

    def body(self) -> bytes:
        if "chunked" not in (self.headers["Transfer-Encoding"] or ""):
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        return content


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the hub's cache; no login, no proxy, no memory of other tests. HF_* are read on import."""
    for name in ("HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its uploads go to servers of its own kind
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    close_session()
    yield tmp_path / "cache"
    close_session()


def use_endpoint(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def server(apart: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        use_endpoint(running.endpoint, monkeypatch)
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def silent(apart: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that accepts connections and never says anything; the patience for it is short here."""
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def no_network(apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError(f"network: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def write_cache(folder: Path, name: str = "model.safetensors") -> Path:
    """A file as the library leaves it in its cache."""
    repository = folder / "models--user--net"
    path = repository / "snapshots" / COMMIT / name
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return path


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# The hub


def test_a_file_is_fetched_once(server: Hub, apart: Path) -> None:
    server.files["user/net"] = {"model.safetensors": CONTENT}
    path = hub.hub_file("user/net", "model.safetensors")
    assert path.read_bytes() == CONTENT
    assert path == apart / "models--user--net" / "snapshots" / COMMIT / "model.safetensors"
    asked = len(server.asked)
    assert asked > 0
    assert hub.hub_file("user/net", "model.safetensors") == path
    assert hub.hub_file("user/net", "model.safetensors", "main") == path
    assert hub.hub_file("user/net", "model.safetensors", COMMIT) == path
    assert len(server.asked) == asked


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("is_offline", [False, True])
def test_a_cached_file_needs_no_network(is_offline: bool, apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
    path = write_cache(apart)
    assert hub.hub_file("user/net", "model.safetensors") == path


def test_the_environment_counts(server: Hub, tmp_path: Path) -> None:
    """In a process of its own, which reads HF_ENDPOINT and HF_HOME as a user's does."""
    server.files["user/net"] = {"model.safetensors": CONTENT}
    script = "from zoo.hub import hub_file; print(hub_file('user/net', 'model.safetensors'))"

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        variables |= {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": server.endpoint, "NO_PROXY": "127.0.0.1"}
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | variables
        command = [sys.executable, "-c", script]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)

    offline = run(HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert "HF_HUB_OFFLINE is set" in offline.stderr.splitlines()[-1]
    assert server.asked == []
    fetched = run()
    path = Path(fetched.stdout.strip())
    assert path.is_relative_to(tmp_path / "home" / "hub"), fetched.stderr
    assert path.read_bytes() == CONTENT
    assert run(HF_HUB_OFFLINE="1").stdout == fetched.stdout


@pytest.mark.usefixtures("no_network")
def test_offline_is_said_at_once(apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "embedded", lambda: {"lenet5.mnist": None, "mlp.mnist": None})
    with pytest.raises(ConnectionError) as error:
        hub.hub_file("user/net", "model.safetensors", "v2")
    assert one_line(error) == (
        f"model.safetensors of 'user/net' at revision v2 is not in {apart}/models--user--net, and HF_HUB_OFFLINE is set"
        "; weights in the package: lenet5.mnist, mlp.mnist"
    )
    monkeypatch.setattr(hub, "embedded", dict)
    with pytest.raises(ConnectionError, match=r"HF_HUB_OFFLINE is set$"):
        hub.hub_file("user/net", "model.safetensors")


def test_a_hub_that_does_not_answer(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_endpoint(silent, monkeypatch)
    with pytest.raises(ConnectionError, match=rf"is not in \S+, and {silent} (does not answer within 0.3 s|cannot be)"):
        hub.hub_file("user/net", "model.safetensors")


def test_a_look_up_that_hangs_is_given_up(apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No time limit of a socket ends it."""
    is_over = threading.Event()
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: is_over.wait() and [])
    use_endpoint("http://hub.example", monkeypatch)
    try:
        with pytest.raises(ConnectionError, match=r"http://hub.example does not answer within 0.1 s"):
            hub.hub_file("user/net", "model.safetensors")
    finally:
        is_over.set()


def test_a_proxy_that_does_not_answer(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", silent)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    use_endpoint("https://hub.example", monkeypatch)
    for fetch in (lambda: hub.hub_file("user/net", "model.safetensors"), lambda: hub.web_file(URL, DIGITS)):
        with pytest.raises(ConnectionError, match=r"https://\S+ (does not answer within 0.3 s|cannot be reached)"):
            fetch()


def test_a_refused_connection(apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    use_endpoint(f"http://127.0.0.1:{port}", monkeypatch)
    with pytest.raises(ConnectionError, match=rf"http://127.0.0.1:{port} cannot be reached \(.*refused\)"):
        hub.hub_file("user/net", "model.safetensors")


@pytest.mark.parametrize(
    ("repository", "filename", "revision", "kind", "text"),
    [
        ("user/none", "x", None, FileNotFoundError, r"no repository 'user/none' at \S+, or it is private: hf auth"),
        ("user/gated", "x", None, PermissionError, r"'user/gated' is gated: ask for access at \S+/user/gated, then hf"),
        ("user/net", "x", "v9", FileNotFoundError, r"'user/net' at \S+ has no x at revision v9: there is no such"),
        ("user/net", "x.bin", None, FileNotFoundError, r"'user/net' at \S+ has no x.bin$"),
        ("user/token", "x", None, PermissionError, "does not allow it with this token: hf auth login"),
        ("user/odd", "x", None, ConnectionError, r"'user/odd' at \S+ could not be used: "),
    ],
)
def test_what_is_not_there(
    repository: str, filename: str, revision: str | None, kind: type[OSError], text: str, server: Hub
) -> None:
    server.files["user/net"] = {"model.safetensors": CONTENT}
    server.errors = {"user/gated": (403, "GatedRepo"), "user/token": (403, ""), "user/odd": (418, "")}
    with pytest.raises(kind, match=text) as error:
        hub.hub_file(repository, filename, revision)
    one_line(error)


def test_a_full_disk_is_no_matter_of_the_network(server: Hub, apart: Path) -> None:
    server.files["user/net"] = {"model.safetensors": CONTENT}
    apart.write_text("a file where the cache should be")
    with pytest.raises((FileExistsError, NotADirectoryError)):
        hub.hub_file("user/net", "model.safetensors")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    "name",
    ["net", "user/net/more", "../net", "user/..", "user/net.git", "user/a--b", "-u/net", "user/ne t", f"u/{'n' * 95}"],
)
def test_malformed_names(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a repository on the hub: user/name") as error:
        hub.hub_file(name, "model.safetensors")
    assert repr(name) in one_line(error)


@pytest.mark.parametrize("name", ["user/net", "A.b_c-1/resnet18.a1_in1k", "u/n", f"u/{'n' * 94}", "user/x.gitty"])
def test_names(name: str) -> None:
    hub.check_repository(name)


# The web


@pytest.fixture
def web(server: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """https://weights.example/models/ is the local server."""
    real = urllib.request.urlopen

    def urlopen(request: urllib.request.Request, **options: Any) -> Any:
        request.full_url = request.full_url.replace(
            "https://weights.example/models", f"{server.endpoint}/a/b/resolve/main"
        )
        answer = real(request, **options)
        answer.url = answer.url.replace(server.endpoint, "https://weights.example")
        return answer

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(torch.hub, "urlopen", urlopen)
    server.files["a/b"] = {f"net-{DIGITS}.pth": CONTENT}
    return server


def checkpoints(tmp_path: Path) -> Path:
    return tmp_path / "torch" / "checkpoints"


def test_a_file_of_the_web_is_fetched_once(web: Hub, tmp_path: Path) -> None:
    path = hub.web_file(URL, DIGITS)
    assert path == checkpoints(tmp_path) / f"net-{DIGITS}.pth"
    assert path.read_bytes() == CONTENT
    asked = len(web.asked)
    assert hub.web_file(URL, DIGITS) == path
    assert len(web.asked) == asked == 2


@pytest.mark.usefixtures("no_network")
def test_what_torchvision_has_fetched_is_used(tmp_path: Path) -> None:
    path = checkpoints(tmp_path) / f"net-{DIGITS}.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert hub.web_file(URL, DIGITS) == hub.web_file(URL, None) == path
    path.write_bytes(CONTENT[:-1])
    found = hashlib.sha256(CONTENT[:-1]).hexdigest()[:8]
    with pytest.raises(ValueError) as error:
        hub.web_file(URL, DIGITS)
    assert one_line(error) == f"'{path}' is damaged: its SHA-256 begins with {found}, not {DIGITS}; delete it"


def test_another_file_is_not_kept(web: Hub, tmp_path: Path) -> None:
    web.files["a/b"][f"net-{DIGITS}.pth"] = CONTENT[1:]
    with pytest.raises(
        ConnectionError, match=rf"^{URL} did not arrive intact, invalid hash value .*: try again$"
    ) as error:
        hub.web_file(URL, DIGITS)
    one_line(error)
    assert list(checkpoints(tmp_path).iterdir()) == []


@pytest.mark.usefixtures("web")
def test_the_server_has_no_such_file() -> None:
    with pytest.raises(ConnectionError, match=r"other.pth could not be fetched: the server says 404 Not Found$"):
        hub.web_file(URL.replace(f"net-{DIGITS}", "other"), None)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("url", ["http://weights.example/net.pth", "file:///etc/passwd", "net.pth"])
def test_only_https(url: str) -> None:
    with pytest.raises(ValueError, match=r"^refused .*: only https:// addresses are used$"):
        hub.web_file(url, None)


def test_led_from_https_to_http(web: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urlopen = urllib.request.urlopen

    def lead(request: urllib.request.Request, **options: Any) -> Any:
        answer = urlopen(request, **options)
        answer.url = "http://weights.example/elsewhere"
        return answer

    monkeypatch.setattr(urllib.request, "urlopen", lead)
    with pytest.raises(ConnectionError, match=r"refused http://weights.example/elsewhere"):
        hub.web_file(URL, DIGITS)
    assert not checkpoints(tmp_path).exists()


def test_a_file_of_the_web_offline(silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "embedded", lambda: {"lenet5.mnist": None})
    with pytest.raises(ConnectionError) as error:
        hub.web_file(f"{silent.replace('http', 'https')}/net.pth", None)
    text = one_line(error)
    assert text.startswith(f"net.pth is not in {checkpoints(tmp_path)}, and https://127.0.0.1")
    assert text.endswith("; weights in the package: lenet5.mnist")
