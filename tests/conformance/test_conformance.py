"""ONNX's own tests against the real server: nothing that passed is lost, and no answer is wrong."""

from dataclasses import dataclass

import deviations
import page
import pytest
import ratchet
import runner
import suites
from cases import left_out_for
from server import TARGET

HOW = "run UPDATE_RATCHET=1 ./tests/run.sh conformance"


@dataclass
class Run:
    comparable: list
    left_out: list
    outcomes: dict
    rules: dict


@pytest.fixture(scope="module")
def run():
    cases = list(suites.all_cases())
    rules = deviations.read(deviations.FILE.read_text())
    comparable = deviations.applied([case for case in cases if left_out_for(case.model) is None], rules)
    left_out = [case for case in cases if left_out_for(case.model)]
    run = Run(comparable, left_out, runner.run(comparable), rules)
    write_report(run)
    if ratchet.UPDATING:
        ratchet.add(run.outcomes)
        page.write(run.comparable, run.left_out, run.outcomes, run.rules)
    return run


def write_report(run):
    """Every case with what became of it, to be searched; not committed."""
    lines = [
        f"{id}: {outcome.verdict.value}: loaded in {outcome.load_ms} ms: {outcome.reason}"
        for id, outcome in run.outcomes.items()
    ]
    lines += [f"{case.id}: left out: {left_out_for(case.model)}" for case in run.left_out]
    (TARGET / "conformance" / "report.txt").write_text("".join(f"{line}\n" for line in sorted(lines)))


def none(problems, what):
    assert not problems, f"{len(problems)} {what}:\n" + "\n".join(problems)


def test_no_answer_is_wrong_and_no_case_crashes_the_server(run):
    none(ratchet.never_allowed(run.outcomes), "wrong answers or crashes")


def test_no_case_that_passed_is_lost(run):
    none(ratchet.lost(run.outcomes, ratchet.read()), f"lost cases (if that is meant, delete them from {ratchet.FILE})")


def test_every_case_that_passes_is_listed(run):
    none(ratchet.unlisted(run.outcomes, ratchet.read()), f"cases pass now and are not listed ({HOW})")


def test_the_page_of_operators_is_current(run):
    expected = page.render(run.comparable, run.left_out, run.outcomes, run.rules)
    assert page.FILE.exists() and page.FILE.read_text() == expected, f"docs/operators.md is out of date: {HOW}"
