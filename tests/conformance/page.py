"""docs/operators.md: what passes, operator by operator and engine by engine, and why the rest does not."""

from collections import Counter

from cases import left_out_for
from configurations import ALL, AUTO, AUTOS, RTEN, TRACT
from reasons import short
from runner import Verdict
from server import REPOSITORY

FILE = REPOSITORY / "docs" / "operators.md"
MOST_REASONS = 3
LOSSES = "Losses"
REFUSED = {Verdict.NOT_LOADED, Verdict.NOT_ANSWERED}
TITLES = [configuration.title for configuration in ALL]

INTRODUCTION = """# Operators

What onnxd answers as ONNX expects, by ONNX's own tests, sent through the HTTP API to servers that loaded their models
from a repository. Generated from a run; do not edit:

```sh
UPDATE_RATCHET=1 ./tests/run.sh conformance
```

Shapes, data types, integers, booleans and strings must be equal, floats within each test's tolerance; of random
operators only shapes and data types are compared. A model that cannot be run right is refused when it is loaded, with
the reason; a wrong answer fails the run.

Every case is put to five servers. *tract*, *rten* and *ONNX Runtime* have one engine each, as `inference.engine` names
it, and show what an engine does for itself: it refuses what it is known to answer wrongly. *auto* is the default, in
which engines check each other: without the library of ONNX Runtime it has tract and rten, with it all three. Whatever one
of its engines passes alone passes with it as well.
"""

TABLE = """
How many cases of each operator pass: its own, those in which its function body stands in its place, and, of the
PyTorch and simple suites, the models that hold it among others. *all* is all of them. The reasons are those without ONNX
Runtime, where that is not enough.
"""


def write(run):
    FILE.write_text(render(run))


def render(run):
    parts = [
        INTRODUCTION,
        suites(run),
        refusals(run),
        left_out_table(run.left_out),
        deviations(run.rules),
        operators(run),
    ]
    return "\n".join(parts)


def share(cases, outcomes):
    return passed(cases, outcomes) / len(cases)


def passed(cases, outcomes):
    return sum(outcomes[case.id].verdict is Verdict.PASSED for case in cases)


def suites(run):
    groups = {}
    for case in run.comparable:
        groups.setdefault(f"{case.suite}, losses" if case.is_loss else case.suite, []).append(case)
    rows = sorted(groups.items())
    rows += [
        ("**inference, all suites**", [case for case in run.comparable if not case.is_loss]),
        ("losses, all suites", [case for case in run.comparable if case.is_loss]),
    ]
    cells = [
        [name, len(cases), *(with_share(cases, run.outcomes[configuration]) for configuration in ALL)]
        for name, cases in rows
    ]
    return "Passed:\n\n" + table(["suite", "cases", *TITLES], cells)


def with_share(cases, outcomes):
    return f"{passed(cases, outcomes)} ({share(cases, outcomes):.1%})"


def refusals(run):
    rows = []
    for configuration in ALL:
        counts = Counter(outcome.verdict for outcome in run.outcomes[configuration].values())
        counts = [counts[verdict] for verdict in Verdict]
        caught = sum(bool(outcome.caught) for outcome in run.outcomes[configuration].values())
        rows.append([configuration.title, *counts, caught if configuration in AUTOS else ""])
    heads = ["", *(verdict.value for verdict in Verdict), "an engine was caught"]
    return (
        "What became of all of them. An engine is caught when it fails on a request that another answers, or is outvoted;"
        " another one then serves, and its answer was right:\n\n" + table(heads, rows)
    )


def left_out_table(left_out):
    found = {}
    for case in left_out:
        found.setdefault(left_out_for(case.model), []).append(case)
    rows = [
        [reason, len(cases), ", ".join(sorted({name for case in cases for _, name in case.operators}))]
        for reason, cases in sorted(found.items())
    ]
    return "Left out, since no request or answer could carry them or they are no inference:\n\n" + table(
        ["the case", "cases", "of"], rows
    )


def deviations(rules):
    if not rules:
        return ""
    lines = "".join(f"- `{id}`\n" for id in rules)
    return (
        "In these the suite itself is at odds with ONNX Runtime, so its letter is not held against onnxd"
        f" (`tests/conformance/known_deviations.txt` says why and what is checked instead):\n\n{lines}"
    )


def operators(run):
    found = {}
    for case in run.comparable:
        for operator in case.operators:
            found.setdefault(operator, []).append(case)
    sections = {}
    for (domain, name), cases in sorted(found.items()):
        section = LOSSES if cases[0].is_loss else domain
        sections.setdefault(section, []).append(operator_row(name, cases, run.outcomes))
    heads = ["operator", "cases", *TITLES, "not passed, since"]
    # The losses last.
    order = sorted(sections, key=lambda section: (section == LOSSES, section))
    return TABLE + "".join(f"\n## {section}\n\n{table(heads, sections[section])}" for section in order)


def operator_row(name, cases, outcomes):
    counts = [passed(cases, outcomes[configuration]) for configuration in ALL]
    counts = ["all" if count == len(cases) else count for count in counts]
    return [name, len(cases), *counts, why_not(cases, outcomes)]


def why_not(cases, outcomes):
    failed = [case.id for case in cases if outcomes[AUTO][case.id].verdict is not Verdict.PASSED]
    counts = Counter(reason for id in failed for reason in reasons(id, outcomes))
    found = sorted(counts, key=lambda reason: (-counts[reason], reason))
    told = found[:MOST_REASONS]
    if len(found) > len(told):
        told.append(f"{len(found) - len(told)} more reasons")
    return "; ".join(told)


def reasons(id, outcomes):
    """Why a case does not pass with tract and rten, in the words of each of them alone."""
    outcome = outcomes[AUTO][id]
    if outcome.verdict not in REFUSED:
        return [f"**{outcome.verdict.value}**"]
    if outcome.engine:
        return [short(outcome.reason)]
    tract, rten = (short(outcomes[engine][id].reason) for engine in (TRACT, RTEN))
    return [tract] if tract == rten else [f"tract: {tract}", f"rten: {rten}"]


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)
