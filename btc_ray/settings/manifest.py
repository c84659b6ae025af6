"""What `btc-ray manifest` takes beside the flags of the job it carries."""

import re
from dataclasses import dataclass
from typing import Literal

from btc_ray.settings.job import SettingsError

Kind = Literal["rayjob", "raycronjob", "raycluster"]

# KubeRay builds names of services and pods from ours, which may be 63 characters: it refuses longer ones. A RayCronJob names
# its RayJobs after itself, with up to 11 characters more.
LONGEST_NAME = {"rayjob": 47, "raycluster": 47, "raycronjob": 36}
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_./]*=[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_CRON_FIELDS = 5


@dataclass(frozen=True, kw_only=True)
class KubernetesManifest:
    """Write a job, or a cluster for many, as KubeRay YAML: btc-ray manifest JOB [the job's flags] [these flags], in any order."""

    kind: Kind = "rayjob"
    """rayjob: a cluster that comes for one job and goes with it; raycronjob: one such job on a schedule (alpha in KubeRay);
    raycluster: a cluster that stays and runs no job of its own (leave JOB out)."""

    name: str | None = None
    """Name in Kubernetes: small letters, digits and hyphens, at most 47 characters (36 for a raycronjob). Default: btc-ray-JOB."""

    namespace: str | None = None
    """Namespace. Default: kubectl's."""

    image: str | None = None
    """Image of every pod, with the same Ray as here. Default: the one that cluster/README.md builds, btc-ray:VERSION-rayVERSION-cpu,
    or -cuda where there are GPU workers."""

    head_cpus: int = 2
    """CPU cores of the head, which runs the job's driver and no other work."""

    head_memory: int = 8
    """Memory of the head, in GiB."""

    cpu_workers: tuple[int, int] = (1, 8)
    """Fewest and most workers without GPUs. Where the two differ, Ray adds and removes workers as the job needs them."""

    worker_cpus: int = 8
    """CPU cores of a worker without GPUs."""

    worker_memory: int = 32
    """Memory of a worker without GPUs, in GiB."""

    gpu_workers: tuple[int, int] = (0, 0)
    """Fewest and most workers with GPUs."""

    gpus_each: int = 1
    """GPUs of a worker that has them."""

    gpu_worker_cpus: int = 8
    """CPU cores of a worker with GPUs."""

    gpu_worker_memory: int = 32
    """Memory of a worker with GPUs, in GiB."""

    spot: tuple[str, ...] = ()
    """KEY=VALUE label of spot nodes: workers go there and tolerate a taint of that name, the head stays away. GKE:
    cloud.google.com/gke-spot=true; EKS: eks.amazonaws.com/capacityType=SPOT; Karpenter: karpenter.sh/capacity-type=spot; AKS:
    kubernetes.azure.com/scalesetpriority=spot."""

    cron: str | None = None
    """Schedule of a raycronjob, as cron writes it: minute, hour, day of the month, month, day of the week."""

    time_zone: str = "Etc/UTC"
    """Time zone of --cron, and of {date} in the job's flags: the day on which the night began, twelve hours back, so that a
    retry after midnight finds its own folder."""

    deadline: int = 12 * 3600
    """Seconds after which the job is ended and its cluster taken down, whatever it does."""

    ttl: int = 600
    """Seconds that the cluster stays after the job has ended, for its logs to be read."""

    retries: int | None = None
    """Times that a failed job is started again, on a new cluster, where it continues. Default: 2; 0 for crop, which does not
    continue."""

    idle: int = 300
    """Seconds after which a worker without work is removed."""

    service_account: str | None = None
    """Service account of the pods, which must exist: the way to an object store without keys (IRSA, Workload Identity)."""

    secrets: tuple[str, ...] = ()
    """Names of Secrets of the namespace whose entries become environment variables. Values never stand in a manifest."""

    volumes: tuple[str, ...] = ()
    """CLAIM=/PATH: persistent volume claims and where every pod sees them. More than one worker needs ReadWriteMany."""

    def __post_init__(self) -> None:
        self._check_name()
        self._check_sizes()
        if (self.kind == "raycronjob") != (self.cron is not None):
            raise SettingsError("--kind raycronjob and --cron go together: give both or neither.")
        if self.cron is not None and (len(self.cron.split()) != _CRON_FIELDS or "TZ" in self.cron):
            raise SettingsError(f"--cron takes five fields, as in '0 20 * * *', not {self.cron!r}; the time zone is --time-zone.")
        if not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", self.time_zone):
            raise SettingsError(f"--time-zone takes a name such as Europe/Zurich, not {self.time_zone!r}.")
        for label in self.spot:
            if not _LABEL.fullmatch(label):
                raise SettingsError(f"--spot takes KEY=VALUE labels of nodes; {label!r} is none.")
        for flag, names in (
            ("--secrets", self.secrets),
            ("--service-account", (self.service_account,)),
            ("--volumes", self.mounts()),
        ):
            for name in names:
                if name is not None and not re.fullmatch(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", name):
                    # Not repeated: what stands here instead of a name may be the secret itself.
                    raise SettingsError(f"{flag} takes names of Kubernetes objects: small letters, digits, hyphens and dots.")

    def mounts(self) -> dict[str, str]:
        """Claims and where they are mounted. Raises SettingsError."""
        pairs = [volume.partition("=") for volume in self.volumes]
        if any(not claim or not path.startswith("/") or path.strip("/") == "" for claim, _, path in pairs):
            raise SettingsError("--volumes takes CLAIM=/PATH, a claim's name and an absolute path.")
        mounts = {claim: "/" + path.strip("/") for claim, _, path in pairs}
        if not len(set(mounts)) == len(set(mounts.values())) == len(pairs):
            raise SettingsError("--volumes names each claim and each path once.")
        return mounts

    def _check_name(self) -> None:
        longest = LONGEST_NAME[self.kind]
        if self.name is not None and (len(self.name) > longest or not _DNS_LABEL.fullmatch(self.name)):
            raise SettingsError(
                f"--name {self.name!r} is no name for a {self.kind}: small letters, digits and hyphens, a letter first, at most "
                f"{longest} characters."
            )

    def _check_sizes(self) -> None:
        for flag, (fewest, most) in (("--cpu-workers", self.cpu_workers), ("--gpu-workers", self.gpu_workers)):
            if not 0 <= fewest <= most:
                raise SettingsError(f"{flag} takes the fewest and the most workers, as in {flag} 1 8.")
        if self.cpu_workers[1] + self.gpu_workers[1] == 0:
            raise SettingsError("--cpu-workers and --gpu-workers are both 0: the head does no work, so nobody would.")
        sizes = {
            "--head-cpus": self.head_cpus,
            "--head-memory": self.head_memory,
            "--worker-cpus": self.worker_cpus,
            "--worker-memory": self.worker_memory,
            "--gpus-each": self.gpus_each,
            "--gpu-worker-cpus": self.gpu_worker_cpus,
            "--gpu-worker-memory": self.gpu_worker_memory,
            "--deadline": self.deadline,
            "--idle": self.idle,
        }
        if small := [flag for flag, value in sizes.items() if value < 1]:
            raise SettingsError(f"{small[0]} must be at least 1.")
        if self.ttl < 0 or (self.retries or 0) < 0:
            raise SettingsError("--ttl and --retries must be at least 0.")
