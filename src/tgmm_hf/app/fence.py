"""What the page does not let through: routes of Gradio that it does not need, and uploads without end.

Gradio serves every file of its cache to everybody who knows the address. This page serves no file at all, because
answers are part of the response to the one who asked.
"""

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tgmm_hf.app.private_files import PrivateFiles
from tgmm_hf.inputs.input_limits import MIB

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CLOSED = re.compile(
    r"^(/gradio_api)?/(file[=/]|proxy=|stream/|component_server|monitoring|deep_link|process_recording|custom_component/"
    r"|vibe-|undo-vibe-|profiling/|runs?$|run/|run-history|api/|dev/)"
)
"""Routes of Gradio that are closed. They serve files, fetch other addresses, or go around the queue."""
MAX_CACHED_BYTES = 8192 * MIB
"""Size of all waiting uploads from which further uploads are refused."""
BUSY = "Many people use this page now. Please try again in a minute."

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors "
)
"""Content-Security-Policy of the page without the pages that may frame it. The browser loads nothing from elsewhere."""
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"permissions-policy": b"camera=(), microphone=(), geolocation=()",
}


class Fence:
    """ASGI middleware that closes routes, bounds the uploads, and gives each upload a directory of its own.

    Args:
        app: The application behind the fence.
        files: Directories of the page.
        framed_by: Pages that may show this page in a frame, as in a Content-Security-Policy.
    """

    def __init__(self, app: App, files: PrivateFiles, framed_by: str = "'self'") -> None:
        self.app = app
        self.files = files
        self.policy = (POLICY + framed_by).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif CLOSED.match(scope["path"]):
            await _answer(send, 403, "This page serves no files and has no such service.")
        elif scope["path"].endswith("/queue/join"):
            await self.app(scope, receive, _with_polite_refusal(send))
        elif not _is_upload(scope):
            await self.app(scope, receive, self._with_headers(send))
        elif self.files.cached_bytes() + _length(scope) > MAX_CACHED_BYTES:
            await _answer(send, 507, "Too many uploads are waiting. Please try again in some minutes.")
        else:
            await self.app(scope, receive, self._with_own_folders(scope, send))

    def _with_headers(self, send: Send) -> Send:
        """Add the headers of the page to a response. Nothing of the page may stay in a cache of the browser."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = {name.lower(): value for name, value in message["headers"]}
                added = {**HEADERS, b"content-security-policy": self.policy}
                if not headers.get(b"content-type", b"").startswith((b"text/css", b"text/javascript", b"font/")):
                    added[b"cache-control"] = b"no-store"
                kept = [(name, value) for name, value in message["headers"] if name.lower() not in added]
                message = {**message, "headers": [*kept, *added.items()]}
            await send(message)

        return sending

    def _with_own_folders(self, scope: Scope, send: Send) -> Send:
        """Move uploads into directories of their own before their paths are answered, see `give_own_folder`."""
        start: Message = {}
        parts: list[bytes] = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            body = b"".join(parts)
            if start["status"] == 200:
                try:
                    paths = [self.files.give_own_folder(path) for path in json.loads(body)]
                except FileNotFoundError:
                    await _answer(send, 503, "The upload was disturbed by another upload. Please send it again.")
                    return
                body = json.dumps(paths).encode()
                # Gradio deletes the files of this set when they are old
                scope["app"].get_blocks().upload_file_set.update(paths)
            kept = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
            await send({**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
            await send({"type": "http.response.body", "body": body})

        return sending


def _with_polite_refusal(send: Send) -> Send:
    """Say in plain words that the queue is full, in place of Gradio's numbers."""
    refused = False

    async def sending(message: Message) -> None:
        nonlocal refused
        if message["type"] == "http.response.start" and message["status"] == 503:
            refused = True
            await _answer(send, 503, json.dumps({"detail": BUSY}), b"application/json")
        elif not refused:
            await send(message)

    return sending


def _is_upload(scope: Scope) -> bool:
    """Tell whether a request sends files."""
    return scope["method"] == "POST" and scope["path"].rstrip("/").endswith("/upload")


def _length(scope: Scope) -> int:
    """Return the length of a request's body as its header says, 0 without the header."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


async def _answer(send: Send, status: int, text: str, kind: bytes = b"text/plain; charset=utf-8") -> None:
    """Answer a request with a line of text."""
    body = text.encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
