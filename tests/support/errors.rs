//! The table of errors as the product promises it (section 3.3): code, text, whether a retry may help.
use serde_json::Value;

const ERRORS: [(&str, &str, bool); 20] = [
    ("unknown_type", "Unknown message type", false),
    ("invalid_format", "Invalid message format", false),
    ("invalid_argument", "Invalid field", false),
    ("auth_required", "Authentication token required", false),
    ("auth_failed", "Authentication failed", false),
    ("forbidden", "Not allowed", false),
    ("not_found", "Not found", false),
    ("conflict", "Already used with other content", false),
    ("access_denied", "Access denied to room", false),
    ("not_in_room", "You are not in this room", false),
    ("empty_message", "Message cannot be empty", false),
    ("message_too_long", "Message too long", false),
    ("type_not_allowed", "Type not allowed", false),
    ("limit_reached", "Limit reached", false),
    ("rate_limited", "Rate limit exceeded. Please slow down.", true),
    ("slow_mode", "Slow mode is on", true),
    ("overloaded", "Server busy", true),
    ("join_failed", "Failed to join room", true),
    ("send_failed", "Failed to send message", true),
    ("internal", "Internal error", true),
];

/// Asserts that `error` is one of the table, whole and with nothing besides (R-ENV-2), and returns its code.
pub fn check_error(error: &Value) -> &str {
    let code = error["code"].as_str().unwrap_or_else(|| panic!("no code: {error}"));
    let (_, text, is_retryable) =
        ERRORS.iter().find(|(known, ..)| *known == code).unwrap_or_else(|| panic!("not in the table: {error}"));
    assert_eq!(error["message"], *text, "{error}");
    assert_eq!(error["retryable"], *is_retryable, "{error}");
    let has = |name: &str| error.get(name).is_some();
    assert_eq!(has("field"), code == "invalid_argument", "{error}");
    assert_eq!(has("type"), code == "unknown_type", "{error}");
    assert_eq!(has("retryAfterMs"), ["rate_limited", "slow_mode", "overloaded"].contains(&code), "{error}");
    assert!(!has("retryAfterMs") || error["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0), "{error}");
    let known = ["code", "message", "retryable", "requestId", "field", "type", "retryAfterMs"];
    assert!(error.as_object().unwrap().keys().all(|key| known.contains(&&**key)), "{error}");
    code
}
