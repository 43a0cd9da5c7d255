// Remembers the ids that answers contain, and puts the newest one of the right kind where a variable is empty.

const KEY = 'confab:ids';
const KEPT_MAX = 100;
const seen = { usr: [], cnv: [], msg: [], ...JSON.parse(sessionStorage.getItem(KEY) ?? '{}') };
const kindOfVariable = [
  [/^(user|member)Ids?$/i, 'usr'],
  [/^conversationIds?$/i, 'cnv'],
  [/^messageIds?$/i, 'msg'],
];

export function randomText(length) {
  const letters = 'abcdefghijkmnpqrstuvwxyz23456789';
  return Array.from(crypto.getRandomValues(new Uint8Array(length)), (byte) => letters[byte % 32]).join('');
}

// An id seen again keeps its place: reading a list does not change which conversation is the newest.
export function noteIds(answer) {
  for (const id of idsIn(answer)) {
    const kind = seen[id.slice(0, 3)];
    if (!kind.includes(id)) kind.push(id);
    kind.splice(0, kind.length - KEPT_MAX);
  }
  sessionStorage.setItem(KEY, JSON.stringify(seen));
}

function idsIn(value) {
  if (!value || typeof value !== 'object') return [];
  const below = Object.values(value).flatMap(idsIn);
  return /^(usr|cnv|msg)_[\w-]+$/.test(value.id) ? [value.id, ...below] : below;
}

// The variables with their empty ids filled, or the same object when there is nothing to fill. The newest user
// means another than oneself.
export function fillIds(variables, ownId) {
  let filled = variables;
  for (const [name, value] of Object.entries(variables ?? {})) {
    const kind = kindOfVariable.find(([pattern]) => pattern.test(name))?.[1];
    const id = kind && seen[kind].findLast((each) => each !== ownId);
    if (!id) continue;
    if (value === '') filled = { ...filled, [name]: id };
    else if (Array.isArray(value) && value.includes('')) {
      filled = { ...filled, [name]: value.map((each) => each || id) };
    }
  }
  return filled;
}
