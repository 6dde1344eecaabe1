//! `aegis`: see `aegis --help`.

fn main() -> std::process::ExitCode {
    // The panic has been printed.
    std::panic::catch_unwind(aegis::cli::main).unwrap_or_else(|_| aegis::ops::Exit::Internal.into())
}
