"""The OpenAPI document: valid, and kept by the server whatever schemathesis makes of it."""

import os
import subprocess
import sys
from pathlib import Path

import networks
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def document(server):
    return server.get("/openapi.json").json()


def test_document_is_valid_openapi(document):
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


@pytest.mark.parametrize("model", [*networks.BUNDLED, *networks.made()])
def test_model_has_operations_of_its_own(document, model):
    assert [path for path in document["paths"] if model in path.split("/")]


def test_server_keeps_to_the_document(server, tmp_path):
    # The bundled models are of three kinds; the others would say it once more each.
    others = f"/({'|'.join(networks.made())})(:|/|$)"
    options = ["--max-examples", "20", "--seed", "1", "--exclude-path-regex", others]
    ran = subprocess.run(
        [SCHEMATHESIS, "--config-file", CONFIGURATION, "run", server.url("/openapi.json"), *options],
        cwd=tmp_path,
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout[-20000:] + ran.stderr
