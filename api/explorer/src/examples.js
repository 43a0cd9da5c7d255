// The tabs that a newcomer plays from left to right. An empty string stands for what the explorer fills in:
// see ids.js.
import Conversation from './examples/Conversation.graphql?raw';
import Live from './examples/Live.graphql?raw';
import MarkRead from './examples/MarkRead.graphql?raw';
import Read from './examples/Read.graphql?raw';
import Register from './examples/Register.graphql?raw';
import Send from './examples/Send.graphql?raw';
import SignIn from './examples/SignIn.graphql?raw';
import { randomText } from './ids.js';

const json = (value) => JSON.stringify(value, null, 2);

export function exampleTabs() {
  const suffix = randomText(6);
  const person = (name) => ({
    username: `${name.toLowerCase()}-${suffix}`,
    password: `open sesame ${randomText(12)}`,
    displayName: name,
    deviceName: 'Explorer',
  });
  const ada = person('Ada');
  return [
    { query: Register, variables: json({ ada, bob: person('Bob') }) },
    { query: Conversation, variables: json({ userId: '', memberIds: [''], title: 'Tea at four' }) },
    { query: Send, variables: json({ conversationId: '', clientMessageId: '', text: 'Hello! 你好! مرحبا' }) },
    { query: Read, variables: json({ conversationId: '', before: null }) },
    { query: MarkRead, variables: json({ conversationId: '', seq: 1 }) },
    { query: Live, variables: json({ after: null }) },
    { query: SignIn, variables: json({ username: ada.username, password: ada.password }) },
  ];
}
