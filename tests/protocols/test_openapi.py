"""The OpenAPI document: valid, and kept by the server whatever schemathesis makes of it."""

import os
import subprocess
import sys
from pathlib import Path

import networks
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

# Of schemathesis' checks all are on but these, which have nothing to check.
LEFT_OUT = {
    "positive_data_acceptance": "no schema can say that data has as many elements as the shape",
    "ignored_auth": "the document has no credentials",
    "object_level_authorization": "the document has no credentials",
}
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


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
    options = ["--max-examples", "20", "--seed", "1", "--workers", "2", "--exclude-checks", ",".join(LEFT_OUT)]
    # It takes 504 for a fault of the server, and would give it a millisecond.
    options += ["--header", "x-request-timeout-ms: 20000"]
    # Its tests of models are those of the bundled ones, of three kinds.
    others = [f"--exclude-path-regex=/({'|'.join(networks.made())})(/|$)"]
    ran = subprocess.run(
        [SCHEMATHESIS, "run", server.url("/openapi.json"), *options, *others],
        cwd=tmp_path,
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout[-20000:] + ran.stderr
