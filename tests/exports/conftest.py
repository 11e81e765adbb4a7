"""A server for all exports, with its engines in each way."""

import agreement
import pytest
import requests
from engines import WAYS
from server import TARGET

# Made by ./tests/run.sh exports.
EXPORTS = TARGET / "exports"


@pytest.fixture(scope="session", params=WAYS)
def way(request):
    return request.param


@pytest.fixture(scope="session")
def server(tmp_path_factory, way):
    with agreement.serving_folder(tmp_path_factory, EXPORTS, **WAYS[way]) as running:
        yield running


@pytest.fixture(scope="session")
def session():
    with requests.Session() as session:
        yield session
