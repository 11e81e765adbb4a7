//! A look over an inference request before it is decoded: an empty field takes two bytes on the wire and up to three
//! hundred in memory, a packed number one and eight, and a message of nothing else would take gigabytes.
//!
//! What is malformed is refused here too: the decoder would read some of it otherwise than it was counted.

use tonic::Status;

/// More than any model's inputs, outputs, dimensions and parameters take together.
const MOST_FIELDS: usize = 32 << 10;
/// Numbers that come one by one, in eight bytes each; more of them come raw.
const MOST_ELEMENTS: usize = 16 << 20;
/// Strings that come one by one, in 32 bytes each beside their own.
const MOST_STRINGS: usize = 4 << 20;

/// Checks that a request is not made of more than it may be.
pub fn check(request: &[u8]) -> Result<(), Status> {
    let mut room = Room {
        fields: MOST_FIELDS,
        elements: MOST_ELEMENTS,
        strings: MOST_STRINGS,
    };
    room.request(request)
}

/// What may still come.
struct Room {
    fields: usize,
    elements: usize,
    strings: usize,
}

/// Each message with the numbers that its fields have in `inference.proto`.
impl Room {
    fn request(&mut self, request: &[u8]) -> Result<(), Status> {
        for field in Fields(request) {
            self.take_fields(1)?;
            match field? {
                (5, Value::Bytes(input)) => self.input(input)?,
                (6, Value::Bytes(output)) => self.output(output)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn input(&mut self, input: &[u8]) -> Result<(), Status> {
        for field in Fields(input) {
            self.take_fields(1)?;
            match field? {
                (3, Value::Bytes(shape)) => self.take_fields(varints(shape))?,
                (5, Value::Bytes(contents)) => self.contents(contents)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn output(&mut self, output: &[u8]) -> Result<(), Status> {
        for field in Fields(output) {
            field?;
            self.take_fields(1)?;
        }
        Ok(())
    }

    fn contents(&mut self, contents: &[u8]) -> Result<(), Status> {
        for field in Fields(contents) {
            let count = match field? {
                (1..=5, Value::Bytes(packed)) => varints(packed),
                (6, Value::Bytes(packed)) => packed.len() / size_of::<f32>(),
                (7, Value::Bytes(packed)) => packed.len() / size_of::<f64>(),
                (8, _) => {
                    take(&mut self.strings, 1, MOST_STRINGS, "strings")?;
                    1
                }
                _ => 1,
            };
            take(&mut self.elements, count, MOST_ELEMENTS, "elements")?;
        }
        Ok(())
    }

    fn take_fields(&mut self, count: usize) -> Result<(), Status> {
        take(&mut self.fields, count, MOST_FIELDS, "fields")
    }
}

fn take(room: &mut usize, count: usize, most: usize, what: &str) -> Result<(), Status> {
    *room = room.checked_sub(count).ok_or_else(|| {
        Status::resource_exhausted(format!(
            "a message has more than {most} {what}; many elements come in raw_input_contents"
        ))
    })?;
    Ok(())
}

/// How many numbers of varying length there are: each ends with the one byte that has no high bit.
fn varints(packed: &[u8]) -> usize {
    packed.iter().filter(|byte| **byte < 0x80).count()
}

/// The fields of a message by number; what is malformed is the last.
struct Fields<'m>(&'m [u8]);

enum Value<'m> {
    Number,
    /// Text, bytes, packed numbers or a message.
    Bytes(&'m [u8]),
}

impl<'m> Fields<'m> {
    fn field(&mut self) -> Option<(u64, Value<'m>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => self.varint().map(|_| Value::Number),
            1 => self.bytes(8).map(|_| Value::Number),
            2 => {
                let length = self.varint()?;
                self.bytes(length).map(Value::Bytes)
            }
            5 => self.bytes(4).map(|_| Value::Number),
            // Groups and what is no type: not in our messages.
            _ => None,
        };
        Some((key >> 3, value?))
    }

    fn varint(&mut self) -> Option<u64> {
        let length = self.0.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        let bits = bytes.iter().rev();
        Some(bits.fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)))
    }

    fn bytes(&mut self, length: u64) -> Option<&'m [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }
}

impl<'m> Iterator for Fields<'m> {
    type Item = Result<(u64, Value<'m>), Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| Status::internal("the message is malformed")))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tonic::Code;

    use super::*;
    use crate::grpc::inference::model_infer_request::{
        InferInputTensor, InferRequestedOutputTensor,
    };
    use crate::grpc::inference::{InferParameter, InferTensorContents, ModelInferRequest};

    const FIELDS: usize = 400;
    const ELEMENTS: usize = 200;
    const STRINGS: usize = 100;

    #[track_caller]
    fn check_code(request: &ModelInferRequest, code: Code) {
        let mut room = Room {
            fields: FIELDS,
            elements: ELEMENTS,
            strings: STRINGS,
        };
        let refused = room.request(&request.encode_to_vec()).err();
        assert_eq!(refused.map_or(Code::Ok, |status| status.code()), code);
    }

    /// Checks that `of` so many is fine, and one more is not.
    #[track_caller]
    fn check_most(most: usize, of: impl Fn(usize) -> ModelInferRequest) {
        check_code(&of(most), Code::Ok);
        check_code(&of(most + 1), Code::ResourceExhausted);
    }

    fn of_inputs(inputs: Vec<InferInputTensor>) -> ModelInferRequest {
        ModelInferRequest {
            inputs,
            ..ModelInferRequest::default()
        }
    }

    fn of_contents(contents: InferTensorContents) -> ModelInferRequest {
        of_inputs(vec![InferInputTensor {
            contents: Some(contents),
            ..InferInputTensor::default()
        }])
    }

    fn parameters(count: usize) -> std::collections::HashMap<String, InferParameter> {
        let parameter = |index: usize| (index.to_string(), InferParameter::default());
        (0..count).map(parameter).collect()
    }

    #[test]
    fn a_request_of_too_many_fields_is_refused_wherever_they_are() {
        check_most(FIELDS, |count| {
            of_inputs(vec![InferInputTensor::default(); count])
        });
        check_most(FIELDS, |count| ModelInferRequest {
            outputs: vec![InferRequestedOutputTensor::default(); count],
            ..ModelInferRequest::default()
        });
        check_most(FIELDS, |count| ModelInferRequest {
            raw_input_contents: vec![bytes::Bytes::new(); count],
            ..ModelInferRequest::default()
        });
        check_most(FIELDS, |count| ModelInferRequest {
            parameters: parameters(count),
            ..ModelInferRequest::default()
        });
        // The input or output takes one itself, and the shape one.
        check_most(FIELDS - 1, |count| {
            of_inputs(vec![InferInputTensor {
                parameters: parameters(count),
                ..InferInputTensor::default()
            }])
        });
        check_most(FIELDS - 1, |count| ModelInferRequest {
            outputs: vec![InferRequestedOutputTensor {
                parameters: parameters(count),
                ..InferRequestedOutputTensor::default()
            }],
            ..ModelInferRequest::default()
        });
        check_most(FIELDS - 2, |count| {
            of_inputs(vec![InferInputTensor {
                shape: vec![300; count],
                ..InferInputTensor::default()
            }])
        });
    }

    #[test]
    fn a_request_of_too_many_elements_is_refused() {
        check_most(STRINGS, |count| {
            of_contents(InferTensorContents {
                bytes_contents: vec![bytes::Bytes::new(); count],
                ..InferTensorContents::default()
            })
        });
        check_most(ELEMENTS, |count| {
            of_contents(InferTensorContents {
                int64_contents: vec![1; count],
                ..InferTensorContents::default()
            })
        });
        check_most(ELEMENTS, |count| {
            of_contents(InferTensorContents {
                fp32_contents: vec![0.5; count],
                ..InferTensorContents::default()
            })
        });
        // All inputs count, and contents in several parts: the decoder joins them.
        let half = InferTensorContents {
            bool_contents: vec![true; ELEMENTS / 2 + 1],
            ..InferTensorContents::default()
        };
        let input = InferInputTensor {
            contents: Some(half),
            ..InferInputTensor::default()
        };
        check_code(&of_inputs(vec![input.clone()]), Code::Ok);
        check_code(&of_inputs(vec![input; 2]), Code::ResourceExhausted);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let group_then_inputs = [0x0b, 0x0c, 0x2a, 0x00];
        let beyond_its_input = [0x2a, 0x02, 0x2a, 0x04, 0x42, 0x00, 0x42, 0x00];
        for bytes in [
            &[0xff; 20][..],
            &[0x2a, 0x7f],
            &[0x2a],
            &group_then_inputs,
            &beyond_its_input,
        ] {
            let refused = check(bytes).expect_err("it is malformed");
            assert_eq!(refused.code(), Code::Internal, "{bytes:?}");
        }
        assert!(check(&[]).is_ok());
    }
}
