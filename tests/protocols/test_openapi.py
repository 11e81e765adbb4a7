"""The OpenAPI document: valid, and kept by the server whatever schemathesis makes of it."""

import json
import subprocess
import sys

import pytest
import requests
from openapi_spec_validator import OpenAPIV31SpecValidator


@pytest.fixture(scope="module")
def document(server):
    return server.get("/openapi.json").json()


def test_document_is_valid_openapi(document):
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_every_model_has_its_schema_and_an_example(document):
    text = json.dumps(document)
    for model in ("iris", "digits", "wine", "affine", "pixels", "words"):
        assert model in text
