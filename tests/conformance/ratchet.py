"""What passed once passes for ever: passing.txt, and what a run says against it."""

import os
from pathlib import Path

from runner import Verdict

FILE = Path(__file__).with_name("passing.txt")
UPDATING = os.environ.get("UPDATE_RATCHET") == "1"
NEVER = {Verdict.WRONG, Verdict.CRASHED}


def read():
    return set(FILE.read_text().split()) if FILE.exists() else set()


def passed(outcomes):
    return {id for id, outcome in outcomes.items() if outcome.verdict is Verdict.PASSED}


def add(outcomes):
    """Lists what passes now. Nothing is taken off: a loss that is meant is deleted by hand, and seen in the diff."""
    FILE.write_text("".join(f"{id}\n" for id in sorted(read() | passed(outcomes))))


def never_allowed(outcomes):
    """Wrong answers and crashes, listed or not."""
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
