"""A Hugging Face Hub on 127.0.0.1: answers as huggingface.co does, from folders on disk.

Source of paths and headers: huggingface_hub's file_download.py, hf_api.py and utils/_http.py.
"""

import base64
import contextlib
import dataclasses
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from ruamel.yaml import YAML

_FILE = re.compile(r"/(?P<data>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_INFO = re.compile(
    r"/api/(?P<data>model|dataset)s/(?P<repo>[^/]+/[^/]+)"
    r"(?:/(?P<what>revision|tree|paths-info|auth-check)(?:/(?P<revision>[^/]+)(?:/(?P<folder>.+))?)?)?"
)


@dataclasses.dataclass
class Repo:
    """A repository: {commit: folder}, {branch or tag: commit}.

    `breaks` never sends more than the first half of a weight file; `stumbles` cuts off one answer only.
    """

    commits: dict[str, Path]
    refs: dict[str, str]
    gated: bool = False
    breaks: bool = False
    stumbles: bool = False


@dataclasses.dataclass
class FakeHub:
    """The server's repositories and tokens, what was asked of it, and what was uploaded.

    `writers` are the tokens that may write; `private` says of which repositories it is known.
    """

    url: str = ""
    repos: dict[str, Repo] = dataclasses.field(default_factory=dict)
    writers: set[str] = dataclasses.field(default_factory=set)
    private: dict[str, bool] = dataclasses.field(default_factory=dict)
    uploaded: dict[str, dict[str, bytes]] = dataclasses.field(default_factory=dict)  # {repository: {file: content}}
    tokens: dict[str, set[str]] = dataclasses.field(default_factory=dict)  # to the gated repositories accepted
    asked: list[str] = dataclasses.field(default_factory=list)

    def publish(self, repo: str, folder: Path, commit: str = "a" * 40, **options: bool) -> None:
        """Make a folder the newest commit of main."""
        known = self.repos.setdefault(repo, Repo({}, {}, **options))
        known.commits[commit] = folder
        known.refs["main"] = commit


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self._body()
        self.posted = parse_qs(body.decode(errors="replace"))
        if "/paths-info/" in self.path:
            return self.do_GET()
        self.hub.asked.append(f"POST {self.path}")
        if self.headers.get("authorization", "").removeprefix("Bearer ") not in self.hub.writers:
            return self._refuse(401, "", "Invalid username or password.")
        self._answer(self._upload(body))

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, answer: dict | None) -> None:
        if answer is None:
            return self._refuse(404, "", "no such path")
        self._send(200, json.dumps(answer).encode())

    def _upload(self, body: bytes) -> dict | None:
        """Answer one step of an upload: a new repository, which files go how, and a commit with all of them."""
        if self.path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.hub.private[name] = asked.get("visibility") == "private"
            return {"url": f"{self.hub.url}/{name}", "name": name}
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main(\?.*)?", self.path)
        if found is None:
            return None
        if found[2] == "preupload":
            return {
                "files": [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
            }
        lines = [json.loads(line) for line in body.splitlines()]
        files = {line["value"]["path"]: line["value"]["content"] for line in lines if line["key"] == "file"}
        self.hub.uploaded[found[1]] = {path: base64.b64decode(content) for path, content in files.items()}
        oid = "c" * 40
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{found[1]}/commit/{oid}"}

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        part = self.headers.get("range", "")
        self.hub.asked.append(f"{self.command} {path} {part}".rstrip())
        match = _INFO.fullmatch(path) or _FILE.fullmatch(path)
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        if match is None:
            return self._refuse(404, "", "no such path")
        data = match["data"] in ("dataset", "datasets/")
        repo = self.hub.repos.get(("datasets/" if data else "") + match["repo"])
        if repo is None:
            # The Hub does not tell strangers whether a private repository exists.
            return self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        wanted = unquote(match["revision"] or "main")
        commit = repo.refs.get(wanted, wanted)
        if commit not in repo.commits:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {wanted}")
        named = match.groupdict()
        if "file" not in named and named["what"] in ("tree", "paths-info"):
            return self._tree(repo.commits[commit] / unquote(named["folder"] or ""), repo.commits[commit], commit)
        if "file" not in named and named["what"] != "auth-check":
            return self._info(match["repo"], repo, commit)  # a gated repository shows this to all
        if repo.gated and match["repo"] not in self.hub.tokens.get(token, set()):
            return self._refuse(403 if token else 401, "GatedRepo", f"Access to {match['repo']} is restricted.")
        if "file" not in named:
            return self._send(200, b"{}", commit)
        file = repo.commits[commit] / unquote(match["file"])
        if not file.is_file():
            return self._refuse(404, "EntryNotFound", "Entry not found", commit)
        content = file.read_bytes()
        if file.suffix != ".safetensors":
            return self._send(200, content, commit)
        half = len(content) // 2
        ends = half if repo.breaks or repo.stumbles else len(content)
        if self.command == "GET":
            repo.stumbles = False
        start = int(part.removeprefix("bytes=").rstrip("-") or 0)
        self._send(206 if start else 200, content[start:], commit, max(ends - start, 0), whole=content)

    def _info(self, name: str, repo: Repo, commit: str) -> None:
        folder = repo.commits[commit]
        files = [{"rfilename": str(path.relative_to(folder)), "size": path.stat().st_size} for path in _files(folder)]
        answer = {
            "id": name,
            "sha": commit,
            "private": self.hub.private.get(name, False),
            "gated": "auto" if repo.gated else False,
        }
        answer |= {"tags": [], "downloads": 0, "siblings": files}
        card = folder / "README.md"
        if card.is_file() and (found := re.match(r"---\n(.*?)\n---", card.read_text(), re.DOTALL)):
            answer["cardData"] = YAML(typ="safe").load(found[1])
        self._send(200, json.dumps(answer).encode(), commit)

    def _tree(self, place: Path, folder: Path, commit: str) -> None:
        """List the files and folders below a place, or those that were asked for by POST."""
        if not place.is_dir():
            return self._refuse(404, "EntryNotFound", "Entry not found", commit)
        if self.command == "POST":
            paths = [folder / name for name in self.posted.get("paths", [])]
        else:
            paths = sorted(place.rglob("*") if "recursive=True" in self.path else place.iterdir())
        answer = [
            {
                "type": "directory" if path.is_dir() else "file",
                "path": str(path.relative_to(folder)),
                "size": path.stat().st_size,
                "oid": "0" * 40,
            }
            for path in paths
            if path.exists()
        ]
        self._send(200, json.dumps(answer).encode(), commit)

    def _refuse(self, status: int, code: str, message: str, commit: str = "") -> None:
        self._send(status, json.dumps({"error": message}).encode(), commit, code=code, message=message)

    def _send(
        self,
        status: int,
        body: bytes,
        commit: str = "",
        sent: int | None = None,
        code: str = "",
        message: str = "",
        whole: bytes | None = None,
    ) -> None:
        """Answer with `body`, or only its first `sent` bytes; of a part, `whole` is what it is a part of."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json" if body[:1] in (b"{", b"[") else "application/octet-stream")
        self.send_header("ETag", f'"{hashlib.sha256(body if whole is None else whole).hexdigest()}"')
        for header, value in (("X-Repo-Commit", commit), ("X-Error-Code", code), ("X-Error-Message", message)):
            if value:
                self.send_header(header, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[:sent])
        self.close_connection = sent is not None and sent < len(body)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def serve() -> Iterator[FakeHub]:
    """Run a fake Hub on a free port for as long as the block lasts."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def environment(hub: FakeHub, home: Path, **more: str) -> dict[str, str]:
    """The environment of a process that knows the fake Hub alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "OMP_NUM_THREADS": "1"} | more
