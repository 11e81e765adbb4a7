"""One server for all clients, with the bundled models and networks of our own."""

import grpc
import networks
import pytest
import requests
from server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    folder = networks.write(tmp_path_factory.mktemp("models"))
    running = Server(
        tmp_path_factory.mktemp("onnxd"), models=folder, ready_within=120, ONNXD_SERVER__DRAIN_DELAY_MS="0"
    )
    try:
        yield running
        assert running.stop() == 0, running.log.read_text()
    finally:
        running.kill()


@pytest.fixture(scope="session")
def session():
    with requests.Session() as session:
        yield session


@pytest.fixture(scope="session")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel
