"""The same scoring from a local folder and from an S3 store: calm, throttled, and with the gateway killed in the middle.

benchmarks/radosgw.sh start                 # and export what it prints
python -m benchmarks.object_store OUT_DIR   # prints one line a run; says whether its table is that of the local folder
benchmarks/radosgw.sh stop
"""

import os
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from btc_ray import storage
from btc_ray.phantoms.phantom import write_phantoms
from btc_ray.storage import Place
from tests.conftest import make_bundle
from tests.integration.faulty_store import faulty_store

COPIES = 30
DOWN_S = 30.0
GATEWAY = Path(__file__).with_name("radosgw.sh")


def main() -> None:
    home, bucket = Path(sys.argv[1]), f"s3://night-{uuid.uuid4().hex[:8]}"
    images, model = _inputs(home), make_bundle(home / "model", seed=0)
    filesystem, path = storage.filesystem(bucket)
    filesystem.mkdir(path)
    for folder in (images, model):
        for file in folder.rglob("*.*"):
            storage.write_bytes(f"{bucket}/{folder.name}/{file.relative_to(folder)}", file.read_bytes())

    there, gateway = (f"{bucket}/model", f"{bucket}/in"), os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    expected = _run("local folder, in process", (str(model), str(images)), str(home / "run"), "--local-rows", "100000")
    _run("S3, in process", there, f"{bucket}/run-1", "--local-rows", "100000", expected=expected)
    _run("S3, Ray", there, f"{bucket}/run-2", "--address", "local", expected=expected)
    with faulty_store(gateway) as proxy:
        proxy.throttle_every = 5
        _run("S3, Ray, every 5th request 503", there, f"{bucket}/run-3", "--address", "local", expected=expected, at=proxy.url)
        print(f"    {proxy.throttled} of {proxy.throttled + len(proxy.requests)} requests were answered with 503 SlowDown")
    _run(
        f"S3, Ray, gateway killed, started again after {DOWN_S:.0f} s",
        there,
        f"{bucket}/run-4",
        *("--address", "local"),
        expected=expected,
        meanwhile=lambda: _kill_gateway(f"{bucket}/run-4/_work/staged-ray"),
    )


def _inputs(home: Path) -> Path:
    """Loose phantoms and a zip that holds them many times."""
    write_phantoms(home / "phantoms", per_class=10, seed=1, splits=("Training",), size=(256, 256))
    images = sorted((home / "phantoms").rglob("*.*"))
    (home / "in").mkdir()
    with zipfile.ZipFile(home / "in" / "night.zip", "w") as archive:
        for number, image in enumerate(images):
            (home / "in" / f"{number:03d}{image.suffix}").write_bytes(image.read_bytes())
            for copy in range(COPIES):
                archive.write(image, f"{copy}/{number:03d}{image.suffix}")
    return home / "in"


def _run(
    name: str,
    places: tuple[str, str],
    run: str,
    *flags: str,
    expected: pd.DataFrame | None = None,
    at: str | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> pd.DataFrame:
    """One `btc-ray score`; its table, compared with the one `expected`."""
    model, images = places
    words = ["score", "--model", model, "--input", images, "--output", run, "--batch-size", "8", *flags]
    environment = os.environ | ({"AWS_ENDPOINT_URL": at} if at else {})
    beside = threading.Thread(target=meanwhile)
    beside.start()
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "btc_ray.cli", *words], env=environment, capture_output=True, check=False)
    seconds = time.monotonic() - began
    beside.join()
    if done.returncode:
        raise SystemExit(f"{name}: exit code {done.returncode}\n{done.stderr.decode()[-3000:]}")
    table = pa.concat_tables([Place(uri).read_table() for uri in storage.list_files(f"{run}/scores", ".parquet")]).to_pandas()
    table = table.sort_values("row_id", ignore_index=True).assign(uri=lambda rows: rows["uri"].str.removeprefix(images))
    same = "" if expected is None else "equal table" if _equal(table, expected) else "ANOTHER TABLE"
    print(f"{name}: {len(table):,} rows in {seconds:.1f} s {same}", flush=True)
    return table


def _equal(found: pd.DataFrame, expected: pd.DataFrame) -> bool:
    floats = [name for name in expected.columns if expected[name].dtype == "float32"]
    near = np.allclose(found[floats], expected[floats], rtol=1e-4, atol=1e-4, equal_nan=True)
    return near and found.drop(columns=floats).equals(expected.drop(columns=floats))


def _kill_gateway(staged: str) -> None:
    """SIGKILL once results are being written, and a new gateway later."""
    while not storage.list_files(staged, ".parquet"):
        time.sleep(0.2)
    subprocess.run([GATEWAY, "kill"], check=True)
    print("    gateway killed", flush=True)
    time.sleep(DOWN_S)
    subprocess.run([GATEWAY, "gateway"], check=True)


if __name__ == "__main__":
    main()
