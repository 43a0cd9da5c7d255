//! What the example claims, proven against the server that `CONFAB_URL` names.

mod line;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use chat::{
    Chat, PageSizes, State,
    operations::{
        CreateGroup, CreateGroupInput, CreateGroupVariables, History, HistoryVariables, MessageContentInput,
        RegisterInput, Send, SendMessageInput, SendVariables, SignInInput, TextContentInput, UserErrorCode,
    },
    session::{Error, Session},
};
use cynic::{Id, MutationBuilder, QueryBuilder};
use jiff::{SignedDuration, Timestamp};
use line::Line;
use reqwest::Url;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const TOKEN_LIVES: Duration = Duration::from_mins(15);
const SIZES: PageSizes = PageSizes { conversations: 3, messages: 5 };

fn unique(prefix: &str) -> String {
    format!("{prefix}-{:012x}", getrandom::u64().expect("randomness"))
}

fn server() -> Url {
    let address = std::env::var("CONFAB_URL").unwrap_or_else(|_| "http://127.0.0.1:4000".to_owned());
    Url::parse(&address).expect("CONFAB_URL").join("/graphql").expect("a path")
}

/// Ada, whose line can be cut and whose clock can go wrong; Bob, who has neither; and their group.
struct World {
    line: Line,
    ada: Arc<Session>,
    bob: Session,
    account: RegisterInput,
    group: Id,
    /// Milliseconds that Ada's clock is ahead of the server's, until she has a new token.
    ahead: Arc<AtomicI64>,
}

impl World {
    async fn new() -> World {
        let line = Line::open(&server()).await;
        let account = |name: &str| RegisterInput {
            username: unique(name),
            password: unique("password"),
            display_name: name.to_owned(),
            device_name: None,
        };
        let ahead = Arc::new(AtomicI64::new(0));
        let (adas, bobs) = (account("ada"), account("bob"));
        let ada = Session::register(line.url.clone(), adas.clone()).await.expect("Ada registers");
        let (credentials, first, wrong) =
            (ada.credentials(), ada.credentials().borrow().clone(), Arc::clone(&ahead));
        let ada = ada.with_clock(move || {
            let renewed = credentials.borrow().refresh_token != first.refresh_token;
            Timestamp::now() + SignedDuration::from_millis(if renewed { 0 } else { wrong.load(Relaxed) })
        });
        let bob = Session::register(server(), bobs).await.expect("Bob registers");
        let group = create_group(&bob, "tea", &ada).await;
        World { line, ada: Arc::new(ada), bob, account: adas, group, ahead }
    }

    async fn chat(&self) -> Chat {
        let chat = Chat::start(Arc::clone(&self.ada), SIZES).await.expect("Ada's chat starts");
        chat.open(&self.group).await.expect("the history opens");
        chat
    }

    async fn say(&self, text: &str) {
        let input = SendMessageInput {
            conversation_id: self.group.clone(),
            client_message_id: unique("said"),
            content: MessageContentInput::Text(TextContentInput { text: text.to_owned() }),
        };
        let answer = self.bob.ask(&Send::build(SendVariables { input })).await.expect("Bob sends");
        assert!(answer.send_message.is_some_and(|payload| payload.message.is_some()));
    }

    async fn stored(&self) -> usize {
        let variables = HistoryVariables { id: self.group.clone(), last: 100, before: None };
        let answer = self.bob.ask(&History::build(variables)).await.expect("Bob reads");
        answer.conversation.and_then(|it| it.messages).map_or(0, |page| page.nodes.len())
    }

    async fn shows(&self, chat: &Chat, texts: &[&str]) {
        let expected: Vec<_> = texts.iter().map(|text| (*text, true)).collect();
        until(chat, |state| state.history(&self.group) == expected).await;
    }
}

async fn create_group(owner: &Session, title: &str, other: &Session) -> Id {
    let input = CreateGroupInput { title: title.to_owned(), member_ids: vec![other.user.id.clone()] };
    let answer = owner.ask(&CreateGroup::build(CreateGroupVariables { input })).await.expect("a group");
    answer.create_group.and_then(|payload| payload.conversation).expect("a conversation").id
}

async fn until(chat: &Chat, holds: impl Fn(&State) -> bool) {
    let mut state = chat.state();
    let seen = timeout(PATIENCE, state.wait_for(|state| holds(state))).await;
    assert!(matches!(seen, Ok(Ok(_))), "not within {PATIENCE:?}");
}

#[tokio::test]
async fn signs_in_on_another_device_and_tells_a_wrong_password_by_its_code() {
    let World { ada, account: RegisterInput { username, password, .. }, line, .. } = World::new().await;
    let wrong =
        SignInInput { username: username.clone(), password: "another one".to_owned(), device_name: None };
    let refusal = Session::sign_in(line.url.clone(), wrong).await.err();
    assert!(matches!(refusal, Some(Error::Refused { code: UserErrorCode::InvalidCredentials, .. })));
    let right = SignInInput { username, password, device_name: Some("tablet".to_owned()) };
    let again = Session::sign_in(line.url.clone(), right).await.expect("Ada signs in");
    assert_eq!(again.user, ada.user);
}

#[tokio::test]
async fn pages_through_all_conversations_the_latest_first() {
    let world = World::new().await;
    let titles: Vec<String> = (0..7).map(|number| format!("group {number}")).collect();
    for title in &titles {
        create_group(&world.bob, title, &world.ada).await;
    }
    let chat = Chat::start(Arc::clone(&world.ada), SIZES).await.expect("Ada's chat starts");
    while chat.more_conversations().await.expect("a page") {}
    let shown: Vec<String> =
        chat.state().borrow().conversations.iter().filter_map(|it| it.title.clone()).collect();
    let expected: Vec<String> = titles.into_iter().rev().chain(["tea".to_owned()]).collect();
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn pages_back_through_a_history_each_message_once() {
    let world = World::new().await;
    let texts: Vec<String> = (0..11).map(|number| format!("said {number}")).collect();
    for text in &texts {
        world.say(text).await;
    }
    let chat = world.chat().await;
    assert_eq!(chat.state().borrow().history(&world.group).len(), 5);
    while chat.older(&world.group).await.expect("a page") {}
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    world.shows(&chat, &texts).await;
}

#[tokio::test]
async fn shows_a_send_at_once_and_one_message_when_the_event_comes_before_the_answer() {
    let world = World::new().await;
    let chat = Arc::new(world.chat().await);
    world.line.hold_http();
    let (sender, group) = (Arc::clone(&chat), world.group.clone());
    let sending = tokio::spawn(async move { sender.send(&group, "mine").await });
    until(&chat, |state| state.history(&world.group) == [("mine", false)]).await;
    world.shows(&chat, &["mine"]).await;
    assert!(!sending.is_finished());
    world.line.mend();
    sending.await.expect("no panic").expect("it is acked");
    world.say("yours").await;
    world.shows(&chat, &["mine", "yours"]).await;
}

#[tokio::test]
async fn sends_again_when_the_answer_is_lost_and_that_is_one_message() {
    let world = World::new().await;
    let chat = Arc::new(world.chat().await);
    world.line.hold_http();
    world.line.hold_sockets();
    let (sender, group) = (Arc::clone(&chat), world.group.clone());
    let sending = tokio::spawn(async move { sender.send(&group, "in the tunnel").await });
    while world.stored().await == 0 {}
    world.line.cut();
    assert_eq!(chat.state().borrow().history(&world.group), [("in the tunnel", false)]);
    world.line.mend();
    sending.await.expect("no panic").expect("it is acked");
    world.shows(&chat, &["in the tunnel"]).await;
    assert_eq!(world.stored().await, 1);
}

#[tokio::test]
async fn goes_on_after_a_cut_where_it_was_without_loss_and_without_doubles() {
    let world = World::new().await;
    let chat = world.chat().await;
    world.say("before").await;
    world.shows(&chat, &["before"]).await;
    world.line.cut();
    let missed: Vec<String> = (0..30).map(|number| format!("missed {number}")).collect();
    for text in &missed {
        world.say(text).await;
    }
    assert_eq!(chat.state().borrow().history(&world.group).len(), 1, "the line is cut");
    world.line.mend();
    world.say("back").await;
    let texts: Vec<&str> =
        ["before"].into_iter().chain(missed.iter().map(String::as_str)).chain(["back"]).collect();
    world.shows(&chat, &texts).await;
}

#[tokio::test]
async fn fetches_anew_when_so_much_was_missed_that_it_cannot_be_told() {
    let world = World::new().await;
    let chat = world.chat().await;
    world.say("before").await;
    world.shows(&chat, &["before"]).await;
    world.line.cut();
    let missed: Vec<String> = (0..60).map(|number| format!("much {number}")).collect();
    for text in &missed {
        world.say(text).await;
    }
    world.line.mend();
    until(&chat, |state| state.history(&world.group).last() == Some(&("much 59", true))).await;
    while chat.older(&world.group).await.expect("a page") {}
    let texts: Vec<&str> = ["before"].into_iter().chain(missed.iter().map(String::as_str)).collect();
    world.shows(&chat, &texts).await;
}

#[tokio::test]
async fn renews_a_token_that_ends_once_for_all_who_wait_and_keeps_its_socket() {
    let world = World::new().await;
    let chat = world.chat().await;
    let renewals = Arc::new(AtomicUsize::new(0));
    let (count, mut credentials) = (Arc::clone(&renewals), world.ada.credentials());
    tokio::spawn(async move {
        while credentials.changed().await.is_ok() {
            count.fetch_add(1, Relaxed);
        }
    });
    world.ahead.store(i64::try_from(TOKEN_LIVES.as_millis()).expect("it fits"), Relaxed);
    let (sent, opened) = tokio::join!(chat.send(&world.group, "later"), chat.open(&world.group));
    sent.expect("it is acked");
    opened.expect("the history opens");
    assert_eq!(renewals.load(Relaxed), 1);
    world.say("still here").await;
    world.shows(&chat, &["later", "still here"]).await;
}

#[tokio::test]
async fn renews_a_token_that_the_server_refuses() {
    let world = World::new().await;
    let mut kept = world.ada.credentials().borrow().clone();
    kept.access_token = "spoiled".to_owned();
    let again = Session::new(world.line.url.clone(), world.ada.user.clone(), kept);
    create_group(&again, "again", &world.bob).await;
    assert_ne!(again.credentials().borrow().access_token, "spoiled");
}
