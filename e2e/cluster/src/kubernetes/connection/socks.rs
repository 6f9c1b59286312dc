//! SOCKS 5 client (RFC 1928, RFC 1929). The proxy resolves names.

use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::proxy::Credentials;

const VERSION: u8 = 5;
const NO_CREDENTIALS: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
/// Version of the talk about user and password.
const TALK: u8 = 1;
const CONNECT: u8 = 1;

/// Why there is no way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It wants user and password, or others.
    Credentials,
    /// The proxy does not reach the server, or not now.
    Unreachable(String),
    Other(String),
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::Other(format!("is no SOCKS proxy, or broke off: {error}"))
    }
}

/// Has the proxy at the end of `line` connect to a server; afterwards the line leads there.
pub(super) async fn ask(
    line: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
    port: u16,
    credentials: Option<&Credentials>,
) -> Result<(), Refusal> {
    let methods: &[u8] = match credentials {
        None => &[VERSION, 1, NO_CREDENTIALS],
        Some(_) => &[VERSION, 2, NO_CREDENTIALS, USER_AND_PASSWORD],
    };
    line.write_all(methods).await?;
    let [version, method] = read(line).await?;
    if version != VERSION {
        return Err(Refusal::Other("is no SOCKS 5 proxy".into()));
    }
    match (method, credentials) {
        (NO_CREDENTIALS, _) => {}
        (USER_AND_PASSWORD, Some(credentials)) => {
            let mut talk = vec![TALK];
            counted(&mut talk, &credentials.user)?;
            counted(&mut talk, &credentials.password)?;
            line.write_all(&talk).await?;
            let [_, status] = read(line).await?;
            if status != 0 {
                return Err(Refusal::Credentials);
            }
        }
        _ => return Err(Refusal::Credentials),
    }
    let mut request = vec![VERSION, CONNECT, 0];
    match host.parse() {
        Ok(IpAddr::V4(ip)) => {
            request.push(1);
            request.extend(ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            request.push(4);
            request.extend(ip.octets());
        }
        Err(_) => {
            request.push(3);
            counted(&mut request, host)?;
        }
    }
    request.extend(port.to_be_bytes());
    line.write_all(&request).await?;
    let [_, status, _, kind] = read(line).await?;
    if status != 0 {
        return Err(refusal(status));
    }
    // The address that the proxy dials from, of no use here.
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => {
            let [length] = read(line).await?;
            usize::from(length)
        }
        _ => return Err(Refusal::Other("gives an address of no kind".into())),
    };
    let mut rest = vec![0; length + 2];
    line.read_exact(&mut rest).await?;
    Ok(())
}

async fn read<const N: usize>(line: &mut (impl AsyncRead + Unpin)) -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    line.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// A text with its length before it.
fn counted(bytes: &mut Vec<u8>, text: &str) -> Result<(), Refusal> {
    let length = u8::try_from(text.len());
    let length = length.map_err(|_| {
        Refusal::Other("takes no name, user or password of more than 255 bytes".into())
    })?;
    bytes.push(length);
    bytes.extend(text.as_bytes());
    Ok(())
}

/// <https://www.rfc-editor.org/rfc/rfc1928#section-6>
fn refusal(status: u8) -> Refusal {
    let unreachable = |why: &str| Refusal::Unreachable(why.into());
    match status {
        1 => unreachable("general failure"),
        2 => Refusal::Other("does not allow that server".into()),
        3 => unreachable("network unreachable"),
        4 => unreachable("host unreachable"),
        5 => unreachable("connection refused"),
        6 => unreachable("time to live expired"),
        other => Refusal::Other(format!("answers with code {other}")),
    }
}
