import { claims, CONVERSATIONS_A_PAGE, MESSAGES_A_PAGE } from '../../shared/claims.ts';
import { ApolloChat } from './chat.ts';

claims('Apollo Client', async (session) => {
  const chat = new ApolloChat(session, CONVERSATIONS_A_PAGE, MESSAGES_A_PAGE);
  await chat.start();
  return Object.assign(chat, { titles: () => chat.conversations().map(({ title }) => title ?? '') });
});
