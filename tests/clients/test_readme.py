"""Every curl command that the README, the docs and the model cards show works as pasted."""

import os
import re
import subprocess

import pytest
from server import REPOSITORY, Server

README = REPOSITORY / "README.md"
CARDS = sorted(REPOSITORY.glob("models/*/README.md"))
PAGES = [README, *CARDS, *sorted(REPOSITORY.glob("docs/**/*.md"))]
BLOCK = re.compile(
    r"^(?P<fence>`{3,})(?P<language>bash|sh|console)\b.*\n(?P<text>(?s:.*?))^(?P=fence)", re.MULTILINE
)
SERVER = re.compile(r"\b(?:localhost|127\.0\.0\.1):8000\b")


def commands(page):
    """The commands of a page's shell blocks that ask the server with curl."""
    found = []
    for block in BLOCK.finditer(page.read_text()):
        lines = block["text"].splitlines()
        if block["language"] == "console":
            lines = [line.removeprefix("$ ") for line in typed(lines)]
        found += [command for command in statements(lines) if is_request(command)]
    return found


def typed(lines):
    """The lines of a console block without what the commands print."""
    complete = True
    for line in lines:
        if line.startswith("$ "):
            statement = line.removeprefix("$ ")
        elif complete:
            continue
        else:
            statement += f"\n{line}"
        complete = is_complete(statement)
        yield line


def statements(lines):
    """Joins the lines that belong to one command."""
    statement = []
    for line in lines:
        statement.append(line)
        if is_complete("\n".join(statement)):
            yield "\n".join(statement)
            statement = []


def is_complete(text):
    """Whether a shell would run this, or wait for another line."""
    parsed = subprocess.run(["bash", "-n", "-c", text], capture_output=True)
    return parsed.returncode == 0 and not text.endswith("\\")


def is_request(command):
    return re.search(r"\bcurl\b", command) and SERVER.search(command)


EXAMPLES = [
    pytest.param(command, id=f"{page.relative_to(REPOSITORY)}-{number}")
    for page in PAGES
    for number, command in enumerate(commands(page), 1)
]


def run(command, server, home):
    """Runs a command in bash, with a curl that fails on an error status; what it printed."""
    (home / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", SERVER.sub(f"localhost:{server.port}", command)],
        cwd=REPOSITORY,
        env=os.environ | {"CURL_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, f"{command}\nexited with {ran.returncode}:\n{ran.stdout}{ran.stderr}"
    return ran.stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server of these pages, which also shows how models are loaded and unloaded."""
    settings = {"ONNXD_REPOSITORY__MODE": "explicit", "ONNXD_SERVER__DRAIN_DELAY_MS": "0"}
    running = Server(tmp_path_factory.mktemp("onnxd"), **settings)
    yield running
    running.kill()


@pytest.mark.parametrize("command", EXAMPLES)
def test_example_works_as_pasted(server, tmp_path, command):
    assert run(command, server, tmp_path)


def test_first_command_of_the_readme_names_the_flower(server, tmp_path):
    [first, *_] = commands(README)
    assert "setosa" in run(first, server, tmp_path)


@pytest.mark.parametrize("page", CARDS, ids=lambda page: page.parent.name)
def test_model_card_shows_a_request(page):
    assert commands(page)
