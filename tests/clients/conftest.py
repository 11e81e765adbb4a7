"""One server for all tests of this folder."""

import pytest
import requests
from server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("onnxd"), ONNXD_SERVER__DRAIN_DELAY_MS="0")
    try:
        yield running
        assert running.stop() == 0, running.log.read_text()
    finally:
        running.kill()


@pytest.fixture(scope="session")
def session():
    """Keeps its connections open, as a client that sends many requests does."""
    with requests.Session() as session:
        yield session
