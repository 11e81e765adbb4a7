//! Small fields of a request, read by seeds that know the field's name, so that an error tells it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use super::values::seeds;

/// A JSON string, borrowed from the body where it has no escapes.
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        TextField("a key").deserialize(json).map(Text)
    }
}

seeds! {
    TextField => Cow<'de, str>,
    WholeNumberField => i64,
    WholeNumbersField => Vec<i64>,
}

/// The string in the field of this name.
pub struct TextField(pub &'static str);

impl<'de> Visitor<'de> for TextField {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as a string", self.0)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// The list of whole numbers in the field of this name.
pub struct WholeNumbersField(pub &'static str);

impl<'de> Visitor<'de> for WholeNumbersField {
    type Value = Vec<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as a list of whole numbers", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<i64>, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = list.next_element_seed(WholeNumberField(self.0))? {
            numbers.push(number);
        }
        Ok(numbers)
    }
}

/// What the seed reads, or nothing where there is `null`.
pub struct UnlessNull<S>(pub S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for UnlessNull<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for UnlessNull<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(json).map(Some)
    }
}

struct WholeNumberField(&'static str);

impl Visitor<'_> for WholeNumberField {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as a list of whole numbers", self.0)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<i64, E> {
        Ok(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<i64, E> {
        number
            .try_into()
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self))
    }
}
