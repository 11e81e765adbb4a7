//! One inference over gRPC: translates a request, runs it, translates the answer.

use std::sync::Arc;
use std::time::Instant;

use tonic::Extensions;

use super::App;
use super::contents;
use super::deadline::Deadline;
use super::edge::Told;
use super::inference::infer_parameter::ParameterChoice;
use super::inference::model_infer_request::InferRequestedOutputTensor;
use super::inference::{InferParameter, ModelInferRequest, ModelInferResponse};
use crate::config::Limits;
use crate::error::Result;
use crate::exchange::access::Inference;
use crate::exchange::aside::aside;
use crate::in_flight::{Held, Room};
use crate::oip::parameters::{OutputParameters, Parameters, RequestParameters, Value};
use crate::oip::request::WantedOutput;
use crate::service::types::{InferRequest, InferResponse, RequestedOutput};
use crate::serving::registry::Target;
use crate::tensor::signature::Signature;
use crate::tensor::value::NamedTensor;

/// Tensors go out as they are.
const WRITTEN_PER_BYTE: usize = 1;

/// What a call knows beside its messages.
#[derive(Clone)]
pub struct Context {
    pub deadline: Deadline,
    pub told: Told,
    /// What the request has of the memory.
    pub held: Arc<Held>,
}

impl Context {
    /// What the edge put into the request.
    pub fn of(extensions: &Extensions, app: &App) -> Context {
        Context {
            deadline: extensions.get().copied().unwrap_or_default(),
            told: extensions.get().cloned().unwrap_or_default(),
            held: extensions
                .get()
                .cloned()
                .unwrap_or_else(|| app.in_flight.hold()),
        }
    }
}

/// The model and the version that a request names; an empty version is none.
pub fn target(model: &str, version: &str) -> Target {
    Target {
        model: Some(model.to_owned()),
        version: Some(version.to_owned()).filter(|version| !version.is_empty()),
    }
}

/// Answers one request.
pub async fn infer(
    app: &App,
    request: ModelInferRequest,
    context: &Context,
) -> Result<ModelInferResponse> {
    let call = app
        .service
        .call(&target(&request.model_name, &request.model_version))?;
    let deployment = call.deployment().clone();
    let told = Inference::on(&deployment);
    context.told.set(told.clone());
    let decoding = Instant::now();
    let cost = contents::cost_of_reading(&request.inputs, &request.raw_input_contents);
    let taken = contents::taken_by(&request.inputs, &request.raw_input_contents);
    let decoded = context
        .held
        .take(taken)
        .and_then(|()| aside(cost, || decode(request, call.signature(), &app.limits)));
    let Decoded {
        id,
        inputs,
        outputs,
        parameters,
    } = match decoded {
        Ok(decoded) => decoded,
        Err(error) => return Err(call.fail(error)),
    };
    let request = InferRequest {
        inputs,
        outputs,
        timeout: context.deadline.left(),
        queue_timeout: parameters.timeout,
        priority: parameters.priority,
        decoding: decoding.elapsed(),
        room: Room::new(context.held.clone(), WRITTEN_PER_BYTE),
    };
    let InferResponse {
        outputs,
        // They are for people.
        class_names: _,
        rows,
        timing,
        ending,
    } = call.run(request).await?;
    context.told.set(Inference {
        rows,
        timing,
        ..told
    });
    let (outputs, raw_output_contents) = contents::outputs(outputs);
    ending.told(Ok(ModelInferResponse {
        model_name: deployment.facts.model.clone(),
        model_version: deployment.facts.version.clone(),
        id,
        outputs,
        raw_output_contents,
        ..ModelInferResponse::default()
    }))
}

/// A request in the service's terms.
struct Decoded {
    id: String,
    inputs: Vec<NamedTensor>,
    outputs: Vec<RequestedOutput>,
    parameters: RequestParameters,
}

fn decode(request: ModelInferRequest, signature: &Signature, limits: &Limits) -> Result<Decoded> {
    let ModelInferRequest {
        model_name: _,
        model_version: _,
        id,
        parameters: given,
        inputs,
        outputs,
        raw_input_contents: raw,
    } = request;
    let mut parameters = RequestParameters::default();
    for (name, value) in &given {
        parameters.set(name, value.value())?;
    }
    Ok(Decoded {
        id,
        inputs: contents::inputs(inputs, raw, signature, limits.tensor_elements)?,
        outputs: outputs.into_iter().map(output).collect::<Result<_>>()?,
        parameters,
    })
}

fn output(output: InferRequestedOutputTensor) -> Result<RequestedOutput> {
    let mut parameters = OutputParameters::default();
    for (name, value) in &output.parameters {
        parameters.set(name, value.value())?;
    }
    let name = output.name;
    Ok(WantedOutput { name, parameters }.into())
}

impl InferParameter {
    /// The value, whatever its type.
    pub fn value(&self) -> Value<'_> {
        match &self.parameter_choice {
            None => Value::Null,
            Some(ParameterChoice::BoolParam(value)) => Value::Bool(*value),
            Some(ParameterChoice::Int64Param(value)) => Value::Signed(*value),
            Some(ParameterChoice::Uint64Param(value)) => Value::Unsigned(*value),
            Some(ParameterChoice::DoubleParam(value)) => Value::Float(*value),
            Some(ParameterChoice::StringParam(value)) => Value::Text(value),
        }
    }
}
