"""What passed once passes for ever: two lists, and what a run says against them.

passing.txt is what passes without ONNX Runtime, and has to pass with it too; the other list is what passes with it alone.
"""

import os
from pathlib import Path

from configurations import AUTO, AUTO_WITH
from runner import Verdict

FOLDER = Path(__file__).parent
WITHOUT = "passing.txt"
ONLY_WITH = "passing-only-with-onnxruntime.txt"
UPDATING = os.environ.get("UPDATE_RATCHET") == "1"
NEVER = {Verdict.WRONG, Verdict.CRASHED, Verdict.TIMED_OUT}


def read(name):
    path = FOLDER / name
    return set(path.read_text().split()) if path.exists() else set()


def listed(configuration):
    """What has to pass in a configuration."""
    return read(WITHOUT) if configuration is AUTO else read(WITHOUT) | read(ONLY_WITH)


def passed(outcomes):
    return {id for id, outcome in outcomes.items() if outcome.verdict is Verdict.PASSED}


def add(runs):
    """Lists what passes now. Nothing is taken off: a loss that is meant is deleted by hand, and seen in the diff."""
    without = read(WITHOUT) | passed(runs[AUTO])
    write(WITHOUT, without)
    write(ONLY_WITH, (read(ONLY_WITH) | passed(runs[AUTO_WITH])) - without)


def write(name, ids):
    (FOLDER / name).write_text("".join(f"{id}\n" for id in sorted(ids)))


def never_allowed(outcomes):
    """Wrong answers, crashes and endless runs, listed or not."""
    return [told(id, outcome) for id, outcome in sorted(outcomes.items()) if outcome.verdict in NEVER]


def lost(outcomes, listed):
    """What is listed and does not pass."""
    gone = sorted(listed - passed(outcomes))
    return [told(id, outcomes[id]) if id in outcomes else f"{id}: there is no such case" for id in gone]


def unlisted(outcomes, listed):
    """What passes and is not listed."""
    return sorted(passed(outcomes) - listed)


def told(id, outcome):
    return f"{id}: {outcome.verdict.value}: {outcome.reason}"
