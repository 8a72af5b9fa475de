// What the plugin sees of Grafana: an AMD loader, the real @grafana/data and rxjs, what it takes of @grafana/runtime, a
// page, and the datasource proxy.
//
// The proxy follows pkg/api/pluginproxy/ds_proxy.go of Grafana 13: the first route of plugin.json whose method and path
// fit asks for its role and adds its headers; what no route fits goes through bare. A 401 comes back as a 400.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const folder = new URL('../../../compose/grafana/plugins/daemonpulse-actions-datasource/', import.meta.url);
export const pluginJson = JSON.parse(readFileSync(new URL('plugin.json', folder), 'utf8'));
export const PROXY = '/api/datasources/proxy/uid/daemonpulse-actions';

const ROLES = ['Viewer', 'Editor', 'Admin'];
const required = createRequire(new URL('../../dashboards/node/', import.meta.url));
export const data = required('@grafana/data');
const rxjs = required('rxjs');

export class Proxy {
  constructor({ api, token, textToken = '', role }) {
    Object.assign(this, { api, secrets: { token, textToken }, role, opened: [] });
  }

  // What Grafana's server does with a request: refuses it, or passes it on with the headers of its route.
  async pass(method, url, signal) {
    if (!url.startsWith(`${PROXY}/`)) {
      throw new Error(`${url} does not go through the proxy`);
    }
    const path = url.slice(PROXY.length + 1);
    const headers = {};
    const route = pluginJson.routes.find((one) => one.method === method && path.startsWith(one.path));
    if (route) {
      if (ROLES.indexOf(this.role) < ROLES.indexOf(route.reqRole)) {
        return Response.json({ message: 'plugin proxy route access denied' }, { status: 403 });
      }
      for (const { name, content } of route.headers) {
        headers[name] = content.replace(/\{\{ \.SecureJsonData\.(\w+) \}\}/, (_, secret) => this.secrets[secret]);
      }
    }
    const answer = await fetch(`${this.api}/${path}`, { method, headers, signal });
    if (answer.status === 401) {
      return Response.json({ message: 'Authentication to data source failed' }, { status: 400 });
    }
    return answer;
  }

  async request(method, url) {
    const answer = await this.pass(method, url);
    const text = await answer.text();
    const isJson = answer.headers.get('content-type').includes('json');
    return { status: answer.status, data: isJson ? JSON.parse(text) : text };
  }
}

// A page that may be in the background, and the browser's fetch from it: addresses are relative to Grafana's root.
class Page extends EventTarget {
  hidden = false;

  hide(hidden) {
    this.hidden = hidden;
    this.dispatchEvent(new Event('visibilitychange'));
  }
}

export function load(proxy, variables = {}) {
  const page = new Page();
  const fetched = (url, { method, signal }) => {
    proxy.opened.push({ method, url, signal });
    return proxy.pass(method, `/${url}`, signal);
  };
  const backend = {
    async get(url, params = {}) {
      const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== undefined));
      const { status, data } = await proxy.request('GET', query.size ? `${url}?${query}` : url);
      if (status >= 400) {
        throw Object.assign(new Error(String(status)), { status, data });
      }
      return data;
    },
  };
  const modules = {
    react: { createElement: (type, props, ...children) => ({ type, props: props ?? {}, children: children.flat() }) },
    '@grafana/data': data,
    rxjs,
    '@grafana/runtime': {
      getBackendSrv: () => backend,
      getTemplateSrv: () => ({ replace: (text) => text.replace(/\$(\w+)/g, (_, name) => variables[name]) }),
    },
  };
  let exported;
  const define = (names, factory) => {
    exported = factory(...names.map((name) => modules[name]));
  };
  const source = readFileSync(new URL('module.js', folder), 'utf8');
  new Function('define', 'fetch', 'document', source)(define, fetched, page);
  const settings = { name: 'actions', uid: 'daemonpulse-actions', type: pluginJson.id, url: PROXY };
  return { ...exported, page, source: new exported.plugin.DataSourceClass(settings) };
}
