"""A real S3 server for tests (moto's), and a proxy before it that does what bad stores and networks do."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.support import environments
from tests.support.broker import wait_until

BUCKET = "backups"
START_SECONDS = 60.0
# the server looks whether a request is signed, not how
SIGNED = (
    "AWS4-HMAC-SHA256 Credential=anybody/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)
DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code>'
    b"<Message>Access Denied</Message><RequestId>1</RequestId></Error>"
)
BUSY = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message><RequestId>1</RequestId></Error>"
)


def objects_in(directory: Path) -> list[str]:
    """What a directory as the store of tiers has, besides its own name."""
    # os.walk passes over directories that go meanwhile
    return [name for *_, names in os.walk(directory) for name in names if name != "fastlog-store"]


class ObjectStore:
    """The server, with a bucket; a context manager."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._log = (folder / "moto.log").open("w")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = environments.python("object-store").with_name("moto_server")
        command = [str(program), "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        wait_until("the object store answers", self._answers, seconds=START_SECONDS)
        status, _ = self.request("PUT", f"/{BUCKET}")
        assert status == 200
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _answers(self) -> bool:
        try:
            return self.request("GET", "/")[0] == 200
        except OSError:
            return False

    def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {"Authorization": SIGNED})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, key: str) -> bytes:
        """An object of the bucket."""
        status, body = self.request("GET", f"/{BUCKET}/{key}")
        assert status == 200, body
        return body

    def put(self, key: str, body: bytes) -> None:
        """Puts an object into the bucket, in the place of what is there."""
        assert self.request("PUT", f"/{BUCKET}/{key}", body)[0] == 200

    def keys(self, prefix: str) -> list[str]:
        """The keys of at most a thousand objects that begin with `prefix`."""
        status, body = self.request("GET", f"/{BUCKET}?list-type=2&prefix={prefix}")
        assert status == 200, body
        return re.findall(r"<Key>([^<]*)</Key>", body.decode())

    def unfinished(self) -> list[str]:
        """The keys of uploads in parts that were begun, and neither ended nor aborted."""
        status, body = self.request("GET", f"/{BUCKET}?uploads")
        assert status == 200, body
        return re.findall(r"<Key>([^<]*)</Key>", body.decode())

    def delete(self, key: str) -> None:
        """Removes an object from the bucket."""
        assert self.request("DELETE", f"/{BUCKET}/{key}")[0] == 204


#: makes of the request's method, its key and what the server would answer what the client gets: status, body, and the
#: length that is claimed; None = the connection ends
Fault = Callable[[str, str, int, bytes], tuple[int, bytes, int] | None]


class FaultyStore:
    """A proxy before a store; `fault` spoils answers, `cuts_uploads` what comes in. A context manager."""

    def __init__(self, store: ObjectStore) -> None:
        self.fault: Fault | None = None
        #: of an object that is put only half is kept, and the answer is that all went well
        self.cuts_uploads = False
        #: puts with a condition are refused, as by stores that know none
        self.has_conditions = True
        #: what is to be made only if it is not there replaces what is
        self.ignores_conditions = False
        #: nothing is answered before it is set
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.requests: list[tuple[str, str]] = []
        self._asked: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                outer._handle(self, store)

        for method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.goes_on.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def aborted(self) -> list[str]:
        """The objects of uploads in parts that were aborted."""
        paths = [path for method, path in self._asked if method == "DELETE" and "uploadId=" in path]
        return [path.partition("?")[0].removeprefix(f"/{BUCKET}/") for path in paths]

    def environment(self) -> dict[str, str]:
        """The way here, in the variables that AWS's tools read."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "anybody",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    def _handle(self, client: BaseHTTPRequestHandler, store: ObjectStore) -> None:
        body = client.rfile.read(int(client.headers.get("Content-Length") or 0))
        method, key = client.command, client.path.partition("?")[0].removeprefix(f"/{BUCKET}/")
        self.requests.append((method, key))
        self._asked.append((method, client.path))
        headers = {name: value for name, value in client.headers.items() if name.lower() != "content-length"}
        if "If-None-Match" in client.headers and not self.has_conditions:
            client.send_response(501)
            client.send_header("Content-Length", "0")
            client.end_headers()
            return
        if method == "PUT" and self.cuts_uploads:
            body = body[: len(body) // 2]
        if self.ignores_conditions:
            headers = {name: value for name, value in headers.items() if name.lower() != "if-none-match"}
        upstream = http.client.HTTPConnection("127.0.0.1", store.port, timeout=30)
        try:
            upstream.request(method, client.path, body, headers)
            answer = upstream.getresponse()
            status, found = answer.status, answer.read()
            length = int(answer.headers.get("Content-Length") or len(found))
            passed = {
                name: answer.headers[name]
                for name in ("ETag", "Last-Modified", "Content-Range")
                if name in answer.headers
            }
        finally:
            upstream.close()
        self.goes_on.wait(60)
        if self.fault is not None:
            spoilt = self.fault(method, key, status, found)
            if spoilt is None:
                client.close_connection = True
                client.connection.shutdown(socket.SHUT_RDWR)
                return
            if spoilt[:2] != (status, found) or spoilt[2] != len(found):
                status, found, length = spoilt
        client.send_response(status)
        for name, value in passed.items():
            client.send_header(name, value)
        client.send_header("Content-Length", str(length))
        client.end_headers()
        if method != "HEAD":
            client.wfile.write(found)
            if len(found) < length:
                client.close_connection = True
