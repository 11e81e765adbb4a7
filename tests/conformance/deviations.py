"""The few cases in which the suite is at odds with ONNX Runtime, from known_deviations.txt."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
from cases import inputs

FILE = Path(__file__).with_name("known_deviations.txt")


def read(text):
    """The rules by case id."""
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return {id: rule for id, rule in filter(None, lines)}


def applied(cases, rules):
    """The cases with the rules' expectations; a rule for a case that does not exist is an error."""
    unknown = set(rules) - {case.id for case in cases}
    if unknown:
        raise ValueError(f"{FILE.name} names cases that do not exist: {sorted(unknown)}")
    return [deviating(case, rules[case.id]) if case.id in rules else case for case in cases]


def deviating(case, rule):
    if rule == "onnxruntime":
        return replace(case, data_sets=[(given, runtime_answer(case, given)) for given, _ in case.data_sets])
    key, _, value = rule.partition("=")
    if key == "share":
        return replace(case, atol=float(value) * largest(case))
    if key not in ("atol", "rtol"):
        rules = "atol=NUMBER, rtol=NUMBER, share=NUMBER or onnxruntime"
        raise ValueError(f"{FILE.name}: {case.id}: expected {rules}, got {rule}")
    return replace(case, **{key: float(value)})


def largest(case):
    """The largest number that is expected of the case."""
    return max(float(np.abs(array).max()) for _, expected in case.data_sets for array in expected)


def runtime_answer(case, given):
    session = onnxruntime.InferenceSession(case.model.SerializeToString())
    names = [value.name for value in inputs(case.model.graph)]
    return session.run(None, dict(zip(names, given, strict=True)))
