//! B6t: what GraphQL costs. A signed-in `sendMessage` that does nothing, through the edges of the product, against a route of axum.
//!
//! The server has one core and the clients the other, where they never sleep, so that neither takes from the other and the server is
//! what limits. The clients' own CPU time says nothing here.

use crate::{
    closed_loop::{Client, Load, Transport},
    connection::Endpoint,
    database::{Bench, SignedIn},
    report::{Report, Target},
    send::{ROUND, SENT, graphql_body, rest_body},
    servers::{ServerProcess, no_op, plain, stay_on},
};

const CLIENTS: i64 = 64;
const SERVER_CORE: &str = "0";
const CLIENT_CORE: &str = "1";

pub async fn b6t(bench: &Bench, rounds: usize) -> Report {
    let users = bench.signed_in(CLIENTS).await;
    let conversation = bench.groups_of(users.len(), &users).await[0].to_string();
    let mut report = Report::new(
        "b6t",
        "A no-op sendMessage over HTTP, signed in, against a plain route of axum; 64 clients, the server on one core",
    );
    let axum = plain(Some(SERVER_CORE));
    let edges = no_op(bench, Some(SERVER_CORE));
    stay_on(CLIENT_CORE);
    let load = |server: &ServerProcess, transport, client: &dyn Fn(&SignedIn) -> Client| Load {
        clients: users.iter().map(client).collect(),
        transport,
        wanted: SENT,
        lasts: ROUND,
        servers: server.processes(),
        spins: true,
    };
    let plainly = |_: &SignedIn| {
        let endpoint = Endpoint { port: axum.port, path: "/messages", token: None };
        Client { endpoint, body: rest_body(&conversation) }
    };
    let signed_in = |user: &SignedIn| {
        let token = Some(user.token.clone());
        let endpoint = Endpoint { port: edges.port, path: "/graphql", token };
        Client { endpoint, body: graphql_body(&conversation) }
    };
    let anonymous = |_: &SignedIn| {
        let endpoint = Endpoint { port: edges.port, path: "/graphql", token: None };
        Client { endpoint, body: graphql_body(&conversation) }
    };
    for _ in 0..rounds {
        report.calibration("plain axum POST", load(&axum, Transport::Http, &plainly).run().await);
        report.measured("no-op sendMessage, HTTP", load(&edges, Transport::Http, &signed_in).run().await);
        report.also("the same without a token", load(&edges, Transport::Http, &anonymous).run().await);
        report.also("the same over WebSocket", load(&edges, Transport::Socket, &signed_in).run().await);
    }
    report.target(Target { reach: 0.35, dream: Some(0.45), p99_millis: None });
    report.note_server_cpu();
    report
}
