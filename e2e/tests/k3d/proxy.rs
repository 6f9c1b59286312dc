//! A proxy between the hand and the clusters, which writes down whom it is asked for.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{self, AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

pub(crate) struct Proxy {
    pub(crate) port: u16,
    told: Arc<Mutex<String>>,
}

impl Proxy {
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Self {
            port: listener.local_addr()?.port(),
            told: Arc::default(),
        };
        let told = proxy.told.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A client that goes away has what it wanted.
                tokio::spawn(lead(client, told.clone()));
            }
        });
        Ok(proxy)
    }

    /// All that it was told by its clients themselves.
    pub(crate) fn told(&self) -> String {
        self.told.lock().unwrap().clone()
    }
}

async fn lead(mut client: TcpStream, told: Arc<Mutex<String>>) -> io::Result<()> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    told.lock().unwrap().push_str(&head);
    let mut server = TcpStream::connect(head.split(' ').nth(1).unwrap_or_default()).await?;
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
