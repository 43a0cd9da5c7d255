//! The few words of Redis that a fault or a measurement needs.

use std::io;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
};

pub struct Connection(BufStream<TcpStream>);

pub async fn connect(url: &str) -> io::Result<Connection> {
    let place = url.trim_start_matches("redis://").split('/').next().unwrap_or_default();
    Ok(Connection(BufStream::new(TcpStream::connect(place).await?)))
}

impl Connection {
    /// Empties the server.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.say("FLUSHALL").await
    }

    /// Closes every connection that is subscribed to something.
    pub async fn kill_pubsub(&mut self) -> io::Result<()> {
        self.say("CLIENT KILL TYPE pubsub").await
    }

    async fn say(&mut self, words: &str) -> io::Result<()> {
        self.0.write_all(format!("{words}\r\n").as_bytes()).await?;
        self.0.flush().await?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).await?;
        if answer.starts_with(['+', ':']) {
            Ok(())
        } else {
            Err(io::Error::other(format!("{words}: {answer}")))
        }
    }

    /// A section of `INFO`, a line a figure.
    pub async fn info(&mut self, section: &str) -> io::Result<String> {
        self.0.write_all(format!("INFO {section}\r\n").as_bytes()).await?;
        self.0.flush().await?;
        let mut length = String::new();
        self.0.read_line(&mut length).await?;
        let length = length.trim().strip_prefix('$').and_then(|length| length.parse::<usize>().ok());
        let length = length.ok_or_else(|| io::Error::other("INFO is refused"))?;
        // The text, and the end of its line.
        let mut text = vec![0; length + 2];
        self.0.read_exact(&mut text).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
