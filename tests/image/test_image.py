"""The image that the Dockerfile builds, run the way a stranger and a cluster would run it."""

import io
import json
import platform
import tarfile
import time

import manifests
import pytest
from container import Container
from polling import wait_until
from project import COMMIT, REPOSITORY

IRIS = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
WINE = [13.87, 1.9, 2.8, 19.4, 107, 2.95, 2.97, 0.37, 1.76, 4.5, 1.25, 3.4, 915]
SEVEN = [
    [0, 0, 2, 13, 16, 9, 0, 0],
    [0, 0, 12, 12, 7, 16, 3, 0],
    [0, 1, 14, 3, 0, 16, 4, 0],
    [0, 0, 0, 4, 10, 16, 6, 0],
    [0, 0, 0, 13, 16, 16, 9, 0],
    [0, 0, 0, 5, 13, 1, 0, 0],
    [0, 0, 0, 11, 9, 0, 0, 0],
    [0, 0, 1, 16, 4, 0, 0, 0],
]
# As little as a container may be given, and a user that the image does not know.
CONFINED = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "12345"]
SMALL = ["--memory", "256m", "--cpus", "0.5"]


@pytest.fixture(scope="module")
def server(daemon, image):
    options = [*CONFINED, *SMALL, "--env", "MODEL_VERSION=v2"]
    with Container(daemon, image, options) as container:
        yield container.until_ready()


# What is in the image.


def test_image_carries_its_commit_and_a_numeric_user(daemon, image):
    config = json.loads(daemon.docker("inspect", "--format", "{{json .Config}}", image))
    assert config["Labels"]["org.opencontainers.image.revision"] == COMMIT
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/usr/local/bin/onnxd"]
    assert config["Cmd"] == ["serve"]
    assert sorted(config["ExposedPorts"]) == ["8000/tcp", "8001/tcp"]


def test_image_adds_the_binary_and_the_served_models_and_stays_small(daemon, image, capsys):
    with Container(daemon, image) as container:
        files = regular_files(daemon, container, "/models") | regular_files(daemon, container, "/usr/local")
    kept = {name for name in files if name.startswith("models/")}
    bundled = {"models/iris/2/model.onnx", "models/digits/2/model.onnx", "models/wine/1/model.onnx"}
    assert {"models/repository.toml", *bundled} <= kept
    assert not [name for name in kept if name.startswith("models/train")]
    total = int(daemon.docker("inspect", "--format", "{{.Size}}", image))
    with capsys.disabled():
        print(f"\nimage {total / 1e6:.1f} MB, of which the binary {files['local/bin/onnxd'] / 1e6:.1f} MB")
    assert total < 100e6


def test_image_with_onnx_runtime_adds_its_library_and_licence(daemon, image, ort_image, capsys):
    with Container(daemon, ort_image) as container:
        files = regular_files(daemon, container, "/usr/local") | regular_files(daemon, container, "/usr/share/doc")
    library = files["local/lib/libonnxruntime.so"]
    assert {"doc/onnxruntime/LICENSE", "doc/onnxruntime/ThirdPartyNotices.txt"} <= set(files)
    plain, total = (int(daemon.docker("inspect", "--format", "{{.Size}}", name)) for name in (image, ort_image))
    with capsys.disabled():
        print(f"\nimage with ONNX Runtime {total / 1e6:.1f} MB, of which its library {library / 1e6:.1f} MB")
    assert library < total - plain < library + 1e6


def test_library_of_onnx_runtime_finds_all_that_it_links_against(daemon, ort_image):
    """By the loader of the image itself, which has no ldd."""
    loader = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}[platform.machine()]
    listed = daemon.docker("run", "--rm", "--entrypoint", loader, ort_image, "--list", "/usr/local/lib/libonnxruntime.so")
    assert "libstdc++.so.6" in listed
    assert "not found" not in listed


def test_image_with_onnx_runtime_serves(daemon, ort_image):
    with Container(daemon, ort_image, [*CONFINED, *SMALL]) as container:
        container.until_ready()
        assert container.post("/predict", IRIS).ok
        for model in container.get("/health").json()["models"]:
            standings = {engine["name"]: engine["standing"] for engine in model["engines"]}
            assert standings["tract"] == standings["onnxruntime"] == "agrees", model


def regular_files(daemon, container, folder):
    """Sizes by path of what is below that folder in the container."""
    archive = daemon.archive(container.id, folder)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {entry.name: entry.size for entry in tar if entry.isfile()}


# Serving, confined: read-only, no capability, an unknown user, half a core and 256 MiB.


def test_default_model_predicts(server):
    answer = server.post("/predict", IRIS)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model_version"] == "2"
    [flower] = answer.json()["predictions"]
    assert flower["label"] == 0


def test_named_model_predicts(server):
    answer = server.post("/predict/digits", {"instances": [[SEVEN]]})
    assert answer.status_code == 200, answer.text
    [digit] = answer.json()["predictions"]
    assert digit["label"] == 7


def test_metrics_tell_the_limits_of_the_container(server):
    metrics = server.metrics()
    assert metrics["onnxd_cgroup_cpu_quota_cores"] == 0.5
    assert metrics["onnxd_cgroup_memory_limit_bytes"] == 256 * 1024 * 1024


def test_metrics_tell_the_commit_that_was_built(server):
    [build] = [name for name in server.metrics() if name.startswith("onnxd_build_info")]
    assert f'commit="{COMMIT}"' in build


def test_health_command_agrees_and_docker_calls_it_healthy(server):
    server.execute("/usr/local/bin/onnxd", "health")
    wait_until(lambda: server.state()["Health"]["Status"] == "healthy", 60, "Docker calls it healthy")


def test_stop_drains_and_exits_with_zero_inside_the_grace_period(daemon, image):
    grace = manifests.pod()["terminationGracePeriodSeconds"]
    with Container(daemon, image, [*CONFINED, *SMALL]) as container:
        container.until_ready()
        began = time.monotonic()
        assert container.stop(grace) == 0
        assert time.monotonic() - began < grace


# Other ways to run the same image.


def test_image_runs_as_the_deployment_runs_it(daemon, image, tmp_path):
    """The same arguments, variables, limits and configuration file as in k8s/."""
    deployed = manifests.container()
    configuration = tmp_path / "onnxd.toml"
    configuration.write_text(manifests.configuration_text())
    plain = [entry for entry in deployed["env"] if "value" in entry]
    variables = [f"--env={entry['name']}={entry['value']}" for entry in plain]
    volume = f"--volume={configuration}:/etc/onnxd/onnxd.toml:ro"
    limits = ["--memory", "512m", "--cpus", "0.5", "--tmpfs", "/tmp"]
    options = ["--read-only", "--cap-drop", "ALL", *limits, *variables, volume]
    with Container(daemon, image, options, deployed["args"]) as container:
        container.until_ready()
        assert container.post("/predict", IRIS).json()["model_version"] == "2"


def test_image_serves_on_the_port_that_it_is_told(daemon, image):
    with Container(daemon, image, ["--env", "PORT=5000"], port=5000) as container:
        container.until_ready()
        assert container.post("/predict", IRIS).ok
        container.execute("/usr/local/bin/onnxd", "health")


def test_image_runs_as_sagemaker_runs_it(daemon, image):
    """With the argument `serve`, its model unpacked at /opt/ml/model, on the port that it is told."""
    volume = f"--volume={REPOSITORY / 'models' / 'wine'}:/opt/ml/model/wine:ro"
    with Container(daemon, image, [volume, "--env", "SAGEMAKER_BIND_TO_PORT=8080"], ["serve"], port=8080) as container:
        container.until_ready()
        assert container.get("/ping").ok
        [wine] = container.post("/invocations", {"instances": [WINE]}).json()["predictions"]
        assert wine["label"] == "Barolo"


def test_image_serves_a_mounted_folder_of_models(daemon, image):
    volume = f"--volume={REPOSITORY / 'models'}:/models:ro"
    with Container(daemon, image, ["--read-only", volume]) as container:
        container.until_ready()
        assert container.post("/predict", IRIS).ok
