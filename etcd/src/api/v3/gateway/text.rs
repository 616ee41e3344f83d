//! JSON texts of the gateway.

use serde_json::value::RawValue;
use tonic::Code;

use crate::go_json;

/// The JSON values in a body, one after the other; an error ends them. Its text is that of Go's library.
pub(super) fn values(body: &str) -> impl Iterator<Item = Result<&str, String>> {
    let mut values = serde_json::Deserializer::from_str(body).into_iter::<&RawValue>();
    std::iter::from_fn(move || {
        let value = values.next()?;
        Some(value.map(RawValue::get).map_err(|error| go_json::stream_error(body.as_bytes(), &error)))
    })
    .fuse()
}

/// Appends an error: its code and its message.
pub(super) fn write_error(code: Code, message: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"code\":{},\"message\":", i32::from(code)).as_bytes());
    // A string can always be written to memory.
    let _ = serde_json::to_writer(&mut *out, message);
    out.push(b'}');
}
