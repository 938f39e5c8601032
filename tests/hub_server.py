"""A Hugging Face Hub on the loopback interface, in memory: what pushing and pulling a repository asks of one.

Only the routes that `huggingface_hub` 2.x calls for `create_repo`, `create_branch`, `create_commit` and downloads are
there; Xet has to be switched off (HF_HUB_DISABLE_XET=1), because it would need a storage server of its own.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".parquet", ".dcm", ".dat")


@dataclass(frozen=True)
class Commit:
    """Every file of a repository at one moment, and which of them are stored as large files."""

    oid: str
    files: dict[str, bytes]
    large: frozenset[str]

    def etag(self, name: str) -> str:
        content = self.files[name]
        if name in self.large:
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def entry(self, name: str) -> dict[str, Any]:
        size = len(self.files[name])
        large = {"lfs": {"oid": self.etag(name), "size": size, "pointerSize": 130}} if name in self.large else {}
        return {"type": "file", "path": name, "size": size, "oid": self.etag(name), **large}


@dataclass
class Repository:
    """Commits by their oid, and branches that name one each."""

    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes], large: frozenset[str]) -> Commit:
        parent = self.branches.get(branch, "")
        content = "".join(f"{name} {hashlib.sha1(data).hexdigest()}\n" for name, data in sorted(files.items()))
        commit = Commit(hashlib.sha1(f"{parent}\n{len(self.commits)}\n{content}".encode()).hexdigest(), files, large)
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit

    def at(self, revision: str) -> Commit | None:
        return self.commits.get(self.branches.get(revision, revision))


class Hub(ThreadingHTTPServer):
    """The server; `repositories` and `requests` are there for tests to look at."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *arguments: object) -> None:
        """Quiet."""

    def handle_any(self) -> None:
        body = self.read_body()
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.server.requests.append(f"{self.command} {self.path}")
        if parts[0] == "api":
            self.handle_api(parts[1:], body)
        elif parts[0] == "upload":
            self.server.blobs[parts[1]] = body
            self.reply({})
        elif parts[-2:] == ["objects", "batch"]:
            self.offer_uploads(json.loads(body))
        elif "resolve" in parts:
            self.send_file(parts)
        else:
            self.fail(404, "EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def handle_api(self, parts: list[str], body: bytes) -> None:
        if parts[0] == "whoami-v2":
            return self.reply({"name": "owner", "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}})
        if parts[0] == "validate-yaml":
            return self.reply({"errors": [], "warnings": []})
        if parts[:2] == ["repos", "create"]:
            return self.create(json.loads(body))
        key = (parts[0].removesuffix("s"), "/".join(parts[1:3]))
        repository = self.server.repositories.get(key)
        if repository is None:
            return self.fail(404, "RepoNotFound")
        action, arguments = (parts[3] if len(parts) > 3 else "revision"), parts[4:]
        if action == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular"}
                for file in json.loads(body)["files"]
            ]
            return self.reply({"files": [{**file, "shouldIgnore": False, "oid": None} for file in files]})
        if action == "branch":
            repository.branches[arguments[0]] = repository.branches["main"]
            return self.reply({})
        if action == "commit":
            return self.commit(key, repository, arguments[0], body)
        commit = repository.at(arguments[0] if arguments else "main")
        if commit is None:
            return self.fail(404, "RevisionNotFound")
        if action == "revision":
            siblings = [{"rfilename": name} for name in commit.files]
            return self.reply({"id": key[1], "sha": commit.oid, "private": repository.private, "siblings": siblings})
        if action == "tree":
            folder = "".join(f"{part}/" for part in arguments[1:])
            return self.reply([commit.entry(name) for name in commit.files if name.startswith(folder)])
        return self.fail(404, "EntryNotFound")

    def create(self, request: dict[str, Any]) -> None:
        key = (request.get("type") or "model", f"{request.get('organization') or 'owner'}/{request['name']}")
        known = key in self.server.repositories
        if not known:
            repository = Repository(private=request.get("visibility") == "private")
            repository.commit("main", {".gitattributes": b""}, frozenset())
            self.server.repositories[key] = repository
        url = f"{self.server.url}/{'' if key[0] == 'model' else key[0] + 's/'}{key[1]}"
        self.reply({"url": url, "name": key[1], "id": key[1]}, 409 if known else 200)

    def commit(self, key: tuple[str, str], repository: Repository, branch: str, body: bytes) -> None:
        before = repository.at(branch)
        if before is None:
            return self.fail(404, "RevisionNotFound")
        files, large = dict(before.files), set(before.large)
        for line in filter(None, body.splitlines()):
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
                large.add(value["path"])
        commit = repository.commit(branch, files, frozenset(large))
        url = f"{self.server.url}/{'' if key[0] == 'model' else key[0] + 's/'}{key[1]}/commit/{commit.oid}"
        return self.reply({"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""})

    def offer_uploads(self, request: dict[str, Any]) -> None:
        objects = [
            {**item, "actions": {"upload": {"href": f"{self.server.url}/upload/{item['oid']}", "header": {}}}}
            for item in request["objects"]
        ]
        self.reply({"transfer": "basic", "objects": objects})

    def send_file(self, parts: list[str]) -> None:
        kind = parts[0].removesuffix("s") if parts[0] in ("datasets", "spaces") else "model"
        at = parts.index("resolve")
        repository = self.server.repositories.get((kind, "/".join(parts[at - 2 : at])))
        if repository is None:
            return self.fail(404, "RepoNotFound")
        commit = repository.at(parts[at + 1])
        if commit is None:
            return self.fail(404, "RevisionNotFound")
        name = "/".join(parts[at + 2 :])
        if name not in commit.files:
            return self.fail(404, "EntryNotFound", {"X-Repo-Commit": commit.oid})
        headers = {"ETag": f'"{commit.etag(name)}"', "X-Repo-Commit": commit.oid}
        return self.send(200, commit.files[name], headers)

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def reply(self, content: Any, status: int = 200) -> None:
        self.send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def fail(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps({"error": code}).encode(), {"X-Error-Code": code, **(headers or {})})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
