// Top right: who one is, the choice among those who signed in here, and a second window to be somebody else in.
import { pick, useGraphiQL } from '@graphiql/react';
import { useEffect, useSyncExternalStore } from 'react';
import { fillIds } from './ids.js';
import { people } from './people.js';

export function Bar() {
  const { list, current } = useSyncExternalStore(people.subscribe, people.get);
  useFilledVariables(current);
  const person = list.find(({ key }) => key === current);
  return (
    <div className="confab-bar" role="group" aria-label="Signed in">
      <label>
        {person ? 'Signed in as ' : 'Signed out '}
        {list.length > 0 && (
          <select value={current ?? ''} onChange={(event) => people.choose(event.target.value || null)}>
            <option value="">nobody</option>
            {list.map(({ key, name }) => (
              <option key={key} value={key}>{name}</option>
            ))}
          </select>
        )}
      </label>
      {person && <button type="button" onClick={people.signOut}>Sign out</button>}
      <button type="button" title="Opens the explorer once more, to be somebody else there" onClick={openSecondWindow}>
        Second window
      </button>
    </div>
  );
}

// Not a link: only a window opened by script starts with a copy of this one's people and tabs.
function openSecondWindow() {
  window.open('/', '_blank');
}

// Shows the ids that empty variables stand for, when a tab is opened and when somebody else is chosen.
function useFilledVariables(ownId) {
  const { variableEditor, activeTabIndex, isFetching } = useGraphiQL(
    pick('variableEditor', 'activeTabIndex', 'isFetching'),
  );
  useEffect(() => {
    if (!variableEditor || isFetching) return;
    try {
      const variables = JSON.parse(variableEditor.getValue());
      const filled = fillIds(variables, ownId);
      if (filled !== variables) variableEditor.setValue(JSON.stringify(filled, null, 2));
    } catch {
      // Half-typed variables are left alone.
    }
  }, [variableEditor, activeTabIndex, isFetching, ownId]);
}
