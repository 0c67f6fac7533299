//! What the box's API told, made fit for a terminal.

use serde_json::Value;

/// A text or a number, without what could play tricks with the terminal; nothing for anything else.
pub(crate) fn word(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    text.chars().filter(|c| !c.is_control()).collect()
}

/// The items of a list; none of anything else.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
