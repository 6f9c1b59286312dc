//! Ferry's sink, the end of a blueprint: it stores messages and acknowledges them.
//! Everything but the hooks is in `node`.

mod hooks;

use std::process::ExitCode;

use node::Role;

#[tokio::main]
async fn main() -> ExitCode {
    node::run(Role::Sink, hooks::Sink).await
}
