"""Reads k8s/ the way `kubectl apply -f k8s/` does: .yaml files, in lexical order."""

import tomllib
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "k8s"


def files():
    return sorted(FOLDER.glob("*.yaml"))


def parse(text):
    return [document for document in yaml.safe_load_all(text) if document]


def objects():
    return [document for file in files() for document in parse(file.read_text())]


def named(kind):
    """The one object of that kind."""
    [found] = [document for document in objects() if document["kind"] == kind]
    return found


def pod_template():
    return named("Deployment")["spec"]["template"]


def pod():
    return pod_template()["spec"]


def container():
    [only] = pod()["containers"]
    return only


def configuration_text():
    return named("ConfigMap")["data"]["onnxd.toml"]


def configuration():
    return tomllib.loads(configuration_text())
