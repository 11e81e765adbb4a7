//! CSV, as another spelling of the rows style.

use std::fmt::Write;

use serde::de::IgnoredAny;

use super::collect::no_room;
use crate::error::{Error, Result};

/// About the most that rows take: lines of one digit become twice as long.
pub fn most_as_rows(csv: &[u8]) -> usize {
    2 * csv.len() + 32
}

/// Lines of numbers, as SageMaker's own serializer writes them, as the rows style's JSON.
pub fn as_rows(csv: &[u8]) -> Result<String> {
    let most = most_as_rows(csv);
    let csv = std::str::from_utf8(csv).map_err(|_| Error::invalid("the CSV is not UTF-8"))?;
    let mut json = String::new();
    json.try_reserve_exact(most).map_err(no_room)?;
    json.push_str("{\"instances\":[");
    for (index, line) in csv.trim_end().lines().enumerate() {
        json.push_str(if index > 0 { ",[" } else { "[" });
        for (column, cell) in line.split(',').enumerate() {
            if column > 0 {
                json.push(',');
            }
            push_number(&mut json, cell.trim()).ok_or_else(|| unreadable(index, column, cell))?;
        }
        json.push(']');
    }
    json.push_str("]}");
    Ok(json)
}

/// Writes a number as JSON has it: CSV is also written with `.5`, `1.` or `+1`.
fn push_number(json: &mut String, cell: &str) -> Option<()> {
    let value = cell.parse::<f64>().ok()?;
    if serde_json::from_str::<IgnoredAny>(cell).is_ok() {
        json.push_str(cell);
    } else if value.is_finite() {
        // Writing into memory does not fail.
        write!(json, "{value:?}").ok()?;
    } else if value.is_nan() {
        json.push_str("NaN");
    } else if cell.trim_start_matches(['+', '-']).starts_with(['i', 'I']) {
        json.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        // Digits that are too large: the reader of JSON says so.
        json.push_str(cell);
    }
    Some(())
}

fn unreadable(row: usize, column: usize, cell: &str) -> Error {
    Error::invalid(format!(
        "text/csv: expected numbers separated by commas and no header, got '{cell}' in row {row}, column {column}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(csv: &str, json: &str) {
        assert_eq!(as_rows(csv.as_bytes()).as_deref().ok(), Some(json), "{csv}");
    }

    #[test]
    fn lines_become_rows() {
        check(
            "1,2.50,-3e4\n4,5,6\n",
            r#"{"instances":[[1,2.50,-3e4],[4,5,6]]}"#,
        );
        check("1, 2\r\n3 ,4", r#"{"instances":[[1,2],[3,4]]}"#);
        check("7", r#"{"instances":[[7]]}"#);
        check("", r#"{"instances":[]}"#);
    }

    #[test]
    fn numbers_are_read_as_other_tools_write_them() {
        check(".5,1.,+1,007", r#"{"instances":[[0.5,1.0,1.0,7.0]]}"#);
        check(
            "nan,inf,-Infinity",
            r#"{"instances":[[NaN,Infinity,-Infinity]]}"#,
        );
        check("9007199254740993", r#"{"instances":[[9007199254740993]]}"#);
    }

    #[test]
    fn what_is_no_number_is_told() {
        for csv in ["1,a", "1,", "1,\"2\"", "0x10,0"] {
            assert!(as_rows(csv.as_bytes()).is_err(), "{csv}");
        }
        let error = as_rows(b"1,2\nsepal,3").expect_err("a word");
        assert_eq!(
            error.public_message(),
            "text/csv: expected numbers separated by commas and no header, got 'sepal' in row 1, column 0"
        );
    }
}
