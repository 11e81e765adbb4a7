//! A look over a message before it is decoded: an empty field takes two bytes on the wire and a hundred in memory, and a
//! message of nothing else would take gigabytes.

use tonic::Status;

/// More inputs, outputs and parameters than any model has.
const MOST_FIELDS: usize = 16 << 10;
/// Elements that come one by one, as strings do; more of them come raw.
const MOST_ELEMENTS: usize = 4 << 20;

/// Where the messages within a request are.
const INPUTS: u64 = 5;
const CONTENTS: u64 = 5;

/// Checks that a message is not made of more fields than it may; whether it is a message at all is not looked at.
pub fn check(message: &[u8]) -> Result<(), Status> {
    let mut inputs = Fields(message).bounded(MOST_FIELDS);
    inputs.try_for_each(|field| match field? {
        (INPUTS, input) => check_input(input),
        _ => Ok(()),
    })
}

fn check_input(input: &[u8]) -> Result<(), Status> {
    Fields(input)
        .bounded(MOST_FIELDS)
        .try_for_each(|field| match field? {
            (CONTENTS, contents) => {
                let mut elements = Fields(contents).bounded(MOST_ELEMENTS);
                elements.try_for_each(|element| element.map(|_| ()))
            }
            _ => Ok(()),
        })
}

/// The fields of a message by number, with what is in those that have a length; ends where they are malformed, which
/// the decoder will tell.
struct Fields<'m>(&'m [u8]);

type Field<'m> = (u64, &'m [u8]);

impl<'m> Fields<'m> {
    fn bounded(self, most: usize) -> impl Iterator<Item = Result<Field<'m>, Status>> {
        self.enumerate().map(move |(index, field)| match index < most {
            true => Ok(field),
            false => Err(Status::resource_exhausted(format!(
                "a message has more than {most} fields; many elements come in raw_input_contents"
            ))),
        })
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
    type Item = Field<'m>;

    fn next(&mut self) -> Option<Field<'m>> {
        let key = self.varint()?;
        let bytes = match key & 7 {
            0 => {
                self.varint()?;
                &[]
            }
            1 => self.bytes(8)?,
            2 => {
                let length = self.varint()?;
                self.bytes(length)?
            }
            5 => self.bytes(4)?,
            // Groups and what is no type: not in our messages.
            _ => return None,
        };
        Some((key >> 3, bytes))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::grpc::inference::model_infer_request::InferInputTensor;
    use crate::grpc::inference::{InferTensorContents, ModelInferRequest};

    fn of_inputs(count: usize) -> Vec<u8> {
        let request = ModelInferRequest {
            inputs: vec![InferInputTensor::default(); count],
            ..ModelInferRequest::default()
        };
        request.encode_to_vec()
    }

    fn of_strings(count: usize) -> Vec<u8> {
        let contents = InferTensorContents {
            bytes_contents: vec![bytes::Bytes::new(); count],
            fp32_contents: vec![0.5; 3],
            ..InferTensorContents::default()
        };
        let input = InferInputTensor {
            name: "x".to_owned(),
            shape: vec![-1, 300],
            contents: Some(contents),
            ..InferInputTensor::default()
        };
        let request = ModelInferRequest {
            model_name: "m".to_owned(),
            inputs: vec![InferInputTensor::default(), input],
            raw_input_contents: vec![vec![0xff; 300].into()],
            ..ModelInferRequest::default()
        };
        request.encode_to_vec()
    }

    #[test]
    fn a_message_of_too_many_fields_is_refused() {
        for (count, is_fine) in [(MOST_FIELDS, true), (MOST_FIELDS + 1, false)] {
            assert_eq!(check(&of_inputs(count)).is_ok(), is_fine, "{count}");
        }
        // Beside the strings there is one field, of packed numbers.
        for (count, is_fine) in [(MOST_ELEMENTS - 1, true), (MOST_ELEMENTS, false)] {
            assert_eq!(check(&of_strings(count)).is_ok(), is_fine, "{count}");
        }
    }

    #[test]
    fn what_is_no_message_is_left_to_the_decoder() {
        for bytes in [&b""[..], &[0xff; 20], &[0x2a, 0x7f], &[0x2a], &[0x0b, 0x0c]] {
            assert!(check(bytes).is_ok(), "{bytes:?}");
        }
    }
}
