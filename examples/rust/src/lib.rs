//! A chat on Confab with cynic and graphql-ws-client: lists, sends that are shown before they are acked, and events that
//! go on where they were cut. Start with [`Chat`].

pub mod live;
pub mod operations;
pub mod session;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use cynic::{Id, MutationBuilder, QueryBuilder};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use live::{back_off, follow};
use operations::{
    Conversation, Conversations, ConversationsVariables, Event, History, HistoryVariables, Message,
    MessageContent, MessageContentInput, PageInfo, Send, SendMessageInput, SendVariables, TextContentInput,
};
use session::{Error, Session, accepted, present};

/// Messages that may wait to be sent.
const OUTBOX_MAX: usize = 100;

/// What a chat shows.
#[derive(Default)]
pub struct State {
    pub conversations: Vec<Conversation>,
    live: bool,
    list: PageInfo,
    /// By conversation, and in it by `seq`: what comes twice is in the same place.
    messages: HashMap<String, BTreeMap<i32, Message>>,
    pages: HashMap<String, PageInfo>,
    outbox: Vec<Pending>,
}

#[derive(Clone)]
struct Pending {
    conversation_id: Id,
    /// Made before the first try, and the same for every other.
    client_message_id: String,
    text: String,
}

impl State {
    /// Texts, oldest first, each with whether it is acked; last what is not, unless its event came first.
    pub fn history(&self, conversation_id: &Id) -> Vec<(&str, bool)> {
        let acked = self.messages.get(conversation_id.inner());
        let known = |key: &str| {
            acked.is_some_and(|all| {
                all.values().any(|message| message.client_message_id.as_deref() == Some(key))
            })
        };
        let waiting = self
            .outbox
            .iter()
            .filter(|it| it.conversation_id == *conversation_id && !known(&it.client_message_id));
        let said = acked.into_iter().flat_map(BTreeMap::values).map(|message| (text_of(message), true));
        said.chain(waiting.map(|it| (it.text.as_str(), false))).collect()
    }

    fn show(&mut self, conversation_id: &Id, message: Message) {
        self.messages.entry(conversation_id.inner().to_owned()).or_default().insert(message.seq, message);
    }

    fn move_to_top(&mut self, conversation: Conversation) {
        self.conversations.retain(|other| other.id != conversation.id);
        self.conversations.insert(0, conversation);
    }
}

fn text_of(message: &Message) -> &str {
    match &message.content {
        Some(MessageContent::Text(content)) => &content.text,
        Some(MessageContent::System(content)) => &content.text,
        Some(MessageContent::Newer) | None => "something newer",
    }
}

#[derive(Clone, Copy)]
pub struct PageSizes {
    pub conversations: i32,
    pub messages: i32,
}

/// A running chat; it stops when it is dropped.
pub struct Chat {
    lists: Arc<Lists>,
    outbox: mpsc::Sender<(Pending, oneshot::Sender<Result<(), Error>>)>,
    _tasks: JoinSet<()>,
}

impl Chat {
    /// Live first, lists after `StreamOpened`: nothing falls between the two.
    pub async fn start(session: Arc<Session>, sizes: PageSizes) -> Result<Chat, Error> {
        let lists = Arc::new(Lists { session, sizes, state: watch::Sender::default() });
        let (outbox, waiting) = mpsc::channel(OUTBOX_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(deliver(Arc::clone(&lists), waiting));
        let listening = Arc::clone(&lists);
        tasks.spawn(async move { follow(&listening.session, |event| listening.take(event)).await });
        // It ends with the chat alone.
        let mut state = lists.state.subscribe();
        let _opened = state.wait_for(|state| state.live).await.map(drop);
        lists.fetch_conversations(None).await?;
        Ok(Chat { lists, outbox, _tasks: tasks })
    }

    /// What is shown, now and whenever it changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.lists.state.subscribe()
    }

    pub async fn more_conversations(&self) -> Result<bool, Error> {
        let PageInfo { has_next_page, end_cursor, .. } = self.lists.state.borrow().list.clone();
        if has_next_page {
            self.lists.fetch_conversations(end_cursor).await?;
        }
        Ok(has_next_page)
    }

    pub async fn open(&self, conversation_id: &Id) -> Result<(), Error> {
        self.lists.fetch_history(conversation_id, None).await
    }

    pub async fn older(&self, conversation_id: &Id) -> Result<bool, Error> {
        let page = self.lists.state.borrow().pages.get(conversation_id.inner()).cloned();
        let Some(PageInfo { has_previous_page: true, start_cursor, .. }) = page else {
            return Ok(false);
        };
        self.lists.fetch_history(conversation_id, start_cursor).await?;
        Ok(true)
    }

    /// Shows a message at once and sends it after those before it; done when it is acked.
    pub async fn send(&self, conversation_id: &Id, text: &str) -> Result<(), Error> {
        let key = getrandom::u64().map_err(|error| Error::Lost(error.to_string()))?;
        let pending = Pending {
            conversation_id: conversation_id.clone(),
            client_message_id: format!("{key:016x}"),
            text: text.to_owned(),
        };
        self.lists.state.send_modify(|state| state.outbox.push(pending.clone()));
        let (acked, ack) = oneshot::channel();
        let stopped = |_| Error::Lost("the chat has stopped".to_owned());
        self.outbox
            .send((pending, acked))
            .await
            .map_err(|_| Error::Lost("the chat has stopped".to_owned()))?;
        ack.await.map_err(stopped)?
    }
}

/// Sends one message after the other, each until it is acked or refused.
async fn deliver(
    lists: Arc<Lists>,
    mut waiting: mpsc::Receiver<(Pending, oneshot::Sender<Result<(), Error>>)>,
) {
    while let Some((pending, acked)) = waiting.recv().await {
        let mut failures = 0;
        let outcome = loop {
            match lists.send(&pending).await {
                Err(error) if error.worth_retrying() => back_off(failures).await,
                outcome => break outcome,
            }
            failures += 1;
        };
        lists
            .state
            .send_modify(|state| state.outbox.retain(|it| it.client_message_id != pending.client_message_id));
        // Nobody may be waiting for it.
        let _ = acked.send(outcome);
    }
}

struct Lists {
    session: Arc<Session>,
    sizes: PageSizes,
    state: watch::Sender<State>,
}

impl Lists {
    async fn fetch_conversations(&self, after: Option<String>) -> Result<(), Error> {
        let variables = ConversationsVariables { first: self.sizes.conversations, after };
        let page = present(self.session.ask(&Conversations::build(variables)).await?.conversations)?;
        self.state.send_modify(|state| {
            // One that moved up meanwhile is there already.
            let news = page
                .nodes
                .into_iter()
                .filter(|it| !state.conversations.iter().any(|known| known.id == it.id));
            let news: Vec<_> = news.collect();
            state.conversations.extend(news);
            state.list = page.page_info;
        });
        Ok(())
    }

    async fn fetch_history(&self, conversation_id: &Id, before: Option<String>) -> Result<(), Error> {
        let variables = HistoryVariables { id: conversation_id.clone(), last: self.sizes.messages, before };
        let conversation = self.session.ask(&History::build(variables)).await?.conversation;
        let page = present(present(conversation)?.messages)?;
        self.state.send_modify(|state| {
            for message in page.nodes {
                state.show(conversation_id, message);
            }
            state.pages.insert(conversation_id.inner().to_owned(), page.page_info);
        });
        Ok(())
    }

    async fn send(&self, pending: &Pending) -> Result<(), Error> {
        let input = SendMessageInput {
            conversation_id: pending.conversation_id.clone(),
            client_message_id: pending.client_message_id.clone(),
            content: MessageContentInput::Text(TextContentInput { text: pending.text.clone() }),
        };
        let payload = present(self.session.ask(&Send::build(SendVariables { input })).await?.send_message)?;
        accepted(payload.user_errors)?;
        let message = present(payload.message)?;
        self.state.send_modify(|state| state.show(&pending.conversation_id, message));
        Ok(())
    }

    async fn take(&self, event: Event) -> Result<(), Error> {
        match event {
            Event::StreamOpened(_) => self.state.send_modify(|state| state.live = true),
            Event::ConversationAdded(event) => {
                self.state.send_modify(|state| state.move_to_top(event.conversation))
            }
            Event::MessageSent(event) => self.state.send_modify(|state| {
                state.show(&event.conversation.id, event.message);
                state.move_to_top(event.conversation);
            }),
            // What was missed cannot be told: what is shown is fetched anew.
            Event::ResyncRequired(_) => {
                let opened: Vec<Id> = self.state.borrow().pages.keys().map(Id::new).collect();
                self.state.send_modify(|state| {
                    state.conversations.clear();
                    state.messages.clear();
                });
                self.fetch_conversations(None).await?;
                for id in opened {
                    self.fetch_history(&id, None).await?;
                }
            }
            Event::Other(_) => {}
        }
        Ok(())
    }
}
