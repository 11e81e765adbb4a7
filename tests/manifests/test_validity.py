"""What other people's tools say of k8s/: kustomize, the Kubernetes schemas and checkov, all offline."""

import json
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import manifests
import pytest
import yaml

WAIVERS = Path(__file__).with_name("checkov-waivers.yaml")


def by_identity(documents):
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


def test_kustomize_gives_the_same_objects_as_the_plain_files():
    built = subprocess.run(
        ["kubectl", "kustomize", manifests.FOLDER], capture_output=True, text=True, check=True
    )
    assert by_identity(manifests.parse(built.stdout)) == by_identity(manifests.objects())


@pytest.mark.parametrize("version", ["1.32", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("file", manifests.files(), ids=lambda file: file.name)
def test_manifest_fits_the_schema_strictly(file, version):
    for document in manifests.parse(file.read_text()):
        kubernetes_validate.validate(document, version, strict=True)


def test_checkov_fails_only_what_is_waived_with_a_reason():
    waivers = yaml.safe_load(WAIVERS.read_text())
    assert all(reason for checks in waivers.values() for reason in checks.values())
    waived = {(resource, check) for resource, checks in waivers.items() for check in checks}
    assert failed_checks() == waived


def failed_checks():
    program = Path(sys.executable).with_name("checkov")
    # Without --skip-download it would look for policies on the network.
    command = [program, "--skip-download", "--framework", "kubernetes", "--output", "json"]
    ran = subprocess.run([*command, "--directory", manifests.FOLDER], capture_output=True, text=True)
    report = json.loads(ran.stdout)
    assert report["summary"]["passed"] > 0
    assert report["summary"]["parsing_errors"] == 0
    return {(check["resource"], check["check_id"]) for check in report["results"]["failed_checks"]}
