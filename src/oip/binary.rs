//! The binary tensor extension: bodies with JSON at their head and raw tensors behind it.

use bytes::Bytes;

use super::parameters::RequestParameters;
use super::request::{DecodedRequest, WantedOutput, decode_with};
use super::response::{
    self, Answer, TEXT_PER_BYTE, write_answer_head, write_list, write_tensor_head,
    write_tensor_object,
};
use super::{NanForm, Style};
use crate::config::Limits;
use crate::error::Result;
use crate::tensor::raw::Described;
use crate::tensor::signature::Signature;
use crate::tensor::value::NamedTensor;

/// Reads a request whose JSON ends there. Without any the whole body is the model's only input, and all outputs come
/// back in binary.
pub fn decode_parts(
    mut body: Bytes,
    json_bytes: usize,
    signature: &Signature,
    limits: &Limits,
) -> Result<DecodedRequest> {
    let json = body.split_to(json_bytes.min(body.len()));
    if json_bytes > 0 {
        return decode_with(&json, &body, signature, limits);
    }
    let input = Described::whole(signature, body, limits.tensor_elements)?;
    Ok(DecodedRequest {
        style: Style::Protocol,
        id: None,
        parameters: RequestParameters {
            binary_outputs: true,
            ..RequestParameters::default()
        },
        inputs: vec![input],
        outputs: Vec::new(),
    })
}

/// Which outputs a request wants raw.
#[derive(Debug)]
pub struct RawOutputs {
    said: Vec<(String, bool)>,
    unless_said: bool,
}

impl RawOutputs {
    /// What a request says, which only the protocol's own style can.
    pub fn of(request: &DecodedRequest) -> RawOutputs {
        let wanted = request.outputs.iter();
        let said = |output: &WantedOutput| Some((output.name.clone(), output.parameters.binary?));
        RawOutputs {
            said: wanted.filter_map(said).collect(),
            unless_said: request.parameters.binary_outputs && request.style == Style::Protocol,
        }
    }

    /// Whether the output of this name goes out raw.
    pub fn contains(&self, output: &str) -> bool {
        let said = self.said.iter().find(|(name, _)| name == output);
        said.map_or(self.unless_said, |(_, is_raw)| *is_raw)
    }

    /// How many bytes an answer has about for each byte of these outputs.
    pub fn written_per_byte(&self, signature: &Signature) -> usize {
        match signature
            .outputs
            .iter()
            .all(|output| self.contains(&output.name))
        {
            true => 1,
            false => TEXT_PER_BYTE,
        }
    }
}

/// An answer as it goes out.
#[derive(Debug)]
pub struct Encoded {
    pub body: Vec<u8>,
    /// Where its JSON ends, if some output is raw.
    pub json_bytes: Option<usize>,
}

/// Writes an answer, the outputs raw that are wanted so, whose bytes are copied once. Fails as [`response::encode`]
/// does.
pub fn encode(
    answer: &Answer<'_>,
    style: Style,
    nan: NanForm,
    raw: &RawOutputs,
) -> Result<Encoded> {
    let is_raw = |output: &&NamedTensor| raw.contains(&output.name);
    if !answer.outputs.iter().any(|output| is_raw(&output)) {
        let body = response::encode(answer, style, nan)?;
        let json_bytes = None;
        return Ok(Encoded { body, json_bytes });
    }
    let (raw, read): (Vec<_>, Vec<_>) = answer.outputs.iter().partition(is_raw);
    let bytes = |outputs: &[&NamedTensor]| -> usize {
        let lengths = outputs.iter().map(|output| output.tensor.data().len());
        lengths.sum()
    };
    let json_bytes = 256 + 128 * answer.outputs.len() + TEXT_PER_BYTE * bytes(&read);
    let mut body = Vec::with_capacity(json_bytes + bytes(&raw));
    write_answer_head(&mut body, answer);
    body.extend_from_slice(b"\"outputs\":");
    write_list(
        &mut body,
        b"[]",
        answer.outputs,
        |out, output| match is_raw(&output) {
            true => write_raw_object(out, output),
            false => write_tensor_object(out, output, nan),
        },
    );
    body.push(b'}');
    let json_bytes = Some(body.len());
    for output in raw {
        body.extend_from_slice(output.tensor.data());
    }
    Ok(Encoded { body, json_bytes })
}

/// Writes the object of a tensor whose data follow raw. Clients in C++ want this parameter wherever there are any, and
/// no other beside it.
fn write_raw_object(out: &mut Vec<u8>, output: &NamedTensor) {
    write_tensor_head(out, output);
    let bytes = output.tensor.data().len();
    let parameters = format!(",\"parameters\":{{\"binary_data_size\":{bytes}}}}}");
    out.extend_from_slice(parameters.as_bytes());
}
