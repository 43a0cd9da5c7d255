//! The live subscription, which goes on where it was cut, on a socket that outlives its access token.

use std::{
    future::{Future, IntoFuture},
    time::Duration,
};

use cynic::{GraphQlResponse, MutationBuilder, Operation, SubscriptionBuilder};
use futures_util::StreamExt;
use graphql_ws_client::{Client, graphql::GraphqlOperation};
use serde::{Serialize, Serializer, de::DeserializeOwned};
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};
use tokio_tungstenite::{connect_async, tungstenite::client::IntoClientRequest};

use crate::{
    operations::{Event, EventCursor, Events, EventsVariables, RenewConnection, RenewConnectionVariables},
    session::{Error, Session},
};

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
const PING_INTERVAL: Duration = Duration::from_secs(20);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Waits longer each time, and not until the same moment as everybody else.
pub async fn back_off(failures: u32) {
    let bound = BACKOFF_MAX.min(BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(failures)));
    // Without randomness it waits as long as it may.
    let part = getrandom::u32().unwrap_or(u32::MAX);
    sleep(bound.mul_f64(0.5 + 0.5 * f64::from(part) / f64::from(u32::MAX))).await;
}

/// Subscribes after the last cursor, again and again. Events come at least once; one that `take` failed at comes again.
pub async fn follow<Done: Future<Output = Result<(), Error>>>(
    session: &Session,
    mut take: impl FnMut(Event) -> Done,
) {
    let mut after = None;
    let mut failures = 0;
    loop {
        let before = after.clone();
        // However it ended, what was missed comes after the last cursor.
        let _ended = listen(session, &mut after, &mut take).await;
        failures = if after == before { failures + 1 } else { 0 };
        back_off(failures).await;
    }
}

async fn listen<Done: Future<Output = Result<(), Error>>>(
    session: &Session,
    after: &mut Option<EventCursor>,
    take: &mut impl FnMut(Event) -> Done,
) -> Result<(), Failure> {
    let mut url = session.url.clone();
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).map_err(|()| "no WebSocket there")?;
    let token = session.fresh().await?.access_token;
    let mut newer = session.credentials();

    let mut request = url.as_str().into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse()?);
    let (connection, _) = connect_async(request).await?;
    let build = Client::build(connection).keep_alive_interval(PING_INTERVAL);
    let (client, actor) = build.payload(json!({ "authorization": format!("Bearer {token}") }))?.await?;
    // Ends with this function.
    let mut tasks = JoinSet::new();
    tasks.spawn(actor.into_future());

    let mut events = client.subscribe(Events::build(EventsVariables { after: after.clone() })).await?;
    loop {
        tokio::select! {
            answer = events.next() => {
                let event = answer.ok_or("the socket closed")??.data.ok_or("no data")?.events;
                let cursor = event.cursor().clone();
                take(event).await?;
                *after = Some(cursor);
            }
            () = sleep(session.until_renewal()) => {
                let ended = newer.borrow().clone();
                session.renew(&ended).await?;
            }
            Ok(()) = newer.changed() => {
                let access_token = newer.borrow_and_update().access_token.clone();
                let renewal = RenewConnection::build(RenewConnectionVariables { access_token });
                let mut renewal = client.subscribe(OverSocket(renewal)).await?;
                // Events must not wait for the answer; one that is refused closes the socket in time.
                tasks.spawn(async move { drop(renewal.next().await) });
            }
        }
    }
}

/// An operation with one answer, over the socket.
struct OverSocket<Data, Variables>(Operation<Data, Variables>);

impl<Data, Variables: Serialize> Serialize for OverSocket<Data, Variables> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<Data: DeserializeOwned, Variables: Serialize> GraphqlOperation for OverSocket<Data, Variables> {
    type Response = GraphQlResponse<Data>;
    type Error = serde_json::Error;

    fn decode(&self, data: serde_json::Value) -> Result<Self::Response, Self::Error> {
        serde_json::from_value(data)
    }
}
