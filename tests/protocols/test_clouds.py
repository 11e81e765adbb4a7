"""The binary as Amazon SageMaker and Google Vertex AI run their containers. The image itself: tests/image."""

import json
import subprocess

import pytest
import requests
from polling import wait_until
from server import BINARY, DEFAULTS, MODELS, free_port

ROWS = {"instances": [[5.1, 3.5, 1.4, 0.2]]}


class Hosted:
    """Started with nothing but variables, on a port that they name."""

    def __init__(self, folder, port, arguments=("serve",), **environment):
        self.port = port
        usual = {
            "ONNXD_SERVER__ADDRESS": "127.0.0.1",
            "ONNXD_SERVER__GRPC_PORT": "0",
            "ONNXD_SERVER__DRAIN_DELAY_MS": "0",
        }
        self.log = (folder / "onnxd.log").open("w+")
        self.process = subprocess.Popen(
            [BINARY, *arguments], cwd=folder, env=DEFAULTS | usual | environment, stdout=self.log, stderr=self.log
        )

    def __enter__(self):
        wait_until(self.answers, 60, "it answers")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def answers(self):
        if self.process.poll() is not None:
            self.log.seek(0)
            raise RuntimeError(self.log.read())
        try:
            return self.get("/health/ready").ok
        except requests.ConnectionError:
            return False

    def get(self, path):
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=10)

    def post(self, path, **options):
        return requests.post(f"http://127.0.0.1:{self.port}{path}", timeout=10, **options)


@pytest.fixture(scope="module")
def sagemaker(tmp_path_factory):
    port = str(free_port())
    settings = {"SAGEMAKER_BIND_TO_PORT": port, "ONNXD_REPOSITORY__PATH": str(MODELS)}
    with Hosted(tmp_path_factory.mktemp("sagemaker"), port, **settings) as running:
        yield running


def test_sagemaker_pings(sagemaker):
    assert sagemaker.get("/ping").status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", "application/jsonlines", None])
def test_sagemaker_invokes_the_default_model(sagemaker, content_type):
    headers = {"content-type": content_type} if content_type else {}
    answer = sagemaker.post("/invocations", data=json.dumps(ROWS), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["label"] == 0


def test_sagemaker_invokes_in_the_open_inference_protocol(sagemaker):
    tensor = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": ROWS["instances"][0]}
    answer = sagemaker.post("/invocations", json={"inputs": [tensor]})
    assert answer.json()["outputs"][0]["data"] == [0]


def test_sagemaker_is_told_what_is_wrong(sagemaker):
    answer = sagemaker.post("/invocations", json={"instances": [[1]]})
    assert answer.status_code == 400
    assert "features" in answer.json()["error"]


def test_sagemaker_pings_unready_without_its_model(tmp_path):
    """It is told to wait, not that all is well."""
    port = str(free_port())
    settings = {"SAGEMAKER_BIND_TO_PORT": port, "ONNXD_REPOSITORY__PATH": str(MODELS), "MODEL_VERSION": "9"}
    with subprocess.Popen(
        [BINARY, "serve"],
        cwd=tmp_path,
        env=DEFAULTS | settings | {"ONNXD_SERVER__GRPC_PORT": "0", "ONNXD_SERVER__ADDRESS": "127.0.0.1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: status(f"http://127.0.0.1:{port}/health/live") == 200, 30, "it lives")
            assert status(f"http://127.0.0.1:{port}/ping") == 503
        finally:
            process.kill()


def status(url):
    try:
        return requests.get(url, timeout=10).status_code
    except requests.ConnectionError:
        return None


@pytest.fixture(scope="module")
def vertex(tmp_path_factory):
    port = str(free_port())
    settings = {
        "AIP_HTTP_PORT": port,
        "AIP_HEALTH_ROUTE": "/v1/endpoints/7/deployedModels/9",
        "AIP_PREDICT_ROUTE": "/v1/endpoints/7/deployedModels/9:predict",
        "AIP_STORAGE_URI": str(MODELS),
    }
    with Hosted(tmp_path_factory.mktemp("vertex"), port, **settings) as running:
        yield running


def test_vertex_asks_its_routes(vertex):
    assert vertex.get("/v1/endpoints/7/deployedModels/9").status_code == 200
    answer = vertex.post("/v1/endpoints/7/deployedModels/9:predict", json=ROWS | {"parameters": {"mine": 1}})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["label"] == 0


def test_vertex_routes_stand_beside_the_usual_ones(vertex):
    assert vertex.get("/health").ok
    assert vertex.post("/v1/models/iris:predict", json=ROWS).ok
