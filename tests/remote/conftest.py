"""A store to put models into, and servers that mirror it."""

import pytest
from repository import Repository
from server import Server
from stores import STORES


@pytest.fixture
def store(request, tmp_path):
    """S3, unless a test is run with others."""
    opened = STORES[getattr(request, "param", "s3")](tmp_path)
    yield opened
    opened.stop()


@pytest.fixture
def repository(store):
    return Repository(store)


@pytest.fixture
def serve(store, tmp_path):
    """Starts servers, whose logs hold no secret in the end."""
    started = []

    def start(ready_within=60, **environment):
        folder = tmp_path / f"server-{len(started)}"
        folder.mkdir()
        environment = {
            "ONNXD_REPOSITORY__CACHE_PATH": str(tmp_path / "cache"),
            "ONNXD_REPOSITORY__POLL_MS": "200",
            "ONNXD_SERVER__DRAIN_DELAY_MS": "0",
            "ONNXD_LOG__FORMAT": "json",
            **store.environment,
            **environment,
        }
        server = Server(folder, models=store.url, ready_within=ready_within, **environment)
        started.append(server)
        return server

    yield start
    for server in started:
        log = server.log.read_text()
        server.kill()
        assert not [secret for secret in store.secrets if secret in log], "a secret is in the log"
        assert "panicked" not in log, log
