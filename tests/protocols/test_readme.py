"""The README's section on clients: every snippet works as pasted."""

import os
import re
import subprocess
import sys

import pytest
from server import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
[SECTION] = re.findall(r"^## Clients\n(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)
SNIPPETS = re.findall(r"^```(bash|python)\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


def name(snippet):
    """The client that it is about."""
    [client] = {"curl", "requests", "tritonclient.http", "tritonclient.grpc", "kserve"} & set(
        re.findall(r"[\w.]+", snippet)
    )
    return client


@pytest.mark.parametrize("language, snippet", SNIPPETS, ids=[name(snippet) for _, snippet in SNIPPETS])
def test_snippet_works_as_pasted(server, tmp_path, language, snippet):
    here = snippet.replace("localhost:8000", f"127.0.0.1:{server.port}")
    here = here.replace("localhost:8001", f"127.0.0.1:{server.grpc_port}")
    assert here != snippet
    command = ["bash", "-euc", here] if language == "bash" else [sys.executable, "-c", here]
    ran = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip(), "it shows an answer"


def test_every_client_has_a_snippet():
    assert [name(snippet) for _, snippet in SNIPPETS] == [
        "curl",
        "requests",
        "tritonclient.http",
        "tritonclient.grpc",
        "kserve",
    ]
