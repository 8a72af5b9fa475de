// What runs, live, in the datasource plugin: against the real actions API over a real exporter and tap, which pytest has
// started before a daemon that answers by a script. API, TOKEN, TEXT_TOKEN and TAP come from it.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { Proxy, load } from './grafana.mjs';

const { API: api, TOKEN: token, TEXT_TOKEN: textToken, TAP: tap } = process.env;
const PATIENCE_MS = 30000;
const open = new Set();

afterEach(() => {
  open.forEach((subscription) => subscription.unsubscribe()); // also after a test that failed, or node would not end
  open.clear();
});

function proxy(role, more = {}) {
  return new Proxy({ api, token, textToken, role, ...more });
}

// Ask the daemon through the tap, as a client does.
function ask() {
  const body = JSON.stringify({ model: 'm', stream: true, messages: [] });
  return fetch(`${tap}/v1/chat/completions`, { method: 'POST', body, headers: { 'user-agent': 'curl/8' } }).then((answer) => answer.text());
}

// Run a query as a panel does; what came is in `seen`.
function panel(source, target, seen = []) {
  const subscription = source.query({ targets: [{ refId: 'A', ...target }], scopedVars: {} }).subscribe((one) => seen.push(one));
  open.add(subscription);
  return { seen, last: () => seen.at(-1), close: () => subscription.unsubscribe() };
}

function rows({ data: [frame] }) {
  return Array.from({ length: frame.length }, (_, row) => Object.fromEntries(frame.fields.map(({ name, values }) => [name, values[row]])));
}

async function until(so, what) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = so();
    if (found) {
      return found;
    }
    assert.ok(Date.now() < deadline, what ?? String(so));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const writes = (shown) => shown.last()?.data.length && rows(shown.last()).find((row) => row.output_tokens > 0);

test('the table follows a request from its first token until it is gone', async () => {
  const shown = panel(load(proxy('Viewer')).source, { resource: 'live' });
  const asked = ask();
  const row = await until(() => writes(shown));
  assert.equal(row.client, 'curl');
  assert.equal(row.model, 'm');
  assert.equal(row.daemon, 'box');
  assert.ok(['reasoning', 'answer'].includes(row.phase));
  assert.match(row.request, /^box\/[0-9a-f]{16}-\d+$/);
  assert.equal(shown.last().state, 'Streaming');
  assert.equal(shown.last().key, 'A');
  await asked;
  await until(() => shown.last().data[0].length === 0);
  shown.close();
});

test('the think panel shows reasoning and answer as they come, and looks once however often the board refreshes', async () => {
  const passing = proxy('Editor');
  const { source } = load(passing);
  const list = panel(source, { resource: 'live' });
  const asked = ask();
  const row = await until(() => writes(list));
  const { request } = row;
  let shown = panel(source, { resource: 'think', request });
  await until(() => shown.last()?.data[0].length);
  assert.equal(shown.last().state, 'Streaming');
  shown.close();
  shown = panel(source, { resource: 'think', request }); // a refresh
  await until(() => shown.last()?.state === 'Done');
  const told = rows(shown.last());
  assert.deepEqual(told.map(({ text, level }) => [text, level]), [
    ['Reasoning: Two and two.', 'debug'],
    ['Answer: It is four.', 'info'],
  ]);
  assert.ok(shown.seen.length > 1, 'it grew');
  assert.equal(passing.opened.filter(({ method }) => method === 'POST').length, 1);
  await asked;
  shown.close();
  list.close();
});

test('a Viewer sees no text, and nobody without a token of scope text', async () => {
  for (const [passing, said] of [
    [proxy('Viewer'), /Only Editors/],
    [proxy('Editor', { textToken: '' }), /actions token new --scope text/],
    [proxy('Editor', { textToken: token }), /needs scope text/],
  ]) {
    const { source } = load(passing);
    const list = panel(source, { resource: 'live' });
    const asked = ask();
    const row = await until(() => writes(list));
    const shown = panel(source, { resource: 'think', request: row.request });
    await until(() => shown.last()?.error);
    assert.match(shown.last().error.message, said);
    assert.equal(shown.last().data[0].length, 0);
    shown.close();
    list.close();
    await asked;
  }
});

test('without a request nothing is asked, and one that is over says so', async () => {
  const passing = proxy('Editor');
  const { source } = load(passing);
  const none = panel(source, { resource: 'think', request: '' });
  assert.equal(none.last().data[0].length, 0);
  assert.equal(passing.opened.length, 0);
  const gone = panel(source, { resource: 'think', request: 'box/0000000000000000-1' });
  await until(() => gone.last()?.error);
  assert.match(gone.last().error.message, /is over, or never began/);
  gone.close();
});

test('newest shows one request after the other', async () => {
  const passing = proxy('Editor');
  const shown = panel(load(passing).source, { resource: 'think', request: 'newest' });
  for (const looks of [1, 2]) {
    const asked = ask();
    await until(() => passing.opened.filter(({ method }) => method === 'POST').length === looks);
    await until(() => shown.last() && rows(shown.last()).some(({ text }) => text.startsWith('Answer')));
    await asked;
  }
  shown.close();
});

test('panels of a page share one stream, a hidden page has none, and a page that is left ends it', async () => {
  const passing = proxy('Viewer');
  const { source, page } = load(passing);
  const panels = [1, 2, 3].map(() => panel(source, { resource: 'live' }));
  await until(() => panels.every((each) => each.last()));
  assert.equal(passing.opened.length, 1);
  page.hide(true);
  assert.ok(passing.opened[0].signal.aborted);
  page.hide(false);
  await until(() => passing.opened.length === 2);
  panels.forEach((each) => each.close());
  assert.ok(!passing.opened[1].signal.aborted, 'a refresh would come back at once');
  await until(() => passing.opened[1].signal.aborted);
});

test('fifty pages read, the next one waits and gets in when one leaves', async () => {
  const pages = Array.from({ length: 50 }, () => panel(load(proxy('Viewer')).source, { resource: 'live' }));
  await until(() => pages.every((page) => page.last()?.state === 'Streaming'));
  const late = panel(load(proxy('Viewer')).source, { resource: 'live' });
  await until(() => late.last()?.error);
  assert.match(late.last().error.message, /live views/);
  pages.forEach((page) => page.close());
  await until(() => late.last().state === 'Streaming');
  late.close();
});

test('a list and a stream in one panel keep their own keys', async () => {
  const { source } = load(proxy('Viewer'));
  const seen = [];
  const targets = [{ refId: 'A', resource: 'audit' }, { refId: 'B', resource: 'live' }];
  const subscription = source.query({ targets, scopedVars: {} }).subscribe((one) => seen.push(one));
  await until(() => seen.some(({ key }) => key === 'B') && seen.some(({ data }) => data[0]?.refId === 'A'));
  subscription.unsubscribe();
});
