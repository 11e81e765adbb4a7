//! What a model adds to the OpenAPI document: its routes by name, its requests by type, and an example that works.

use serde_json::{Map, Value, json};

use super::operations::{self, reference};
use super::typed;
use crate::http::route::{Content, Route};
use crate::oip::NanForm;
use crate::oip::example;
use crate::oip::response::write_nested;
use crate::serving::deployment::Deployment;
use crate::tensor::sample::Sample;
use crate::tensor::shape::Dims;
use crate::tensor::signature::{Dim, Signature, TensorSpec};
use crate::tensor::value::NamedTensor;

/// Larger examples are left to `onnxd inspect --example`: a document is read by people too.
const MOST_EXAMPLE_ELEMENTS: usize = 4096;

/// One loaded model, as the document shows it.
pub struct Model<'a> {
    pub name: &'a str,
    version: &'a str,
    signature: &'a Signature,
    /// Inputs that the model has run on.
    example: Option<Vec<NamedTensor>>,
}

/// The ways to write a request, in the order in which they are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Rows,
    Columns,
    Tensors,
}

impl Form {
    fn schema(self) -> &'static str {
        match self {
            Form::Rows => "Rows",
            Form::Columns => "Columns",
            Form::Tensors => "Tensors",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Form::Rows => "rows: one item an instance",
            Form::Columns => "columns: one item an input",
            Form::Tensors => "tensors of the Open Inference Protocol",
        }
    }
}

impl<'a> Model<'a> {
    pub fn new(deployment: &'a Deployment) -> Self {
        let signature = deployment.signature();
        let sample = deployment.model().sample().unwrap_or(Sample::ZEROS);
        let sample = Sample { seed: 0, ..sample };
        let elements = signature.inputs.iter().map(|spec| elements(spec, sample));
        // Known before it is made: a document must not cost the memory of the largest image.
        let is_short = elements.fold(0, usize::saturating_add) <= MOST_EXAMPLE_ELEMENTS;
        Model {
            name: &deployment.facts.model,
            version: &deployment.facts.version,
            signature,
            example: is_short.then(|| sample.tensors(signature).ok()).flatten(),
        }
    }

    /// What the model's operations are tagged with: no other tag begins so.
    pub fn tag(&self) -> String {
        format!("Model {}", self.name)
    }

    /// The model in a line: its version, and what it takes and gives.
    pub fn description(&self) -> String {
        let list = |specs: &[TensorSpec]| {
            let specs = specs.iter().map(|spec| {
                format!(
                    "`{}` {} {}",
                    spec.name,
                    spec.dtype,
                    Dims(&spec.wire_shape())
                )
            });
            specs.collect::<Vec<_>>().join(", ")
        };
        let Signature { inputs, outputs } = self.signature;
        format!(
            "Version {}: {} → {}",
            self.version,
            list(inputs),
            list(outputs)
        )
    }

    /// The path of a route that runs a model by its name, with this one's name in it.
    pub fn path(&self, route: &Route) -> Option<String> {
        let runs_default_version =
            route.path.contains("{model}") && route.path.matches('{').count() == 1;
        (runs_default_version && route.doc.takes.is_inference())
            .then(|| route.path.replace("{model}", self.name))
    }

    /// The operation of such a route.
    pub fn operation(&self, route: &Route) -> Value {
        let forms = self.forms(route.doc.takes);
        let schemas = forms
            .iter()
            .map(|form| reference("schemas", &self.schema_name(*form)));
        let examples = forms.iter().filter_map(|form| {
            let example = json!({ "summary": form.summary(), "value": self.body(*form)? });
            Some((form.schema().to_lowercase(), example))
        });
        let mut media = json!({ "schema": { "anyOf": schemas.collect::<Value>() } });
        let examples: Map<String, Value> = examples.collect();
        if !examples.is_empty() {
            media["examples"] = Value::Object(examples);
        }
        let what = route
            .path
            .replace("{model}", "")
            .replace(|c: char| !c.is_ascii_alphanumeric(), " ");
        let words: Vec<&str> = what.split_whitespace().collect();
        json!({
            "operationId": format!("{}_{}", words.join("_"), self.name),
            "tags": [self.tag()],
            "summary": route.doc.tag.words().0,
            "parameters": [reference("parameters", "timeout")],
            "requestBody": { "required": true, "content": { "application/json": media } },
            "responses": operations::responses(route),
        })
    }

    /// The model's own schemas: one for each way to write a request.
    pub fn schemas(&self) -> Map<String, Value> {
        let schemas = [
            (Form::Rows, typed::rows(self.signature)),
            (Form::Columns, typed::columns(self.signature)),
            (Form::Tensors, typed::tensors(self.signature)),
        ];
        let named = schemas.map(|(form, schema)| (self.schema_name(form), schema));
        named.into_iter().collect()
    }

    fn schema_name(&self, form: Form) -> String {
        format!("{}.{}", self.name, form.schema())
    }

    /// The ways in which the model can be asked here. Not every model has rows.
    fn forms(&self, takes: Content) -> Vec<Form> {
        let mut forms = match takes {
            Content::InferRequest => vec![Form::Tensors],
            Content::TensorFlowRequest => vec![Form::Rows, Form::Columns],
            _ => vec![Form::Rows, Form::Columns, Form::Tensors],
        };
        forms.retain(|form| *form != Form::Rows || self.signature.has_rows());
        forms
    }

    /// A request that works.
    fn body(&self, form: Form) -> Option<Value> {
        let inputs = self.example.as_deref()?;
        let columns = inputs
            .iter()
            .map(|input| (input.name.clone(), value(input)));
        match form {
            Form::Tensors => serde_json::from_str(&example::body(inputs)).ok(),
            Form::Columns => Some(json!({ "inputs": columns.collect::<Map<_, _>>() })),
            Form::Rows => Some(json!({ "instances": rows(columns.collect())? })),
        }
    }
}

/// How many elements a sample of this input has, at the most.
fn elements(spec: &TensorSpec, sample: Sample) -> usize {
    let dims = spec.dims.as_deref().unwrap_or_default().iter();
    let lengths = dims.map(|dim| match dim {
        Dim::Fixed(length) => *length,
        Dim::Dynamic(_) => sample.free.max(sample.rows),
    });
    lengths.fold(1, usize::saturating_mul)
}

/// A tensor as nested lists.
fn value(input: &NamedTensor) -> Value {
    let mut text = Vec::new();
    write_nested(&mut text, input, &Signature::default(), NanForm::Null);
    serde_json::from_slice(&text).unwrap_or_default()
}

/// The same by rows: the value of the only input, or objects with a value of each.
fn rows(columns: Map<String, Value>) -> Option<Value> {
    if columns.len() == 1 {
        return columns.into_iter().next().map(|(_, column)| column);
    }
    let count = columns.values().next()?.as_array()?.len();
    let row = |index: usize| {
        let cells = columns
            .iter()
            .map(|(name, column)| Some((name.clone(), column.get(index)?.clone())));
        cells.collect::<Option<Map<_, _>>>().map(Value::Object)
    };
    (0..count).map(row).collect()
}
