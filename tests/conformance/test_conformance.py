"""ONNX's own tests against the real server, with every engine alone and with those that agree: nothing that passed is
lost, and no answer is wrong."""

from dataclasses import dataclass

import deviations
import page
import pytest
import ratchet
import runner
import suites
from cases import left_out_for
from configurations import ALL, ALONE, AUTOS
from runner import Verdict
from server import TARGET

HOW = "run UPDATE_RATCHET=1 ./tests/run.sh conformance"
each = pytest.mark.parametrize("configuration", ALL, ids=lambda configuration: configuration.name)
each_auto = pytest.mark.parametrize("configuration", AUTOS, ids=lambda configuration: configuration.name)


@dataclass
class Run:
    comparable: list
    left_out: list
    rules: dict
    # The outcomes by configuration.
    outcomes: dict


@pytest.fixture(scope="module")
def run():
    cases = list(suites.all_cases())
    rules = deviations.read(deviations.FILE.read_text())
    comparable = deviations.applied([case for case in cases if left_out_for(case.model) is None], rules)
    left_out = [case for case in cases if left_out_for(case.model)]
    outcomes = {configuration: runner.run(comparable, configuration.settings) for configuration in ALL}
    run = Run(comparable, left_out, rules, outcomes)
    for configuration in ALL:
        write_report(run, configuration)
    if ratchet.UPDATING:
        ratchet.add(run.outcomes)
        page.write(run)
    return run


def write_report(run, configuration):
    """Every case with what became of it and the engines that were caught, to be searched; not committed."""
    lines = []
    for id, outcome in run.outcomes[configuration].items():
        served = f" by {outcome.engine}" if outcome.engine else ""
        lines.append(f"{id}: {outcome.verdict.value}{served}: loaded in {outcome.load_ms} ms: {outcome.reason}")
        lines += [f"{id}: caught {told(finding)}" for finding in outcome.caught]
    lines += [f"{case.id}: left out: {left_out_for(case.model)}" for case in run.left_out]
    report = TARGET / "conformance" / f"report-{configuration.name}.txt"
    report.write_text("".join(f"{line}\n" for line in sorted(lines)))


def told(finding):
    return f"{finding['name']}, which {finding['standing']}: {finding['reason']}"


def none(problems, what):
    assert not problems, f"{len(problems)} {what}:\n" + "\n".join(problems)


@each
def test_no_answer_is_wrong_and_no_case_crashes_or_holds_up_the_server(run, configuration):
    none(ratchet.never_allowed(run.outcomes[configuration]), "wrong answers, crashes or endless runs")


@each_auto
def test_no_case_that_passed_is_lost(run, configuration):
    how = f"lost cases (if that is meant, delete them from the lists in {ratchet.FOLDER})"
    none(ratchet.lost(run.outcomes[configuration], ratchet.listed(configuration)), how)


@each_auto
def test_every_case_that_passes_is_listed(run, configuration):
    unlisted = ratchet.unlisted(run.outcomes[configuration], ratchet.listed(configuration))
    none(unlisted, f"cases pass now and are not listed ({HOW})")


@each_auto
def test_enough_of_the_inference_cases_pass(run, configuration):
    share = page.share([case for case in run.comparable if not case.is_loss], run.outcomes[configuration])
    assert share >= configuration.least_share, f"{share:.1%} of the inference cases pass"


@each_auto
def test_what_one_of_the_engines_passes_alone_passes_with_all_of_them(run, configuration):
    for alone in ALONE:
        if configuration.has_library or not alone.has_library:
            passed = ratchet.passed(run.outcomes[alone])
            none(ratchet.lost(run.outcomes[configuration], passed), f"cases that {alone.title} passes alone")


@each_auto
def test_an_engine_that_answers_otherwise_or_fails_is_caught_and_another_one_answers_right(run, configuration):
    caught = {id: outcome for id, outcome in run.outcomes[configuration].items() if outcome.caught}
    assert caught, "no engine was caught at anything"
    served = {id: outcome for id, outcome in caught.items() if outcome.engine}
    for id, outcome in served.items():
        assert outcome.engine not in {finding["name"] for finding in outcome.caught}, id
    wrong = {id: outcome for id, outcome in served.items() if outcome.verdict is not Verdict.PASSED}
    none([ratchet.told(id, outcome) for id, outcome in wrong.items()], "answers that are not right")


def test_the_page_of_operators_is_current(run):
    expected = page.render(run)
    assert page.FILE.exists() and page.FILE.read_text() == expected, f"docs/operators.md is out of date: {HOW}"
