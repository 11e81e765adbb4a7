"""docs/operators.md: what passes, operator by operator, and the server's own words on what does not."""

from collections import Counter
from pathlib import Path

from cases import left_out_for
from reasons import short
from runner import Verdict
from server import REPOSITORY
from suites import NEWEST, OLDER

FILE = REPOSITORY / "docs" / "operators.md"
# One column of states an engine.
ENGINE = "tract"
MOST_REASONS = 3
LOSSES = "Losses"

INTRODUCTION = f"""# Operators

What onnxd answers as ONNX expects, by ONNX's own tests, sent through the HTTP API to a server that loaded their models
from a repository. Generated from a run; do not edit:

```sh
UPDATE_RATCHET=1 ./tests/run.sh conformance
```

Shapes, data types, integers, booleans and strings must be equal, floats within each test's tolerance; of random
operators only shapes and data types are compared. A model that cannot be run right is refused when it is loaded, with
the reason; a wrong answer fails the run.
"""

TABLE = """
Passed of comparable cases. The state counts the operator's own cases; *body* are the cases in which a function body
stands in the operator's place, *models* those of the PyTorch and simple suites that hold the operator among others.
"""


def write(comparable, left_out, outcomes, rules):
    FILE.write_text(render(comparable, left_out, outcomes, rules))


def render(comparable, left_out, outcomes, rules):
    parts = [
        INTRODUCTION,
        summary(comparable, left_out, outcomes),
        left_out_table(left_out),
        deviations(rules),
        operators(comparable, outcomes),
    ]
    return "\n".join(parts)


def summary(comparable, left_out, outcomes):
    def group(case):
        return f"{case.suite}, losses" if case.is_loss else case.suite

    outside = Counter(group(case) for case in left_out)
    verdicts = {}
    for case in comparable:
        verdicts.setdefault(group(case), Counter())[outcomes[case.id].verdict] += 1
    rows = []
    for suite, counts in sorted(verdicts.items()):
        refused = counts[Verdict.NOT_LOADED] + counts[Verdict.NOT_ANSWERED]
        failed = counts[Verdict.WRONG] + counts[Verdict.CRASHED] + counts[Verdict.TIMED_OUT]
        rows.append([suite, counts.total(), counts[Verdict.PASSED], refused, failed, outside[suite]])
    rows.append(["all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
    return table(["suite", "comparable", "passed", "refused", "wrong, crashed or late", "left out"], rows)


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


def operators(comparable, outcomes):
    found = {}
    for case in comparable:
        for operator in case.operators:
            found.setdefault(operator, []).append(case)
    sections = {}
    for (domain, name), cases in sorted(found.items()):
        section = LOSSES if cases[0].is_loss else domain
        sections.setdefault(section, []).append(operator_row(name, cases, outcomes))
    heads = ["operator", ENGINE, NEWEST.split("/")[0], f"onnx-{OLDER}", "body", "models", "not passed, since"]
    # The losses last.
    order = sorted(sections, key=lambda section: (section == LOSSES, section))
    return TABLE + "".join(f"\n## {section}\n\n{table(heads, sections[section])}" for section in order)


def operator_row(name, cases, outcomes):
    own = {"newest": [], "older": [], "body": [], "models": []}
    for case in cases:
        own[column(case)].append(case)
    counts = [passed_of(cases, outcomes) for cases in own.values()]
    # What is only ever seen inside other models is judged by those.
    decisive = own["newest"] + own["older"] or cases
    passed = sum(outcomes[case.id].verdict is Verdict.PASSED for case in decisive)
    state = "all" if passed == len(decisive) else "some" if passed else "none"
    return [name, state, *counts, why_not(cases, outcomes)]


def column(case):
    if not case.suite.endswith("/node"):
        return "models"
    if case.expanded:
        return "body"
    return "newest" if case.suite == NEWEST else "older"


def passed_of(cases, outcomes):
    passed = sum(outcomes[case.id].verdict is Verdict.PASSED for case in cases)
    return f"{passed}/{len(cases)}" if cases else ""


def why_not(cases, outcomes):
    failed = [outcome for outcome in (outcomes[case.id] for case in cases) if outcome.verdict is not Verdict.PASSED]
    counts = Counter(words(outcome) for outcome in failed)
    reasons = sorted(counts, key=lambda reason: (-counts[reason], reason))
    told = reasons[:MOST_REASONS]
    if len(reasons) > len(told):
        told.append(f"{len(reasons) - len(told)} more reasons")
    return "; ".join(told)


def words(outcome):
    refused = outcome.verdict in (Verdict.NOT_LOADED, Verdict.NOT_ANSWERED)
    return short(outcome.reason) if refused else f"**{outcome.verdict.value}**"


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)
