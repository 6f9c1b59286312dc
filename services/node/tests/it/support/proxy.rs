//! A TCP proxy whose connections can be cut.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy)]
struct State {
    /// Connections of an older generation are cut.
    generation: u64,
    open: bool,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State {
            generation: 0,
            open: true,
        });
        let watch = state.subscribe();
        tokio::spawn(async move {
            let mut ended = watch.clone();
            let accept = async {
                loop {
                    let (mut near, _) = listener.accept().await.unwrap();
                    let mut watch = watch.clone();
                    let State { generation, open } = *watch.borrow_and_update();
                    if !open {
                        continue;
                    }
                    tokio::spawn(async move {
                        let mut far = TcpStream::connect(target).await?;
                        tokio::select! {
                            _ = watch.wait_for(|state| state.generation > generation) => Ok((0, 0)),
                            copied = copy_bidirectional(&mut near, &mut far) => copied,
                        }
                    });
                }
            };
            tokio::select! {
                () = accept => {}
                // The proxy was dropped.
                _ = ended.wait_for(|_| false) => {}
            }
        });
        Self { address, state }
    }

    /// Cuts every connection there is.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Cuts every connection and refuses new ones.
    pub(crate) fn close(&self) {
        self.state.send_modify(|state| {
            state.generation += 1;
            state.open = false;
        });
    }

    pub(crate) fn open(&self) {
        self.state.send_modify(|state| state.open = true);
    }
}
