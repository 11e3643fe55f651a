"""A hub that keeps what it is sent: of the API as much as an upload by its own client needs.

Files beyond `SMALL` bytes, and weights, go by Git LFS, as at the real one: by their digest, each
once. `refuse` makes it fail.
"""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

SMALL = 4096
COMMIT = "1" * 40
TOKEN = "hf_of_the_tests"


@dataclass
class Repository:
    """What one holds, and who may see it."""

    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})


@dataclass
class Hub:
    """Everything that the server was sent.

    Attributes:
        repositories: `models/user/name` and `datasets/user/name` -> what is there.
        stored: digest -> bytes, by Git LFS.
        puts: how many files came that way.
        refuse: beginning of `METHOD path` -> the status that it is answered with.
        saying: what it says then.
        silence_s: how long it waits before it answers.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    puts: int = 0
    refuse: dict[str, int] = field(default_factory=dict)
    saying: Any = field(default_factory=lambda: {"error": "made up"})
    silence_s: float = 0.0
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Answer a request."""
        words = unquote(urlsplit(path).path).strip("/").split("/")
        match (method, words):
            case ("POST", ["api", "validate-yaml"]):
                return 200, {"errors": [], "warnings": []}
            case ("POST", ["api", "repos", "create"]):
                return self._create(json.loads(body))
            case ("PUT", ["lfs", digest]):
                assert hashlib.sha256(body).hexdigest() == digest
                self.stored[digest], self.puts = body, self.puts + 1
                return 200, {}
            case ("POST", [*name, "info", "lfs", "objects", "batch"]):
                return 200, self._batch(json.loads(body))
            case (_, ["api", kind, user, name, *verb]):
                found = self.repositories.get(f"{kind}/{user}/{name}")
                if not found:
                    return 404, {"error": "RepoNotFound"}
                prefix = "" if kind == "models" else f"{kind}/"
                page = f"{self.url}/{prefix}{user}/{name}"
                return self._of(found, page, method, verb, body)
        raise AssertionError(f"{method} {path}")

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        kind = f"{asked.get('type', 'model')}s"
        name = f"{asked['organization']}/{asked['name']}"
        self.repositories[f"{kind}/{name}"] = Repository(asked["visibility"] == "private")
        return 200, {"url": f"{self.url}/{name}", "name": name}

    def _batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        def told(one: dict[str, Any]) -> dict[str, Any]:
            there = one["oid"] in self.stored
            href = {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}}
            return one | ({} if there else {"actions": href})

        return {"transfer": "basic", "objects": [told(one) for one in asked["objects"]]}

    def _of(
        self, here: Repository, page: str, method: str, verb: list[str], body: bytes
    ) -> tuple[int, Any]:
        match (method, verb):
            case ("GET", [] | ["revision", _]):
                return 200, {"id": "a/b", "private": here.private, "sha": "0" * 40, "siblings": []}
            case ("POST", ["branch", branch]):
                here.branches.setdefault(branch, dict(here.branches["main"]))
                return 200, {}
            case ("POST", ["preupload", _]):
                return 200, {"files": [self._mode(one) for one in json.loads(body)["files"]]}
            case ("POST", ["commit", branch]):
                files = here.branches[branch]
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        files[value["path"]] = self.stored[value["oid"]]
                url = f"{page}/commit/{COMMIT}"
                return 200, {"commitUrl": url, "commitOid": COMMIT, "success": True}
            case ("GET", ["tree", branch, *_]):
                listed = here.branches[branch].items()
                return 200, [
                    {"type": "file", "path": path, "oid": "2" * 40, "size": len(content)}
                    for path, content in listed
                ]
        raise AssertionError(f"{method} {verb}")

    @staticmethod
    def _mode(one: dict[str, Any]) -> dict[str, Any]:
        large = one["size"] > SMALL or one["path"].endswith(".safetensors")
        mode = "lfs" if large else "regular"
        return {"path": one["path"], "uploadMode": mode, "shouldIgnore": False}


@contextmanager
def serving() -> Iterator[Hub]:
    """Run the server on a port of its own."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = f"{self.command} {self.path}"
            hub.asked.append(asked)
            known = self.headers.get("Authorization") == f"Bearer {TOKEN}" or "/lfs/" in self.path
            refused = [status for begin, status in hub.refuse.items() if asked.startswith(begin)]
            if refused or not known:
                status, value = (refused or [401])[0], hub.saying
            else:
                status, value = hub.answer(self.command, self.path, body)
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            time.sleep(hub.silence_s)
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", value["error"])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_HEAD = _answer

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
