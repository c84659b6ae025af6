"""Where the real images and weights are, a small bundle, a small archive, and an S3 server of this machine's own."""

import os
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from btc_ray import storage
from btc_ray.storage import Place

SHARED = Path(__file__).resolve().parents[2] / "shared"
CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes without a look at them: some hold the time or a number drawn at random, and two processes have to give a test one name."""
    return f"{argname}-bytes" if isinstance(val, bytes) else None


# What takes minutes comes first, the longest before the others, so that the short ones fill what is left of two processes. They share
# a Ray and a trained model in each process: nothing may come between them.
LONGEST = ("test_retrain.py", "test_cluster.py", "test_s3.py", "test_experiments.py", "test_ray_scoring.py", "test_audit.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        if item.path.parent.name != "integration":
            return len(LONGEST) + 1
        return LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)

    items.sort(key=rank)


def _shared(relative: str) -> Path:
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"needs ../shared/{relative}, which a fresh clone does not have")
    return path


@pytest.fixture(scope="session", autouse=True)
def _one_thread_a_test() -> None:
    """Small networks gain nothing from threads, and on a busy machine every parallel region would wait for the slowest."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The Kaggle layout of real MRI images (224 × 224)."""
    return _shared("data/brain-tumor-mri")


@pytest.fixture(scope="session")
def imagenet_weights() -> Path:
    """A torchvision ResNet18 state dict."""
    return _shared("weights/resnet18-imagenet.pth")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of random weights that looks at 64 × 64 pixels: twelve times faster than 224, and as good for testing the pipe."""
    return make_bundle(tmp_path_factory.mktemp("bundle") / "model", seed=0)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another such bundle."""
    return make_bundle(tmp_path_factory.mktemp("bundle") / "other", seed=1)


def make_bundle(folder: Path, *, seed: int, size: int = 64) -> Path:
    from btc_ray.images.prepare import Preprocess
    from btc_ray.model.bundle import write_bundle
    from btc_ray.model.weights import initial_network

    state = initial_network("none", len(CLASSES), seed=seed).state_dict()
    # Random heads give all images the same label; a head ten times as loud tells them apart.
    state["fc.weight"] *= 10
    write_bundle(
        Place(str(folder)), state=state, classes=CLASSES, preprocess=Preprocess(size=size), training={}, data={}, metrics={}
    )
    return folder


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom images in the Kaggle layout: 10 a class to train on, 5 a class to test on, 128 × 128."""
    from btc_ray.phantoms.phantom import write_phantoms

    def make(folder: Path) -> None:
        write_phantoms(folder, per_class=10, seed=1, splits=("Training",), size=(128, 128))
        write_phantoms(folder, per_class=5, seed=2, splits=("Testing",), size=(128, 128))

    return made_once(tmp_path_factory, "phantoms", make)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first of the processes that run the tests makes, and the others wait for."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            new = folder.with_name(f"{folder.name}-new")
            new.mkdir()
            make(new)
            new.rename(folder)
    return folder


@dataclass(frozen=True, kw_only=True)
class Bucket:
    uri: str
    options: dict[str, str]

    def put(self, key: str, data: bytes) -> None:
        storage.write_bytes(f"{self.uri}/{key}", data, self.options)


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, str]]:
    pytest.importorskip("s3fs", reason="needs pip install 'btc-ray[s3]'")
    pytest.importorskip("flask", reason="needs pip install 'moto[server]'")
    pytest.importorskip("flask_cors", reason="needs pip install 'moto[server]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.server import ThreadedMotoServer
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield {"key": "testing", "secret": "testing-secret", "endpoint_url": f"http://127.0.0.1:{port}"}
    server.stop()


@pytest.fixture
def bucket(s3_options: dict[str, str]) -> Bucket:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    fs, path = storage.filesystem(f"s3://{name}", s3_options)
    fs.mkdir(path)
    return Bucket(uri=f"s3://{name}", options=s3_options)
