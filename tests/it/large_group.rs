//! A large group: what it costs to send to it, and that everybody who is there hears of it.

use std::{collections::BTreeMap, time::Duration};

use domain::{Caller, ConversationId, SessionId, UserId};
use futures_util::{StreamExt as _, future::join_all, stream};
use tokio::{task::block_in_place, time::Instant};

use crate::{
    crowd::{Crowd, caller},
    installation::Installation,
    listener::Listener,
    people::{Device, Site},
};

const MEMBERS: i64 = 10_000;
const SMALL: usize = 10;
/// Those who are there, and how many sockets each has.
const ONLINE: usize = 40;
const SOCKETS: usize = 5;
const MESSAGES: usize = 20;
/// Sends of which the rows are counted.
const COUNTED: usize = 10;
/// Sends of which the time is taken.
const TIMED: usize = 50;
/// How much longer the middle send to the large group may take.
const TIMES_MAX: u32 = 3;

fn caller_of(device: &Device) -> Caller {
    let user: UserId = device.user.parse().expect("an id");
    let session: SessionId = device.session.parse().expect("an id");
    caller(user, session)
}

/// What sending writes: rows of each table, and memberships that are not as they were.
struct Rows<'a>(&'a Installation);

impl Rows<'_> {
    const TABLES: [&'static str; 6] =
        ["message", "outbox", "member", "conversation", "push_mark", "id_lease"];

    fn count(&self) -> Vec<i64> {
        let counts = Self::TABLES.map(|table| format!("SELECT COUNT(*) FROM {table}"));
        let sql = counts.join(" UNION ALL ");
        self.0.sql(&sql).iter().map(|count| count.parse().expect("a number")).collect()
    }

    /// Rows that came, and memberships that changed, meanwhile.
    async fn written(&self, sending: impl Future<Output = ()>) -> BTreeMap<&'static str, i64> {
        block_in_place(|| {
            self.0
                .sql("DROP TABLE IF EXISTS member_before; CREATE TABLE member_before AS SELECT * FROM member")
        });
        let before = block_in_place(|| self.count());
        sending.await;
        let after = block_in_place(|| self.count());
        let new =
            Self::TABLES.into_iter().zip(after.iter().zip(&before).map(|(after, before)| after - before));
        let changed = block_in_place(|| {
            self.0
                .sql("SELECT COUNT(*) FROM (SELECT * FROM member EXCEPT SELECT * FROM member_before) changed")
        });
        new.chain([("changed members", changed[0].parse().expect("a number"))]).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_to_ten_thousand_members_costs_what_one_to_ten_does_and_reaches_all_who_are_there() {
    let Some(installation) = Installation::on_mariadb(Vec::new()) else { return };
    let nodes = [installation.start("api"), installation.start("api")];
    let sites = nodes.each_ref().map(|node| Site::new(&node.url));
    let begun = Instant::now();
    let joining = (0..ONLINE).map(|number| {
        let site = &sites[number % sites.len()];
        async move { site.join(&format!("online{number}")).await }
    });
    let online: Vec<Device> = stream::iter(joining).buffered(4).collect().await;
    let ada = &online[0];
    let crowd = Crowd::of(&installation).await;
    let mut members: Vec<Caller> = online[1..].iter().map(caller_of).collect();
    let small = crowd.group(&caller_of(ada), "small", &members[..SMALL - 1]).await;
    members.extend(crowd.people(MEMBERS - i64::try_from(ONLINE).expect("few")).await);
    let large = crowd.group(&caller_of(ada), "large", &members).await;
    println!("{MEMBERS} members in {:?}", begun.elapsed());

    let begun = Instant::now();
    all_hear(&sites, &online, large).await;
    println!("{MESSAGES} messages to {} sockets in {:?}", ONLINE * SOCKETS, begun.elapsed());

    let rows = Rows(&installation);
    let send = async |group: ConversationId, what: &str, number: usize| {
        let site = &sites[number % sites.len()];
        site.send(ada, &group.to_string(), &format!("{what} {number}")).await;
    };
    let all = async |group, what: &str| {
        for number in 0..COUNTED {
            send(group, what, number).await;
        }
    };
    let to_small = rows.written(all(small, "counted")).await;
    let to_large = rows.written(all(large, "counted")).await;
    assert_eq!(to_small["message"], i64::try_from(COUNTED).expect("few"));
    assert_eq!(to_large, to_small, "what is written does not depend on who reads it");

    let mut times: [Vec<Duration>; 2] = Default::default();
    for number in 0..TIMED {
        for (times, group) in times.iter_mut().zip([small, large]) {
            let asked = Instant::now();
            send(group, "timed", number).await;
            times.push(asked.elapsed());
        }
    }
    let [small, large] = times.map(|mut times| {
        times.sort();
        times[TIMED / 2]
    });
    println!("acks after {small:?} in the small group, {large:?} in the large one");
    assert!(large < small * TIMES_MAX, "{large:?} in the large group, {small:?} in the small one");
}

/// Each socket gets each message once, in order.
async fn all_hear(sites: &[Site; 2], online: &[Device], group: ConversationId) {
    let opening = (0..ONLINE * SOCKETS).map(|number| {
        let (device, site) = (&online[number % ONLINE], &sites[number % sites.len()]);
        async move {
            let mut listener = Listener::open(&site.url(), &device.token, None).await.expect("opens");
            listener.opening().await.expect("live");
            listener
        }
    });
    let listeners: Vec<Listener> = stream::iter(opening).buffer_unordered(16).collect().await;
    let group = group.to_string();
    let sending = async {
        let mut seqs = Vec::new();
        for number in 0..=MESSAGES {
            let site = &sites[number % sites.len()];
            seqs.push(site.send_with_seq(&online[0], &group, &format!("heard {number}")).await.1);
        }
        seqs
    };
    let hearing = listeners.into_iter().map(|mut listener| {
        let group = &group;
        async move {
            // By what tells repeats; up to the one after the last.
            let mut heard: BTreeMap<i64, i64> = BTreeMap::new();
            let mut order = Vec::new();
            while heard.len() <= MESSAGES {
                let event = listener.event().await.expect("open");
                if event["__typename"] == "MessageSent" && event["conversation"]["id"] == group.as_str() {
                    let rev = event["rev"].as_i64().expect("a rev");
                    let seq = event["message"]["seq"].as_i64().expect("a seq");
                    if heard.insert(rev, seq).is_none() {
                        order.push(seq);
                    }
                }
            }
            order
        }
    });
    let (seqs, heard) = tokio::join!(sending, join_all(hearing));
    assert_eq!(heard.len(), ONLINE * SOCKETS);
    for (number, order) in heard.into_iter().enumerate() {
        assert_eq!(order, seqs, "socket {number}");
    }
}
