"""The runs of a sweep for a cluster: a Slurm array script, or an indexed Kubernetes job."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

from onibus.infra.settings import Settings
from onibus.learner.options import LearnOptions
from onibus.learner.sweeping.sweep_file import Sweep, learn_arguments

OTHER_CORES = 2
"""For the learner and for everything else, beside the rollout workers of a run."""

_POD_USER = 10001


def slurm_script(settings: Settings, sweep: Sweep, parallel: int) -> str:
    """An array job: task n makes run n. Settings come from the environment of ``sbatch``, but for the folder.

    At a time limit or a preemption a run saves what it has; the task, put into the queue again, goes on.
    """
    runs = sweep.runs
    head = [
        "#!/bin/sh",
        f"#SBATCH --job-name={_label(sweep.name)}",
        f"#SBATCH --array=0-{len(runs) - 1}%{parallel}",
        f"#SBATCH --cpus-per-task={_cores(runs)}",
        *(["#SBATCH --gres=gpu:1"] if _on_gpu(runs) else []),
        "#SBATCH --signal=B:TERM@120",
        "#SBATCH --requeue",
    ]
    where = ["--runs-dir", str(settings.runs_dir)]
    return "\n".join([*head, "set -eu", _choice("SLURM_ARRAY_TASK_ID", runs, where), 'exec onibus "$@"', ""])


def kubernetes_job(sweep: Sweep, parallel: int, version: str) -> str:
    """An indexed job beside the files in ``infra/deploy/kubernetes``, with a claim for the runs, as JSON.

    kubectl takes it as it takes YAML.
    """
    runs, name = sweep.runs, f"onibus-sweep-{_label(sweep.name)}"
    labels = {"app.kubernetes.io/name": name}
    script = "\n".join(["set -eu", _choice("JOB_COMPLETION_INDEX", runs, []), 'exec onibus "$@"'])
    limits: dict[str, Any] = {"memory": "16Gi"} | ({"nvidia.com/gpu": 1} if _on_gpu(runs) else {})
    container = {
        "name": "learner",
        "image": f"onibus-learn:{version}",
        "command": ["/bin/sh", "-c", script],
        "envFrom": [{"configMapRef": {"name": "onibus-settings"}}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": str(_cores(runs)), "memory": "8Gi"}, "limits": limits},
        "volumeMounts": [
            {"name": "runs", "mountPath": "/runs"},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
            {"name": "secrets", "mountPath": "/secrets", "readOnly": True},
            {"name": "kafka-ca", "mountPath": "/kafka-ca", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    pod = {
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 60,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _POD_USER,
            "fsGroup": _POD_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "runs", "persistentVolumeClaim": {"claimName": name}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}},
            {"name": "secrets", "secret": {"secretName": "onibus-secrets"}},
            {"name": "kafka-ca", "configMap": {"name": "onibus-kafka-ca"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "50Gi"}}},
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "completionMode": "Indexed",
            "completions": len(runs),
            "parallelism": min(parallel, len(runs)),
            "backoffLimit": 3 * len(runs),
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [claim, job]}, indent=2) + "\n"


def _choice(variable: str, runs: Sequence[LearnOptions], more: Sequence[str]) -> str:
    """Shell lines that set the arguments of ``onibus`` by the number in a variable."""
    cases = [f"  {n}) set -- {shlex.join([*learn_arguments(run), *more])} ;;" for n, run in enumerate(runs)]
    refusal = f'  *) echo "no run has the number ${variable}" >&2; exit 2 ;;'
    return "\n".join([f'case "${variable}" in', *cases, refusal, "esac"])


def _label(name: str) -> str:
    """As Kubernetes and Slurm take names: lower case, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "runs"


def _cores(runs: Sequence[LearnOptions]) -> int:
    return max(1 if run.serial else run.workers for run in runs) + OTHER_CORES


def _on_gpu(runs: Sequence[LearnOptions]) -> bool:
    return any(run.device == "gpu" for run in runs)
