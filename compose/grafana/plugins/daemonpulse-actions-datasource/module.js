// Shows the lists of DaemonPulse's actions API as tables, and what runs while it runs. Plain JavaScript that Grafana
// loads as it is: no build step.
//
// Knows the API's lists and no token: the routes of plugin.json add it on Grafana's server, which also asks for the
// role: Viewer to look, Editor to POST. Boards' buttons use those same routes without coming through here.
define(['react', '@grafana/data', '@grafana/runtime', 'rxjs'], function (React, data, runtime, rxjs) {
  'use strict';

  const { FieldType, LoadingState } = data;
  const { time, number, boolean, string } = FieldType;
  const MAX_ROWS = 1000; // the API's own limit of a list

  // Columns in the order of the table. What a row lacks is null; objects and lists become JSON text.
  const LISTS = {
    operations: {
      label: 'Operations: what was asked for, and what came of it',
      columns: {
        id: string, created_ms: time, finished_ms: time, daemon: string, action: string, subject: string,
        state: string, phase: string, progress: number, actor: string, person: string, parameters: string,
        result: string, problem: string,
      },
      rows: async (api, query) =>
        (await api.get('v1/operations', { limit: rowsOf(query), ...(query.daemon && { daemon: query.daemon }) })).operations,
    },
    approvals: {
      label: 'Approvals: pending tool calls',
      columns: {
        id: string, created_ms: time, state: string, server: string, kind: string, tool: string, rule: string,
        reason: string, arguments: string, arguments_digest: string, definition: string, definition_sha256: string,
        policy_sha256: string, age_seconds: number, expires_in_seconds: number, token: string, decided_by: string,
        decided_ms: time, always: boolean,
      },
      rows: async (api, query) =>
        (await api.get('v1/mcp/approvals', { state: 'pending', limit: rowsOf(query) })).approvals,
    },
    gates: {
      label: 'Gates: which tools models may call',
      columns: {
        id: string, server: string, tool: string, description: string, definition: string,
        definition_sha256: string, decision: string, rule: string, changed: boolean, set_by: string,
      },
      rows: async (api) => {
        const { servers } = await api.get('v1/mcp/servers');
        const each = servers.map(({ server }) => toolsOf(api, server));
        return (await Promise.all(each)).flat();
      },
    },
    audit: {
      label: 'Audit: who did what',
      columns: {
        seq: number, at_ms: time, kind: string, operation: string, actor: string, token_id: string, person: string,
        address: string, action: string, subject: string, detail: string, covers: string, hash: string,
      },
      rows: async (api, query) => (await api.get('v1/audit', { limit: rowsOf(query) })).entries,
    },
    instances: {
      label: 'Instances: what is loaded',
      columns: {
        daemon: string, instance_id: string, model: string, type: string, device: string, state: string,
        running: number, waiting: number, context_length: number, parallel: number, gpu_offload: string,
        ttl_seconds: number, ttl_remaining_seconds: number, last_used_ms: time, instance_reference: string,
      },
      rows: async (api, query) => {
        const { daemons } = await api.get('v1/daemons');
        const wanted = daemons.filter(({ daemon }) => !query.daemon || daemon === query.daemon);
        const each = wanted.map(({ daemon }) => instancesOf(api, daemon));
        return (await Promise.all(each)).flat();
      },
    },
  };

  // A tool server that cannot be started has no tools to show; its state is on the board in a panel of its own.
  async function toolsOf(api, server) {
    try {
      const { tools } = await api.get(`v1/mcp/servers/${encodeURIComponent(server)}/tools`);
      return tools.map((tool) => ({ id: `${server}/${tool.tool}`, server, ...tool }));
    } catch {
      return [];
    }
  }

  // A daemon that is down has nothing loaded; one that is down must not hide the others.
  async function instancesOf(api, daemon) {
    try {
      const { instances } = await api.get(`v1/daemons/${encodeURIComponent(daemon)}/instances`);
      return instances.map((instance) => ({ daemon, ...instance }));
    } catch {
      return [];
    }
  }

  function rowsOf(query) {
    return Math.min(MAX_ROWS, Math.max(1, Number(query.limit) || 100));
  }

  function cell(value) {
    if (value === undefined || value === null) {
      return null;
    }
    return typeof value === 'object' ? JSON.stringify(value) : value;
  }

  function frame(query, list, rows) {
    return data.createDataFrame({
      refId: query.refId,
      name: query.resource,
      meta: { preferredVisualisationType: 'table' },
      fields: Object.entries(list.columns).map(([name, type]) => ({
        name,
        type,
        config: {},
        values: rows.map((row) => (type === string && typeof row[name] === 'number' ? String(row[name]) : cell(row[name]))),
      })),
    });
  }

  // Queries that go on: the list of requests, and what one of them writes.
  const LIVE = {
    live: { label: 'Live: requests while they run', open: liveRequests },
    think: { label: 'Think: what one request writes, for Editors', open: liveText },
  };
  const LIVE_COLUMNS = {
    request: string, daemon: string, client: string, model: string, phase: string, output_tokens: number,
    tokens_per_second: number, elapsed_seconds: number, prompt_progress_ratio: number, has_text: boolean,
  };
  const SECONDS = 300; // the API's limit of one answer; then it is asked again
  const LINGER_MS = 5000; // a board that refreshes asks anew at once, and goes on with the same answer
  const RETRY_MS = [1000, 2000, 5000, 10000, 30000];
  const MAX_EVENT_CHARS = 1 << 20;
  const MAX_TEXT_CHARS = 1 << 16;
  const NEXT_MS = 2000; // how long a finished text stays before the newest request takes its place
  const LEVELS = { reasoning: 'debug', answer: 'info', tool_call: 'warning' }; // the logs panel's colours
  const NAMES = { reasoning: 'Reasoning', answer: 'Answer', tool_call: 'Tool call' };

  // One answer of the API for all panels of a page: a browser has six connections for one server, and each takes one.
  const shared = new Map();

  function share(key, start) {
    return new rxjs.Observable((observer) => {
      let one = shared.get(key);
      if (!one) {
        one = { observers: new Set(), last: null, abort: new AbortController(), timer: null };
        shared.set(key, one);
        const tell = (value) => {
          one.last = value;
          one.observers.forEach((each) => each.next(value));
        };
        start(tell, one.abort.signal).catch((error) => one.abort.signal.aborted || tell({ problem: explainText(error) }));
      }
      clearTimeout(one.timer);
      one.observers.add(observer);
      if (one.last) {
        observer.next(one.last);
      }
      return () => {
        one.observers.delete(observer);
        if (!one.observers.size) {
          one.timer = setTimeout(() => {
            shared.delete(key);
            one.abort.abort();
          }, LINGER_MS);
        }
      };
    });
  }

  // Server-sent events as the API sends them: an event and one line of JSON each, comments between.
  async function events(api, method, path, params, signal, tell) {
    const url = `${api.url}/${path}?${new URLSearchParams(params)}`.replace(/^\//, ''); // relative to Grafana's root
    const org = runtime.config && runtime.config.bootData && runtime.config.bootData.user && runtime.config.bootData.user.orgId;
    const answer = await fetch(url, {
      method, signal, credentials: 'same-origin',
      headers: { accept: 'text/event-stream', ...(org && { 'X-Grafana-Org-Id': String(org) }) },
    });
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      throw Object.assign(new Error(answer.statusText), { status: answer.status, data: said });
    }
    const decoder = new TextDecoder();
    const reader = answer.body.getReader();
    let rest = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      const blocks = (rest + decoder.decode(value, { stream: true })).split('\n\n');
      rest = blocks.pop();
      if (rest.length > MAX_EVENT_CHARS) {
        await reader.cancel();
        throw new Error('an event is too long');
      }
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split('\n').map((line) => [line.split(':', 1)[0], line.slice(line.indexOf(':') + 2)]));
        if (fields.event && fields.data) {
          tell(fields.event, JSON.parse(fields.data));
        }
      }
    }
  }

  function pause(ms, signal) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
    });
  }

  // A page in the background closes its connection until it is visible again.
  async function whileVisible(signal, run) {
    const page = typeof document === 'undefined' ? null : document;
    const inner = new AbortController();
    const stop = () => inner.abort();
    const hidden = () => page.hidden && stop();
    signal.addEventListener('abort', stop, { once: true });
    if (page) {
      if (page.hidden) {
        await new Promise((resolve) => {
          const seen = () => {
            if (!page.hidden || signal.aborted) {
              page.removeEventListener('visibilitychange', seen);
              resolve();
            }
          };
          page.addEventListener('visibilitychange', seen);
          signal.addEventListener('abort', seen, { once: true });
        });
      }
      page.addEventListener('visibilitychange', hidden);
    }
    try {
      await run(inner.signal);
    } catch (error) {
      if (!inner.signal.aborted) {
        throw error;
      }
    } finally {
      signal.removeEventListener('abort', stop);
      if (page) {
        page.removeEventListener('visibilitychange', hidden);
      }
    }
  }

  // The list, for ever: an answer that ends is asked for again, one that fails a little later each time.
  function requestsOf(api) {
    return share(`${api.url} live`, async (tell, signal) => {
      for (let failed = 0; !signal.aborted; ) {
        try {
          await whileVisible(signal, (inner) =>
            events(api, 'GET', 'v1/live', { seconds: SECONDS }, inner, (event, value) => {
              failed = 0;
              tell(event === 'requests' ? { rows: value.in_flight } : { problem: value.detail });
            }),
          );
        } catch (error) {
          if (!signal.aborted) {
            tell({ problem: explain(error) });
          }
          await pause(RETRY_MS[Math.min(failed++, RETRY_MS.length - 1)], signal);
        }
      }
    });
  }

  function liveRequests(api, query) {
    const list = { columns: LIVE_COLUMNS };
    const named = (row) => ({ ...row, request: row.has_text ? nameOf(row) : null }); // what may be looked at
    const shows = (row) => !query.daemon || row.daemon === query.daemon;
    return requestsOf(api).pipe(
      rxjs.map(({ rows, problem }) => ({
        key: query.refId,
        state: problem ? LoadingState.Error : LoadingState.Streaming,
        data: rows ? [frame(query, list, rows.filter(shows).slice(0, rowsOf(query)).map(named))] : [],
        ...(problem && { error: { message: problem } }),
      })),
    );
  }

  // What one request writes: each look is a row of the audit, so a panel looks once and goes on with what it sees.
  function liveText(api, query) {
    const wanted = (query.request || '').trim();
    const none = { key: query.refId, state: LoadingState.Done, data: [textFrame(query, '', [])] };
    if (!wanted) {
      return rxjs.of(none);
    }
    const told = share(`${api.url} think ${wanted}`, (tell, signal) =>
      wanted === 'newest' ? lookAtNewest(api, tell, signal) : look(api, wanted, tell, signal),
    );
    return told.pipe(
      rxjs.map(({ text, phases, isOver, problem }) => ({
        key: query.refId,
        state: problem ? LoadingState.Error : isOver ? LoadingState.Done : LoadingState.Streaming,
        data: [textFrame(query, text || '', phases || [])],
        ...(problem && { error: { message: problem } }),
      })),
    );
  }

  async function look(api, wanted, tell, signal) {
    const slash = wanted.lastIndexOf('/');
    const params = { daemon: wanted.slice(0, slash), request: wanted.slice(slash + 1), seconds: SECONDS };
    let text = '';
    let last = {};
    await events(api, 'POST', 'v1/live/text', params, signal, (event, value) => {
      if (event === 'text') {
        text = (text.slice(0, value.start) + value.text).slice(0, MAX_TEXT_CHARS);
        last = { text, phases: value.phases, isOver: value.is_over };
        tell(last);
      } else {
        tell({ ...last, problem: value.detail });
      }
    });
    tell({ ...last, isOver: true });
  }

  // One after the other: the newest request that has text, until it is over, then the next one.
  async function lookAtNewest(api, tell, signal) {
    let seen = '';
    while (!signal.aborted) {
      const wanted = await nextWithText(api, seen, signal);
      if (signal.aborted) {
        return;
      }
      seen = wanted;
      try {
        await look(api, wanted, (value) => tell({ ...value, isOver: false }), signal);
      } catch (error) {
        if (signal.aborted || error.status === 403 || error.status === 400) {
          throw error;
        }
        if (error.status !== 404) {
          tell({ problem: explainText(error) });
        }
      }
      await pause(NEXT_MS, signal);
    }
  }

  function nameOf({ daemon, request }) {
    return `${daemon}/${request}`;
  }

  function nextWithText(api, seen, signal) {
    return new Promise((resolve) => {
      const subscription = new rxjs.Subscription();
      const done = (value) => {
        resolve(value);
        subscription.unsubscribe();
      };
      signal.addEventListener('abort', () => done(''), { once: true });
      subscription.add(
        requestsOf(api).subscribe(({ rows }) => {
          const withText = (rows || []).filter((row) => row.has_text && row.output_tokens > 0);
          const newest = withText.reduce((best, row) => (!best || row.elapsed_seconds < best.elapsed_seconds ? row : best), null);
          if (newest && nameOf(newest) !== seen) {
            done(nameOf(newest));
          }
        }),
      );
    });
  }

  // A row for each stretch, as the logs panel reads them: time, text, level.
  function textFrame(query, text, phases) {
    const began = 0;
    return data.createDataFrame({
      refId: query.refId,
      name: query.resource,
      meta: { preferredVisualisationType: 'logs' },
      fields: [
        { name: 'time', type: time, config: {}, values: phases.map((_, index) => began + index) },
        {
          name: 'text', type: string, config: {},
          values: phases.map(({ kind, start, end }) => `${NAMES[kind] || kind}: ${text.slice(start, end).trim()}`),
        },
        { name: 'level', type: string, config: {}, values: phases.map(({ kind }) => LEVELS[kind] || 'unknown') },
        { name: 'id', type: string, config: {}, values: phases.map((_, index) => String(index)) },
      ],
    });
  }

  class ActionsDataSource extends data.DataSourceApi {
    constructor(settings) {
      super(settings);
      this.url = settings.url; // Grafana's proxy for this datasource, never the API itself
    }

    get(path, params) {
      return runtime.getBackendSrv().get(`${this.url}/${path}`, params, undefined, { showErrorAlert: false });
    }

    getDefaultQuery() {
      return { resource: 'operations' };
    }

    filterQuery(query) {
      return !query.hide && (query.resource in LISTS || query.resource in LIVE);
    }

    // Lists answer once. What goes on is an Observable, in which each query has a key of its own.
    query(request) {
      const replaced = (text) => text && runtime.getTemplateSrv().replace(text, request.scopedVars);
      const asked = request.targets.filter((query) => this.filterQuery(query)).map((query) => ({
        ...query, daemon: replaced(query.daemon), request: replaced(query.request),
      }));
      const frames = async (queries) => ({
        data: await Promise.all(
          queries.map(async (query) => frame(query, LISTS[query.resource], await LISTS[query.resource].rows(this, query))),
        ),
      });
      const live = asked.filter((query) => query.resource in LIVE);
      const lists = asked.filter((query) => query.resource in LISTS);
      if (!live.length) {
        return frames(lists);
      }
      const opened = live.map((query) => LIVE[query.resource].open(this, query));
      return rxjs.merge(...opened, ...(lists.length ? [rxjs.from(frames(lists))] : []));
    }

    async testDatasource() {
      try {
        const { daemons } = await this.get('v1/daemons');
        const names = daemons.map(({ daemon, state }) => `${daemon} (${state})`).join(', ');
        return { status: 'success', message: `The actions API answers; daemons: ${names || 'none'}` };
      } catch (error) {
        return { status: 'error', message: explain(error) };
      }
    }
  }

  // Grafana turns the API's 401 into a 400 of its own, see pkg/api/pluginproxy/ds_proxy.go.
  function explain(error) {
    const said = (error && error.data && (error.data.detail || error.data.message)) || (error && error.statusText) || String(error);
    const isToken = error && (error.status === 400 || error.status === 401);
    return isToken
      ? `The actions API does not take the token: ${said}. Make one: daemonpulse actions token new --scope operate --name grafana`
      : `The actions API does not answer: ${said}`;
  }

  // Of text: who may see it is decided by Grafana (the role), its second token (the scope) and the settings.
  function explainText(error) {
    const said = (error && error.data && (error.data.detail || error.data.message)) || String((error && error.message) || error);
    switch (error && error.status) {
      case 403:
        return /access denied/.test(said) ? 'Only Editors see what a request writes' : said;
      case 400:
      case 401:
        return 'Grafana has no token of scope text that is accepted. Make one: daemonpulse actions token new --scope text --name grafana-text';
      default:
        return said;
    }
  }

  const h = React.createElement;

  function QueryEditor({ query, onChange, onRunQuery }) {
    const choose = (event) => {
      onChange({ ...query, resource: event.target.value });
      onRunQuery();
    };
    const options = Object.entries({ ...LISTS, ...LIVE }).map(([value, { label }]) => h('option', { key: value, value }, label));
    const list = h('select', { 'aria-label': 'List', value: query.resource || 'operations', onChange: choose }, options);
    if (query.resource !== 'think') {
      return list;
    }
    const request = (event) => onChange({ ...query, request: event.target.value });
    const hint = 'daemon/request, newest, or $request';
    return h('div', null, [list, h('input', {
      key: 'request', 'aria-label': 'Request', placeholder: hint, value: query.request || '', onChange: request, onBlur: onRunQuery,
    })]);
  }

  function ConfigEditor({ options, onOptionsChange }) {
    const isSet = (name) => Boolean(options.secureJsonFields && options.secureJsonFields[name]);
    const url = (event) => onOptionsChange({ ...options, url: event.target.value });
    const secret = (name) => (event) =>
      onOptionsChange({ ...options, secureJsonData: { ...options.secureJsonData, [name]: event.target.value } });
    const row = (label, input) => h('p', { key: label }, h('label', null, `${label} `, input));
    const token = (name, hint) =>
      h('input', {
        type: 'password', size: 50, autoComplete: 'off', placeholder: isSet(name) ? 'set; type to replace it' : hint, onChange: secret(name),
      });
    return h('div', null, [
      row('URL', h('input', { type: 'url', size: 50, value: options.url || '', placeholder: 'http://actions:9811', onChange: url })),
      row('Token', token('token', 'dp_…')),
      row('Token of scope text', token('textToken', 'none: what requests write is not shown')),
    ]);
  }

  const plugin = new data.DataSourcePlugin(ActionsDataSource).setConfigEditor(ConfigEditor).setQueryEditor(QueryEditor);
  return Object.defineProperty({ plugin, LISTS, LIVE_COLUMNS }, '__esModule', { value: true });
});
