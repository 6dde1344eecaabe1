//! `aegis`: see `aegis --help`.

fn main() -> std::process::ExitCode {
    aegis::cli::main()
}
