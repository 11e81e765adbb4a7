//! Writes answers as JSON, in the style of the request, straight from the tensors.

use std::borrow::Cow;
use std::ops::Range;

use half::{bf16, f16};

use super::numbers::{Bool, WriteJson};
use super::{NanForm, Style};
use crate::error::{Error, Result};
use crate::tensor::dtype::DataType;
use crate::tensor::signature::Signature;
use crate::tensor::value::{NamedTensor, Tensor};

/// About as many bytes of text stand for each byte of a tensor.
pub const TEXT_PER_BYTE: usize = 4;

/// What an answer says.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Whose answer it is; TensorFlow Serving does not say.
    pub model: Option<ModelRef<'a>>,
    pub id: Option<&'a str>,
    /// Whose outputs they are: it may name an output's columns.
    pub signature: &'a Signature,
    pub outputs: &'a [NamedTensor],
}

/// A model's name and version.
#[derive(Debug, Clone, Copy)]
pub struct ModelRef<'a> {
    pub name: &'a str,
    pub version: &'a str,
}

/// Writes `answer` in `style`. Fails only for [`Style::Rows`], when an output has no dimension for the rows.
pub fn encode(answer: &Answer<'_>, style: Style, nan: NanForm) -> Result<Vec<u8>> {
    let data: usize = answer
        .outputs
        .iter()
        .map(|output| output.tensor.data().len())
        .sum();
    let mut out = Vec::with_capacity(256 + TEXT_PER_BYTE * data);
    write_answer_head(&mut out, answer);
    match style {
        Style::Rows => write_rows(&mut out, answer, nan)?,
        Style::Columns => write_columns(&mut out, answer, nan),
        Style::Protocol => write_protocol(&mut out, answer.outputs, nan),
    }
    out.push(b'}');
    Ok(out)
}

/// Opens the answer's object and writes all of it but the outputs.
pub fn write_answer_head(out: &mut Vec<u8>, answer: &Answer<'_>) {
    out.push(b'{');
    if let Some(ModelRef { name, version }) = answer.model {
        write_field(out, "model_name", name);
        write_field(out, "model_version", version);
    }
    if let Some(id) = answer.id {
        write_field(out, "id", id);
    }
}

/// Writes a field of text, which another field follows.
fn write_field(out: &mut Vec<u8>, name: &str, text: &str) {
    write_text(out, name);
    out.push(b':');
    write_text(out, text);
    out.push(b',');
}

fn write_rows(out: &mut Vec<u8>, answer: &Answer<'_>, nan: NanForm) -> Result<()> {
    let rows = common_rows(answer.outputs)?;
    out.extend_from_slice(b"\"predictions\":");
    if let [output] = answer.outputs {
        write_nested(out, output, answer.signature, nan);
        return Ok(());
    }
    let outputs = answer.outputs.iter();
    let outputs: Vec<_> = outputs
        .map(|output| Nested::new(output, answer.signature))
        .collect();
    write_list(out, b"[]", 0..rows, |out, row| {
        write_list(out, b"{}", &outputs, |out, output| {
            write_text(out, output.name);
            out.push(b':');
            output.write_row(out, row, nan);
        });
    });
    Ok(())
}

/// One output, ready to be written as nested lists, or as one map for each row where its columns have names.
struct Nested<'a> {
    name: &'a str,
    elements: Box<dyn Elements + 'a>,
    dims: &'a [usize],
    columns: Option<&'a [String]>,
}

impl<'a> Nested<'a> {
    fn new(NamedTensor { name, tensor }: &'a NamedTensor, signature: &'a Signature) -> Self {
        let dims = tensor.shape().dims();
        let fit = |columns: &&[String]| matches!(dims, [_, columns_here] if *columns_here == columns.len());
        Nested {
            name,
            elements: elements(tensor),
            dims,
            columns: signature.columns(name).filter(fit),
        }
    }

    fn write(&self, out: &mut Vec<u8>, nan: NanForm) {
        match (self.columns, self.dims) {
            (Some(_), [rows, ..]) => {
                write_list(out, b"[]", 0..*rows, |out, row| {
                    self.write_row(out, row, nan)
                });
            }
            (_, dims) => self
                .elements
                .write(out, dims, 0..dims.iter().product(), nan),
        }
    }

    fn write_row(&self, out: &mut Vec<u8>, row: usize, nan: NanForm) {
        let dims = &self.dims[1..];
        let width: usize = dims.iter().product();
        let start = row * width;
        match self.columns {
            Some(columns) => write_list(
                out,
                b"{}",
                columns.iter().zip(start..),
                |out, (name, at)| {
                    write_text(out, name);
                    out.push(b':');
                    self.elements.write(out, &[], at..at + 1, nan);
                },
            ),
            None => self.elements.write(out, dims, start..start + width, nan),
        }
    }
}

/// The length of the first dimension, which the rows style needs to be the same in every output.
fn common_rows(outputs: &[NamedTensor]) -> Result<usize> {
    let mut common = None;
    for NamedTensor { name, tensor } in outputs {
        let first = tensor.shape().dims().first().copied();
        if first.is_none() || first != *common.get_or_insert(first) {
            return Err(Error::invalid(format!(
                "output '{name}' has shape {} and so no rows to answer 'instances' with; send 'inputs' instead",
                tensor.shape()
            )));
        }
    }
    Ok(common.flatten().unwrap_or(0))
}

fn write_columns(out: &mut Vec<u8>, answer: &Answer<'_>, nan: NanForm) {
    out.extend_from_slice(b"\"outputs\":");
    match answer.outputs {
        [output] => write_nested(out, output, answer.signature, nan),
        outputs => write_list(out, b"{}", outputs, |out, output| {
            write_text(out, &output.name);
            out.push(b':');
            write_nested(out, output, answer.signature, nan);
        }),
    }
}

fn write_protocol(out: &mut Vec<u8>, outputs: &[NamedTensor], nan: NanForm) {
    out.extend_from_slice(b"\"outputs\":");
    write_list(out, b"[]", outputs, |out, output| {
        write_tensor_object(out, output, nan)
    });
}

/// Writes one tensor object of the Open Inference Protocol, its data flat.
pub fn write_tensor_object(out: &mut Vec<u8>, output: &NamedTensor, nan: NanForm) {
    write_tensor_head(out, output);
    out.extend_from_slice(b",\"data\":");
    let count = output.tensor.shape().elements();
    elements(&output.tensor).write(out, &[count], 0..count, nan);
    out.push(b'}');
}

/// Opens a tensor object and writes all of it but the data.
pub fn write_tensor_head(out: &mut Vec<u8>, NamedTensor { name, tensor }: &NamedTensor) {
    out.extend_from_slice(b"{\"name\":");
    write_text(out, name);
    let (dtype, shape) = (tensor.dtype(), tensor.shape());
    out.extend_from_slice(format!(",\"datatype\":\"{dtype}\",\"shape\":{shape}").as_bytes());
}

/// Writes a whole tensor as lists nested like its shape; as one map for each row where its columns have names.
pub fn write_nested(out: &mut Vec<u8>, output: &NamedTensor, signature: &Signature, nan: NanForm) {
    Nested::new(output, signature).write(out, nan);
}

/// A tensor's elements behind one dispatch on their type.
trait Elements {
    /// Writes the elements in `range` as lists nested by `dims`.
    fn write(&self, out: &mut Vec<u8>, dims: &[usize], range: Range<usize>, nan: NanForm);
}

impl<T: WriteJson + Clone> Elements for Cow<'_, [T]> {
    fn write(&self, out: &mut Vec<u8>, dims: &[usize], range: Range<usize>, nan: NanForm) {
        write_dims(out, dims, &self[range], nan);
    }
}

fn elements(tensor: &Tensor) -> Box<dyn Elements + '_> {
    match tensor.dtype() {
        DataType::Bool => Box::new(tensor.elements::<Bool>()),
        DataType::UInt8 => Box::new(tensor.elements::<u8>()),
        DataType::UInt16 => Box::new(tensor.elements::<u16>()),
        DataType::UInt32 => Box::new(tensor.elements::<u32>()),
        DataType::UInt64 => Box::new(tensor.elements::<u64>()),
        DataType::Int8 => Box::new(tensor.elements::<i8>()),
        DataType::Int16 => Box::new(tensor.elements::<i16>()),
        DataType::Int32 => Box::new(tensor.elements::<i32>()),
        DataType::Int64 => Box::new(tensor.elements::<i64>()),
        DataType::Fp16 => Box::new(tensor.elements::<f16>()),
        DataType::Bf16 => Box::new(tensor.elements::<bf16>()),
        DataType::Fp32 => Box::new(tensor.elements::<f32>()),
        DataType::Fp64 => Box::new(tensor.elements::<f64>()),
        DataType::Bytes => Box::new(Cow::Owned(tensor.strings().collect::<Vec<_>>())),
    }
}

fn write_dims<T: WriteJson>(out: &mut Vec<u8>, dims: &[usize], elements: &[T], nan: NanForm) {
    match dims {
        [] => elements
            .iter()
            .for_each(|element| element.write_json(out, nan)),
        [_] => write_list(out, b"[]", elements, |out, element| {
            element.write_json(out, nan)
        }),
        [count, inner @ ..] => {
            let width: usize = inner.iter().product();
            write_list(out, b"[]", 0..*count, |out, index| {
                write_dims(
                    out,
                    inner,
                    &elements[index * width..(index + 1) * width],
                    nan,
                );
            });
        }
    }
}

/// Writes items between brackets, with commas between them.
pub fn write_list<T>(
    out: &mut Vec<u8>,
    brackets: &[u8; 2],
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(brackets[0]);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(brackets[1]);
}

impl WriteJson for &[u8] {
    /// Text as a string, other bytes as `{"b64": …}`.
    fn write_json(&self, out: &mut Vec<u8>, _: NanForm) {
        use base64::Engine;
        match std::str::from_utf8(self) {
            Ok(text) => write_text(out, text),
            Err(_) => {
                let encoded = base64::engine::general_purpose::STANDARD.encode(self);
                out.extend_from_slice(format!("{{\"b64\":\"{encoded}\"}}").as_bytes());
            }
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(&mut *out, text).expect("writing text into memory cannot fail");
}
