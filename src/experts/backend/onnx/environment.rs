//! The environment of ONNX Runtime, of which a process has one.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::experts::error::PanelError;
use crate::panics::contain;

/// The environment variable that turns ONNX Runtime's telemetry off. Microsoft's packages for Linux and macOS since 1.29 send
/// events about the process, its models and its hardware to Microsoft, and keep them and an identifier of the machine in the
/// user's cache folder. What the runtime's interface turns off comes too late: the first event is sent before it.
pub const RUNTIME_TELEMETRY_OFF: &str = "ORT_DISABLE_TELEMETRY";

/// The environment, with the path of its library. ort allows one per process, for the life of the process.
static ENVIRONMENT: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Loads ONNX Runtime's library, or returns the environment that is loaded already. A process has one of them.
///
/// # Errors
/// Returns an error if the library cannot be loaded, or if the process has already loaded another one.
pub fn environment(library: &Path) -> Result<Environment, PanelError> {
    let refuse = |reason: String| PanelError::Runtime { path: library.to_owned(), reason };
    // The loader would search for a relative name beside the executable.
    let path = library.canonicalize().map_err(|error| refuse(error.to_string()))?;
    let mut held = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((loaded, environment)) = held.as_ref() {
        if *loaded == path {
            return Ok(environment.clone());
        }
        return Err(refuse(format!("this process has already loaded {}", loaded.display())));
    }
    if env::var_os(RUNTIME_TELEMETRY_OFF).is_none() {
        tracing::warn!(
            "{RUNTIME_TELEMETRY_OFF} is not set: ONNX Runtime may send events to Microsoft; set it to 1 before the process starts"
        );
    }
    let built = contain(|| {
        let logger = |level: LogLevel, _: &str, _: &str, place: &str, message: &str| {
            // The runtime's messages help developers, and are too many for operators.
            tracing::debug!(?level, place, message, "ONNX Runtime");
        };
        let builder = ort::init_from(&path).map_err(|error| error.to_string())?;
        let builder = builder.with_name("aegis").with_telemetry(false).with_logger(Arc::new(logger));
        let environment = builder.build().map_err(|error| error.to_string())?;
        environment.set_log_level(LogLevel::Warning);
        Ok(environment)
    });
    let environment =
        built.unwrap_or_else(|_| Err("it is not an ONNX Runtime of a supported version".to_owned()));
    let environment = environment.map_err(refuse)?;
    *held = Some((path, environment.clone()));
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_refused_by_name() {
        let error = environment(Path::new("/nowhere/libonnxruntime.so")).unwrap_err();
        assert_eq!(error.name(), "Runtime");
        assert!(
            error.to_string().contains("/nowhere/libonnxruntime.so")
                && error.to_string().contains("make setup")
        );
    }
}
