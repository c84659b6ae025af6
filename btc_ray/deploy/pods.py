"""The pods of a Ray cluster as KubeRay wants them: not root, no rights, limits on everything, no work on the head."""

from typing import Any

from btc_ray.settings import KubernetesManifest

USER = 1000  # of cluster/Dockerfile
# Ray's object store takes 30 % of a container's memory, and at most 95 % of /dev/shm, which Kubernetes makes 64 MiB where nobody
# asks: 30 / 0.95 = 32 %. What lies there counts towards the container's own limit.
SHARED_MEMORY = 0.32

_NO_RIGHTS = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

AUTOSCALER: dict[str, Any] = {
    "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "1Gi"}},
    "securityContext": _NO_RIGHTS,
}


def head_group(chosen: KubernetesManifest, image: str) -> dict[str, Any]:
    """The head: the driver and Ray's own services, and no task or actor. It stays away from spot nodes: with it goes the job."""
    pod = _pod(chosen, image, name="ray-head", cpus=chosen.head_cpus, memory=chosen.head_memory)
    pod["containers"][0]["ports"] = [
        {"name": name, "containerPort": port} for name, port in (("gcs-server", 6379), ("dashboard", 8265), ("client", 10001))
    ]
    if chosen.spot:
        elsewhere = [
            {"key": key, "operator": "NotIn", "values": [value]}
            for key, _, value in (label.partition("=") for label in chosen.spot)
        ]
        terms = {"nodeSelectorTerms": [{"matchExpressions": elsewhere}]}
        pod["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return {"rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"}, "template": {"spec": pod}}


def worker_group(chosen: KubernetesManifest, image: str, *, gpus: bool) -> dict[str, Any]:
    """Workers with or without GPUs, as many as chosen. KubeRay tells Ray their CPUs and GPUs from the limits."""
    fewest, most = chosen.gpu_workers if gpus else chosen.cpu_workers
    pod = _pod(
        chosen,
        image,
        name="ray-worker",
        cpus=chosen.gpu_worker_cpus if gpus else chosen.worker_cpus,
        memory=chosen.gpu_worker_memory if gpus else chosen.worker_memory,
        gpus=chosen.gpus_each if gpus else 0,
    )
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}] if gpus else []
    selector = {}
    for key, _, value in (label.partition("=") for label in chosen.spot):
        tolerations.append({"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"})
        selector[key] = value
    if tolerations:
        pod["tolerations"] = tolerations
    if selector:
        pod["nodeSelector"] = selector
    return {
        "groupName": "gpu" if gpus else "cpu",
        "replicas": fewest,
        "minReplicas": fewest,
        "maxReplicas": most,
        "rayStartParams": {},
        "template": {"spec": pod},
    }


def _pod(chosen: KubernetesManifest, image: str, *, name: str, cpus: int, memory: int, gpus: int = 0) -> dict[str, Any]:
    """A pod of one container; `memory` in GiB. What it asks for is what it may use, so that no neighbour's need ends it."""
    resources = {"cpu": str(cpus), "memory": f"{memory}Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    mounts = [{"name": "shared-memory", "mountPath": "/dev/shm"}]
    volumes: list[dict[str, Any]] = [
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": f"{int(memory * 1024 * SHARED_MEMORY)}Mi"}}
    ]
    for number, (claim, path) in enumerate(chosen.mounts().items()):
        mounts.append({"name": f"volume-{number}", "mountPath": path})
        volumes.append({"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": claim}})
    container: dict[str, Any] = {
        "name": name,
        "image": image,
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": _NO_RIGHTS,
        "volumeMounts": mounts,
    }
    if chosen.secrets:
        container["envFrom"] = [{"secretRef": {"name": secret}} for secret in chosen.secrets]
    pod: dict[str, Any] = {
        "restartPolicy": "Never",  # a container started anew would be another Ray node under the old one's name
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",  # else each start would walk through all files of a volume
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    if chosen.service_account:
        pod["serviceAccountName"] = chosen.service_account
    return pod
