// What the plugin sees of Grafana: an AMD loader, the real @grafana/data, what it takes of @grafana/runtime, and the
// datasource proxy.
//
// The proxy follows pkg/api/pluginproxy/ds_proxy.go of Grafana 13: the first route of plugin.json whose method and path
// fit asks for its role and adds its headers; what no route fits goes through bare. A 401 comes back as a 400.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const folder = new URL('../../../compose/grafana/plugins/daemonpulse-actions-datasource/', import.meta.url);
export const pluginJson = JSON.parse(readFileSync(new URL('plugin.json', folder), 'utf8'));
export const PROXY = '/api/datasources/proxy/uid/daemonpulse-actions';

const ROLES = ['Viewer', 'Editor', 'Admin'];
export const data = createRequire(new URL('../../dashboards/node/', import.meta.url))('@grafana/data');

export class Proxy {
  constructor({ api, token, role }) {
    Object.assign(this, { api, token, role });
  }

  async request(method, url) {
    if (!url.startsWith(`${PROXY}/`)) {
      throw new Error(`${url} does not go through the proxy`);
    }
    const path = url.slice(PROXY.length + 1);
    const headers = {};
    const route = pluginJson.routes.find((one) => one.method === method && path.startsWith(one.path));
    if (route) {
      if (ROLES.indexOf(this.role) < ROLES.indexOf(route.reqRole)) {
        return { status: 403, data: { message: 'plugin proxy route access denied' } };
      }
      for (const { name, content } of route.headers) {
        headers[name] = content.replace('{{ .SecureJsonData.token }}', this.token);
      }
    }
    const answer = await fetch(`${this.api}/${path}`, { method, headers });
    const text = await answer.text();
    if (answer.status === 401) {
      return { status: 400, data: { message: 'Authentication to data source failed' } };
    }
    const isJson = answer.headers.get('content-type').includes('json');
    return { status: answer.status, data: isJson ? JSON.parse(text) : text };
  }
}

export function load(proxy, variables = {}) {
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
    '@grafana/runtime': {
      getBackendSrv: () => backend,
      getTemplateSrv: () => ({ replace: (text) => text.replace(/\$(\w+)/g, (_, name) => variables[name]) }),
    },
  };
  let exported;
  const define = (names, factory) => {
    exported = factory(...names.map((name) => modules[name]));
  };
  new Function('define', readFileSync(new URL('module.js', folder), 'utf8'))(define);
  const settings = { name: 'actions', uid: 'daemonpulse-actions', type: pluginJson.id, url: PROXY };
  return { ...exported, source: new exported.plugin.DataSourceClass(settings) };
}
