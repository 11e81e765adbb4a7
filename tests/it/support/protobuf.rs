//! Protobuf's wire format without a schema: the fields of a message, read, changed and written back.
//! <https://protobuf.dev/programming-guides/encoding/>

/// One field: its number and what it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub number: u64,
    pub value: Value,
}

/// A field's value by its wire type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    /// Text, bytes, a packed list or a message: the format does not tell.
    Bytes(Vec<u8>),
    Fixed32([u8; 4]),
}

impl Value {
    /// Puts a number into the value, whatever it is.
    pub fn set(&mut self, number: u64) {
        let bytes = number.to_le_bytes();
        match self {
            Value::Varint(value) => *value = number,
            Value::Fixed64(value) => *value = bytes,
            Value::Fixed32(value) => value.copy_from_slice(&bytes[..4]),
            Value::Bytes(value) => {
                let length = value.len().min(bytes.len());
                value[..length].copy_from_slice(&bytes[..length]);
            }
        }
    }
}

impl Field {
    /// The fields of a message, if the bytes are one.
    pub fn read_all(mut bytes: &[u8]) -> Option<Vec<Field>> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = read_varint(&mut bytes)?;
            let value = match key & 7 {
                0 => Value::Varint(read_varint(&mut bytes)?),
                1 => Value::Fixed64(take(&mut bytes, 8)?.try_into().ok()?),
                2 => {
                    let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
                    Value::Bytes(take(&mut bytes, length)?.to_vec())
                }
                5 => Value::Fixed32(take(&mut bytes, 4)?.try_into().ok()?),
                _ => return None,
            };
            fields.push(Field {
                number: key >> 3,
                value,
            });
        }
        Some(fields)
    }

    /// The message that these fields make.
    pub fn write_all(fields: &[Field]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for Field { number, value } in fields {
            let mut key = |wire_type| write_varint(&mut bytes, number << 3 | wire_type);
            match value {
                Value::Varint(value) => {
                    key(0);
                    write_varint(&mut bytes, *value);
                }
                Value::Fixed64(value) => {
                    key(1);
                    bytes.extend_from_slice(value);
                }
                Value::Bytes(value) => {
                    key(2);
                    write_varint(&mut bytes, value.len() as u64);
                    bytes.extend_from_slice(value);
                }
                Value::Fixed32(value) => {
                    key(5);
                    bytes.extend_from_slice(value);
                }
            }
        }
        bytes
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[test]
fn a_message_is_written_as_it_was_read() {
    let bytes =
        std::fs::read(super::in_repository("models/iris/2/model.onnx")).expect("the bundled model");
    let fields = Field::read_all(&bytes).expect("it is a message");
    assert_eq!(Field::write_all(&fields), bytes);
}
