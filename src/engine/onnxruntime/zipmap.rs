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
