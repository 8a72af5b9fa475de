// The datasource plugin against the real actions API, which pytest has started: API, TOKEN and WANTED come from it.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { PROXY, Proxy, load, pluginJson } from './grafana.mjs';

const { API: api, TOKEN: token } = process.env;
const wanted = JSON.parse(process.env.WANTED);
const viewer = new Proxy({ api, token, role: 'Viewer' });
const editor = new Proxy({ api, token, role: 'Editor' });

async function table(resource, more = {}, variables = {}) {
  const { source } = load(viewer, variables);
  const { data } = await source.query({ targets: [{ refId: 'A', resource, ...more }], scopedVars: {} });
  assert.equal(data.length, 1);
  const [frame] = data;
  const rows = Array.from({ length: frame.length }, (_, row) =>
    Object.fromEntries(frame.fields.map((field) => [field.name, field.values[row]])),
  );
  return { frame, rows };
}

const TYPE_OF = { time: 'number', number: 'number', boolean: 'boolean', string: 'string' };

for (const [resource, columns] of Object.entries(wanted.columns)) {
  test(`${resource} has the columns the boards name, and values of their types`, async () => {
    const { frame, rows } = await table(resource);
    assert.equal(frame.refId, 'A');
    const names = frame.fields.map((field) => field.name);
    assert.deepEqual(columns.filter((column) => !names.includes(column)), []);
    assert.ok(rows.length > 0, 'pytest left something in every list');
    for (const field of frame.fields) {
      assert.equal(field.values.length, rows.length);
      for (const value of field.values) {
        assert.ok(value === null || typeof value === TYPE_OF[field.type], `${field.name} is ${JSON.stringify(value)}`);
      }
    }
  });
}

test('every key the API gives has a column, and every column a key', async () => {
  for (const [resource, keys] of Object.entries(wanted.keys)) {
    const { LISTS } = load(viewer);
    assert.deepEqual(Object.keys(LISTS[resource].columns).sort(), keys.toSorted(), resource);
  }
});

test('operations show what was done, their details as JSON', async () => {
  const { rows } = await table('operations');
  const load_ = rows.find((row) => row.action === 'load');
  assert.equal(load_.state, 'done');
  assert.equal(load_.actor, 'token:ops');
  assert.equal(JSON.parse(load_.parameters).model, 'qwen/qwen3-0.6b');
  assert.ok(load_.created_ms > 1e12, 'milliseconds, as Grafana counts time');
});

test('a list can be asked for one daemon, by name or by a variable of the board', async () => {
  assert.equal((await table('instances', { daemon: 'box' })).rows.length, 4);
  assert.equal((await table('instances', { daemon: '$daemon' }, { daemon: 'box' })).rows.length, 4);
  assert.equal((await table('instances', { daemon: 'attic' })).rows.length, 0);
  assert.equal((await table('operations', { daemon: 'attic' })).rows.length, 0);
});

test('a list is as long as asked for', async () => {
  assert.equal((await table('audit', { limit: 1 })).rows.length, 1);
});

test('a list without rows still has its columns', async () => {
  const { frame } = await table('operations', { daemon: 'attic' });
  assert.equal(frame.length, 0);
  assert.ok(frame.fields.length > 10);
});

test('gates name their tool so that a button finds it', async () => {
  const { rows } = await table('gates');
  assert.ok(rows.every((row) => row.id === `${row.server}/${row.tool}`));
});

test('hidden queries and unknown lists are not asked for', async () => {
  const { source } = load(viewer);
  const targets = [{ refId: 'A', resource: 'operations', hide: true }, { refId: 'B', resource: 'secrets' }];
  assert.deepEqual(await source.query({ targets, scopedVars: {} }), { data: [] });
});

test('the health check names the daemons', async () => {
  const { source } = load(viewer);
  assert.deepEqual(await source.testDatasource(), {
    status: 'success',
    message: 'The actions API answers; daemons: box (running)',
  });
});

test('the health check says how to get a token when ours is not taken', async () => {
  const { source } = load(new Proxy({ api, token: `dp_aaaaaaaa_${'x'.repeat(43)}`, role: 'Viewer' }));
  const { status, message } = await source.testDatasource();
  assert.equal(status, 'error');
  assert.match(message, /daemonpulse actions token new --scope operate/);
  assert.ok(!message.includes('dp_aaaaaaaa'));
});

test('a viewer may look and may not press', async () => {
  assert.equal((await viewer.request('GET', `${PROXY}/v1/operations`)).status, 200);
  assert.equal((await viewer.request('POST', `${PROXY}/v1/daemons/box/models/eject-all`)).status, 403);
});

test('an editor may press, and the API does it', async () => {
  const pressed = await editor.request('POST', `${PROXY}/v1/daemons/box/models/eject-all?wait=10`);
  assert.equal(pressed.status, 200);
  assert.equal(pressed.data.state, 'done');
  // The API reads a daemon at most once a second.
  while ((await table('instances')).rows.length > 0) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

test('what no route is for gets no token', async () => {
  assert.equal((await editor.request('DELETE', `${PROXY}/v1/operations`)).status, 405);
  assert.equal((await editor.request('PUT', `${PROXY}/v1/daemons/box/desired`)).status, 400);
});

test('every route adds the token on the server and asks for a role', () => {
  for (const route of pluginJson.routes) {
    assert.ok(['Viewer', 'Editor'].includes(route.reqRole));
    const secret = route.path === 'v1/live/text' ? 'textToken' : 'token';
    assert.deepEqual(route.headers, [{ name: 'Authorization', content: `Bearer {{ .SecureJsonData.${secret} }}` }]);
  }
  assert.deepEqual(pluginJson.routes.filter((route) => route.method !== 'GET').map((route) => route.reqRole), ['Editor', 'Editor']);
});

test('the editors offer every list, keep the token out of sight, and hand changes on', () => {
  const { plugin, LISTS, LIVE_COLUMNS } = load(viewer);
  const { QueryEditor, ConfigEditor } = plugin.components;
  const said = [];
  const chooser = QueryEditor({ query: { refId: 'A' }, onChange: (query) => said.push(query), onRunQuery: () => said.push('run') });
  assert.deepEqual(chooser.children.map((option) => option.props.value), [...Object.keys(LISTS), 'live', 'think']);
  assert.ok(LIVE_COLUMNS.client);
  chooser.props.onChange({ target: { value: 'audit' } });
  assert.deepEqual(said, [{ refId: 'A', resource: 'audit' }, 'run']);

  const changes = [];
  const options = { url: 'http://actions:9811', secureJsonFields: { token: true } };
  const form = ConfigEditor({ options, onOptionsChange: (changed) => changes.push(changed) });
  const inputs = form.children.map((row) => row.children[0].children[1]);
  assert.deepEqual(inputs.map((input) => input.props.type), ['url', 'password', 'password']);
  inputs[1].props.onChange({ target: { value: 'dp_new' } });
  inputs[2].props.onChange({ target: { value: 'dp_text' } });
  assert.deepEqual(changes, [
    { ...options, secureJsonData: { token: 'dp_new' } },
    { ...options, secureJsonData: { textToken: 'dp_text' } },
  ]);
});
