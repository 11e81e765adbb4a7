"""One server for all clients of this folder, with the bundled models and networks of our own."""

import grpc
import networks
import pytest
import requests
import triton
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


def connected(server, name):
    client = triton.Client(name, server)
    yield client
    client.close()


@pytest.fixture(scope="session", params=triton.CLIENTS)
def client(request, server):
    """Each of Triton's clients in turn."""
    yield from connected(server, request.param)


@pytest.fixture(scope="session")
def http(server):
    yield from connected(server, "http")


@pytest.fixture(scope="session")
def rpc(server):
    yield from connected(server, "grpc")
