"""A small HTTP server of a test: takes posts and keeps them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Post:
    """One request: path with query, headers by name in lower case, body."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What was posted, in order of arrival.

    Attributes:
        url: without a path.
        status: that it answers.
        open: while this is not set, posts are taken and not answered.
    """

    url: str
    posts: list[Post] = field(default_factory=list)
    status: int = 200
    open: threading.Event = field(default_factory=threading.Event)

    def at(self, path: str) -> list[Post]:
        """Those to one path, its query aside."""
        return [post for post in list(self.posts) if post.path.partition("?")[0] == path]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A server on a port of its own for as long as the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            receiver.posts.append(Post(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            receiver.open.wait(60)
            self.send_response(receiver.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    receiver.open.set()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.open.set()
        server.shutdown()
        server.server_close()
        thread.join()
