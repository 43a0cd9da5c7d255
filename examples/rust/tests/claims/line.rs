//! A way to the server that can be held up, cut and mended, for HTTP and WebSocket alike.

use std::net::SocketAddr;

use reqwest::Url;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Default)]
struct Condition {
    http_held: bool,
    sockets_held: bool,
    cut: bool,
    /// How often it was cut: a connection from before ends even if the line is whole again.
    cuts: usize,
}

pub struct Line {
    pub url: Url,
    condition: watch::Sender<Condition>,
}

impl Line {
    pub async fn open(server: &Url) -> Line {
        let far: SocketAddr = server.socket_addrs(|| None).expect("an address")[0];
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut url = server.clone();
        url.set_host(Some("127.0.0.1")).expect("a host");
        url.set_port(listener.local_addr().ok().map(|address| address.port())).expect("a port");
        let (condition, current) = watch::channel(Condition::default());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, far, current.clone()));
            }
        });
        Line { url, condition }
    }

    /// From now on what is asked over HTTP arrives, but no answer does.
    pub fn hold_http(&self) {
        self.condition.send_modify(|it| it.http_held = true);
    }

    /// From now on nothing comes from a WebSocket.
    pub fn hold_sockets(&self) {
        self.condition.send_modify(|it| it.sockets_held = true);
    }

    pub fn cut(&self) {
        self.condition.send_modify(|it| {
            it.cut = true;
            it.cuts += 1;
        });
    }

    /// What was held arrives; what was cut can connect again.
    pub fn mend(&self) {
        self.condition.send_modify(|it| *it = Condition { cuts: it.cuts, ..Condition::default() });
    }
}

async fn carry(near: TcpStream, far: SocketAddr, mut condition: watch::Receiver<Condition>) {
    let Condition { cut: false, cuts, .. } = *condition.borrow() else { return };
    let Ok(far) = TcpStream::connect(far).await else { return };
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let mut current = condition.clone();
    let mut first = vec![0; CHUNK_BYTES];
    let Ok(bytes @ 1..) = from_near.read(&mut first).await else { return };
    first.truncate(bytes);
    let is_socket = String::from_utf8_lossy(&first).to_lowercase().contains("upgrade: websocket");
    let forth = async {
        let mut chunk = first;
        let mut bytes = chunk.len();
        while to_far.write_all(&chunk[..bytes]).await.is_ok() {
            chunk.resize(CHUNK_BYTES, 0);
            let Ok(more @ 1..) = from_near.read(&mut chunk).await else { return };
            bytes = more;
        }
    };
    let back = async {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(bytes @ 1..) = from_far.read(&mut chunk).await {
            let flows = |it: &Condition| !(if is_socket { it.sockets_held } else { it.http_held });
            if current.wait_for(flows).await.is_err() || to_near.write_all(&chunk[..bytes]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = forth => {}
        () = back => {}
        _ = condition.wait_for(|it| it.cuts != cuts) => {}
    }
}
