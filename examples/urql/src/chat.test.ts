import { claims, CONVERSATIONS_A_PAGE, MESSAGES_A_PAGE } from '../../shared/claims.ts';
import { UrqlChat } from './chat.ts';

claims('urql', async (session) => {
  const chat = new UrqlChat(session, CONVERSATIONS_A_PAGE, MESSAGES_A_PAGE);
  await chat.start();
  return Object.assign(chat, { titles: () => chat.conversations().map(({ title }) => title ?? '') });
});
