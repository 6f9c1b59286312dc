//! Ferry's gateway, the source of a blueprint: it makes messages from triggers and sends them on.
//! Everything but the hooks is in `node`.

mod hooks;

use std::process::ExitCode;

use node::Role;

#[tokio::main]
async fn main() -> ExitCode {
    node::run(Role::Gateway, hooks::Gateway).await
}
