//! Clients that each ask again as soon as they are answered, for a while: what a server can do at the most.
//!
//! They run on a thread of their own, so that their wakes never leave it. What they wait is from the moment they asked,
//! as a client's own queue is its affair: latencies under an open loop are those of B3 and B4.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use crate::{
    connection::{Connection, Endpoint},
    measure::{Round, Servers, Stopwatch, histogram, micros},
};

/// Calls before those that count: connections, caches and the branch predictor are warm then.
const WARM_UP: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug)]
pub enum Transport {
    Http,
    Socket,
}

/// Who asks what of which servers.
pub struct Load {
    pub clients: Vec<Client>,
    pub transport: Transport,
    /// What every good answer has in it.
    pub wanted: &'static str,
    pub lasts: Duration,
    pub servers: Servers,
    /// Whether the clients' thread never sleeps. A server that answers a sleeping client pays for the wake, on a virtual machine as much as
    /// for a whole request; with a core of their own clients can spare it that.
    pub spins: bool,
}

pub struct Client {
    pub endpoint: Endpoint,
    /// The body of its call of a number; numbers never come twice.
    pub body: Box<dyn Fn(&mut String) + Send>,
}

impl Load {
    /// Blocks a thread; ask for it where that does not matter.
    pub async fn run(self) -> Round {
        let (done, ran) = tokio::sync::oneshot::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let round = runtime.and_then(|runtime| runtime.block_on(self.drive_or_spin()));
            let _ = done.send(round);
        });
        ran.await.expect("the clients' thread ends well").expect("every call is answered")
    }

    async fn drive_or_spin(self) -> io::Result<Round> {
        if !self.spins {
            return self.drive().await;
        }
        let spin = async {
            loop {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            round = self.drive() => round,
            () = spin => unreachable!("it has no end"),
        }
    }

    async fn drive(self) -> io::Result<Round> {
        let Self { clients, transport, wanted, lasts, servers, .. } = self;
        let mut connected = Vec::with_capacity(clients.len());
        for Client { endpoint, body } in clients {
            let connection = match transport {
                Transport::Http => Connection::http(&endpoint).await?,
                Transport::Socket => Connection::socket(&endpoint).await?,
            };
            connected.push((connection, body));
        }
        let warm_at = Instant::now() + WARM_UP;
        let mut warm = Vec::with_capacity(connected.len());
        for one in
            futures_util::future::join_all(connected.into_iter().map(|one| ask(one, wanted, warm_at))).await
        {
            warm.push(one?.0);
        }
        let watch = Stopwatch::start(servers);
        let end = Instant::now() + lasts;
        let asked = futures_util::future::join_all(warm.into_iter().map(|one| ask(one, wanted, end))).await;
        let (mut all, mut calls) = (histogram(), 0);
        // The clocks stop when the last has its answer, which counts too.
        let answered: Vec<_> = asked.into_iter().collect::<io::Result<_>>()?;
        let round = watch.stop(1, &all);
        for (_, latencies) in answered {
            calls += latencies.len();
            for one in latencies {
                all.saturating_record(one);
            }
        }
        let at = |quantile| Duration::from_micros(all.value_at_quantile(quantile));
        Ok(Round { operations: calls, p50: at(0.5), p99: at(0.99), ..round })
    }
}

type Asking = (Connection, Box<dyn Fn(&mut String) + Send>);

async fn ask((mut connection, body): Asking, wanted: &str, end: Instant) -> io::Result<(Asking, Vec<u64>)> {
    let mut latencies = Vec::with_capacity(4096);
    let mut text = String::new();
    while Instant::now() < end {
        text.clear();
        body(&mut text);
        let asked = Instant::now();
        connection.call(&text, wanted).await?;
        latencies.push(micros(asked.elapsed()));
    }
    Ok(((connection, body), latencies))
}
