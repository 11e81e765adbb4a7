//! The OpenAPI document: every row of the route table, and for every model that is loaded the same requests once
//! more with its own types and an example that works.

mod models;
mod operations;
mod typed;

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::route::{Route, Tag};
use super::{App, error};
use crate::exchange::aside::aside_in_turn;
use crate::service::{NAME, VERSION};
use crate::serving::deployment::Deployment;
use crate::serving::registry::Target;

/// The schemas of all bodies, but for those that follow from a model.
static SCHEMAS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("openapi/schemas.json"))
        .expect("the file is JSON, which a test shows")
});

const DESCRIPTION: &str = "\
Serves ONNX models. Send requests to `/predict`, or speak the protocol that your client speaks already: the Open \
Inference Protocol (version 2) of KServe and Triton, or that of TensorFlow Serving (version 1).

Every error is `{\"error\": \"…\"}`. Every answer has an `x-request-id`, yours if you sent one, and `server-timing` with \
the phases in milliseconds. An unknown path is answered with 404, a method that a path does not have with 405 and \
`Allow`. Any `Content-Type`, or none, is taken for JSON where nothing else is said; bodies may be compressed, as \
`Content-Encoding` tells.";

/// Describing a model takes about as long as parsing so many bytes.
const COST_OF_MODEL: usize = 200 << 10;

/// `GET /openapi.json`
pub async fn document(State(app): State<Arc<App>>) -> Response {
    let names = app.service.model_names().into_iter();
    let loaded = names.filter_map(|model| {
        let target = Target::model(model);
        app.service.deployment(&target).ok()
    });
    let loaded: Vec<_> = loaded.collect();
    aside_in_turn(COST_OF_MODEL * loaded.len(), || {
        error::json_response(StatusCode::OK, &describe(&app.routes, &loaded))
    })
    .await
}

/// The document for these routes and models.
fn describe(routes: &[Route], models: &[Arc<Deployment>]) -> Value {
    let mut paths = Map::new();
    let mut schemas = SCHEMAS.clone();
    let mut tags: Vec<Value> = Vec::new();
    for deployment in models {
        let model = models::Model::new(deployment);
        tags.push(json!({ "name": model.tag(), "description": model.description() }));
        schemas.extend(model.schemas());
        for route in routes {
            if let Some(path) = model.path(route) {
                add(&mut paths, path, route.method, model.operation(route));
            }
        }
    }
    for route in routes {
        add(
            &mut paths,
            route.path.to_string(),
            route.method,
            operations::of(route),
        );
    }
    for tag in Tag::ALL
        .iter()
        .filter(|tag| routes.iter().any(|route| route.doc.tag == **tag))
    {
        let (name, description) = tag.words();
        tags.push(json!({ "name": name, "description": description }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": NAME,
            "version": VERSION,
            "description": DESCRIPTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": operations::parameters(),
            "headers": operations::headers(),
            "responses": operations::error_responses(),
        },
    })
}

fn add(paths: &mut Map<String, Value>, path: String, method: &str, operation: Value) {
    let item = paths.entry(path).or_insert_with(|| json!({}));
    item[method.to_lowercase()] = operation;
}

#[cfg(test)]
mod tests {
    use super::super::ROUTES;
    use super::*;

    /// Every `$ref` of a document.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = describe(ROUTES, &[]);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 100, "only {} references", found.len());
        for reference in found {
            let pointer = reference
                .strip_prefix('#')
                .expect("it leads into the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let document = describe(ROUTES, &[]);
        let paths = document["paths"].as_object().expect("there are paths");
        let items = paths
            .values()
            .filter_map(Value::as_object)
            .flat_map(Map::values);
        let mut names: Vec<_> = items
            .map(|operation| operation["operationId"].as_str().expect("a name"))
            .collect();
        assert_eq!(names.len(), ROUTES.len());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROUTES.len());
    }
}
