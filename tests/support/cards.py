"""What the model cards, models/*/README.md, say of the models."""

import re

from server import MODELS

RESULT = re.compile(
    r"^(?P<model>\w+) version (?P<version>\d+): .*"
    r"held-out accuracy (?P<right>\d+)/(?P<total>\d+) = (?P<percent>[\d.]+%), (?P<size>\d+) bytes$",
    re.MULTILINE,
)
NAMES = sorted(card.parent.name for card in MODELS.glob("*/README.md"))


def results(text):
    """What training printed, by (model, version)."""
    found = [match.groupdict() for match in RESULT.finditer(text)]
    return {(result["model"], result["version"]): result for result in found}


def printed():
    """The results of all cards."""
    return results("".join((MODELS / name / "README.md").read_text() for name in NAMES))
