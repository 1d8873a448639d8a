"""Object stores that send without an end, and two backups that write the same name there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fastlog.backup.object_archive import ObjectArchive
from tests.integration.test_backup_object_store import QUICK, puts
from tests.support.object_store import BUCKET, FaultyStore, ObjectStore

BLOCK = bytes(1 << 20)
#: what a store sends to who does not stop it; far more than the machine's socket buffers hold
ENDLESS = 1 << 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("store")) as started:
        yield started


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    with FaultyStore(server) as proxy:
        for name, value in proxy.environment().items():
            monkeypatch.setenv(name, value)
        yield proxy


def test_a_store_that_sends_without_an_end_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [0]
    ended = threading.Event()

    class Endless(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(100 << 30))
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            try:
                while sent[0] < ENDLESS:
                    self.wfile.write(BLOCK)
                    sent[0] += len(BLOCK)
            except OSError:
                pass  # nobody listens any more
            finally:
                ended.set()

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as liar:
        liar.daemon_threads = True
        threading.Thread(target=liar.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{liar.server_address[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        archive = ObjectArchive(f"s3://{BUCKET}/x", **QUICK)
        assert len(archive.get("chunks/t/0/a", 3 << 20)) == (3 << 20) + 1
        assert len(archive.get("chunks/t/0/a", 0)) == 1
        assert ended.wait(30), "the store is left waiting"
        liar.shutdown()
    assert sent[0] < ENDLESS // 4


@pytest.mark.parametrize("has_conditions", [True, False])
def test_a_manifest_is_never_written_over(store: FaultyStore, *, has_conditions: bool) -> None:
    archive = ObjectArchive(f"s3://{BUCKET}/two-at-once/{has_conditions}", **QUICK)
    store.has_conditions = has_conditions
    assert archive.create("manifests/1.json", b"one")
    assert not archive.create("manifests/1.json", b"another")
    assert archive.get("manifests/1.json", 3) == b"one"
    assert archive.create("manifests/2.json", b"two")
    assert list(archive.sizes("manifests/")) == ["manifests/1.json", "manifests/2.json"]


def test_a_manifest_that_was_kept_and_never_acknowledged_is_ones_own(store: FaultyStore) -> None:
    archive = ObjectArchive(f"s3://{BUCKET}/lost-answer", **QUICK)

    def loses_the_first_answer(
        method: str, _key: str, status: int, body: bytes
    ) -> tuple[int, bytes, int] | None:
        is_lost = method == "PUT" and len(puts(store)) == 1
        return (503, b"", 0) if is_lost else (status, body, len(body))

    store.fault = loses_the_first_answer
    assert archive.create("manifests/1.json", b"one")
    assert archive.get("manifests/1.json", 3) == b"one"
    assert len(puts(store)) == 2


def test_a_connection_that_ends_while_a_manifest_is_kept_does_not_end_the_backup(store: FaultyStore) -> None:
    archive = ObjectArchive(f"s3://{BUCKET}/broken-off", **QUICK)

    def breaks_off_first(method: str, _key: str, status: int, body: bytes) -> tuple[int, bytes, int] | None:
        is_first = method == "PUT" and len(puts(store)) == 1
        return None if is_first else (status, body, len(body))

    store.fault = breaks_off_first
    assert archive.create("manifests/1.json", b"one")
    assert archive.get("manifests/1.json", 3) == b"one"
