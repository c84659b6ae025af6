"""What --data of the jobs on labelled images is: class folders, a table, or with --labels an archive of DICOM or NIfTI."""

from typing import Any

import pyarrow as pa

from btc_ray.dataset.archived import read_archive
from btc_ray.dataset.table import LabelledDataError, class_names, is_private, read_labelled, shown_source
from btc_ray.settings import Labelled, to_dict
from btc_ray.storage import Place
from btc_ray.workers.session import available_cpus

PRIVATE = "private"  # the folder of a cache for what identifies patients, and the key of their pseudonyms


def read_data(settings: Labelled, *, least_classes: int = 2) -> pa.Table:
    """Every labelled image as a table of `dataset.table.SCHEMA`, in the order of the listing. Raises as `read_labelled` and
    `read_archive` do."""
    data = Place(settings.data, settings.storage())
    if settings.labels is None:
        return read_labelled(data, least_classes=least_classes, follow_links=settings.follow_links)
    private = data.at(settings.cache_uri()).absolute() / PRIVATE
    table = read_archive(data, settings, cpus=settings.cpus or available_cpus(), private=private)
    if len(class_names(table)) < least_classes:
        raise LabelledDataError(
            f"the images of --labels are of one class only ({class_names(table)[0]}); telling apart needs two."
        )
    return table


def shown_settings(settings: Labelled, table: pa.Table) -> dict[str, Any]:
    """`to_dict` for a record that may be shared: without the paths that were given, where those of the images are private."""
    values = to_dict(settings)
    if is_private(table):
        given = ("data", "labels", "groups", "pseudonym_key")
        values |= {name: shown_source(table, values[name]) for name in given if values[name] is not None}
    return values
