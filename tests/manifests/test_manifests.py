"""The contract of k8s/: what the reference manifests promise, and what our own numbers owe each other."""

import hashlib

import manifests
import pytest

LABEL = {"app": "ml-model"}


def test_namespace_file_sorts_first():
    [first] = manifests.parse(manifests.files()[0].read_text())
    assert (first["kind"], first["metadata"]["name"]) == ("Namespace", "production")


def test_files_that_apply_reads_hold_only_kinds_of_a_bare_cluster():
    kinds = {document["kind"] for document in manifests.objects()}
    assert kinds == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Ingress",
        "Namespace",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }


def test_only_the_kustomization_is_hidden_from_apply():
    read = set(manifests.files())
    assert [file.name for file in manifests.FOLDER.iterdir() if file not in read] == ["Kustomization"]


def test_everything_is_in_production():
    for document in manifests.objects():
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == "production", document["metadata"]["name"]


def test_namespace_enforces_the_restricted_standard():
    labels = manifests.named("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(
    "kind, name",
    [
        ("Deployment", "ml-model"),
        ("Service", "ml-model-service"),
        ("HorizontalPodAutoscaler", "ml-model-hpa"),
        ("ConfigMap", "model-config"),
    ],
)
def test_objects_keep_the_names_of_the_reference(kind, name):
    assert manifests.named(kind)["metadata"]["name"] == name


# The Deployment.


def test_rollout_adds_one_pod_and_never_takes_one_away():
    spec = manifests.named("Deployment")["spec"]
    assert spec["replicas"] == 3
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }


def test_deployment_is_labelled_with_its_version_and_selects_every_version():
    deployment = manifests.named("Deployment")
    versioned = LABEL | {"version": "v2"}
    assert versioned.items() <= deployment["metadata"]["labels"].items()
    assert versioned.items() <= manifests.pod_template()["metadata"]["labels"].items()
    assert deployment["spec"]["selector"] == {"matchLabels": LABEL}


def test_container_has_the_name_that_set_image_uses():
    container = manifests.container()
    assert (container["name"], container["image"]) == ("ml-model", "ml-model:v2")
    assert container["imagePullPolicy"] == "IfNotPresent"


def test_resources_are_those_of_the_reference():
    assert manifests.container()["resources"] == {
        "requests": {"cpu": "250m", "memory": "256Mi"},
        "limits": {"cpu": "500m", "memory": "512Mi"},
    }


def test_model_version_is_pinned():
    assert {"name": "MODEL_VERSION", "value": "v2"} in manifests.container()["env"]


def test_missing_secret_does_not_keep_the_pod_from_starting():
    [project] = [entry for entry in manifests.container()["env"] if entry["name"] == "GCP_PROJECT"]
    assert project["valueFrom"]["secretKeyRef"] == {
        "name": "gcp-credentials",
        "key": "project_id",
        "optional": True,
    }


@pytest.mark.parametrize(
    "probe, path, period",
    [
        ("startupProbe", "/health/live", 2),
        ("livenessProbe", "/health/live", 10),
        ("readinessProbe", "/health/ready", 5),
    ],
)
def test_probe_asks_its_own_path(probe, path, period):
    probe = manifests.container()[probe]
    assert probe["httpGet"] == {"path": path, "port": "http"}
    assert probe["periodSeconds"] == period


def test_pod_meets_the_restricted_standard():
    pod, container = manifests.pod(), manifests.container()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_pod_gets_nothing_from_the_cluster_that_it_did_not_ask_for():
    pod, account = manifests.pod(), manifests.named("ServiceAccount")
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    assert account["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == account["metadata"]["name"]


def test_temporary_folder_is_bounded():
    [mount] = [mount for mount in manifests.container()["volumeMounts"] if mount["mountPath"] == "/tmp"]
    [volume] = [volume for volume in manifests.pod()["volumes"] if volume["name"] == mount["name"]]
    assert volume["emptyDir"]["sizeLimit"]


def test_pods_are_spread_over_nodes_and_zones_but_start_on_one():
    keys = set()
    for constraint in manifests.pod()["topologySpreadConstraints"]:
        keys.add(constraint["topologyKey"])
        assert constraint["maxSkew"] == 1
        assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
        assert constraint["matchLabelKeys"] == ["pod-template-hash"]
        assert constraint["labelSelector"] == {"matchLabels": LABEL}
    assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}


# What the configuration and the objects owe each other.


def test_arguments_name_the_file_that_is_mounted():
    container = manifests.container()
    [volume] = [volume for volume in manifests.pod()["volumes"] if "configMap" in volume]
    [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == volume["name"]]
    [file] = manifests.named("ConfigMap")["data"]
    assert volume["configMap"]["name"] == manifests.named("ConfigMap")["metadata"]["name"]
    assert "subPath" not in mount
    assert container["args"] == ["serve", "--config", f"{mount['mountPath']}/{file}"]


def test_checksum_changes_with_the_configuration():
    checksum = hashlib.sha256(manifests.configuration_text().encode()).hexdigest()
    assert manifests.pod_template()["metadata"]["annotations"]["checksum/onnxd.toml"] == checksum


def test_grace_period_covers_the_drain_and_the_longest_request():
    server = manifests.configuration()["server"]
    needed = (server["drain_delay_ms"] + server["request_timeout_ms"]) / 1000 + 10
    assert manifests.pod()["terminationGracePeriodSeconds"] >= needed


def test_configured_ports_are_the_container_ports_and_the_first_is_scraped():
    server = manifests.configuration()["server"]
    annotations = manifests.pod_template()["metadata"]["annotations"]
    assert manifests.container()["ports"] == [
        {"name": "http", "containerPort": server["port"], "protocol": "TCP"},
        {"name": "grpc", "containerPort": server["grpc_port"], "protocol": "TCP"},
    ]
    assert annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/port"] == str(server["port"])
    assert annotations["prometheus.io/path"] == "/metrics"


def test_models_are_read_from_the_image():
    assert manifests.configuration()["repository"]["path"] == "/models"


def test_log_is_json():
    assert manifests.configuration()["log"]["format"] == "json"


# The other objects.


def test_service_sends_port_80_and_8001_to_the_container_ports():
    spec = manifests.named("Service")["spec"]
    assert spec["type"] == "LoadBalancer"
    assert spec["selector"] == LABEL
    assert [(port["name"], port["port"], port["protocol"], port.get("appProtocol")) for port in spec["ports"]] == [
        ("http", 80, "TCP", None),
        ("grpc", 8001, "TCP", "kubernetes.io/h2c"),
    ]
    exposed = [port["name"] for port in manifests.container()["ports"]]
    assert [port["targetPort"] for port in spec["ports"]] == exposed


def test_ingress_leads_to_the_service():
    service = manifests.named("Service")
    [rule] = manifests.named("Ingress")["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert path["path"] == "/"
    assert path["backend"]["service"] == {
        "name": service["metadata"]["name"],
        "port": {"name": service["spec"]["ports"][0]["name"]},
    }


def test_autoscaler_never_goes_below_the_replicas_of_the_deployment():
    deployment = manifests.named("Deployment")
    spec = manifests.named("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": deployment["kind"],
        "name": deployment["metadata"]["name"],
    }
    assert spec["minReplicas"] == deployment["spec"]["replicas"]
    assert spec["maxReplicas"] == 10


def test_autoscaler_looks_at_the_cpu_that_the_container_requests():
    [metric] = manifests.named("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["resource"] == {
        "name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 70},
    }
    assert manifests.container()["resources"]["requests"]["cpu"]


def test_autoscaler_is_quick_to_add_and_slow_to_remove():
    behavior = manifests.named("HorizontalPodAutoscaler")["spec"]["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behavior["scaleDown"] == {
        "stabilizationWindowSeconds": 300,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
    }


def test_drain_takes_one_pod_at_a_time_and_is_not_blocked_by_a_sick_one():
    spec = manifests.named("PodDisruptionBudget")["spec"]
    assert spec == {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": LABEL},
    }


def test_network_policy_opens_the_servers_ports_and_lets_only_name_lookups_out():
    spec = manifests.named("NetworkPolicy")["spec"]
    assert spec["podSelector"] == {"matchLabels": LABEL}
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == [{"ports": [{"port": name, "protocol": "TCP"} for name in ("http", "grpc")]}]
    [egress] = spec["egress"]
    assert {(port["port"], port["protocol"]) for port in egress["ports"]} == {(53, "UDP"), (53, "TCP")}
