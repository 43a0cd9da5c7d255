//! Pushes: whom they go to, and what they say.

use std::collections::BTreeSet;

use domain::{adapter::ambient::SystemClock, port::Clock as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    installation::Installation,
    listener::Listener,
    people::{Device, Site},
    providers::{DEADLINE, Kind, Providers, Push},
    push_stage::Stage,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_pushes_once_to_each_away_device_of_each_member() {
    let Stage { site, providers, .. } = &Stage::embedded().await;
    let ada = site.join_with(providers, Kind::Apns, "ada").await;
    let bob = site.join_with(providers, Kind::Apns, "bob").await;
    let bobs_tablet = site.sign_in("bob").await;
    site.wants_pushes(&bobs_tablet, providers, Kind::Fcm, "bobs-tablet").await;
    // One without a device for pushes.
    site.sign_in("bob").await;
    let carol = site.join_with(providers, Kind::Web, "carol").await;
    let group = site.group(&ada, "Climbing", &[&bob, &carol]).await;
    let direct = site.direct(&ada, &bob).await;

    let first = site.send(&ada, &group, "at seven?").await;
    providers.until_shown(&first, 3).await;
    let second = site.send(&ada, &direct, "just us two").await;
    providers.until_shown(&second, 2).await;
    let third = site.send(&ada, &group, "or at eight?").await;
    providers.until_shown(&third, 3).await;
    let (fourth, seq) = site.send_with_seq(&bob, &group, "eight").await;
    providers.until_shown(&fourth, 2).await;
    // Badges begin anew with what is read.
    site.read(&carol, &group, seq).await;
    let fifth = site.send(&ada, &group, "good").await;
    providers.until_shown(&fifth, 3).await;

    let everybody_else = ["bob", "bobs-tablet", "carol"];
    assert_eq!(providers.devices_shown(&first), everybody_else);
    assert_eq!(providers.devices_shown(&second), ["bob", "bobs-tablet"]);
    assert_eq!(providers.devices_shown(&third), everybody_else);
    // Nor to the sender's other devices.
    assert_eq!(providers.devices_shown(&fourth), ["ada", "carol"]);
    assert_eq!(providers.devices_shown(&fifth), everybody_else);
    let all = providers.taken();
    let of = |message: &str, device: &str| {
        let mut found = all.iter().filter(|push| push.message == message && push.device == device);
        found.next().unwrap_or_else(|| panic!("{device} was shown it"))
    };
    let says = |push: &Push| (push.title.clone(), push.body.clone(), push.badge);
    let climbing = |body: &str, badge| ("Climbing".to_owned(), body.to_owned(), badge);
    for device in everybody_else {
        assert_eq!(says(of(&first, device)), climbing("ada: at seven?", 1), "{device}");
        assert_eq!(of(&first, device).conversation, group);
        assert_eq!(of(&first, device).collapse, of(&third, device).collapse, "the newer replaces the older");
    }
    for device in ["bob", "bobs-tablet"] {
        assert_eq!(says(of(&second, device)), ("ada".to_owned(), "just us two".to_owned(), 2));
        assert_ne!(
            of(&second, device).collapse,
            of(&first, device).collapse,
            "conversations stand side by side"
        );
        assert_eq!(says(of(&third, device)), climbing("ada: or at eight?", 3));
        // Whoever sends has read what came before.
        assert_eq!(says(of(&fifth, device)), climbing("ada: good", 2));
    }
    assert_eq!(says(of(&third, "carol")), climbing("ada: or at eight?", 2));
    assert_eq!(says(of(&fourth, "ada")), climbing("bob: eight", 1));
    assert_eq!(says(of(&fourth, "carol")), climbing("bob: eight", 3));
    assert_eq!(says(of(&fifth, "carol")), climbing("ada: good", 1));
    let ids: BTreeSet<&str> = all.iter().map(|push| push.id.as_str()).collect();
    assert_eq!(ids.len(), all.len(), "each has an id of its own");
    assert_eq!([site.push_provider(&bob).await, site.push_provider(&bobs_tablet).await], ["APNS", "FCM"]);
    assert_eq!(site.push_provider(&carol).await, "WEB_PUSH");
}

/// Hours that begin so long from now and last for two, in UTC.
fn quiet_hours(begin_in_minutes: i64) -> Value {
    let minute = SystemClock.now().seconds() / 60 + begin_in_minutes;
    let time = |minute: i64| format!("{:02}:{:02}", minute.rem_euclid(1440) / 60, minute.rem_euclid(60));
    json!({ "quietHours": { "starts": time(minute), "ends": time(minute + 120), "timeZone": "UTC" } })
}

async fn mute(site: &Site, device: &Device, group: &str, until: Value) {
    let input = json!({ "conversationId": group, "until": until });
    site.done(device, "muteConversation", input, "mutedUntil").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_pushed_who_is_there_or_does_not_want_it_or_has_left() {
    let Stage { site, providers, .. } = &Stage::embedded().await;
    let mut people = Vec::new();
    for name in ["ada", "lena", "mia", "nils", "quinn", "quentin", "uma", "otto", "rita", "wendy"] {
        people.push(site.join_with(providers, Kind::Fcm, name).await);
    }
    let [ada, lena, mia, nils, quinn, quentin, uma, otto, rita, wendy] = &people[..] else { panic!("ten") };
    let lenas_phone = site.sign_in("lena").await;
    site.wants_pushes(&lenas_phone, providers, Kind::Apns, "lenas-phone").await;
    let group = site.group(ada, "t", &[lena, mia, nils, quinn, quentin, uma, otto, rita, wendy]).await;
    let mut listener = Listener::open(&site.url(), &lena.token, None).await.expect("opens");
    listener.opening().await.expect("live");
    mute(site, mia, &group, Value::Null).await;
    mute(site, nils, &group, json!("2020-01-01T00:00:00Z")).await;
    site.done(quinn, "setQuietHours", quiet_hours(-60), "quietHours { starts }").await;
    site.done(quentin, "setQuietHours", quiet_hours(180), "quietHours { starts }").await;
    site.done(uma, "unregisterDevice", json!({}), "__typename").await;
    let otto_again = site.sign_in("otto").await;
    site.done(&otto_again, "signOut", json!({ "sessionId": otto.session }), "__typename").await;
    let removal = json!({ "conversationId": group, "userId": rita.user });
    site.done(ada, "removeMember", removal, "conversation { id }").await;

    let away = ["lenas-phone", "nils", "quentin", "wendy"];
    let first = site.send(ada, &group, "first").await;
    providers.until_shown(&first, away.len()).await;
    // Once it has been shown about the second, whatever there was to show about the first has been.
    let second = site.send(ada, &group, "second").await;
    providers.until_shown(&second, away.len()).await;
    assert_eq!(providers.devices_shown(&first), away);
    assert_eq!(providers.devices_shown(&second), away);

    // Mia is told when somebody means her.
    let content = json!({ "text": { "text": "@mia", "mentions": [mia.user] } });
    let input = json!({ "conversationId": group, "clientMessageId": "mention", "content": content });
    let sent = site.done(ada, "sendMessage", input, "message { id }").await;
    let mention = sent["message"]["id"].as_str().expect("an id").to_owned();
    providers.until_shown(&mention, away.len() + 1).await;
    assert_eq!(providers.devices_shown(&mention), ["lenas-phone", "mia", "nils", "quentin", "wendy"]);

    // And each is pushed again when the reason is gone.
    drop(listener);
    mute(site, mia, &group, json!("2020-01-01T00:00:00Z")).await;
    site.done(quinn, "setQuietHours", json!({}), "quietHours { starts }").await;
    site.wants_pushes(uma, providers, Kind::Fcm, "uma").await;
    site.wants_pushes(&otto_again, providers, Kind::Fcm, "otto").await;
    let joining = json!({ "conversationId": group, "userIds": [rita.user] });
    site.done(ada, "addMembers", joining, "conversation { id }").await;
    let everybody =
        ["lena", "lenas-phone", "mia", "nils", "otto", "quentin", "quinn", "rita", "uma", "wendy"];
    let begun = Instant::now();
    loop {
        let third = site.send(ada, &group, "third").await;
        providers.until_shown(&third, everybody.len() - 1).await;
        // That the subscription is gone is noticed a moment later.
        if providers.devices_shown(&third) == everybody {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "{:?}", providers.devices_shown(&third));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_the_worker_came_is_not_pushed() {
    let providers = &Providers::start().await;
    let Some(installation) = Installation::on_kafka(providers.settings()) else { return };
    let api = installation.start("api");
    let site = &Site::new(&api.url);
    let ada = site.join_with(providers, Kind::Apns, "ada").await;
    let bob = site.join_with(providers, Kind::Apns, "bob").await;
    let carol = site.join_with(providers, Kind::Fcm, "carol").await;
    let dave = site.join_with(providers, Kind::Web, "dave").await;
    let group = site.group(&ada, "t", &[&bob, &carol, &dave]).await;
    let (first, seq) = site.send_with_seq(&ada, &group, "read by bob").await;
    site.read(&bob, &group, seq).await;
    let second = site.send(&dave, &group, "whoever writes has read what is above").await;
    let third = site.send(&ada, &group, "read by nobody").await;
    let _worker = installation.start("worker");
    providers.until_shown(&third, 3).await;
    assert_eq!(providers.devices_shown(&first), ["carol"]);
    // Neither to its sender, nor to whoever wrote later.
    assert_eq!(providers.devices_shown(&second), ["bob", "carol"]);
    assert_eq!(providers.devices_shown(&third), ["bob", "carol", "dave"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_live_on_one_node_is_not_pushed_by_the_worker() {
    let Some(stage) = Stage::on_kafka().await else { return };
    let (site, providers) = (&stage.site, &stage.providers);
    let ada = site.join("ada").await;
    let bob = site.join_with(providers, Kind::Fcm, "bob").await;
    let carol = site.join_with(providers, Kind::Fcm, "carol").await;
    let group = site.group(&ada, "t", &[&bob, &carol]).await;
    let mut listener = Listener::open(&site.url(), &bob.token, None).await.expect("opens");
    listener.opening().await.expect("live");
    let begun = Instant::now();
    let mut silent = 0;
    // Word of it takes a moment to get from node to node; then it holds.
    while silent < 3 {
        assert!(begun.elapsed() < DEADLINE, "bob is there, and pushed to");
        let message = site.send(&ada, &group, "are you there?").await;
        providers.until_shown(&message, 1).await;
        let barrier = site.send(&ada, &group, "and now?").await;
        providers.until_shown(&barrier, 1).await;
        silent = if providers.devices_shown(&message) == ["carol"] { silent + 1 } else { 0 };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_without_text_says_only_who_and_where() {
    let Stage { site, providers, .. } = &Stage::embedded_with(&[("CONFAB_PUSH_TEXT", "off")]).await;
    let ada = site.join("ada").await;
    let mut members = Vec::new();
    for kind in Kind::ALL {
        members.push(site.join_with(providers, kind, &format!("{kind:?}").to_lowercase()).await);
    }
    let group = site.group(&ada, "Climbing", &members.iter().collect::<Vec<_>>()).await;
    let message = site.send(&ada, &group, "a secret").await;
    providers.until_shown(&message, 3).await;
    for push in providers.taken() {
        assert_eq!((push.title.as_str(), push.body.as_str()), ("Climbing", "ada: New message"), "{push:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn register_device_names_what_is_wrong() {
    let Stage { site, providers, .. } =
        &Stage::embedded_with(&[("CONFAB_PUSH_PRIVATE_ENDPOINTS", "off")]).await;
    let ada = site.join("ada").await;
    let apns = |token: &str| (json!({ "apns": { "token": token } }), ["device", "apns", "token"]);
    let fcm = |token: &str| (json!({ "fcm": { "token": token } }), ["device", "fcm", "token"]);
    let good = providers.device(Kind::Web, "good");
    let web = |field: &'static str, value: &str| {
        let mut device = good.clone();
        device["webPush"]["endpoint"] = json!("https://push.example/x");
        device["webPush"][field] = json!(value);
        (device, ["device", "webPush", field])
    };
    let endpoint = |endpoint: &str| web("endpoint", endpoint);
    // An uncompressed point begins with the byte 4: a B, and the upper bits of an A.
    let key = |bytes: usize| "B".to_owned() + &"A".repeat((bytes * 8).div_ceil(6) - 1);
    let long = format!("https://push.example/{}", "x".repeat(4096));
    let wrong = [
        apns(""),
        apns(&"ab".repeat(31)),
        apns(&"ab".repeat(101)),
        apns(&"xy".repeat(32)),
        fcm(""),
        fcm("two words"),
        fcm(&"x".repeat(4097)),
        endpoint(""),
        endpoint("push.example/x"),
        endpoint("ftp://push.example/x"),
        endpoint("http://push.example/x"),
        endpoint("https://"),
        endpoint(&long),
        endpoint("https://127.0.0.1/x"),
        endpoint("https://127.1/x"),
        endpoint("https://2130706433/x"),
        endpoint("https://10.1.2.3/x"),
        endpoint("https://192.168.1.1:8443/x"),
        endpoint("https://169.254.169.254/latest"),
        endpoint("https://[::1]/x"),
        endpoint("https://[::ffff:10.0.0.1]/x"),
        endpoint(&providers.url),
        web("p256dh", ""),
        web("p256dh", "no base64!"),
        web("p256dh", &key(64)),
        web("p256dh", &key(66)),
        web("auth", ""),
        web("auth", &key(15)),
        web("auth", &key(17)),
    ];
    let mut passed = Vec::new();
    for (device, field) in wrong {
        let payload = site.call(&ada, "registerDevice", json!({ "device": device }), "provider").await;
        let error = &payload["userErrors"][0];
        if error["code"] != "INVALID_INPUT"
            || error["field"] != json!(field)
            || !payload["provider"].is_null()
        {
            passed.push(format!("{device}: {payload}"));
        }
    }
    assert!(passed.is_empty(), "{} of them pass: {passed:#?}", passed.len());
    assert_eq!(site.push_provider(&ada).await, Value::Null);
    let (device, _) = endpoint("https://push.example/x");
    site.done(&ada, "registerDevice", json!({ "device": device }), "provider").await;
    assert_eq!(site.push_provider(&ada).await, "WEB_PUSH");
}

#[tokio::test(flavor = "multi_thread")]
async fn register_device_refuses_this_machine_by_name_and_keys_that_are_none() {
    let Stage { site, providers, .. } =
        &Stage::embedded_with(&[("CONFAB_PUSH_PRIVATE_ENDPOINTS", "off")]).await;
    let ada = site.join("ada").await;
    let mut good = providers.device(Kind::Web, "good");
    good["webPush"]["endpoint"] = json!("https://push.example/x");
    // Uncompressed, of the right length, and no point of the curve.
    let off_the_curve = format!("B{}", "A".repeat(86));
    let mut passed = Vec::new();
    for (field, value) in [("endpoint", "https://localhost/x"), ("p256dh", &off_the_curve)] {
        let mut device = good.clone();
        device["webPush"][field] = json!(value);
        let payload = site.call(&ada, "registerDevice", json!({ "device": device }), "provider").await;
        let error = &payload["userErrors"][0];
        if error["code"] != "INVALID_INPUT" || error["field"] != json!(["device", "webPush", field]) {
            passed.push(format!("{field} {value}: {payload}"));
        }
    }
    assert!(passed.is_empty(), "{} of them pass: {passed:#?}", passed.len());
}
