//! One tensor of the Open Inference Protocol, whose fields come in any order.

use std::borrow::Cow;

use serde::de::MapAccess;
use serde_json::value::RawValue;

use super::fields::{TextField, UnlessNull, WholeNumbersField};
use super::parameters::ParametersSeed;
use super::values::Value;
use super::{Context, Text};
use crate::error::{Error, Result};
use crate::oip::elements::TensorBuilder;
use crate::oip::parameters::InputParameters;
use crate::tensor::dtype::DataType;
use crate::tensor::raw::{Described, data_type};
use crate::tensor::value::NamedTensor;

/// One tensor of the Open Inference Protocol; its fields come in any order.
pub struct TensorObject<'c> {
    pub context: &'c Context<'c>,
}

#[derive(Default)]
struct TensorFields<'de, 'c> {
    name: Option<Cow<'de, str>>,
    shape: Option<Vec<i64>>,
    datatype: Option<DataType>,
    data: Option<Data<'de, 'c>>,
    parameters: Option<InputParameters>,
}

enum Data<'de, 'c> {
    /// Read already, since the name or the data type came first.
    Read(TensorBuilder<'c>),
    /// Kept as text until its data type is known.
    Raw(&'de RawValue),
}

impl<'c> TensorObject<'c> {
    /// Reads the rest of an object whose first key was read already.
    pub fn read<'de, A: MapAccess<'de>>(
        self,
        first: Option<Text<'de>>,
        mut map: A,
    ) -> Result<NamedTensor, A::Error> {
        let TensorObject { context } = self;
        let mut fields = TensorFields::default();
        let mut next = first;
        while let Some(Text(key)) = next {
            let fresh = match &*key {
                "name" => {
                    let name = map.next_value_seed(TextField("'name' in 'inputs'"))?;
                    fields.name.replace(name).is_none()
                }
                "shape" => {
                    let shape = map.next_value_seed(WholeNumbersField("'shape' in 'inputs'"))?;
                    fields.shape.replace(shape).is_none()
                }
                "datatype" => {
                    let name = map.next_value_seed(TextField("'datatype' in 'inputs'"))?;
                    let datatype = context.check(data_type(fields.name.as_deref(), &name))?;
                    fields.datatype.replace(datatype).is_none()
                }
                "data" => {
                    let data = match self.known_type(&fields) {
                        Some(dtype) => {
                            let mut builder = TensorBuilder::new(self.known_name(&fields), dtype);
                            let value = Value {
                                context,
                                builder: &mut builder,
                                depth: 0,
                            };
                            let read = map.next_value_seed(UnlessNull(value))?;
                            read.map(|()| Data::Read(builder))
                        }
                        None => map.next_value::<Option<&RawValue>>()?.map(Data::Raw),
                    };
                    // KServe's client writes null where raw bytes follow of which there are none.
                    data.is_none_or(|data| fields.data.replace(data).is_none())
                }
                "parameters" => {
                    let parameters = map.next_value_seed(ParametersSeed::new(context))?;
                    fields.parameters.replace(parameters).is_none()
                }
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
        let spec = context.signature.input(name)?;
        let datatype = fields.datatype.ok_or_else(|| missing("datatype", &of))?;
        let dims = fields.shape.ok_or_else(|| missing("shape", &of))?;
        let described = Described::new(spec, datatype, &dims)?;
        let limit = context.limits.tensor_elements;
        let size = fields.parameters.and_then(|read| read.binary_data_size);
        let builder = match (fields.data, size) {
            (None, Some(size)) => {
                return described.raw(context.take_binary(&of, size)?, limit);
            }
            (Some(Data::Read(builder)), None) => builder.named(&spec.name),
            (Some(Data::Raw(text)), None) => {
                let mut builder = TensorBuilder::new(&spec.name, datatype);
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
            (None, None) => return Err(missing("data", &of)),
            (Some(_), Some(_)) => {
                return Err(Error::invalid(format!(
                    "{of}: expected one of 'data' and parameter 'binary_data_size', got both"
                )));
            }
        };
        builder.finish_as(described.bounded(limit)?.shape().clone())
    }
}
