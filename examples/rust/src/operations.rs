//! Every operation of the example, checked against the schema when it is compiled.

#[cynic::schema("confab")]
mod schema {}

#[derive(cynic::Scalar, Debug, Clone, PartialEq, Eq)]
pub struct EventCursor(pub String);

cynic::impl_scalar!(jiff::Timestamp, schema::DateTime);

// ---------------------------------------------------------------- signing in

#[derive(cynic::InputObject, Debug, Clone)]
pub struct RegisterInput {
    pub username: String,
    pub password: String,
    pub display_name: String,
    pub device_name: Option<String>,
}

#[derive(cynic::InputObject, Debug, Clone)]
pub struct SignInInput {
    pub username: String,
    pub password: String,
    pub device_name: Option<String>,
}

#[derive(cynic::QueryVariables)]
pub struct RegisterVariables {
    pub input: RegisterInput,
}

#[derive(cynic::QueryFragment)]
#[cynic(graphql_type = "Mutation", variables = "RegisterVariables")]
pub struct Register {
    #[arguments(input: $input)]
    pub register: Option<RegisterPayload>,
}

#[derive(cynic::QueryFragment)]
pub struct RegisterPayload {
    pub user: Option<User>,
    pub credentials: Option<Credentials>,
    pub user_errors: Vec<UserError>,
}

#[derive(cynic::QueryVariables)]
pub struct SignInVariables {
    pub input: SignInInput,
}

#[derive(cynic::QueryFragment)]
#[cynic(graphql_type = "Mutation", variables = "SignInVariables")]
pub struct SignIn {
    #[arguments(input: $input)]
    pub sign_in: Option<SignInPayload>,
}

#[derive(cynic::QueryFragment)]
pub struct SignInPayload {
    pub user: Option<User>,
    pub credentials: Option<Credentials>,
    pub user_errors: Vec<UserError>,
}

#[derive(cynic::QueryVariables)]
pub struct RefreshSessionVariables {
    pub refresh_token: String,
}

#[derive(cynic::QueryFragment)]
#[cynic(graphql_type = "Mutation", variables = "RefreshSessionVariables")]
pub struct RefreshSession {
    #[arguments(input: { refreshToken: $refresh_token })]
    pub refresh_session: Option<RefreshSessionPayload>,
}

#[derive(cynic::QueryFragment)]
pub struct RefreshSessionPayload {
    pub credentials: Option<Credentials>,
    pub user_errors: Vec<UserError>,
}

#[derive(cynic::QueryVariables)]
pub struct RenewConnectionVariables {
    pub access_token: String,
}

#[derive(cynic::QueryFragment)]
#[cynic(graphql_type = "Mutation", variables = "RenewConnectionVariables")]
pub struct RenewConnection {
    #[arguments(input: { accessToken: $access_token })]
    pub renew_connection: Option<RenewConnectionPayload>,
}

#[derive(cynic::QueryFragment)]
pub struct RenewConnectionPayload {
    pub user_errors: Vec<UserError>,
}

#[derive(cynic::QueryFragment, Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: cynic::Id,
    pub display_name: String,
}

#[derive(cynic::QueryFragment, Clone)]
pub struct Credentials {
    pub access_token: String,
    pub access_token_expires_at: jiff::Timestamp,
    pub refresh_token: String,
}

#[derive(cynic::QueryFragment, Debug)]
pub struct UserError {
    pub code: UserErrorCode,
    pub message: String,
}

/// What this example tells apart; later versions of the server may add codes.
#[derive(cynic::Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[cynic(non_exhaustive)]
pub enum UserErrorCode {
    InvalidCredentials,
    UsernameTaken,
    #[cynic(fallback)]
    Other,
}

// ---------------------------------------------------------------- lists

#[derive(cynic::QueryVariables)]
pub struct ConversationsVariables {
    pub first: i32,
    pub after: Option<String>,
}

#[derive(cynic::QueryFragment)]
#[cynic(graphql_type = "Query", variables = "ConversationsVariables")]
pub struct Conversations {
    #[arguments(first: $first, after: $after)]
    pub conversations: Option<ConversationConnection>,
}

#[derive(cynic::QueryFragment)]
pub struct ConversationConnection {
    pub nodes: Vec<Conversation>,
    pub page_info: PageInfo,
}

#[derive(cynic::QueryFragment, Debug, Clone)]
pub struct Conversation {
    pub id: cynic::Id,
    pub title: Option<String>,
    pub unread_count: i32,
}

#[derive(cynic::QueryFragment, Debug, Clone, Default)]
pub struct PageInfo {
    pub has_next_page: bool,
    pub has_previous_page: bool,
    pub start_cursor: Option<String>,
    pub end_cursor: Option<String>,
}

#[derive(cynic::QueryVariables)]
pub struct HistoryVariables {
    pub id: cynic::Id,
    pub last: i32,
    pub before: Option<String>,
}

#[derive(cynic::QueryFragment)]
#[cynic(graphql_type = "Query", variables = "HistoryVariables")]
pub struct History {
    #[arguments(id: $id)]
    pub conversation: Option<ConversationHistory>,
}

#[derive(cynic::QueryFragment)]
#[cynic(graphql_type = "Conversation", variables = "HistoryVariables")]
pub struct ConversationHistory {
    #[arguments(last: $last, before: $before)]
    pub messages: Option<MessageConnection>,
}

#[derive(cynic::QueryFragment)]
pub struct MessageConnection {
    pub nodes: Vec<Message>,
    pub page_info: PageInfo,
}

#[derive(cynic::QueryFragment, Debug, Clone)]
pub struct Message {
    pub seq: i32,
    pub client_message_id: Option<String>,
    pub content: Option<MessageContent>,
}

#[derive(cynic::InlineFragments, Debug, Clone)]
pub enum MessageContent {
    Text(TextContent),
    System(SystemContent),
    /// Later versions of the server may add kinds.
    #[cynic(fallback)]
    Newer,
}

#[derive(cynic::QueryFragment, Debug, Clone)]
pub struct TextContent {
    pub text: String,
}

#[derive(cynic::QueryFragment, Debug, Clone)]
pub struct SystemContent {
    pub text: String,
}

// ---------------------------------------------------------------- sending

#[derive(cynic::InputObject, Debug, Clone)]
pub struct SendMessageInput {
    pub conversation_id: cynic::Id,
    pub client_message_id: String,
    pub content: MessageContentInput,
}

#[derive(cynic::InputObject, Debug, Clone)]
pub enum MessageContentInput {
    Text(TextContentInput),
}

#[derive(cynic::InputObject, Debug, Clone)]
pub struct TextContentInput {
    pub text: String,
}

#[derive(cynic::QueryVariables)]
pub struct SendVariables {
    pub input: SendMessageInput,
}

#[derive(cynic::QueryFragment)]
#[cynic(graphql_type = "Mutation", variables = "SendVariables")]
pub struct Send {
    #[arguments(input: $input)]
    pub send_message: Option<SendMessagePayload>,
}

#[derive(cynic::QueryFragment)]
pub struct SendMessagePayload {
    pub message: Option<Message>,
    pub user_errors: Vec<UserError>,
}

// ---------------------------------------------------------------- live

#[derive(cynic::QueryVariables)]
pub struct EventsVariables {
    pub after: Option<EventCursor>,
}

#[derive(cynic::QueryFragment)]
#[cynic(graphql_type = "Subscription", variables = "EventsVariables")]
pub struct Events {
    #[arguments(after: $after)]
    pub events: Event,
}

#[derive(cynic::InlineFragments)]
pub enum Event {
    StreamOpened(StreamOpened),
    ConversationAdded(ConversationAdded),
    MessageSent(MessageSent),
    ResyncRequired(ResyncRequired),
    #[cynic(fallback)]
    Other(OtherEvent),
}

impl Event {
    pub fn cursor(&self) -> &EventCursor {
        match self {
            Event::StreamOpened(event) => &event.cursor,
            Event::ConversationAdded(event) => &event.cursor,
            Event::MessageSent(event) => &event.cursor,
            Event::ResyncRequired(event) => &event.cursor,
            Event::Other(event) => &event.cursor,
        }
    }
}

#[derive(cynic::QueryFragment)]
pub struct StreamOpened {
    pub cursor: EventCursor,
}

#[derive(cynic::QueryFragment)]
pub struct ConversationAdded {
    pub cursor: EventCursor,
    pub conversation: Conversation,
}

#[derive(cynic::QueryFragment)]
pub struct MessageSent {
    pub cursor: EventCursor,
    pub conversation: Conversation,
    pub message: Message,
}

#[derive(cynic::QueryFragment)]
pub struct ResyncRequired {
    pub cursor: EventCursor,
}

#[derive(cynic::QueryFragment)]
#[cynic(graphql_type = "Event")]
pub struct OtherEvent {
    pub cursor: EventCursor,
}

// ---------------------------------------------------------------- for the tests

#[derive(cynic::InputObject, Debug, Clone)]
pub struct CreateGroupInput {
    pub title: String,
    pub member_ids: Vec<cynic::Id>,
}

#[derive(cynic::QueryVariables)]
pub struct CreateGroupVariables {
    pub input: CreateGroupInput,
}

#[derive(cynic::QueryFragment)]
#[cynic(graphql_type = "Mutation", variables = "CreateGroupVariables")]
pub struct CreateGroup {
    #[arguments(input: $input)]
    pub create_group: Option<CreateGroupPayload>,
}

#[derive(cynic::QueryFragment)]
pub struct CreateGroupPayload {
    pub conversation: Option<Conversation>,
}
