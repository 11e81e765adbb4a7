//! Reads the body of a request, in any of the three styles, into typed tensors.
//!
//! The model's signature is at hand while the body is read, so a value goes straight into a buffer of the type
//! that the model wants. Only a protocol tensor whose `data` comes before both its `name` and its `datatype` is
//! kept as raw text for a moment.

use std::borrow::Cow;
use std::cell::RefCell;

use serde::Deserialize;
use serde::de::value::{MapDeserializer, SeqAccessDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::value::RawValue;

use super::elements::TensorBuilder;
use super::{NanForm, Style, tokens};
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::tensor::dtype::DataType;
use crate::tensor::shape::{Dims, Shape};
use crate::tensor::signature::Signature;
use crate::tensor::value::NamedTensor;

/// More dimensions than any operator takes.
const MOST_DIMENSIONS: usize = 64;

/// A request as it was written: its tensors are well formed, not yet checked against the model.
#[derive(Debug)]
pub struct DecodedRequest {
    pub style: Style,
    pub id: Option<String>,
    pub parameters: Parameters,
    pub inputs: Vec<NamedTensor>,
    /// The outputs that are wanted; empty means all.
    pub outputs: Vec<String>,
}

/// The request parameters that mean something here; others pass unread.
#[derive(Debug, Default)]
pub struct Parameters {
    /// Microseconds that the request may take, as the protocol's `timeout` says.
    pub timeout_us: Option<u64>,
    pub nan: NanForm,
}

/// Reads a request body for a model with this signature.
///
/// Accepted are `{"instances": [row, …]}`, `{"inputs": {name: nested}}`, `{"inputs": nested}` and the Open
/// Inference Protocol's `{"inputs": [{"name", "shape", "datatype", "data"}, …]}`.
pub fn decode(body: &[u8], signature: &Signature, limits: &Limits) -> Result<DecodedRequest> {
    match parse(body, signature, limits) {
        Err(Failure::Syntax(error)) => match tokens::rewrite(body) {
            Some(rewritten) => parse(&rewritten, signature, limits).map_err(Failure::into_error),
            None => Err(Failure::Syntax(error).into_error()),
        },
        other => other.map_err(Failure::into_error),
    }
}

enum Failure {
    Syntax(serde_json::Error),
    Other(Error),
}

impl Failure {
    fn into_error(self) -> Error {
        match self {
            Failure::Syntax(error) => {
                Error::invalid(format!("the body is not valid JSON: {error}"))
            }
            Failure::Other(error) => error,
        }
    }
}

fn parse(body: &[u8], signature: &Signature, limits: &Limits) -> Result<DecodedRequest, Failure> {
    let context = Context {
        signature,
        limits,
        failure: RefCell::default(),
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = json
        .deserialize_any(Body(&context))
        .and_then(|fields| json.end().map(|()| fields));
    let fields = match parsed {
        Ok(fields) => fields,
        Err(error) => {
            return Err(match context.failure.into_inner() {
                Some(failure) => Failure::Other(failure),
                None if error.is_data() => {
                    Failure::Other(Error::invalid(format!("the request is not valid: {error}")))
                }
                None => Failure::Syntax(error),
            });
        }
    };
    fields.into_request().map_err(Failure::Other)
}

/// What every visitor needs, and where it leaves an error that serde's own could not carry.
pub struct Context<'a> {
    pub signature: &'a Signature,
    pub limits: &'a Limits,
    failure: RefCell<Option<Error>>,
}

impl Context<'_> {
    /// Keeps `error` for the caller and returns one that stops serde.
    pub fn fail<E: serde::de::Error>(&self, error: Error) -> E {
        let stop = E::custom(&error);
        self.failure.replace(Some(error));
        stop
    }

    fn check<T, E: serde::de::Error>(&self, result: Result<T>) -> Result<T, E> {
        result.map_err(|error| self.fail(error))
    }

    /// The only input, for the forms that name none.
    fn only_input<E: serde::de::Error>(&self, what: &str) -> Result<TensorBuilder<'_>, E> {
        match self.signature.inputs.as_slice() {
            [input] => Ok(TensorBuilder::new(&input.name, input.dtype)),
            inputs => {
                let names: Vec<_> = inputs
                    .iter()
                    .map(|input| format!("'{}'", input.name))
                    .collect();
                Err(self.fail(Error::invalid(format!(
                    "{what}: expected an object with {}, since the model has {} inputs",
                    names.join(", "),
                    inputs.len()
                ))))
            }
        }
    }
}

/// A JSON string, borrowed from the body where it has no escapes.
#[derive(Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// The top-level fields as they were found.
#[derive(Default)]
struct Fields {
    rows: Option<Vec<NamedTensor>>,
    inputs: Option<(Style, Vec<NamedTensor>)>,
    id: Option<String>,
    parameters: Option<Parameters>,
    outputs: Option<Vec<String>>,
}

impl Fields {
    fn into_request(self) -> Result<DecodedRequest> {
        let Fields {
            rows,
            inputs,
            id,
            parameters,
            outputs,
        } = self;
        let (style, inputs) = match (rows, inputs) {
            (Some(rows), None) => (Style::Rows, rows),
            (None, Some(inputs)) => inputs,
            _ => {
                return Err(Error::invalid(
                    "expected exactly one of 'instances' and 'inputs'",
                ));
            }
        };
        if outputs.is_some() && style != Style::Protocol {
            return Err(Error::invalid(
                "'outputs' needs 'inputs' as a list of tensor objects",
            ));
        }
        let id = id.filter(|id| !id.is_empty());
        Ok(DecodedRequest {
            style,
            id,
            parameters: parameters.unwrap_or_default(),
            inputs,
            outputs: outputs.unwrap_or_default(),
        })
    }
}

struct Body<'c>(&'c Context<'c>);

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Fields;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object with 'instances' or 'inputs'")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let Body(context) = self;
        let mut fields = Fields::default();
        while let Some(Text(key)) = map.next_key()? {
            let fresh = match &*key {
                "instances" => fields
                    .rows
                    .replace(map.next_value_seed(Rows(context))?)
                    .is_none(),
                "inputs" => fields
                    .inputs
                    .replace(map.next_value_seed(Inputs(context))?)
                    .is_none(),
                "outputs" => fields
                    .outputs
                    .replace(map.next_value_seed(Outputs(context))?)
                    .is_none(),
                "id" => fields.id.replace(map.next_value()?).is_none(),
                "parameters" => fields
                    .parameters
                    .replace(map.next_value_seed(ParametersSeed(context))?)
                    .is_none(),
                "signature_name" => map.next_value::<IgnoredAny>().map(|_| true)?,
                other => {
                    return Err(context.fail(Error::invalid(format!(
                        "unknown key '{other}'; valid keys are 'instances', 'inputs', 'outputs', 'id', 'parameters', 'signature_name'"
                    ))));
                }
            };
            if !fresh {
                return Err(context.fail(Error::invalid(format!("key '{key}' is given twice"))));
            }
        }
        Ok(fields)
    }
}

/// Lets a visitor be handed to serde where a seed is wanted.
macro_rules! seeds {
    ($($seed:ty => $value:ty),* $(,)?) => {
        $(impl<'de> DeserializeSeed<'de> for $seed {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
                json.deserialize_any(self)
            }
        })*
    };
}

seeds! {
    Rows<'_> => Vec<NamedTensor>,
    Row<'_, '_> => (),
    Inputs<'_> => (Style, Vec<NamedTensor>),
    InputsItem<'_, '_> => Option<NamedTensor>,
    Outputs<'_> => Vec<String>,
    TimeoutSeed<'_> => u64,
    ParametersSeed<'_> => Parameters,
}

/// The list behind `instances`: each row adds one item to every input.
struct Rows<'c>(&'c Context<'c>);

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = Vec<NamedTensor>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("'instances' as a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<NamedTensor>, A::Error> {
        let Rows(context) = self;
        let inputs = &context.signature.inputs;
        let mut builders: Vec<_> = inputs
            .iter()
            .map(|input| TensorBuilder::new(&input.name, input.dtype))
            .collect();
        let mut index = 0;
        while list
            .next_element_seed(Row {
                context,
                builders: &mut builders,
                index,
            })?
            .is_some()
        {
            index += 1;
        }
        if index == 0 {
            return Err(context.fail(Error::invalid(
                "'instances' is empty; expected at least one row",
            )));
        }
        let tensors = builders.into_iter().map(|mut builder| {
            builder.close_outer_list(index)?;
            builder.finish()
        });
        context.check(tensors.collect())
    }
}

/// One row: an object with every input, or the bare value of the only one.
struct Row<'a, 'c> {
    context: &'c Context<'c>,
    builders: &'a mut [TensorBuilder<'c>],
    index: usize,
}

impl Row<'_, '_> {
    fn bare<'de, D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.builders {
            [builder] => builder.read(self.context, 1, json),
            _ => self
                .context
                .only_input(&format!("row {}", self.index))
                .map(|_| ()),
        }
    }
}

/// Hands every kind of scalar to one method that takes a deserializer.
macro_rules! forward_scalars {
    ($method:ident) => {
        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
            self.$method(value.into_deserializer())
        }

        fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
            self.$method(value.into_deserializer())
        }

        fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
            self.$method(value.into_deserializer())
        }

        fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
            self.$method(value.into_deserializer())
        }

        fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
            self.$method(value.into_deserializer())
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            self.$method(().into_deserializer())
        }
    };
}

impl<'de> Visitor<'de> for Row<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a row")
    }

    forward_scalars!(bare);

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        self.bare(SeqAccessDeserializer::new(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Row {
            context,
            builders,
            index,
        } = self;
        let inputs = &context.signature.inputs;
        let mut seen = vec![false; inputs.len()];
        while let Some(Text(key)) = map.next_key()? {
            let position = match is_base64(context, &key) {
                true => 0,
                false => context.check(context.signature.input_index(&key))?,
            };
            if std::mem::replace(&mut seen[position], true) {
                return Err(context.fail(Error::invalid(format!(
                    "row {index}: input '{key}' is given twice"
                ))));
            }
            match is_base64(context, &key) {
                true => read_base64(context, &mut builders[position], 1, &mut map)?,
                false => map.next_value_seed(Value {
                    context,
                    builder: &mut builders[position],
                    depth: 1,
                })?,
            }
        }
        match seen.iter().position(|seen| !seen) {
            None => Ok(()),
            Some(missing) => {
                let name = &inputs[missing].name;
                Err(context.fail(Error::invalid(format!(
                    "row {index}: input '{name}' is missing"
                ))))
            }
        }
    }
}

/// Whether an object with this key stands for one `BYTES` element of the only input, rather than for named inputs.
fn is_base64(context: &Context<'_>, key: &str) -> bool {
    match context.signature.inputs.as_slice() {
        [input] => key == "b64" && input.dtype == DataType::Bytes && input.name != key,
        _ => false,
    }
}

/// Reads the value behind the key `b64`, which has been read already, as one element.
fn read_base64<'de, A: MapAccess<'de>>(
    context: &Context<'_>,
    builder: &mut TensorBuilder<'_>,
    depth: usize,
    map: &mut A,
) -> Result<(), A::Error> {
    let Text(text) = map.next_value()?;
    builder.read(
        context,
        depth,
        MapDeserializer::new(std::iter::once(("b64", &*text))),
    )
}

/// One value for a builder.
struct Value<'a, 'n> {
    context: &'a Context<'a>,
    builder: &'a mut TensorBuilder<'n>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        self.builder.read(self.context, self.depth, json)
    }
}

/// What stands behind `inputs`: an object of columns, a list of tensor objects, or the only input's value.
struct Inputs<'c>(&'c Context<'c>);

impl Inputs<'_> {
    fn scalar<'de, D: Deserializer<'de>>(
        self,
        json: D,
    ) -> Result<(Style, Vec<NamedTensor>), D::Error> {
        let mut builder = self.0.only_input("'inputs'")?;
        builder.read(self.0, 0, json)?;
        let tensor = self.0.check(builder.finish())?;
        Ok((Style::Columns, vec![tensor]))
    }
}

impl<'de> Visitor<'de> for Inputs<'_> {
    type Value = (Style, Vec<NamedTensor>);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("'inputs' as a list of tensor objects, an object of columns, or nested lists")
    }

    forward_scalars!(scalar);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Inputs(context) = self;
        let inputs = &context.signature.inputs;
        let mut tensors: Vec<NamedTensor> = Vec::with_capacity(inputs.len());
        while let Some(Text(key)) = map.next_key()? {
            let of_only_input = is_base64(context, &key);
            let name = if of_only_input {
                inputs[0].name.as_str()
            } else {
                &*key
            };
            let input = context.check(context.signature.input(name))?;
            if tensors.iter().any(|tensor| tensor.name == input.name) {
                return Err(context.fail(Error::invalid(format!("input '{key}' is given twice"))));
            }
            let mut builder = TensorBuilder::new(&input.name, input.dtype);
            match of_only_input {
                true => read_base64(context, &mut builder, 0, &mut map)?,
                false => map.next_value_seed(Value {
                    context,
                    builder: &mut builder,
                    depth: 0,
                })?,
            }
            tensors.push(context.check(builder.finish())?);
        }
        Ok((Style::Columns, tensors))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let Inputs(context) = self;
        let most = context.signature.inputs.len();
        let (mut tensors, mut column, mut values) = (Vec::new(), None, 0);
        while let Some(tensor) = list.next_element_seed(InputsItem {
            context,
            column: &mut column,
        })? {
            match tensor {
                Some(tensor) => tensors.push(tensor),
                None => values += 1,
            }
            if values > 0 && !tensors.is_empty() {
                return Err(context.fail(Error::invalid(
                    "'inputs' mixes tensor objects with bare values",
                )));
            }
            if tensors.len() > most {
                let message =
                    format!("'inputs' has more tensors than the model has inputs, which is {most}");
                return Err(context.fail(Error::invalid(message)));
            }
        }
        let Some(mut builder) = column else {
            return Ok((Style::Protocol, tensors));
        };
        let tensor = context.check(
            builder
                .close_outer_list(values)
                .and_then(|()| builder.finish()),
        )?;
        Ok((Style::Columns, vec![tensor]))
    }
}

/// One item of a list behind `inputs`: a tensor object, or (as `None`) a value that went into the only input's column.
struct InputsItem<'a, 'c> {
    context: &'c Context<'c>,
    column: &'a mut Option<TensorBuilder<'c>>,
}

impl<'c> InputsItem<'_, 'c> {
    fn column<E: serde::de::Error>(&mut self) -> Result<&mut TensorBuilder<'c>, E> {
        match self.column {
            Some(builder) => Ok(builder),
            None => Ok(self.column.insert(self.context.only_input("'inputs'")?)),
        }
    }

    fn value<'de, D: Deserializer<'de>>(
        mut self,
        json: D,
    ) -> Result<Option<NamedTensor>, D::Error> {
        let context = self.context;
        self.column()?.read(context, 1, json).map(|()| None)
    }
}

impl<'de> Visitor<'de> for InputsItem<'_, '_> {
    type Value = Option<NamedTensor>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a tensor object or a value")
    }

    forward_scalars!(value);

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        self.value(SeqAccessDeserializer::new(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let context = self.context;
        let first = map.next_key::<Text<'_>>()?;
        match first {
            Some(Text(key)) if is_base64(context, &key) => {
                read_base64(context, self.column()?, 1, &mut map)?;
                match map.next_key::<Text<'_>>()? {
                    None => Ok(None),
                    Some(_) => Err(A::Error::custom("an object with b64 has no other key")),
                }
            }
            first => TensorObject { context }.read(first, map).map(Some),
        }
    }
}

/// One tensor of the Open Inference Protocol; its fields come in any order.
struct TensorObject<'c> {
    context: &'c Context<'c>,
}

#[derive(Default)]
struct TensorFields<'de, 'c> {
    name: Option<Cow<'de, str>>,
    shape: Option<Vec<i64>>,
    datatype: Option<DataType>,
    data: Option<Data<'de, 'c>>,
}

enum Data<'de, 'c> {
    /// Read already, since the name or the data type came first.
    Read(TensorBuilder<'c>),
    /// Kept as text until its data type is known.
    Raw(&'de RawValue),
}

impl<'c> TensorObject<'c> {
    fn read<'de, A: MapAccess<'de>>(
        self,
        first: Option<Text<'de>>,
        mut map: A,
    ) -> Result<NamedTensor, A::Error> {
        let TensorObject { context } = self;
        let mut fields = TensorFields::default();
        let mut next = first;
        while let Some(Text(key)) = next {
            let fresh = match &*key {
                "name" => fields
                    .name
                    .replace(map.next_value::<Text<'_>>()?.0)
                    .is_none(),
                "shape" => fields.shape.replace(map.next_value()?).is_none(),
                "datatype" => {
                    let datatype = context.check(datatype(&map.next_value::<Text<'_>>()?.0))?;
                    fields.datatype.replace(datatype).is_none()
                }
                "data" => {
                    let data = match self.known_type(&fields) {
                        Some(dtype) => {
                            let mut builder = TensorBuilder::new(self.known_name(&fields), dtype);
                            map.next_value_seed(Value {
                                context,
                                builder: &mut builder,
                                depth: 0,
                            })?;
                            Data::Read(builder)
                        }
                        None => Data::Raw(map.next_value()?),
                    };
                    fields.data.replace(data).is_none()
                }
                "parameters" => map.next_value::<IgnoredAny>().map(|_| true)?,
                other => {
                    return Err(context.fail(Error::invalid(format!(
                        "unknown key '{other}' in a tensor of 'inputs'; valid keys are 'name', 'shape', 'datatype', 'parameters', 'data'"
                    ))));
                }
            };
            if !fresh {
                return Err(context.fail(Error::invalid(format!(
                    "key '{key}' is given twice in a tensor of 'inputs'"
                ))));
            }
            next = map.next_key()?;
        }
        context.check(self.finish(fields))
    }

    fn known_type(&self, fields: &TensorFields<'_, '_>) -> Option<DataType> {
        let of_name = |name: &Cow<'_, str>| {
            self.context
                .signature
                .input(name)
                .ok()
                .map(|input| input.dtype)
        };
        fields
            .datatype
            .or_else(|| fields.name.as_ref().and_then(of_name))
    }

    /// The name for messages, which lives as long as the signature.
    fn known_name(&self, fields: &TensorFields<'_, '_>) -> &'c str {
        let input = fields
            .name
            .as_ref()
            .and_then(|name| self.context.signature.input(name).ok());
        input.map_or("of unknown name", |input| &input.name)
    }

    fn finish(&self, fields: TensorFields<'_, 'c>) -> Result<NamedTensor> {
        let context = self.context;
        let missing = |what: &str, of: &str| Error::invalid(format!("'{what}' is missing in {of}"));
        let Some(name) = fields.name.as_deref() else {
            return Err(missing("name", "a tensor of 'inputs'"));
        };
        let of = format!("input '{name}'");
        let input = context.signature.input(name)?;
        let datatype = fields.datatype.ok_or_else(|| missing("datatype", &of))?;
        if datatype != input.dtype {
            return Err(Error::invalid(format!(
                "{of}: expected datatype {}, got {datatype}",
                input.dtype
            )));
        }
        let shape = checked_shape(
            &of,
            fields
                .shape
                .as_deref()
                .ok_or_else(|| missing("shape", &of))?,
        )?;
        let builder = match fields.data {
            None => return Err(missing("data", &of)),
            Some(Data::Read(builder)) => builder,
            Some(Data::Raw(text)) => {
                let mut builder = TensorBuilder::new(&input.name, datatype);
                let mut json = serde_json::Deserializer::from_str(text.get());
                let read = builder.read(context, 0, &mut json);
                read.map_err(|error| {
                    context
                        .failure
                        .take()
                        .unwrap_or_else(|| Error::invalid(format!("{of}: {error}")))
                })?;
                builder
            }
        };
        let limit = context.limits.tensor_elements;
        if shape.elements() > limit {
            return Err(Error::too_large(format!(
                "{of}: shape {shape} has more than {limit} elements"
            )));
        }
        builder.finish_as(shape)
    }
}

fn datatype(name: &str) -> Result<DataType> {
    DataType::from_name(name).ok_or_else(|| {
        let names: Vec<_> = DataType::ALL.iter().map(|dtype| dtype.name()).collect();
        Error::invalid(format!(
            "unknown datatype '{name}'; valid ones are {}",
            names.join(", ")
        ))
    })
}

fn checked_shape(of: &str, dims: &[i64]) -> Result<Shape> {
    if dims.len() > MOST_DIMENSIONS {
        return Err(Error::invalid(format!(
            "{of}: a shape has at most {MOST_DIMENSIONS} dimensions, got {}",
            dims.len()
        )));
    }
    let lengths: Result<Vec<usize>, _> = dims.iter().map(|&dim| usize::try_from(dim)).collect();
    let lengths = lengths.map_err(|_| {
        Error::invalid(format!(
            "{of}: a shape has no negative dimensions, got {}",
            Dims(dims)
        ))
    })?;
    Shape::new(lengths)
        .map_err(|error| Error::too_large(format!("{of}: {}", error.public_message())))
}

/// The outputs that a protocol request asks for.
struct Outputs<'c>(&'c Context<'c>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestedOutput {
    name: String,
    #[serde(default, rename = "parameters")]
    _parameters: IgnoredAny,
}

impl<'de> Visitor<'de> for Outputs<'_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("'outputs' as a list of objects with a 'name'")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let Outputs(context) = self;
        let mut names: Vec<String> = Vec::new();
        while let Some(RequestedOutput { name, .. }) = list.next_element()? {
            context.check(context.signature.output(&name))?;
            if names.contains(&name) {
                return Err(context.fail(Error::invalid(format!(
                    "output '{name}' is asked for twice"
                ))));
            }
            names.push(name);
        }
        Ok(names)
    }
}

/// The request's `parameters`.
struct ParametersSeed<'c>(&'c Context<'c>);

impl<'de> Visitor<'de> for ParametersSeed<'_> {
    type Value = Parameters;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("'parameters' as an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
        let ParametersSeed(context) = self;
        let mut parameters = Parameters::default();
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "timeout" => {
                    parameters.timeout_us = Some(map.next_value_seed(TimeoutSeed(context))?)
                }
                "nan" => {
                    parameters.nan = match &*map.next_value::<Text<'_>>()?.0 {
                        "null" => NanForm::Null,
                        "token" => NanForm::Token,
                        other => {
                            let message = format!(
                                "parameter 'nan': expected 'null' or 'token', got '{other}'"
                            );
                            return Err(context.fail(Error::invalid(message)));
                        }
                    }
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(parameters)
    }
}

struct TimeoutSeed<'c>(&'c Context<'c>);

impl<'de> Visitor<'de> for TimeoutSeed<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("parameter 'timeout' as a whole number of microseconds")
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<u64, E> {
        match value {
            0 => Err(self.0.fail(Error::invalid(
                "parameter 'timeout': expected at least 1 microsecond, got 0",
            ))),
            value => Ok(value),
        }
    }
}
