"""The table of patients that comes with the package: made from what was matched, and how far pictures are told apart by its pixels.

    python -m benchmarks.patients --data DIR --matched patients.csv [--write]

DIR is `brain-tumor-mri` (Kaggle, M. Nickparvar); patients.csv names the figshare slice of each of its files (path, patient, examination,
figshare_label). Without --write the table of the package is only compared with them.
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray.dataset.published import FILE, NEAR, SCHEMA, pixel_print, print_difference
from btc_ray.images.decode import decode

SIZES = (96, 224, 512)
PAIRS = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--matched", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    with chosen.matched.open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: Path(row["path"]).name)
    greys = [decode((chosen.data / row["path"]).read_bytes()) for row in rows]
    prints = [pixel_print(grey) for grey in greys]
    table = pa.Table.from_pylist(
        [
            {
                "key": Path(row["path"]).name,
                "patient": row["patient"],
                "examination": row["examination"],
                "label": None if Path(row["path"]).parent.name == row["figshare_label"] else row["figshare_label"],
                "pixels": pixels,
            }
            for row, pixels in zip(rows, prints, strict=True)
        ],
        schema=SCHEMA,
    )
    if chosen.write:
        pq.write_table(table, FILE, compression="zstd", compression_level=19)
    same = pq.read_table(FILE, schema=SCHEMA).equals(table)
    print(f"{FILE.name}: {FILE.stat().st_size:,} bytes, {'the same' if same else 'NOT the same'} as these {len(table):,} rows")
    print(f"{len(table['patient'].unique())} patients, {len(table['examination'].unique())} examinations")
    print(f"labels that figshare contradicts: {len(table) - table['label'].null_count}")
    rng = np.random.default_rng(0)
    some = rng.choice(len(greys), 400, replace=False)
    for size in SIZES:
        far = [print_difference(pixel_print(_recoded(greys[row], size)), prints[row]) for row in some]
        print(f"the same picture at {size} px, JPEG of quality 75: difference at most {max(far):.3f} levels")
    first, second = rng.integers(0, len(greys), (2, PAIRS))
    apart = np.array([print_difference(prints[a], prints[b]) for a, b in zip(first, second, strict=True) if a != b])
    print(
        f"other pictures: {(apart <= NEAR).mean():.4%} of {len(apart):,} pairs within {NEAR} levels, median {np.median(apart):.2f}"
    )


def _recoded(grey: np.ndarray, size: int) -> np.ndarray:
    smaller = size < grey.shape[0]
    resized = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    data = cv2.imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


if __name__ == "__main__":
    main()
