//! What the server tells of itself and its models is what it tells over REST.

use onnxd::grpc::inference::{
    DataType, ModelConfigRequest, ModelConfigResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse,
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
    ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse,
};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::grpc::{Client, check_refused, numbers};
use crate::support::server::{Setup, bundled};

fn strings(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("a list").iter();
    list.map(|item| item.as_str().expect("a string")).collect()
}

#[test]
fn the_server_says_what_it_is() {
    let client = Client::of(bundled());
    let live: ServerLiveResponse = client
        .ask("ServerLive", ServerLiveRequest {})
        .expect("live");
    assert!(live.live);
    let ready: ServerReadyResponse = client
        .ask("ServerReady", ServerReadyRequest {})
        .expect("ready");
    assert!(ready.ready);
    let metadata = client.ask("ServerMetadata", ServerMetadataRequest {});
    let metadata: ServerMetadataResponse = metadata.expect("metadata");
    let rest = bundled().get("/v2").ok();
    assert_eq!(json!(metadata.name), rest["name"]);
    assert_eq!(json!(metadata.version), rest["version"]);
    assert_eq!(metadata.extensions, strings(&rest["extensions"]));
}

#[test]
fn a_model_is_ready_or_not_and_never_an_error() {
    let client = Client::of(bundled());
    let ready = |name: &str, version: &str| {
        let (name, version) = (name.to_owned(), version.to_owned());
        let answer = client.ask("ModelReady", ModelReadyRequest { name, version });
        let answer: ModelReadyResponse = answer.expect("an answer");
        answer.ready
    };
    assert!(ready("iris", "") && ready("iris", "1"));
    assert!(!ready("iris", "9") && !ready("nothing", "") && !ready("", ""));
}

#[test]
fn metadata_is_that_of_rest() {
    let client = Client::of(bundled());
    let rest = bundled().get("/v2/models/iris").ok();
    let name = "iris".to_owned();
    let version = String::new();
    let metadata = client.ask("ModelMetadata", ModelMetadataRequest { name, version });
    let metadata: ModelMetadataResponse = metadata.expect("metadata");
    assert_eq!(json!(metadata.name), rest["name"]);
    assert_eq!(json!(metadata.platform), rest["platform"]);
    assert_eq!(metadata.versions, strings(&rest["versions"]));
    for (tensors, rest) in [
        (metadata.inputs, &rest["inputs"]),
        (metadata.outputs, &rest["outputs"]),
    ] {
        let tensors = tensors.into_iter().map(|tensor| {
            json!({ "name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape })
        });
        assert_eq!(tensors.collect::<Value>(), *rest);
    }
}

#[test]
fn the_configuration_has_the_batch_dimension_apart() {
    let client = Client::of(bundled());
    let name = "iris".to_owned();
    let version = String::new();
    let config = client.ask("ModelConfig", ModelConfigRequest { name, version });
    let config: ModelConfigResponse = config.expect("a configuration");
    let config = config.config.expect("a configuration");
    assert_eq!(
        (config.name.as_str(), config.platform.as_str()),
        ("iris", "onnx_onnxv1")
    );
    assert!(config.max_batch_size > 0);
    let rows = &config.parameters["batch_rows"].string_value;
    assert_eq!(config.dynamic_batching.is_some(), rows != "1", "{rows}");
    let input = &config.input[0];
    assert_eq!(
        (input.name.as_str(), input.data_type()),
        ("features", DataType::TypeFp32)
    );
    assert_eq!(input.dims, [4]);
    let outputs = config.output.iter();
    let outputs: Vec<_> = outputs
        .map(|output| {
            (
                output.name.as_str(),
                output.data_type(),
                output.dims.as_slice(),
            )
        })
        .collect();
    let expected: [(&str, DataType, &[i64]); 2] = [
        ("label", DataType::TypeInt64, &[]),
        ("probabilities", DataType::TypeFp32, &[3]),
    ];
    assert_eq!(outputs, expected);
    assert!(
        !config
            .model_transaction_policy
            .unwrap_or_default()
            .decoupled
    );
}

#[test]
fn batching_is_told_as_over_rest() {
    let script = json!({ "inputs": [["x", "INT64", [null]]] });
    let owner = "preferred_batch_rows = [4]\npriority_levels = 2\n[priority_queue_policy.2]\ntimeout_action = \"delay\"\nmax_queue_rows = 7\n";
    let server = Setup::scripted(script).file("m/model.toml", owner).start();
    let rest = server.get("/v2/models/m/config").ok();
    let rest = &rest["dynamic_batching"];
    let request = ModelConfigRequest {
        name: "m".to_owned(),
        version: String::new(),
    };
    let config: ModelConfigResponse = Client::of(&server)
        .ask("ModelConfig", request)
        .expect("a configuration");
    let batching = config
        .config
        .expect("a configuration")
        .dynamic_batching
        .expect("requests are joined");
    assert_eq!(
        json!(batching.preferred_batch_size),
        rest["preferred_batch_size"]
    );
    assert_eq!(json!(batching.priority_levels), rest["priority_levels"]);
    assert_eq!(
        json!(batching.default_priority_level),
        rest["default_priority_level"]
    );
    let policy = &batching.priority_queue_policy[&2];
    assert_eq!(policy.timeout_action().as_str_name(), "DELAY");
    let max = &rest["priority_queue_policy"]["2"]["max_queue_size"];
    assert_eq!(json!(policy.max_queue_size), *max);
}

#[test]
fn what_is_unknown_is_not_found() {
    let client = Client::of(bundled());
    let message = "unknown model 'n'; the models are 'digits', 'iris', 'wine'";
    let (name, version) = ("n".to_owned(), String::new());
    let request = ModelMetadataRequest { name, version };
    let answer = client.ask::<_, ModelMetadataResponse>("ModelMetadata", request);
    check_refused(answer, Code::NotFound, message);
    let (name, version) = ("n".to_owned(), String::new());
    let request = ModelConfigRequest { name, version };
    let answer = client.ask::<_, ModelConfigResponse>("ModelConfig", request);
    check_refused(answer, Code::NotFound, message);
    let (name, version) = ("n".to_owned(), String::new());
    let request = ModelStatisticsRequest { name, version };
    let answer = client.ask::<_, ModelStatisticsResponse>("ModelStatistics", request);
    check_refused(answer, Code::NotFound, message);
}

#[test]
fn statistics_count_what_was_asked() {
    let script = json!({ "inputs": [["x", "INT64", [null]]], "on": { "3": "fail" } });
    let server = Setup::scripted(script.clone()).model("n/1", script).start();
    let client = Client::of(&server);
    for _ in 0..2 {
        client.infer(numbers(&[7])).expect("an answer");
    }
    client.infer(numbers(&[3])).expect_err("it fails");
    let statistics = |name: &str| {
        let (name, version) = (name.to_owned(), String::new());
        let request = ModelStatisticsRequest { name, version };
        let answer = client.ask("ModelStatistics", request);
        let answer: ModelStatisticsResponse = answer.expect("statistics");
        answer.model_stats
    };
    assert_eq!(statistics("").len(), 2);
    let [statistics] = statistics("m").try_into().expect("one version");
    let total = |duration: Option<onnxd::grpc::inference::StatisticDuration>| {
        duration.unwrap_or_default().count
    };
    assert_eq!(
        (statistics.name.as_str(), statistics.version.as_str()),
        ("m", "1")
    );
    assert_eq!(statistics.inference_count, 2);
    assert!(statistics.last_inference > 0 && statistics.execution_count >= 2);
    let ended = statistics.inference_stats.expect("all fields are there");
    assert_eq!((total(ended.success), total(ended.fail)), (2, 1));
    let success = ended.success.unwrap_or_default().ns;
    assert!(success >= ended.compute_infer.unwrap_or_default().ns);
    assert!(!statistics.batch_stats.is_empty());
}

#[test]
fn the_index_tells_every_version_and_its_state() {
    let server = Setup::scripted(json!({ "inputs": [] }))
        .model("broken/1", json!({ "load": "fail" }))
        .start_loaded();
    let client = Client::of(&server);
    let index = |ready: bool| {
        let request = RepositoryIndexRequest {
            ready,
            ..RepositoryIndexRequest::default()
        };
        let answer = client.ask("RepositoryIndex", request);
        let answer: RepositoryIndexResponse = answer.expect("an index");
        let states = answer.models.into_iter();
        let states = states.map(|model| (model.name, model.version, model.state));
        states.collect::<Vec<_>>()
    };
    let entry = |name: &str, state: &str| (name.to_owned(), "1".to_owned(), state.to_owned());
    assert_eq!(
        index(false),
        [entry("broken", "UNAVAILABLE"), entry("m", "READY")]
    );
    assert_eq!(index(true), [entry("m", "READY")]);
    let request = RepositoryIndexRequest {
        repository_name: "other".to_owned(),
        ready: false,
    };
    check_refused(
        client.ask::<_, RepositoryIndexResponse>("RepositoryIndex", request),
        Code::InvalidArgument,
        "unknown repository 'other'; there is one, and repository_name is empty for it",
    );
}

#[test]
fn models_are_loaded_and_unloaded_by_order() {
    let server = Setup::scripted(json!({ "inputs": [["x", "INT64", [null]]] }))
        .with("repository.mode", "explicit")
        .start_loaded();
    let client = Client::of(&server);
    let infer = || client.infer(numbers(&[7])).map_err(|status| status.code());
    let model_name = || "m".to_owned();
    let load = || {
        client.ask::<_, RepositoryModelLoadResponse>(
            "RepositoryModelLoad",
            RepositoryModelLoadRequest {
                model_name: model_name(),
                ..RepositoryModelLoadRequest::default()
            },
        )
    };
    load().expect("it loads");
    infer().expect("it is served");
    let unload = client.ask::<_, RepositoryModelUnloadResponse>(
        "RepositoryModelUnload",
        RepositoryModelUnloadRequest {
            model_name: model_name(),
            ..RepositoryModelUnloadRequest::default()
        },
    );
    unload.expect("it is unloaded");
    infer().expect_err("it is not served");
    load().expect("it loads again");
    infer().expect("it is served again");
}

#[test]
fn models_are_not_loaded_or_unloaded_unless_that_is_allowed() {
    let client = Client::of(bundled());
    let load = client.ask::<_, RepositoryModelLoadResponse>(
        "RepositoryModelLoad",
        RepositoryModelLoadRequest {
            model_name: "iris".to_owned(),
            ..RepositoryModelLoadRequest::default()
        },
    );
    let unload = client.ask::<_, RepositoryModelUnloadResponse>(
        "RepositoryModelUnload",
        RepositoryModelUnloadRequest {
            model_name: "iris".to_owned(),
            ..RepositoryModelUnloadRequest::default()
        },
    );
    for status in [load.err(), unload.err()] {
        let status = status.expect("it is refused");
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains("repository.mode"), "{status:?}");
    }
}
