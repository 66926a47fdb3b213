"""The manifests of configs/kuberay, the image and the compose file: right alone, and with each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from serve_app.config import Settings
from serve_app.tools.lint import lint_serve_config, settings_in
from tests.markdown import ROOT

FOLDER = ROOT / "configs" / "kuberay"
KUBERNETES = "1.34"
OTHERS = {"RayService", "PodMonitor"}  # kinds that Kubernetes itself does not know


def documents(name: str) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text())]


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    (found,) = documents("service")
    return found


def schema() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "tests/kubernetes/rayservice_schema.yaml").read_text())


def groups(service: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Pod templates, by the group that has them."""
    cluster = service["spec"]["rayClusterConfig"]
    workers = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"], **workers}


@pytest.fixture(scope="module")
def settings(service: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    path = tmp_path_factory.mktemp("config") / "serve.yaml"
    path.write_text(service["spec"]["serveConfigV2"])
    return settings_in(path)["assets"]


def test_kubernetes_takes_every_manifest_of_its_kinds() -> None:
    for path in FOLDER.glob("*.yaml"):
        for document in documents(path.stem):
            if document["kind"] not in OTHERS:
                kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_it_takes_every_pod(service: dict[str, Any]) -> None:
    for name, template in groups(service).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_kuberay_takes_the_service(service: dict[str, Any]) -> None:
    jsonschema.validate(service, schema())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("groupName", "groupNme"), ("version: v2", "version: v3"), ("rayStartParams", "startParams")],
)
def test_a_misspelt_key_is_found(right: str, wrong: str) -> None:
    text = (FOLDER / "service.yaml").read_text()
    assert right in text
    with pytest.raises(jsonschema.ValidationError, match=wrong.split()[-1]):
        jsonschema.validate(yaml.safe_load(text.replace(right, wrong)), schema())


def test_the_serve_config_in_it_is_one_that_we_take(settings: Settings) -> None:
    """Its folders are those that are mounted, and every pod that draws has the model's."""
    assert (str(settings.state_dir), str(settings.output_dir)) == ("/data/state", "/data/output")
    assert settings.nodes_on_demand, "the autoscaler brings GPUs"
    assert settings.api_keys_file is not None


def test_every_pod_sees_what_it_needs(service: dict[str, Any], settings: Settings) -> None:
    assert settings.api_keys_file is not None
    shared = {str(settings.output_dir), "/data/models", str(settings.api_keys_file.parent)}
    for name, template in groups(service).items():
        spec = template["spec"]
        (container,) = spec["containers"]
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert shared <= mounted.keys(), name
        assert (str(settings.state_dir) in mounted) == (name == "head"), "the store has one writer"
        assert set(mounted.values()) == {volume["name"] for volume in spec["volumes"]}, name
        assert container["image"] == "assets:latest"
        assert spec["securityContext"]["runAsNonRoot"], name


def test_what_is_claimed_is_there_and_can_be_shared(service: dict[str, Any]) -> None:
    claims = {claim["metadata"]["name"]: claim["spec"] for claim in documents("storage")}
    for name, template in groups(service).items():
        for volume in template["spec"]["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                modes = claims[claim["claimName"]]["accessModes"]
                alone = claim["claimName"] == "assets-state"
                assert modes == ["ReadWriteOncePod" if alone else "ReadWriteMany"], name


def test_a_renderer_may_finish_its_jobs(service: dict[str, Any], settings: Settings) -> None:
    grace = groups(service)["gpu"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > settings.shutdown_grace_s


def test_the_versions_are_those_that_are_installed(service: dict[str, Any]) -> None:
    (pinned,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert service["spec"]["rayClusterConfig"]["rayVersion"] == pinned


def test_traffic_is_led_to_ports_that_are_open(service: dict[str, Any]) -> None:
    policy, budget, ingress = documents("network")
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == f"{service['metadata']['name']}-serve-svc"
    allowed = {p["port"] for rule in policy["spec"]["ingress"] for p in rule.get("ports", [])}
    (files,) = groups(service)["files"]["spec"]["containers"]
    assert {port["containerPort"] for port in files["ports"]} <= allowed
    assert backend["port"]["number"] in allowed
    assert budget["spec"]["selector"]["matchLabels"]["ray.io/group"] in groups(service)
    (monitor,) = documents("monitoring")
    (scraped,) = monitor["spec"]["podMetricsEndpoints"]
    for template in groups(service).values():
        ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
        assert scraped["port"] in ports


# ---- one box ----


def test_the_config_of_the_image_is_one_that_we_take() -> None:
    path = ROOT / "configs/docker/serve.yaml"
    lint_serve_config(path, Settings)
    assert str(settings_in(path)["assets"].api_keys_file) == "/data/api_keys.txt"


def test_the_image_copies_what_is_there_and_ends_as_nobody() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    sources = {name for line in copied for name in line.split()}
    assert all((ROOT / name).exists() for name in sources)
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    assert sources == kept, "and the context holds nothing else"
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["1000:1000"]
    for name in re.findall(r'"(configs/[^"]+)"', text):
        assert (ROOT / name).exists()
    for name in re.findall(r"ASSETS_([A-Z_]+)=", text):
        assert name.lower() in Settings.model_fields


def test_the_compose_file_names_the_image_and_its_folder() -> None:
    read = yaml.safe_load((ROOT / "configs/docker/compose.yaml").read_text())
    (box,) = read["services"].values()
    context = ROOT / "configs/docker" / Path(box["build"]["context"])
    assert (context / "Dockerfile").resolve() == (ROOT / "Dockerfile").resolve()
    assert box["volumes"] == ["data:/data"]
    assert "data" in read["volumes"]
