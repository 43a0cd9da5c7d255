import './workers.js';
import 'graphiql/style.css';
import './explorer.css';
import { GraphiQL } from 'graphiql';
import { createRoot } from 'react-dom/client';
import { Bar } from './Bar.jsx';
import { exampleTabs } from './examples.js';
import { fetcher } from './fetcher.js';
import { storage } from './storage.js';

const tabs = exampleTabs();
const firstVisit = storage.getItem('graphiql:tabState') === null;

createRoot(document.getElementById('explorer')).render(
  <GraphiQL
    fetcher={fetcher}
    defaultTabs={tabs}
    // Of the first tab GraphiQL shows only the query by itself.
    initialVariables={firstVisit ? tabs[0].variables : undefined}
    defaultEditorToolsVisibility="variables"
    showPersistHeadersSettings={false}
    inputValueDeprecation
    storage={storage}
  >
    <GraphiQL.Logo>
      <Bar />
    </GraphiQL.Logo>
  </GraphiQL>,
);
