//! Sessions that are ended while they listen: each race signs somebody in on two devices, one at each node, lets them listen, and ends both
//! sessions from a third, one by one or with another password.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    actors::Stage,
    client::{Answer, Api, CALL_TIMEOUT, PASSWORD, Token, User},
    journal::{Moment, Revocation},
    listener::{Heard, Listener},
};

/// Users whose sessions are ended at once; each has two.
const AT_ONCE: usize = 4;
/// Races of one cycle.
const RACES: usize = 8;
/// A socket that is open for longer after the ack is one too many, however long that goes on.
const WAITED_FOR: Duration = Duration::from_secs(6);
/// A session is ended at some moment within this time after it went live.
const ENDED_WITHIN: Duration = Duration::from_millis(300);

/// A device that listens.
struct Device {
    user: User,
    session: String,
    listener: Listener,
}

impl Stage {
    /// A few of those who send have their other sessions ended, each several times.
    pub async fn end_sessions(self: &Arc<Self>, cycle: usize) {
        let races = (0..AT_ONCE.min(self.senders)).map(|lane| async move {
            for race in 0..RACES / AT_ONCE {
                let user = (cycle * AT_ONCE + lane) % self.senders;
                if let Err(why) = self.race(user, cycle + race + lane).await {
                    self.complain(format!("a race of sessions: {why}"));
                }
            }
        });
        join_all(races).await;
    }

    async fn race(&self, user: usize, number: usize) -> Result<(), String> {
        let owner = &self.users[user];
        let (one, other) = (self.device(owner, number).await?, self.device(owner, number + 1).await?);
        let share = u32::try_from(number * 37 % 100).unwrap_or(0);
        let sessions = [one.session.clone(), other.session.clone()];
        let ending = async {
            sleep(ENDED_WITHIN * share / 100).await;
            if number.is_multiple_of(2) {
                let first = self.api.end_session(number + 1, &owner.token, &sessions[0]);
                let second = self.api.end_session(number, &owner.token, &sessions[1]);
                let (first, second) = tokio::join!(async { first.await.map(|()| self.now()) }, async {
                    second.await.map(|()| self.now())
                });
                Ok::<_, String>([first?, second?])
            } else {
                self.api.end_other_sessions(number, &owner.token).await?;
                Ok([self.now(); 2])
            }
        };
        let (acked, one, other) = tokio::join!(ending, self.outlive(one), self.outlive(other));
        for (acked, mut heard) in acked?.into_iter().zip([one, other]) {
            heard.acked = acked;
            self.journal().revocations.push(heard);
        }
        Ok(())
    }

    async fn device(&self, owner: &User, at: usize) -> Result<Device, String> {
        let user = self.api.sign_in(at, &owner.name).await?;
        let session = self.api.own_session(at, &user.token).await?;
        let url = &self.api.urls[at % self.api.urls.len()];
        let mut listener = Listener::open(url, &user.token, None).await.ok_or("no socket")?;
        if listener.goes_live().await {
            Ok(Device { user, session, listener })
        } else {
            Err("not live".to_owned())
        }
    }

    /// Listens until the socket ends.
    async fn outlive(&self, device: Device) -> Revocation {
        let Device { user, session, mut listener } = device;
        let mut heard = Revocation { session, acked: Moment::ZERO, end: None, last_event: None, events: 0 };
        let listening = async {
            loop {
                match listener.next().await {
                    Heard::Event(_) => {
                        heard.events += 1;
                        heard.last_event = Some(self.now());
                    }
                    Heard::Over(ended) => break Some((self.now(), ended)),
                    Heard::Wrong(what) => {
                        self.complain(format!("a revoked session of {} was told {what}", user.name));
                        break None;
                    }
                }
            }
        };
        // The ack may take as long as a call.
        let end = timeout(CALL_TIMEOUT + WAITED_FOR, listening).await.ok().flatten();
        heard.end = end;
        heard
    }
}

impl Api {
    async fn sign_in(&self, at: usize, name: &str) -> Result<User, String> {
        let query = "mutation($name: String!, $password: String!) { signIn(input: { username: $name, password: $password }) {
            user { id } credentials { accessToken refreshToken } userErrors { message } } }";
        let variables = json!({ "name": name, "password": PASSWORD });
        let data = known(self.ask(at, None, query, variables).await)?;
        let id = data["signIn"]["user"]["id"].as_str().map(str::to_owned);
        let user = id.zip(Token::of(&data["signIn"]["credentials"]));
        let (id, token) = user.ok_or_else(|| data.to_string())?;
        Ok(User { name: name.to_owned(), id, token })
    }

    async fn own_session(&self, at: usize, token: &Token) -> Result<String, String> {
        let data = known(self.ask(at, Some(token), "{ sessions { id current } }", json!({})).await)?;
        let sessions = data["sessions"].as_array().into_iter().flatten();
        let own = sessions.filter(|session| session["current"] == true).find_map(|one| one["id"].as_str());
        own.map(str::to_owned).ok_or_else(|| data.to_string())
    }

    async fn end_session(&self, at: usize, token: &Token, session: &str) -> Result<(), String> {
        let query =
            "mutation($id: ID!) { done: signOut(input: { sessionId: $id }) { userErrors { message } } }";
        done(self.ask(at, Some(token), query, json!({ "id": session })).await)
    }

    /// By setting the password anew, which may be the same.
    async fn end_other_sessions(&self, at: usize, token: &Token) -> Result<(), String> {
        let query = "mutation($password: String!) {
            done: changePassword(input: { currentPassword: $password, newPassword: $password }) { userErrors { message } } }";
        done(self.ask(at, Some(token), query, json!({ "password": PASSWORD })).await)
    }
}

fn known(answer: Answer) -> Result<serde_json::Value, String> {
    match answer {
        Answer::Data(data) => Ok(data),
        Answer::Unknown => Err("no answer".to_owned()),
        Answer::Refused(why) => Err(why),
    }
}

fn done(answer: Answer) -> Result<(), String> {
    let data = known(answer)?;
    if data["done"]["userErrors"] == json!([]) { Ok(()) } else { Err(data.to_string()) }
}
