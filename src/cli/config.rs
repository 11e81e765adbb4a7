//! `onnxd config`: the effective configuration, as a file that would give the same.

use std::process::ExitCode;

use super::{Settings, report_problems};
use crate::config::keys::KEYS;
use crate::config::{load, validate};

/// Prints every key with its value and where that came from.
pub fn run(settings: Settings) -> ExitCode {
    let checked = load::merge(&settings.sources())
        .and_then(|merged| validate::check(&merged).map(|_| merged));
    let merged = match checked {
        Ok(merged) => merged,
        Err(problems) => return report_problems(&problems),
    };
    let mut section = "";
    for key in KEYS {
        let Some((of, name)) = key.name.split_once('.') else {
            continue;
        };
        if of != section {
            println!("{}[{of}]", if section.is_empty() { "" } else { "\n" });
            section = of;
        }
        let setting = &merged[key.name];
        let comment = if setting.text.is_empty() { "# " } else { "" };
        println!(
            "{comment}{name} = {}  # {}",
            toml_value(&setting.text),
            setting.origin
        );
    }
    ExitCode::SUCCESS
}

/// Text in quotes is written alike in TOML and JSON.
fn toml_value(text: &str) -> String {
    match (text.parse::<i64>(), text.parse::<bool>()) {
        // Printed anew: TOML has no leading zeros.
        (Ok(number), _) => number.to_string(),
        (_, Ok(value)) => value.to_string(),
        _ => serde_json::Value::from(text).to_string(),
    }
}
