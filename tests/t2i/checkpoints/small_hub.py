"""A hub of one model on this machine, as far as huggingface_hub's own client asks for one."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve(repository: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the paths that were asked for."""
    asked: list[str] = []
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            asked.append(path)
            name = path.removeprefix(f"/{repository}/resolve/{COMMIT}/").removeprefix(f"/{repository}/resolve/main/")
            if path in (f"/api/models/{repository}/revision/main", f"/api/models/{repository}"):
                siblings = [{"rfilename": file, "size": path.stat().st_size} for file, path in files.items()]
                self.send(json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode(), with_body)
            elif path.startswith(f"/api/models/{repository}/tree/"):
                tree = [
                    {"type": "file", "path": file, "size": path.stat().st_size, "oid": digest(path)}
                    for file, path in files.items()
                ]
                self.send(json.dumps(tree).encode(), with_body)
            elif name in files:
                self.send(files[name].read_bytes(), with_body, etag=digest(files[name]))
            else:
                missing = "EntryNotFound" if path.startswith(f"/{repository}/") else "RepoNotFound"
                missing = "RevisionNotFound" if path.startswith(f"/api/models/{repository}/revision/") else missing
                self.send(b"{}", with_body, status=404, error=missing)

        def send(self, body: bytes, with_body: bool, *, status: int = 200, etag: str = "", error: str = "") -> None:
            self.send_response(status)
            headers = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
            if etag:
                headers |= {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
            if error:
                headers["X-Error-Code"] = error
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Tests read `asked` instead."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
