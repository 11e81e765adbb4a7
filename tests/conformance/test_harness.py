"""The harness itself: it sees every kind of difference, and its ratchet turns one way only."""

import deviations
import numpy as np
import pytest
import ratchet
import runner
from cases import DATATYPES, Case, left_out_for
from configurations import AUTO, AUTO_WITH
from onnx import TensorProto, helper
from reasons import short
from runner import Outcome, Verdict
from wire import difference, elements

NAN, INFINITY = float("nan"), float("inf")


def case_of(element, operator="Identity", data_sets=(), **changes):
    """A model of one operator from x to y."""
    x, y = (helper.make_tensor_value_info(name, element, None) for name in "xy")
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "test", [x], [y])
    return Case("suite", "test", helper.make_model(graph), list(data_sets), (("ai.onnx", operator),), **changes)


def answer(element, data, shape=None, name="y"):
    return [{"name": name, "datatype": DATATYPES[element], "shape": shape or [len(data)], "data": data}]


@pytest.mark.parametrize(
    ("element", "wanted", "data"),
    [
        (TensorProto.FLOAT, [1.0, -2.0], [1.0, -2.01]),
        (TensorProto.FLOAT, [0.0], [2e-7]),
        (TensorProto.FLOAT, [NAN], [0.0]),
        (TensorProto.FLOAT, [0.0], [NAN]),
        (TensorProto.FLOAT, [INFINITY], [-INFINITY]),
        (TensorProto.FLOAT16, [1.0], [1.002]),
        (TensorProto.BFLOAT16, [1.0], [1.03]),
        (TensorProto.INT64, [2**63 - 1], [2**63 - 2]),
        (TensorProto.UINT64, [2**64 - 1], [2**64 - 2]),
        (TensorProto.BOOL, [True], [False]),
    ],
)
def test_a_wrong_number_is_seen(element, wanted, data):
    wanted = np.array(wanted, helper.tensor_dtype_to_np_dtype(element))
    case = case_of(element)
    assert difference(case, [wanted], answer(element, data))
    assert difference(case, [wanted], answer(element, elements(wanted))) is None


def test_a_wrong_string_shape_type_or_name_is_seen():
    case, wanted = case_of(TensorProto.STRING), np.array(["a", "ü"], object)
    assert difference(case, [wanted], answer(TensorProto.STRING, ["a", "ü"])) is None
    assert difference(case, [wanted], answer(TensorProto.STRING, ["a", "u"]))
    assert difference(case, [wanted], answer(TensorProto.STRING, ["a", "ü"], shape=[1, 2]))
    assert difference(case, [wanted], answer(TensorProto.STRING, ["a", "ü"], name="z"))
    assert difference(case, [wanted], [])
    case, wanted = case_of(TensorProto.INT32), np.array([1], np.int32)
    assert difference(case, [wanted], answer(TensorProto.INT64, [1]))


def test_of_random_operators_shape_and_type_count():
    case, wanted = case_of(TensorProto.FLOAT, "Bernoulli"), np.zeros(2, np.float32)
    assert difference(case, [wanted], answer(TensorProto.FLOAT, [0.0, 1.0])) is None
    assert difference(case, [wanted], answer(TensorProto.FLOAT, [0.0]))
    assert difference(case, [wanted], answer(TensorProto.DOUBLE, [0.0, 1.0]))


def test_what_no_request_carries_is_left_out():
    assert left_out_for(case_of(TensorProto.BFLOAT16).model) is None
    assert left_out_for(case_of(TensorProto.INT4).model) == "takes or gives int4 tensors"


def test_the_ratchet_turns_one_way(tmp_path, monkeypatch):
    monkeypatch.setattr(ratchet, "FOLDER", tmp_path)
    outcomes = {"s/new": Outcome(Verdict.PASSED), "s/lost": Outcome(Verdict.WRONG, "1 instead of 2")}
    listed = {"s/lost", "s/gone"}
    assert ratchet.never_allowed(outcomes) == ["s/lost: wrong: 1 instead of 2"]
    assert ratchet.lost(outcomes, listed) == ["s/gone: there is no such case", "s/lost: wrong: 1 instead of 2"]
    assert ratchet.unlisted(outcomes, listed) == ["s/new"]
    ratchet.write(ratchet.WITHOUT, listed)
    ratchet.add({AUTO: outcomes, AUTO_WITH: {**outcomes, "s/with": Outcome(Verdict.PASSED)}})
    assert ratchet.listed(AUTO) == {"s/gone", "s/lost", "s/new"}
    assert ratchet.listed(AUTO_WITH) == ratchet.listed(AUTO) | {"s/with"}
    assert ratchet.read(ratchet.ONLY_WITH) == {"s/with"}


def test_what_is_caught_is_what_others_contradict():
    findings = [{"name": name, "standing": name, "reason": ""} for name in ("agrees", "refuses", "differs", "fails")]
    caught = Outcome(Verdict.PASSED, findings=tuple(findings)).caught
    assert [finding["name"] for finding in caught] == ["differs", "fails"]


def test_deviations_name_cases_and_rules_that_exist():
    case = case_of(TensorProto.FLOAT)
    rules = deviations.read("# a comment\n\nsuite/test  atol=0.5 # why\n")
    assert deviations.applied([case], rules)[0].atol == 0.5
    case_of_40 = case_of(TensorProto.FLOAT, data_sets=[([], [np.array([-40, 1])])])
    assert deviations.applied([case_of_40], {"suite/test": "share=1e-3"})[0].atol == 0.04
    with pytest.raises(ValueError, match="cases that do not exist"):
        deviations.applied([case], {"suite/other": "atol=1"})
    with pytest.raises(ValueError, match="expected atol=NUMBER, rtol=NUMBER, share=NUMBER or onnxruntime"):
        deviations.applied([case], {"suite/test": "never"})


def test_reasons_group():
    loop = 'tract cannot run this model: Translating node #3 "n" Unimplemented(Loop) ToTypedTranslator: No.'
    assert short(loop) == "operator Loop is not supported"
    axes = 'tract cannot run this model: Translating node #2 "n" Reduce13 ToTypedTranslator: expected axes.'
    assert short(axes) == "Reduce13: expected axes"
    lone = "rten cannot run this model: operator error: ai.x/Loop operator not supported or not enabled; docs/models.md says"
    assert short(lone) == "operator Loop is not supported"
    lengths = "operator LSTM (node 'y'): rten ignores sequence_lens; docs/models.md says what loads"
    assert short(lengths) == "LSTM: rten ignores sequence_lens"


def test_a_case_that_kills_the_server_is_found_alone(monkeypatch):
    """Case 5 kills it while it loads, case 9 at its request; all others pass."""

    def serve(cases, _folder, outcomes, _settings):
        if 5 in cases:
            if len(cases) > 1:
                return cases
            outcomes[5] = Verdict.CRASHED
            return []
        for index, case in enumerate(cases):
            outcomes[case] = Verdict.CRASHED if case == 9 else Verdict.PASSED
            if case == 9:
                return cases[index + 1 :]
        return []

    monkeypatch.setattr(runner, "serve", serve)
    monkeypatch.setattr(runner, "MODELS_A_SERVER", 7)
    outcomes = runner.run(list(range(20)), {})
    assert sorted(outcomes) == list(range(20))
    assert [case for case, verdict in outcomes.items() if verdict is Verdict.CRASHED] == [5, 9]
