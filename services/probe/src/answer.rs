//! `probe --answer`: the side that answers.

use std::{convert::Infallible, net::Ipv4Addr, process::ExitCode, time::Duration};

use http_body_util::Full;
use hyper::{Response, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::{USAGE, say};

/// The arguments of `--answer`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    port: u16,
    word: String,
    seconds: u16,
}

impl Answer {
    /// Parses the arguments. Returns `None` if they do not begin with `--answer`.
    pub(crate) fn of(args: &[String]) -> Option<Result<Self, String>> {
        let (option, args) = args.split_first()?;
        if option != "--answer" {
            return None;
        }
        let [port, word, seconds] = args else {
            return Some(Err("missing PORT, WORD or SECONDS".into()));
        };
        let number = |text: &String| {
            text.parse::<u16>()
                .map_err(|error| format!("`{text}`: {error}"))
        };
        Some(number(port).and_then(|port| {
            Ok(Self {
                port,
                word: word.clone(),
                seconds: number(seconds)?,
            })
        }))
    }
}

/// Answers with the word until the time is over.
async fn answer(listener: TcpListener, wanted: Answer) {
    let word = Bytes::from(wanted.word);
    let answering = async {
        while let Ok((stream, _)) = listener.accept().await {
            let word = word.clone();
            tokio::spawn(async move {
                let service = service_fn(move |_| {
                    let body = Full::new(word.clone());
                    async move { Ok::<_, Infallible>(Response::new(body)) }
                });
                // An error means that the client hung up.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(wanted.seconds.into()), answering).await;
}

pub(crate) async fn serve(wanted: Result<Answer, String>) -> ExitCode {
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(problem) => {
            say(&format!("{problem}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, wanted.port)).await {
        Ok(listener) => {
            answer(listener, wanted).await;
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("cannot listen on port {}: {error}", wanted.port));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn word_is_answered_until_the_time_is_over() {
        let args = ["--answer", "0", "word", "60"].map(str::to_owned);
        let wanted = Answer::of(&args).unwrap().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = tokio::spawn(answer(listener, wanted));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let asked = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(asked).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert!(said.ends_with("\r\n\r\nword"), "{said}");
        answering.abort();
        for wrong in [
            &["--answer"][..],
            &["--answer", "x", "w", "1"],
            &["--answer", "1", "w"],
        ] {
            let args: Vec<_> = wrong.iter().map(|arg| (*arg).to_owned()).collect();
            assert!(Answer::of(&args).unwrap().is_err(), "{wrong:?}");
        }
        assert_eq!(Answer::of(&["http://a/".to_owned()]), None);
    }
}
