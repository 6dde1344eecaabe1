//! `aegis`: see `aegis --help`.

use std::env;
use std::panic::catch_unwind;

use aegis::experts::RUNTIME_TELEMETRY_OFF;
use aegis::ops::{Exit, end_process};

fn main() {
    // ONNX Runtime's packages send events to Microsoft unless this is set before the library is loaded.
    if env::var_os(RUNTIME_TELEMETRY_OFF).is_none() {
        // SAFETY: no other thread exists yet, so none reads the environment meanwhile.
        #[allow(unsafe_code)]
        unsafe {
            env::set_var(RUNTIME_TELEMETRY_OFF, "1");
        }
    }
    // The panic has been printed.
    end_process(catch_unwind(aegis::cli::main).unwrap_or(Exit::Internal.code()))
}
