"""Puts cases to a real onnxd, many models a server, and says what became of each.

A batch in which the server dies or does not get ready is halved until the guilty case is alone.
"""

import json
import subprocess
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from server import TARGET, Server
from wire import difference, request

# Enough to spread a server's start over, few enough for their worker threads.
MODELS_A_SERVER = 200
READY_WITHIN_S = 60
REQUEST_WITHIN_MS = 10_000
SETTINGS = {
    # The models are whole before a server starts: there is nothing to wait for, and nothing to watch.
    "ONNXD_REPOSITORY__MODE": "static",
    "ONNXD_REPOSITORY__POLL_MS": "10",
    "ONNXD_REPOSITORY__REQUIRE_ALL": "false",
    "ONNXD_SERVER__DRAIN_DELAY_MS": "0",
    "ONNXD_SERVER__REQUEST_TIMEOUT_MS": str(REQUEST_WITHIN_MS),
    # Whatever locales a machine has, which ONNX Runtime's StringNormalizer would load.
    "LOCPATH": "/nowhere",
}


class Verdict(Enum):
    PASSED = "passed"
    NOT_LOADED = "refused at load"
    NOT_ANSWERED = "refused at request"
    WRONG = "wrong"
    CRASHED = "crashed the server"
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class Outcome:
    verdict: Verdict
    # The server's own words, or the difference.
    reason: str = ""
    load_ms: float = 0
    # The engine that serves the model, and what was found of every engine.
    engine: str = ""
    findings: tuple = ()

    @property
    def caught(self):
        """The engines that were kept from serving for what they answered, or failed to."""
        return [finding for finding in self.findings if finding["standing"] in ("differs", "fails")]


def run(cases, settings):
    """The outcome of every case, by its id, from servers with these settings."""
    outcomes = {}
    for first in range(0, len(cases), MODELS_A_SERVER):
        run_batch(cases[first : first + MODELS_A_SERVER], outcomes, settings)
    return outcomes


def run_batch(cases, outcomes, settings):
    if not cases:
        return
    (TARGET / "conformance").mkdir(exist_ok=True)
    with TemporaryDirectory(dir=TARGET / "conformance") as folder:
        rest = serve(cases, Path(folder), outcomes, settings)
    if len(rest) == len(cases) > 1:
        half = len(cases) // 2
        run_batch(cases[:half], outcomes, settings)
        run_batch(cases[half:], outcomes, settings)
    else:
        run_batch(rest, outcomes, settings)


def serve(cases, folder, outcomes, settings):
    """Asks one server; the cases that are left without an outcome because it died or never got ready."""
    models = folder / "models"
    for case in cases:
        (models / case.model_name).mkdir(parents=True)
        (models / case.model_name / "model.onnx").write_bytes(case.model.SerializeToString())
    try:
        server = Server(folder, models=models, ready_within=READY_WITHIN_S, **SETTINGS, **settings)
    except (TimeoutError, RuntimeError, requests.ConnectionError) as error:
        if len(cases) > 1:
            return cases
        late = isinstance(error, TimeoutError)
        reason = str(error) if late else last_words(folder / "onnxd.log")
        outcomes[cases[0].id] = Outcome(Verdict.TIMED_OUT if late else Verdict.CRASHED, reason)
        return []
    try:
        rest = ask_all(server, cases, outcomes)
        if not rest:
            server.stop()
            add_causes(server.log, outcomes)
        return rest
    finally:
        server.kill()


def ask_all(server, cases, outcomes):
    load_ms = load_times(server.log)
    models = {model["name"]: model for model in server.get("/health").json()["models"]}
    with requests.Session() as session:
        for index, case in enumerate(cases):
            model = models[case.model_name]
            known = {
                "load_ms": load_ms.get(case.model_name, 0),
                "engine": model.get("engine", ""),
                "findings": tuple(model.get("engines", ())),
            }
            if "reason" in model:
                outcomes[case.id] = Outcome(Verdict.NOT_LOADED, model["reason"], **known)
                continue
            try:
                verdict, reason = ask(server, session, case)
            except requests.ConnectionError:
                outcomes[case.id] = Outcome(Verdict.CRASHED, cause_of_death(server), **known)
                return cases[index + 1 :]
            outcomes[case.id] = Outcome(verdict, reason, **known)
    return []


def ask(server, session, case):
    for values, expected in case.data_sets:
        url = server.url(f"/v2/models/{case.model_name}/infer")
        try:
            answer = session.post(url, data=request(case, values), timeout=2 * REQUEST_WITHIN_MS / 1000)
        except requests.Timeout:
            return Verdict.TIMED_OUT, "no answer at all"
        if answer.status_code == 504:
            return Verdict.TIMED_OUT, answer.text
        if answer.status_code != 200:
            return Verdict.NOT_ANSWERED, f"{answer.status_code}: {answer.json()['error']}"
        problem = difference(case, expected, answer.json()["outputs"])
        if problem:
            return Verdict.WRONG, problem
    return Verdict.PASSED, ""


def load_times(log):
    return {entry["model"]: entry["took_ms"] for entry in entries(log) if "took_ms" in entry}


def add_causes(log, outcomes):
    """A client is not told why a model failed while it ran; the log has it."""
    causes = {entry["model"]: entry["reason"] for entry in entries(log) if entry.get("status") == 500}
    for id, outcome in outcomes.items():
        cause = causes.get(id.replace("/", "."))
        if cause and outcome.verdict is Verdict.NOT_ANSWERED:
            outcomes[id] = replace(outcome, reason=f"500: {cause}")


def entries(log):
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def cause_of_death(server):
    try:
        code = server.process.wait(5)
    except subprocess.TimeoutExpired:
        return "it closed the connection and lives on"
    return f"exit code {code}: {last_words(server.log)}"


def last_words(log):
    """What a dying process wrote that is no log entry, such as an overflow of its stack."""
    words = [line for line in log.read_text().splitlines() if line and not line.startswith("{")]
    return " ".join(words[-3:]) or "without a word"
