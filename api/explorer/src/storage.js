// Where the editor keeps its tabs: in the window alone, as their variables hold passwords.
//
// The editor also keeps the query and the variables it shows, apart from the tabs and some moments later or earlier.
// When they differ from every tab it opens one more, so they are read from the active tab instead.

const PARTS_OF_TAB = { 'graphiql:query': 'query', 'graphiql:variables': 'variables' };

function activeTab() {
  const { tabs, activeTabIndex } = JSON.parse(sessionStorage.getItem('graphiql:tabState') ?? '{}');
  return tabs?.[activeTabIndex];
}

export const storage = {
  getItem: (key) => (key in PARTS_OF_TAB ? activeTab()?.[PARTS_OF_TAB[key]] : sessionStorage.getItem(key)) ?? null,
  setItem: (key, value) => key in PARTS_OF_TAB || sessionStorage.setItem(key, value),
  removeItem: (key) => sessionStorage.removeItem(key),
  clear: () => sessionStorage.clear(),
  get length() {
    return sessionStorage.length;
  },
};
