"""A small Hugging Face hub on the loopback address: serves folders as its client libraries ask for them."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "1" * 40
_REPOSITORY = r"((?:datasets/)?[^/]+/[^/]+)"
_ABOUT = re.compile(rf"api/(?:models/)?{_REPOSITORY}(?:/(revision|tree)/[^/]+(?:/(.*))?)?")
_FILE = re.compile(rf"{_REPOSITORY}/resolve/[^/]+/(.*)")


@dataclass
class Hub:
    """Repositories below `root`: a model in `OWNER/NAME`, a data set in `datasets/OWNER/NAME`.

    `requests` keeps what was asked, in order. A file named `breaks` breaks off half way, at every try.
    """

    root: Path
    breaks: str | None = None
    requests: list[str] = field(default_factory=list)
    url: str = ""

    @contextmanager
    def serving(self) -> Iterator[Hub]:
        """Answer at `url` until the block ends."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, hub: Hub, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        asked = urlsplit(self.path)
        path = unquote(asked.path).strip("/")
        self.hub.requests.append(f"{self.command} {path}")
        if match := _ABOUT.fullmatch(path):
            self._describe(*match.groups(default=""), recursive="recursive=true" in asked.query.lower())
        elif match := _FILE.fullmatch(path):
            self._file(self.hub.root / match[1] / match[2])
        else:
            self._send(404)

    def _describe(self, repository: str, what: str, below: str, recursive: bool) -> None:
        """The repository, or what lies in it below a folder."""
        folder = self.hub.root / repository
        if not (folder / below).is_dir():
            self._send(404, error="EntryNotFound" if folder.is_dir() else "RepoNotFound")
            return
        if what == "revision" or not what:
            answer: object = {"id": repository, "sha": COMMIT, "siblings": [], "private": False}
        else:
            found = (folder / below).rglob("*") if recursive else (folder / below).iterdir()
            answer = [
                {
                    "type": "file" if path.is_file() else "directory",
                    "path": path.relative_to(folder).as_posix(),
                    "size": path.stat().st_size,
                    "oid": COMMIT,
                }
                for path in sorted(found)
            ]
        self._send(200, json.dumps(answer).encode())

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self._send(404, error="EntryNotFound")
            return
        content = path.read_bytes()
        self._send(200, content, etag=hashlib.sha256(content).hexdigest(), cut=path.name == self.hub.breaks)

    def _send(
        self, status: int, content: bytes = b"", etag: str = "", error: str = "", cut: bool = False
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
