"""One server for the models of all packages, with its engines in each way."""

import agreement
import onnx
import pytest
import requests
from engines import WAYS
from server import TARGET

PACKAGES = TARGET / "packages"
FILES = {
    "text_detection": "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
    "text_recognition": "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
    "text_direction": "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "magika": "magika/models/standard_v3_3/model.onnx",
    "nudenet": "nudenet/320n.onnx",
}
SILERO = PACKAGES / "silero_vad-6.2.3" / "src" / "silero_vad" / "data"


@pytest.fixture(scope="session")
def models():
    paths = [PACKAGES / file for file in FILES.values()]
    found = dict(zip(FILES, paths, strict=True)) | {path.stem: path for path in SILERO.glob("*.onnx")}
    return {name: onnx.load(path) for name, path in found.items()}


@pytest.fixture(scope="session", params=WAYS)
def way(request):
    return request.param


@pytest.fixture(scope="session")
def server(tmp_path_factory, models, way):
    with agreement.serving(tmp_path_factory, models, **WAYS[way]) as running:
        yield running


@pytest.fixture(scope="session")
def session():
    with requests.Session() as session:
        yield session
