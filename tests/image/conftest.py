"""The daemon and the image, once for all tests of this folder."""

import os
import shutil
import tempfile

import bases
import pytest
from daemon import DOCKER, DOCKERD, Daemon
from project import COMMIT, IMAGE, ORT_IMAGE, ORT_STAGE, REPOSITORY


@pytest.fixture(scope="session")
def daemon():
    if os.geteuid() != 0:
        give_up("only root can run a Docker daemon")
    for program in [DOCKER, DOCKERD, "debootstrap", "dpkg-deb", "apt-get", "tar", "rustc"]:
        if not shutil.which(program):
            give_up(f"{program} is not installed")
    with tempfile.TemporaryDirectory(prefix="onnxd-image-") as folder:
        daemon = Daemon(folder)
        start(daemon)
        try:
            if not daemon.limits_cpu_and_memory():
                give_up("the kernel's cgroups do not limit CPU and memory here")
            yield daemon
        finally:
            daemon.stop()


@pytest.fixture(scope="session")
def base_images(daemon):
    build_base, final_base = bases.names(REPOSITORY / "Dockerfile")
    bases.make_build_base(daemon, build_base, daemon.folder, REPOSITORY / "target/release")
    bases.make_final_base(daemon, final_base, daemon.folder)


@pytest.fixture(scope="session")
def image(daemon, base_images):
    """The image's name. The build's output is shown with the first test that fails on it."""
    return build(daemon, IMAGE)


@pytest.fixture(scope="session")
def ort_image(daemon, image):
    """The name of the one with ONNX Runtime, which shares most of its layers with the other."""
    return build(daemon, ORT_IMAGE, "--target", ORT_STAGE)


def build(daemon, name, *arguments):
    given = [*bases.proxy_arguments(), "--build-arg", f"COMMIT={COMMIT}"]
    daemon.build(REPOSITORY, name, *given, *arguments)
    return name


def start(daemon):
    try:
        daemon.start()
    except (OSError, RuntimeError, TimeoutError) as error:
        give_up(f"the Docker daemon did not start: {error}")


def give_up(reason):
    """tests/run.sh reads the reason and this exit code, and says that the part was not run."""
    pytest.exit(f"not run: {reason}", returncode=77)
