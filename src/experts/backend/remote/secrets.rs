//! The API key and further headers, which are read from files.

use std::fs;
use std::path::Path;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use crate::experts::error::{Misfit, PanelError};
use crate::experts::manifest::remote::Endpoint;
use crate::http;

/// The greatest size of a secret, in bytes.
const MAX_SECRET: u64 = 16 << 10;

/// Reads a file of one line.
fn read(path: &Path, field: &str) -> Result<String, PanelError> {
    let error = |reason: String| PanelError::File { path: path.to_owned(), field: field.to_owned(), reason };
    let size = fs::metadata(path).map_err(|failed| error(failed.to_string()))?.len();
    if size > MAX_SECRET {
        return Err(error(format!("it has {size} bytes, more than {MAX_SECRET}")));
    }
    let text = fs::read_to_string(path).map_err(|failed| error(failed.to_string()))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(error("it is empty".to_owned()));
    }
    Ok(text.to_owned())
}

/// A value that is never printed.
fn sensitive(id: &str, field: &'static str, value: &str) -> Result<HeaderValue, PanelError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        Misfit::new(field, "the file's content cannot be a header", "put one line of text there").of(id)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The headers of every request.
pub(super) fn headers(id: &str, endpoint: &Endpoint) -> Result<HeaderMap, PanelError> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(http::USER_AGENT));
    for (name, path) in &endpoint.headers {
        let field = "endpoint.headers";
        let known = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            Misfit::new(field, format!("{name:?} is not the name of a header"), "correct it").of(id)
        })?;
        headers.insert(known, sensitive(id, field, &read(path, &format!("endpoint.headers.{name}"))?)?);
    }
    if let Some(path) = &endpoint.key_file {
        let field = "endpoint.key_file";
        let key = format!("Bearer {}", read(path, field)?);
        headers.insert(AUTHORIZATION, sensitive(id, field, &key)?);
    }
    Ok(headers)
}
