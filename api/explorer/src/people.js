// Who signed in through this explorer: every answer with credentials adds someone. Kept for the window alone
// (a second window opened from here starts with a copy).

const KEY = 'confab:people';
const listeners = new Set();
let state = load();

function load() {
  try {
    const { list, current } = JSON.parse(sessionStorage.getItem(KEY));
    return { list, current };
  } catch {
    return { list: [], current: null };
  }
}

function save(next) {
  state = next;
  sessionStorage.setItem(KEY, JSON.stringify(state));
  listeners.forEach((listener) => listener());
}

export const people = {
  get: () => state,
  subscribe(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  current: () => state.list.find((person) => person.key === state.current) ?? null,
  choose: (key) => save({ ...state, current: key }),
  signOut: () => save({ list: state.list.filter((person) => person.key !== state.current), current: null }),
  // Looks for payloads with credentials anywhere in an answer. The first of them is signed in.
  note(value) {
    const found = [];
    collect(value, found);
    if (found.length === 0) return;
    const kept = state.list.filter((person) => found.every(({ key }) => key !== person.key));
    save({ list: [...kept, ...found], current: found[0].key });
  },
};

function collect(value, found) {
  if (!value || typeof value !== 'object') return;
  if (typeof value.credentials?.accessToken === 'string') {
    const { credentials, user } = value;
    const refreshed = !user && people.current();
    const name = user?.username ?? user?.displayName ?? refreshed?.name ?? `user ${state.list.length + 1}`;
    found.push({
      key: user?.id ?? refreshed?.key ?? name,
      name,
      token: credentials.accessToken,
      expiresAt: credentials.accessTokenExpiresAt ?? null,
    });
  }
  Object.values(value).forEach((each) => collect(each, found));
}
