//! A page of a store's listing, before the client's library reads it.
//!
//! Invariant: a page that is cut off is an error and never a short page, and one object with a name that the library
//! cannot hold is left out instead of failing the whole listing.

use object_store::path::Path;

/// The words of a store's listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// S3, and GCS in the same words.
    S3,
    Azure,
    WebDav,
}

/// A page that is whole, without the names that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    pub text: String,
    pub passed_over: Vec<String>,
}

/// Checks a page and leaves out what cannot be read.
pub fn check(text: &str, dialect: Dialect) -> Result<Page, String> {
    let (root, entry, key) = match dialect {
        Dialect::S3 => ("ListBucketResult>", "Contents", "Key"),
        Dialect::Azure => ("EnumerationResults>", "Blob", "Name"),
        Dialect::WebDav => ("multistatus>", "", ""),
    };
    let is_whole = text
        .trim_end()
        .rsplit_once("</")
        .is_some_and(|(_, end)| end.ends_with(root));
    if !is_whole {
        return Err("the listing is cut off".to_owned());
    }
    if element(text, "IsTruncated") == Some("true")
        && element(text, "NextContinuationToken").unwrap_or_default() == ""
    {
        return Err("the listing says that it goes on and not where".to_owned());
    }
    let whole = Page {
        text: text.to_owned(),
        passed_over: Vec::new(),
    };
    match dialect {
        Dialect::S3 | Dialect::Azure => leave_out_unreadable(text, entry, key),
        Dialect::WebDav => Ok(whole),
    }
}

fn leave_out_unreadable(text: &str, entry: &str, key: &str) -> Result<Page, String> {
    let (open, close) = (format!("<{entry}>"), format!("</{entry}>"));
    let mut page = Page {
        text: String::with_capacity(text.len()),
        passed_over: Vec::new(),
    };
    let mut rest = text;
    while let Some(start) = rest.find(&open) {
        let end = rest[start..]
            .find(&close)
            .map(|end| start + end + close.len())
            .ok_or("the listing is cut off")?;
        page.text.push_str(&rest[..start]);
        let object = &rest[start..end];
        match element(object, key).map(unescaped) {
            Some(Some(name)) if name.ends_with('/') => {}
            Some(Some(name)) if Path::parse(&name).is_ok() => page.text.push_str(object),
            Some(Some(name)) => page.passed_over.push(name),
            _ => page
                .passed_over
                .push("a name that is no text (encoded)".to_owned()),
        }
        rest = &rest[end..];
    }
    page.text.push_str(rest);
    Ok(page)
}

/// The text of the first element of this name without attributes.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let start = text.find(&format!("<{name}>"))? + name.len() + 2;
    let length = text[start..].find(&format!("</{name}>"))?;
    Some(&text[start..start + length])
}

/// What escapes in XML stand for; `None` for one that stands for nothing.
fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        plain.push_str(&rest[..start]);
        let length = rest[start..].find(';')?;
        let name = &rest[start + 1..start + length];
        plain.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            name => {
                let code = name.strip_prefix('#')?;
                let code = match code.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => code.parse().ok()?,
                };
                char::from_u32(code)?
            }
        });
        rest = &rest[start + length + 1..];
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(keys: &[&str], end: &str) -> String {
        let objects = keys
            .iter()
            .map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>"));
        format!(
            "<?xml version=\"1.0\"?>\n<ListBucketResult><IsTruncated>false</IsTruncated>{}{end}",
            objects.collect::<String>()
        )
    }

    #[test]
    fn names_that_cannot_be_read_are_left_out_and_told() {
        let text = s3(
            &["a/model.onnx", "a//b", "a/../b", "a/", "x&amp;y", "a/&#1;"],
            "</ListBucketResult>",
        );
        let page = check(&text, Dialect::S3).expect("it is whole");
        assert_eq!(
            page.text,
            s3(&["a/model.onnx", "x&amp;y"], "</ListBucketResult>")
        );
        assert_eq!(page.passed_over, ["a//b", "a/../b", "a/\u{1}"]);
    }

    #[test]
    fn a_page_that_is_cut_off_is_an_error_wherever_it_is_cut() {
        let text = s3(&["a", "b"], "</ListBucketResult>");
        for length in 0..text.len() {
            check(&text[..length], Dialect::S3).expect_err(&text[..length]);
        }
        check(&text, Dialect::S3).expect("it is whole");
        check(&text, Dialect::Azure).expect_err("other words");
        check("<D:multistatus></D:multistatus>\n", Dialect::WebDav).expect("it is whole");
        check("<D:multistatus></D:response>", Dialect::WebDav).expect_err("it is cut off");
    }

    #[test]
    fn a_page_that_goes_on_says_where() {
        let page = |token: &str| {
            format!("<ListBucketResult><IsTruncated>true</IsTruncated>{token}</ListBucketResult>")
        };
        check(&page(""), Dialect::S3).expect_err("nowhere");
        let token = "<NextContinuationToken>t</NextContinuationToken>";
        check(&page(token), Dialect::S3).expect("it says where");
    }

    #[test]
    fn azure_has_words_of_its_own() {
        let text = "<EnumerationResults><Blobs><Blob><Name>a//b</Name></Blob><Blob><Name>c</Name></Blob></Blobs></EnumerationResults>";
        let page = check(text, Dialect::Azure).expect("it is whole");
        assert_eq!(page.passed_over, ["a//b"]);
        assert!(page.text.contains("<Name>c</Name>") && !page.text.contains("a//b"));
    }
}
