// Remembers the ids that answers contain, and puts the last one of the right kind where a variable is empty.

const seen = { usr: [], cnv: [], msg: [] };
const kindOfVariable = [
  [/^(user|member)Ids?$/i, 'usr'],
  [/^conversationIds?$/i, 'cnv'],
  [/^messageIds?$/i, 'msg'],
];

export function randomText(length) {
  const letters = 'abcdefghijkmnpqrstuvwxyz23456789';
  return Array.from(crypto.getRandomValues(new Uint8Array(length)), (byte) => letters[byte % 32]).join('');
}

export function noteIds(value) {
  if (Array.isArray(value)) value.forEach(noteIds);
  else if (value && typeof value === 'object') {
    const [, kind] = /^(usr|cnv|msg)_[\w-]+$/.exec(value.id) ?? [];
    if (kind) seen[kind] = [...seen[kind].filter((id) => id !== value.id), value.id].slice(-100);
    Object.values(value).forEach(noteIds);
  }
}

// The variables with their empty ids filled, or the same object when there is nothing to fill. The last user seen
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
