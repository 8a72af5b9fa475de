// Shows the lists of DaemonPulse's actions API as tables. Plain JavaScript that Grafana loads as it is: no build step.
//
// Knows the API's lists and no token: the routes of plugin.json add it on Grafana's server, which also asks for the
// role: Viewer to look, Editor to POST. Boards' buttons use those same routes without coming through here.
define(['react', '@grafana/data', '@grafana/runtime'], function (React, data, runtime) {
  'use strict';

  const { FieldType } = data;
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
      label: 'Approvals: tool calls that wait for a person',
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
        id: string, server: string, tool: string, description: string, decision: string, rule: string,
        changed: boolean, set_by: string,
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
      return !query.hide && query.resource in LISTS;
    }

    async query(request) {
      const asked = request.targets.filter((query) => this.filterQuery(query)).map((query) => ({
        ...query,
        daemon: query.daemon && runtime.getTemplateSrv().replace(query.daemon, request.scopedVars),
      }));
      const frames = asked.map(async (query) => frame(query, LISTS[query.resource], await LISTS[query.resource].rows(this, query)));
      return { data: await Promise.all(frames) };
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

  const h = React.createElement;

  function QueryEditor({ query, onChange, onRunQuery }) {
    const choose = (event) => {
      onChange({ ...query, resource: event.target.value });
      onRunQuery();
    };
    const options = Object.entries(LISTS).map(([value, { label }]) => h('option', { key: value, value }, label));
    return h('select', { 'aria-label': 'List', value: query.resource || 'operations', onChange: choose }, options);
  }

  function ConfigEditor({ options, onOptionsChange }) {
    const isSet = Boolean(options.secureJsonFields && options.secureJsonFields.token);
    const url = (event) => onOptionsChange({ ...options, url: event.target.value });
    const token = (event) =>
      onOptionsChange({ ...options, secureJsonData: { ...options.secureJsonData, token: event.target.value } });
    const row = (label, input) => h('p', { key: label }, h('label', null, `${label} `, input));
    return h('div', null, [
      row('URL', h('input', { type: 'url', size: 50, value: options.url || '', placeholder: 'http://actions:9811', onChange: url })),
      row('Token', h('input', {
        type: 'password', size: 50, autoComplete: 'off', placeholder: isSet ? 'set; type to replace it' : 'dp_…', onChange: token,
      })),
    ]);
  }

  const plugin = new data.DataSourcePlugin(ActionsDataSource).setConfigEditor(ConfigEditor).setQueryEditor(QueryEditor);
  return Object.defineProperty({ plugin, LISTS }, '__esModule', { value: true });
});
