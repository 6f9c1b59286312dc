//! Ferry's processor, the relay of a blueprint: it receives messages and passes them on.
//! Everything but the hooks is in `node`.

mod hooks;

use std::process::ExitCode;

use node::Role;

#[tokio::main]
async fn main() -> ExitCode {
    node::run(Role::Processor, hooks::Processor).await
}
