"""Deployment files can be parsed, fit together, and name only commands, settings and metrics that exist."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

import onibus
from onibus.consumers.language_models.api_keys import KEY_FILE_VARIABLE, KEY_VARIABLE
from onibus.infra.deploy import dashboard
from onibus.infra.observability import metrics
from onibus.infra.settings import Settings
from tests.command_lines import complaint

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "infra" / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
YAML_FILES = sorted(DEPLOY.rglob("*.yaml"))
SETTINGS = {f"ONIBUS_{name.upper()}" for name in Settings.model_fields}
OTHER_VARIABLES = {KEY_VARIABLE, KEY_FILE_VARIABLE, "HOME"}
METRICS_PORT = 9400


def manifests() -> list[dict[str, Any]]:
    names = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    return [document for name in names for document in yaml.safe_load_all((KUBERNETES / name).read_text())]


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Pod and container of every workload."""
    for manifest in manifests():
        if "template" in manifest.get("spec", {}):
            pod = manifest["spec"]["template"]["spec"]
            yield from ((pod, container) for container in pod["containers"])


def compose_services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return services


def own_services() -> dict[str, dict[str, Any]]:
    return {name: s for name, s in compose_services().items() if s["image"].startswith("onibus-")}


@pytest.mark.parametrize("file", YAML_FILES, ids=lambda f: f.name)
def test_every_file_is_yaml(file: Path) -> None:
    assert all(document is not None for document in yaml.safe_load_all(file.read_text()))


def test_compose_runs_commands_that_exist() -> None:
    assert set(own_services()) == {"topics", "annotator", "trainer", "learner"}
    for name, service in own_services().items():
        words = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in service["command"]]
        assert complaint(words) == "", name


def test_kubernetes_runs_commands_that_exist() -> None:
    commands = [container["args"] for _, container in containers()]
    assert sorted(words[0] for words in commands) == ["annotate", "learn", "topics", "train-reward"]
    for words in commands:
        assert complaint(words) == "", words


def test_a_wrong_command_would_be_detected() -> None:
    assert complaint(["anotate"]) == "there is no command 'anotate'"
    assert complaint(["topics", "destroy"]) == "there is no command 'destroy'"
    assert complaint(["annotate", "--lllm=rules", "--spec=x"]) == "annotate has no --lllm"


def test_only_settings_that_exist_are_set() -> None:
    config = next(m for m in manifests() if m["kind"] == "ConfigMap")["data"]
    used = set(config) | {name for s in own_services().values() for name in s["environment"]}
    used |= set(re.findall(r"ONIBUS_\w+(?==)", (DEPLOY / "Dockerfile").read_text()))
    assert used <= SETTINGS | OTHER_VARIABLES
    values = {n.removeprefix("ONIBUS_").lower(): v for n, v in config.items() if n in SETTINGS}
    Settings.model_validate(values)


def test_no_manifest_contains_a_secret() -> None:
    assert not [m for m in manifests() if m["kind"] == "Secret"]
    config = next(m for m in manifests() if m["kind"] == "ConfigMap")["data"]
    assert "ONIBUS_SASL_PASSWORD" not in config
    assert KEY_VARIABLE not in config


def test_every_volume_that_is_mounted_exists_and_files_are_where_settings_say() -> None:
    config = next(m for m in manifests() if m["kind"] == "ConfigMap")["data"]
    claims = {
        claim["metadata"]["name"]
        for m in manifests()
        for claim in m.get("spec", {}).get("volumeClaimTemplates", ())
    }
    for pod, container in containers():
        mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
        assert set(mounts) <= {v["name"] for v in pod["volumes"]} | claims
        for variable in ("ONIBUS_SASL_PASSWORD_FILE", KEY_FILE_VARIABLE, "ONIBUS_SSL_CAFILE"):
            assert str(Path(config[variable]).parent) in mounts.values()


def test_containers_have_no_more_rights_than_they_need() -> None:
    for pod, container in containers():
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


def test_prometheus_scrapes_the_port_on_which_components_serve() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    for job in jobs:
        (discovery,) = job["dns_sd_configs"]
        for name in discovery["names"]:
            assert f"--metrics-port={discovery['port']}" in compose_services()[name]["command"]
    for manifest in manifests():
        annotations = manifest.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations")
        if annotations:
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            assert f"--metrics-port={annotations['prometheus.io/port']}" in container["args"]


def test_images_are_pinned_and_those_built_here_have_the_projects_version_and_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for service in compose_services().values():
        name, tag = service["image"].split(":")
        assert tag != "latest"
        if name.startswith("onibus-"):
            role = service["build"]["args"]["ROLE"]
            assert (name, tag) == (f"onibus-{role}", onibus.__version__)
            assert role in project["optional-dependencies"]
            assert (ROOT / "infra" / "requirements" / f"{role}.txt").is_file()
    for _, container in containers():
        assert container["image"] in {s["image"] for s in own_services().values()}


def test_compose_mounts_and_builds_from_files_that_exist() -> None:
    for service in compose_services().values():
        for volume in service.get("volumes", ()):
            if volume.startswith("."):
                assert (DEPLOY / volume.split(":")[0]).is_file(), volume
        if "build" in service:
            context = (DEPLOY / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (context / service["build"]["dockerfile"]).is_file()


def test_the_image_gets_every_package_and_file_that_the_build_needs() -> None:
    kept = {
        line[1:]
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    packages = {f.parent.name for f in ROOT.glob("*/__init__.py")} - {"tests"}
    assert kept == packages | {".package", "pyproject.toml", "README.md", "LICENSE"}


def test_the_dashboard_is_made_from_the_metrics() -> None:
    written = dashboard.FILE.read_text()
    assert written == dashboard.text(), "run: python -m onibus.infra.deploy.dashboard"


def test_the_dashboard_shows_every_metric_by_a_name_that_is_exposed() -> None:
    exposed: dict[str, str] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            name = dashboard.described(metric).name
            suffix = {Counter: "_total", Gauge: "", Histogram: "_bucket"}[type(metric)]
            exposed[name + suffix] = name
    panels = json.loads(dashboard.FILE.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    shown = {name for expression in expressions for name in re.findall(r"onibus_\w+", expression)}
    assert shown == set(exposed)
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles), "no panel is there twice"


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = json.loads(dashboard.FILE.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
