//! Reads numbers with units, as people write them in a configuration.

/// Bytes from `1048576` or from a whole number with `KiB`, `MiB` or `GiB`.
pub fn parse_bytes(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: usize = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    digits.trim_end().parse::<usize>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_and_without_a_unit() {
        assert_eq!(parse_bytes("1024"), Some(1024));
        assert_eq!(parse_bytes("64MiB"), Some(64 << 20));
        assert_eq!(parse_bytes("1 GiB"), Some(1 << 30));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "MiB",
            "64MB",
            "-1",
            "1.5MiB",
            "99999999999999999999",
            "18446744073709551615KiB",
        ] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }
}
