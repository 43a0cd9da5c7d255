"""Every operation of the example."""

REGISTER = """
mutation Register($input: RegisterInput!) {
  register(input: $input) {
    user { id displayName }
    credentials { accessToken accessTokenExpiresAt refreshToken }
    userErrors { code message }
  }
}
"""

SIGN_IN = """
mutation SignIn($input: SignInInput!) {
  signIn(input: $input) {
    user { id displayName }
    credentials { accessToken accessTokenExpiresAt refreshToken }
    userErrors { code message }
  }
}
"""

REFRESH_SESSION = """
mutation RefreshSession($refreshToken: String!) {
  refreshSession(input: { refreshToken: $refreshToken }) {
    credentials { accessToken accessTokenExpiresAt refreshToken }
    userErrors { code message }
  }
}
"""

RENEW_CONNECTION = """
mutation RenewConnection($accessToken: String!) {
  renewConnection(input: { accessToken: $accessToken }) {
    userErrors { code message }
  }
}
"""

CREATE_GROUP = """
mutation CreateGroup($input: CreateGroupInput!) {
  createGroup(input: $input) {
    conversation { id title }
    userErrors { code message }
  }
}
"""

CONVERSATIONS = """
query Conversations($first: Int!, $after: String) {
  conversations(first: $first, after: $after) {
    nodes { id title unreadCount }
    pageInfo { endCursor hasNextPage }
  }
}
"""

HISTORY = """
query History($id: ID!, $last: Int!, $before: String) {
  conversation(id: $id) {
    messages(last: $last, before: $before) {
      nodes { ...Line }
      pageInfo { startCursor hasPreviousPage }
    }
  }
}
fragment Line on Message {
  id seq clientMessageId
  content { ... on TextContent { text } ... on SystemContent { text } }
}
"""

SEND = """
mutation Send($input: SendMessageInput!) {
  sendMessage(input: $input) {
    message { ...Line }
    userErrors { code message }
  }
}
fragment Line on Message {
  id seq clientMessageId
  content { ... on TextContent { text } ... on SystemContent { text } }
}
"""

EVENTS = """
subscription Events($after: EventCursor) {
  events(after: $after) {
    __typename
    cursor
    ... on ConversationAdded { conversation { id title unreadCount } }
    ... on MessageSent {
      message {
        id seq clientMessageId
        content { ... on TextContent { text } ... on SystemContent { text } }
        conversation { id title unreadCount }
      }
    }
  }
}
"""
