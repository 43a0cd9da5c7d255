//! Pushes while providers refuse, wait and hang, and while those who push are killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::json;
use tokio::time::Instant;

use crate::{
    people::Device,
    providers::{Answer, DEADLINE, Kind, Push},
    push_stage::Stage,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_gone_is_forgotten_and_the_others_still_get_theirs() {
    let Stage { site, providers, .. } = &Stage::embedded().await;
    let ada = site.join("ada").await;
    let mut gone: Vec<(&str, Device)> = Vec::new();
    for (name, kind) in [
        ("gone-apns", Kind::Apns),
        ("gone-fcm", Kind::Fcm),
        ("gone-web", Kind::Web),
        ("unknown-apns", Kind::Apns),
        ("unknown-web", Kind::Web),
    ] {
        gone.push((name, site.join_with(providers, kind, name).await));
    }
    let mut members: Vec<Device> = gone.iter().map(|(_, device)| device.clone()).collect();
    for kind in Kind::ALL {
        members.push(site.join_with(providers, kind, &format!("{kind:?}").to_lowercase()).await);
    }
    let group = site.group(&ada, "t", &members.iter().collect::<Vec<_>>()).await;
    // Whether a token is none, or the whole configuration is wrong, is known once something was taken.
    let before = site.send(&ada, &group, "before").await;
    providers.until_shown(&before, members.len()).await;
    providers.answer(|push| match push.device.split_once('-') {
        Some(("gone", _)) => Answer::Gone,
        Some(("unknown", _)) => Answer::Unknown,
        _ => Answer::Taken,
    });
    let first = site.send(&ada, &group, "first").await;
    providers.until_shown(&first, 3).await;
    for (name, device) in &gone {
        site.until_forgotten(device, name).await;
    }
    let second = site.send(&ada, &group, "second").await;
    providers.until_shown(&second, 3).await;
    let third = site.send(&ada, &group, "third").await;
    providers.until_shown(&third, 3).await;
    for message in [&first, &second, &third] {
        assert_eq!(providers.devices_shown(message), ["apns", "fcm", "web"]);
    }
    for (name, _) in &gone {
        let asked = providers.asked().iter().filter(|(push, _)| push.device == *name).count();
        assert_eq!(asked, 2, "{name} is not asked again");
    }
    // It may come back under another address.
    site.wants_pushes(&gone[0].1, providers, Kind::Apns, "back").await;
    let fourth = site.send(&ada, &group, "fourth").await;
    providers.until_shown(&fourth, 4).await;
    assert_eq!(providers.devices_shown(&fourth), ["apns", "back", "fcm", "web"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_ours_that_has_expired_is_made_anew() {
    let Stage { site, providers, .. } = &Stage::embedded().await;
    let ada = site.join("ada").await;
    let bob = site.join_with(providers, Kind::Apns, "bob").await;
    let carol = site.join_with(providers, Kind::Fcm, "carol").await;
    let group = site.group(&ada, "t", &[&bob, &carol]).await;
    let mut refused = BTreeSet::new();
    providers.answer(move |push| if refused.insert(push.kind) { Answer::Expired } else { Answer::Taken });
    let message = site.send(&ada, &group, "hello").await;
    providers.until_shown(&message, 2).await;
    assert_eq!(providers.devices_shown(&message), ["bob", "carol"]);
}

/// Whether each of the devices was shown each of the messages.
fn all_shown(asked: &[(Push, Answer)], devices: &[&str], messages: &[String]) -> bool {
    let taken = |answer: &Answer| matches!(answer, Answer::Taken | Answer::Slowly(_));
    let shown: BTreeSet<(&str, &str)> = asked
        .iter()
        .filter(|(_, answer)| taken(answer))
        .map(|(push, _)| (push.device.as_str(), push.message.as_str()))
        .collect();
    devices.iter().all(|device| messages.iter().all(|message| shown.contains(&(*device, message.as_str()))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_asks_to_wait_delays_only_itself() {
    one_waits(&Stage::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_asks_to_wait_delays_only_itself_on_kafka() {
    let Some(stage) = Stage::on_kafka().await else { return };
    one_waits(&stage).await;
}

/// Seconds that a provider asks to wait: longer than anybody else may be delayed.
const WAIT: u64 = 7;
/// What "at once" is on a machine that does other work as well.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn one_waits(stage: &Stage) {
    let Stage { site, providers, .. } = stage;
    let ada = site.join("ada").await;
    let bob = site.join_with(providers, Kind::Apns, "bob").await;
    let carol = site.join_with(providers, Kind::Fcm, "carol").await;
    let dave = site.join_with(providers, Kind::Web, "dave").await;
    let with_all = site.group(&ada, "with all", &[&bob, &carol, &dave]).await;
    let without = site.group(&ada, "without bob", &[&carol, &dave]).await;
    // Until the first push of all, there is nothing to wait for.
    let before = site.send(&ada, &with_all, "before").await;
    providers.until_shown(&before, 3).await;
    let mut until = None;
    providers.answer(move |push| {
        let until = *until.get_or_insert(Instant::now() + Duration::from_secs(WAIT));
        let waits = push.kind == Kind::Apns && Instant::now() < until;
        if waits {
            if push.body.ends_with('0') { Answer::Away(WAIT) } else { Answer::Busy(WAIT) }
        } else {
            Answer::Taken
        }
    });
    let begun = Instant::now();
    let (mut to_all, mut to_others) = (Vec::new(), Vec::new());
    for number in 0..5 {
        to_all.push(site.send(&ada, &with_all, &format!("to all {number}")).await);
        to_others.push(site.send(&ada, &without, &format!("to others {number}")).await);
    }
    let others = ["carol", "dave"];
    let done = |asked: &[(Push, Answer)]| {
        all_shown(asked, &others, &to_all) && all_shown(asked, &others, &to_others)
    };
    providers.until(AT_ONCE, "the other providers' devices are shown everything", done).await;
    // A device shows one push a conversation: of those that waited, the newest.
    let newest = &to_all[to_all.len() - 1..];
    let what = "the newest is shown once the wait is over";
    providers.until(DEADLINE, what, |asked| all_shown(asked, &["bob"], newest)).await;
    // It was left alone meanwhile, but for what was on its way.
    let asked = providers.asked();
    let early = asked.iter().filter(|(push, _)| {
        let after = push.at.saturating_duration_since(begun);
        push.kind == Kind::Apns && after > Duration::from_secs(2) && after < Duration::from_secs(WAIT - 1)
    });
    assert_eq!(early.count(), 0, "it is asked although it asked to wait");
    for message in newest {
        assert_eq!(providers.devices_shown(message), ["bob", "carol", "dave"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_service_that_never_answers_delays_nobody_else() {
    one_hangs(&Stage::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_service_that_never_answers_delays_nobody_else_on_kafka() {
    let Some(stage) = Stage::on_kafka().await else { return };
    one_hangs(&stage).await;
}

/// How long others may wait for one who never answers: the time of one request, and as much again.
const A_FEW_SECONDS: Duration = Duration::from_secs(10);

async fn one_hangs(stage: &Stage) {
    let Stage { site, providers, .. } = stage;
    let ada = site.join("ada").await;
    let bob = site.join_with(providers, Kind::Apns, "bob").await;
    let carol = site.join_with(providers, Kind::Web, "carol").await;
    // At a push service of its own.
    let frank = site.join("frank").await;
    let mut device = providers.device(Kind::Web, "frank");
    let elsewhere = providers.url.replace("127.0.0.1", "localhost");
    device["webPush"]["endpoint"] = json!(format!("{elsewhere}/web/frank"));
    site.done(&frank, "registerDevice", json!({ "device": device }), "provider").await;
    let with_frank = site.group(&ada, "with frank", &[&bob, &carol, &frank]).await;
    let without = site.group(&ada, "without frank", &[&bob, &carol]).await;
    let mut hung = 0;
    providers.answer(move |push| {
        let hangs = push.device == "frank" && hung < 1;
        hung += u32::from(hangs);
        if hangs { Answer::Silence } else { Answer::Taken }
    });
    let mut messages = Vec::new();
    for number in 0..3 {
        messages.push(site.send(&ada, &with_frank, &format!("a{number}")).await);
        messages.push(site.send(&ada, &without, &format!("b{number}")).await);
    }
    let others = ["bob", "carol"];
    providers
        .until(A_FEW_SECONDS, "the others are shown everything", |asked| all_shown(asked, &others, &messages))
        .await;
    let newest = &messages[messages.len() - 2..messages.len() - 1];
    let limit = Duration::from_secs(45);
    providers.until(limit, "frank gets the newest", |asked| all_shown(asked, &["frank"], newest)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_push_is_seen_once_over_kills_of_an_embedded_server() {
    survive_kills(Stage::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_push_is_seen_once_over_kills_of_the_worker() {
    let Some(stage) = Stage::on_kafka().await else { return };
    survive_kills(stage).await;
}

const KILLS: usize = 2;
const MESSAGES_A_ROUND: usize = 8;
const GROUPS: usize = 3;

async fn survive_kills(mut stage: Stage) {
    let devices = ["bob", "carol", "dave", "erin"];
    let ada = stage.site.join("ada").await;
    let mut members = Vec::new();
    for (name, kind) in devices.into_iter().zip([Kind::Apns, Kind::Fcm, Kind::Web, Kind::Fcm]) {
        members.push(stage.site.join_with(&stage.providers, kind, name).await);
    }
    let mut groups = Vec::new();
    for _ in 0..GROUPS {
        groups.push(stage.site.group(&ada, "t", &members.iter().collect::<Vec<_>>()).await);
    }
    stage.providers.answer(|_| Answer::Slowly(Duration::from_millis(40)));
    let mut messages = Vec::new();
    for round in 0..=KILLS {
        let taken_before = stage.providers.taken().len();
        let site = &stage.site;
        let sends = groups.iter().flat_map(|group| {
            let ada = &ada;
            (0..MESSAGES_A_ROUND)
                .map(move |number| async move { site.send(ada, group, &format!("{round}-{number}")).await })
        });
        messages.extend(futures_util::future::join_all(sends).await);
        if round < KILLS {
            let some = devices.len() * MESSAGES_A_ROUND / 2;
            let what = format!("round {round} is under way");
            stage.providers.until(DEADLINE, &what, |asked| asked.len() >= taken_before + some).await;
            stage.replace_what_pushes();
        }
    }
    let limit = Duration::from_mins(1);
    stage
        .providers
        .until(limit, "everybody is shown everything", |asked| all_shown(asked, &devices, &messages))
        .await;
    // One more of each group, so that what is repeated at the end is seen as well.
    let mut last = Vec::new();
    for group in &groups {
        last.push(stage.site.send(&ada, group, "last").await);
    }
    stage.providers.until(limit, "and the last", |asked| all_shown(asked, &devices, &last)).await;
    let taken = stage.providers.taken();
    let mut ids: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for push in &taken {
        ids.entry((&push.device, &push.message)).or_default().insert(&push.id);
    }
    assert_eq!(ids.len(), devices.len() * (messages.len() + last.len()), "nothing else is pushed");
    let twice: Vec<_> = ids.iter().filter(|(_, ids)| ids.len() != 1).collect();
    assert!(twice.is_empty(), "seen more than once: {twice:?}");
    println!("{} pushes in {} requests over {KILLS} kills", ids.len(), taken.len());
}
