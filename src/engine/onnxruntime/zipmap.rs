//! Gives a ZipMap's numbers out as a tensor, as the signature has it, in place of ONNX Runtime's sequence of maps.
//!
//! The file is edited as protobuf bytes: the node becomes an Identity and its output's declared type a tensor of FP32.
//! Everything else, weights above all, is copied as it is.

use std::collections::HashSet;

use bytes::{Buf, Bytes};
use prost::encoding::{self, DecodeContext, WireType};

use crate::engine::onnx::OnnxFile;
use crate::error::{Error, Result};

/// Field numbers of onnx.proto3.
mod field {
    pub const MODEL_GRAPH: u32 = 7;
    pub const MODEL_OPSET_IMPORT: u32 = 8;
    pub const OPSET_VERSION: u32 = 2;
    pub const GRAPH_NODE: u32 = 1;
    pub const GRAPH_OUTPUT: u32 = 12;
    pub const GRAPH_VALUE_INFO: u32 = 13;
    pub const NODE_OUTPUT: u32 = 2;
    pub const NODE_NAME: u32 = 3;
    pub const NODE_OP_TYPE: u32 = 4;
    pub const NODE_DOMAIN: u32 = 7;
    pub const VALUE_NAME: u32 = 1;
    pub const VALUE_TYPE: u32 = 2;
}

const OPERATOR: &str = "ZipMap";
const DOMAIN: &str = "ai.onnx.ml";
/// `tensor_type { elem_type: FLOAT }`.
const TENSOR_OF_FP32: [u8; 4] = [0x0a, 0x02, 0x08, 0x01];
/// An operator set that has Identity, for a file that imports none.
const OPSET: u64 = 13;

/// The model without ZipMaps whose maps are outputs; the bytes themselves where there are none.
pub fn without(bytes: &Bytes, file: &OnnxFile) -> Result<Bytes> {
    let labelled = file
        .signature
        .outputs
        .iter()
        .filter(|output| output.columns.is_some());
    let names: HashSet<&str> = labelled.map(|output| output.name.as_str()).collect();
    if names.is_empty() {
        return Ok(bytes.clone());
    }
    let mut edited = Vec::with_capacity(bytes.len());
    each_field(bytes, |found| {
        match found.number {
            field::MODEL_GRAPH => put(&mut edited, found.number, &graph(&found.value, &names)?),
            _ => edited.extend_from_slice(&found.whole),
        }
        Ok(())
    })?;
    if !file.opsets.contains_key("ai.onnx") {
        let mut import = Vec::new();
        encoding::uint64::encode(field::OPSET_VERSION, &OPSET, &mut import);
        put(&mut edited, field::MODEL_OPSET_IMPORT, &import);
    }
    Ok(edited.into())
}

fn graph(bytes: &Bytes, names: &HashSet<&str>) -> Result<Vec<u8>> {
    let mut edited = Vec::with_capacity(bytes.len());
    each_field(bytes, |found| {
        let new = match found.number {
            field::GRAPH_NODE => node(&found.value, names)?,
            field::GRAPH_OUTPUT | field::GRAPH_VALUE_INFO => value(&found.value, names)?,
            _ => None,
        };
        match new {
            Some(new) => put(&mut edited, found.number, &new),
            None => edited.extend_from_slice(&found.whole),
        }
        Ok(())
    })?;
    Ok(edited)
}

/// The Identity in place of a ZipMap that gives one of these.
fn node(bytes: &Bytes, names: &HashSet<&str>) -> Result<Option<Vec<u8>>> {
    let is = |number, text: &str| {
        Ok::<_, Error>(last(bytes, number)?.as_deref() == Some(text.as_bytes()))
    };
    if !is(field::NODE_OP_TYPE, OPERATOR)? || !is(field::NODE_DOMAIN, DOMAIN)? {
        return Ok(None);
    }
    if !is_one_of(last(bytes, field::NODE_OUTPUT)?, names) {
        return Ok(None);
    }
    let mut identity = Vec::new();
    each_field(bytes, |found| {
        // Its inputs, its outputs and its name come first.
        if found.number <= field::NODE_NAME {
            identity.extend_from_slice(&found.whole);
        }
        Ok(())
    })?;
    put(&mut identity, field::NODE_OP_TYPE, b"Identity");
    Ok(Some(identity))
}

/// The declaration of one of these as a tensor.
fn value(bytes: &Bytes, names: &HashSet<&str>) -> Result<Option<Vec<u8>>> {
    let name = last(bytes, field::VALUE_NAME)?;
    if !is_one_of(name.clone(), names) {
        return Ok(None);
    }
    let mut tensor = Vec::new();
    put(&mut tensor, field::VALUE_NAME, &name.unwrap_or_default());
    put(&mut tensor, field::VALUE_TYPE, &TENSOR_OF_FP32);
    Ok(Some(tensor))
}

fn is_one_of(name: Option<Bytes>, names: &HashSet<&str>) -> bool {
    let name = name.as_deref().map(std::str::from_utf8);
    name.is_some_and(|name| name.is_ok_and(|name| names.contains(name)))
}

/// One field of a message.
struct Field {
    number: u32,
    /// What it holds, where that is text or a message.
    value: Bytes,
    /// The same with its key and length.
    whole: Bytes,
}

fn each_field(bytes: &Bytes, mut take: impl FnMut(Field) -> Result<()>) -> Result<()> {
    let mut rest = bytes.clone();
    while rest.has_remaining() {
        take(next_field(&mut rest).map_err(|error| {
            Error::invalid("the file is not an ONNX model").with_source(error)
        })?)?;
    }
    Ok(())
}

fn next_field(rest: &mut Bytes) -> Result<Field, prost::DecodeError> {
    let start = rest.clone();
    let (number, wire_type) = encoding::decode_key(rest)?;
    let mut value = Bytes::new();
    match wire_type {
        WireType::LengthDelimited => {
            encoding::bytes::merge(wire_type, &mut value, rest, DecodeContext::default())?
        }
        _ => encoding::skip_field(wire_type, number, rest, DecodeContext::default())?,
    }
    let whole = start.slice(..start.len() - rest.len());
    Ok(Field {
        number,
        value,
        whole,
    })
}

/// What the last field of that number holds, which is the one that counts.
fn last(bytes: &Bytes, number: u32) -> Result<Option<Bytes>> {
    let mut found = None;
    each_field(bytes, |field| {
        if field.number == number {
            found = Some(field.value);
        }
        Ok(())
    })?;
    Ok(found)
}

fn put(message: &mut Vec<u8>, number: u32, value: &[u8]) {
    encoding::encode_key(number, WireType::LengthDelimited, message);
    encoding::encode_varint(value.len() as u64, message);
    message.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAPH_INITIALIZER: u32 = 5;
    const GRAPH_INPUT: u32 = 11;
    const NODE_INPUT: u32 = 1;
    const NODE_ATTRIBUTE: u32 = 5;
    const OPSET_DOMAIN: u32 = 1;
    /// `sequence_type { elem_type { map_type { key_type: STRING, value_type { tensor_type { elem_type: FLOAT }}}}}`.
    const MAPS: [u8; 14] = [
        0x22, 0x0c, 0x0a, 0x0a, 0x2a, 0x08, 0x08, 0x08, 0x12, 0x04, 0x0a, 0x02, 0x08, 0x01,
    ];
    /// `name: "classlabels_strings", strings: ["no", "yes"]`.
    const LABELS: &[u8] = b"\x0a\x13classlabels_strings\x4a\x02no\x4a\x03yes";

    fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
        let mut message = Vec::new();
        for (number, value) in fields {
            put(&mut message, *number, value);
        }
        message
    }

    fn zip_map(output: &[u8]) -> Vec<u8> {
        message(&[
            (NODE_INPUT, b"p"),
            (field::NODE_OUTPUT, output),
            (field::NODE_OP_TYPE, b"ZipMap"),
            (NODE_ATTRIBUTE, LABELS),
            (field::NODE_DOMAIN, b"ai.onnx.ml"),
        ])
    }

    fn value_info(name: &[u8], kind: &[u8]) -> Vec<u8> {
        message(&[(field::VALUE_NAME, name), (field::VALUE_TYPE, kind)])
    }

    fn model(graph: &[(u32, &[u8])]) -> Bytes {
        let opset = message(&[(OPSET_DOMAIN, b"ai.onnx.ml")]);
        let parts = [
            (field::MODEL_GRAPH, &*message(graph)),
            (field::MODEL_OPSET_IMPORT, &*opset),
        ];
        message(&parts).into()
    }

    #[test]
    fn a_zip_map_becomes_an_identity_with_a_tensor_for_its_output() {
        let input = value_info(b"p", &TENSOR_OF_FP32);
        let (node, output) = (zip_map(b"z"), value_info(b"z", &MAPS));
        let bytes = model(&[
            (field::GRAPH_NODE, &node),
            (GRAPH_INPUT, &input),
            (field::GRAPH_OUTPUT, &output),
        ]);
        let file = OnnxFile::read(&bytes, None).expect("the model can be read");
        let columns = file.signature.outputs[0].columns.as_deref();
        assert_eq!(columns.expect("a ZipMap has columns"), ["no", "yes"]);
        let edited = without(&bytes, &file).expect("the model can be edited");
        let edited = OnnxFile::read(&edited, None).expect("it can be read again");
        let [node] = &*edited.nodes else {
            panic!("there is one node");
        };
        assert_eq!(
            (&*node.operator, &*node.inputs, &*node.outputs),
            ("Identity", &["p".to_owned()][..], &["z".to_owned()][..])
        );
        assert_eq!(edited.signature.outputs[0].name, "z");
        assert_eq!(edited.signature.outputs[0].columns, None);
        assert_eq!(edited.opsets["ai.onnx"], OPSET as i64);
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let tensor = value_info(b"p", &TENSOR_OF_FP32);
        let weight = message(&[(9, b"\0\0\0\0"), (8, b"w")]);
        // One whose maps are not given out is not touched, so that it is refused.
        let node = zip_map(b"inner");
        let bytes = model(&[
            (field::GRAPH_NODE, &node),
            (GRAPH_INITIALIZER, &weight),
            (GRAPH_INPUT, &tensor),
            (field::GRAPH_OUTPUT, &tensor),
        ]);
        let names = HashSet::from(["z"]);
        let whole = last(&bytes, field::MODEL_GRAPH).expect("the model can be read");
        let whole = whole.expect("there is a graph");
        assert_eq!(graph(&whole, &names).expect("the graph can be read"), whole);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let node = zip_map(b"z");
        let whole = Bytes::from(message(&[(field::GRAPH_NODE, &node)]));
        for length in 1..whole.len() {
            let cut = whole.slice(..length);
            assert!(graph(&cut, &HashSet::from(["z"])).is_err(), "{length}");
        }
    }
}
