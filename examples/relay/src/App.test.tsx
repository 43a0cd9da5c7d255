// The app in a document without a browser, used as a person would: by its buttons and its list items.
import assert from 'node:assert/strict';
import { Window } from 'happy-dom';
import { claims, CONVERSATIONS_A_PAGE, MESSAGES_A_PAGE, type Chat } from '../../shared/claims.ts';
import { until } from '../../shared/world.ts';

const window = new Window();
const { document: page, navigator, HTMLIFrameElement } = window;
Object.assign(globalThis, { window, document: page, navigator, HTMLIFrameElement });
// They look for a document when they are loaded.
const { createRoot } = await import('react-dom/client');
const { flushSync } = await import('react-dom');
const { RelayEnvironmentProvider } = await import('react-relay');
const { App } = await import('./App.tsx');
const { createEnvironment } = await import('./environment.ts');

claims('Relay', async (session): Promise<Chat> => {
  const place = document.createElement('main');
  document.body.append(place);
  const root = createRoot(place);
  const { environment, socket } = createEnvironment(session);
  root.render(
    <RelayEnvironmentProvider environment={environment}>
      <App sizes={{ conversations: CONVERSATIONS_A_PAGE, messages: MESSAGES_A_PAGE }} />
    </RelayEnvironmentProvider>,
  );

  const all = (selector: string) => [...place.querySelectorAll<HTMLElement>(selector)];
  const click = (selector: string) => flushSync(() => all(selector)[0]?.click());
  const titles = () => all('[name=open]').map(({ textContent }) => textContent ?? '');
  const history = (id: string) =>
    all(`#${id} li`).map(({ textContent, dataset }) => ({
      text: textContent ?? '',
      pending: dataset['pending'] === 'true',
    }));
  // Presses a button that fetches a page, and waits for more of what it fetches.
  const page = async (button: string, count: () => number) => {
    if (!all(button).length) return false;
    const before = count();
    click(button);
    await until('shows another page', () => count() > before);
    return true;
  };

  const moreConversations = () => page('[name=more]', () => titles().length);
  await until('shows the list', () => titles().length > 0);
  return {
    titles,
    moreConversations,
    async open(id) {
      const button = `[name=open][value=${id}]`;
      while (!all(button).length && (await moreConversations()));
      click(button);
      await until('shows the history', () => all(`#${id}`).length > 0);
    },
    history,
    older: (id) => page(`#${id} [name=older]`, () => history(id).length),
    async send(id, text) {
      const field = all(`#${id} input`)[0] as HTMLInputElement | undefined;
      assert.ok(field);
      field.value = text;
      flushSync(() => field.form?.requestSubmit());
      const said = () => all(`#${id} output`)[0]?.textContent;
      await until('is acked', () => said() !== 'Sending …');
      assert.equal(said(), '');
    },
    async close() {
      flushSync(() => root.unmount());
      await socket.dispose();
      await window.happyDOM.close();
    },
  };
});
