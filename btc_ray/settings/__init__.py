"""One frozen dataclass a job: the only source of flags, defaults, help text and YAML keys."""

from btc_ray.settings.audit import Audit
from btc_ray.settings.crop import Crop
from btc_ray.settings.demo import Demo
from btc_ray.settings.doctor import Doctor
from btc_ray.settings.evaluate import Evaluate
from btc_ray.settings.experiments import Experiments
from btc_ray.settings.group import Group
from btc_ray.settings.info import Info
from btc_ray.settings.job import CropMethod, Device, Engine, Job, Precision, SettingsError, Split, check_size, to_dict
from btc_ray.settings.labelled import Labelled, Training
from btc_ray.settings.manifest import LONGEST_NAME, Kind, KubernetesManifest
from btc_ray.settings.retrain import Retrain
from btc_ray.settings.review import Review
from btc_ray.settings.score import Score
from btc_ray.settings.submit import Submit

__all__ = [
    "LONGEST_NAME",
    "Audit",
    "Crop",
    "CropMethod",
    "Demo",
    "Device",
    "Doctor",
    "Engine",
    "Evaluate",
    "Experiments",
    "Group",
    "Info",
    "Job",
    "Kind",
    "KubernetesManifest",
    "Labelled",
    "Precision",
    "Retrain",
    "Review",
    "Score",
    "SettingsError",
    "Split",
    "Submit",
    "Training",
    "check_size",
    "to_dict",
]
