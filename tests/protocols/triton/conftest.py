"""Triton's clients, connected to the one server. They need a process without KServe's, which defines the same
messages otherwise."""

import clients
import pytest


def connected(server, name):
    client = clients.Client(name, server)
    yield client
    client.close()


@pytest.fixture(scope="session", params=clients.CLIENTS)
def client(request, server):
    """Each of Triton's clients in turn."""
    yield from connected(server, request.param)


@pytest.fixture(scope="session", params=["http", "http, asyncio"])
def rest(request, server):
    yield from connected(server, request.param)


@pytest.fixture(scope="session")
def http(server):
    yield from connected(server, "http")


@pytest.fixture(scope="session")
def rpc(server):
    yield from connected(server, "grpc")
