// What Grafana makes of Prometheus' answers for the panels of a board: transformations, overrides and texts, by Grafana's
// own @grafana/data. Reads [{board, panel, answers: {refId: [series]}}] from stdin, writes what is wrong, a line each.
//
// Knows how the Prometheus datasource makes frames, which is not in @grafana/data: a frame per series, or for the format
// `table` one per query with a column per label and a last one `Value`, `Value #A` when there are several
// (packages/grafana-prometheus/src/result_transformer.ts). And how Tempo's makes a table of spans: every attribute is a
// field of text whatever it holds (public/app/plugins/datasource/tempo/resultTransformer.ts). What fields can be told is in
// @grafana/ui, which wants a browser; PROCESSORS stands in for its list, with the processors of @grafana/data.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const g = createRequire(import.meta.url)('@grafana/data');
globalThis.navigator ??= { languages: ['en'] };
globalThis.window = {}; // where it looks for marks of Grafana's pages; only now, for what it loads looks there for a browser

const PROCESSORS = {
  displayName: g.stringOverrideProcessor,
  noValue: g.stringOverrideProcessor,
  unit: g.unitOverrideProcessor,
  min: g.numberOverrideProcessor,
  max: g.numberOverrideProcessor,
  decimals: g.numberOverrideProcessor,
  mappings: g.valueMappingsOverrideProcessor,
  thresholds: g.thresholdsOverrideProcessor,
  links: g.dataLinksOverrideProcessor,
  color: g.identityOverrideProcessor,
  actions: g.identityOverrideProcessor,
};
const UNITS = new Set(g.getValueFormats().flatMap(({ submenu }) => submenu.map(({ value }) => value)));

g.standardTransformersRegistry.setInit(() =>
  // seriesToColumns is joinByField under its old name.
  [...new Map(Object.values(g.standardTransformers).map((one) => [one.id, one])).values()].map((one) => ({ id: one.id, name: one.name, transformation: () => Promise.resolve(one) })),
);

function registry(panel) {
  const told = [panel.fieldConfig.defaults.custom, ...panel.fieldConfig.overrides.flatMap(({ properties }) => properties)];
  const custom = new Set(told.flatMap((one) => (one?.id ? [one.id] : Object.keys(one ?? {}).map((key) => `custom.${key}`))));
  const plain = Object.entries(PROCESSORS).map(([id, process]) => ({ id, path: id, name: id, process, shouldApply: () => true }));
  const own = [...custom].filter((id) => id.startsWith('custom.')).map((id) => ({
    id, path: id.slice('custom.'.length), name: id, isCustom: true, process: g.identityOverrideProcessor, shouldApply: () => true,
  }));
  return new g.FieldConfigOptionsRegistry(() => [...plain, ...own]);
}

const number = (text) => ({ '+Inf': Infinity, '-Inf': -Infinity, NaN })[text] ?? Number(text);

function frames(panel, answers) {
  const tables = panel.targets.filter(({ format }) => format === 'table').length;
  return panel.targets.flatMap((target) => {
    const series = answers[target.refId] ?? [];
    if (target.queryType === 'traceql') {
      return [asSpans(series)];
    }
    if (target.format === 'table') {
      return series.length ? [asTable(target.refId, series, tables > 1 ? `Value #${target.refId}` : 'Value')] : [];
    }
    return series.map(({ metric, values }) =>
      g.createDataFrame({
        refId: target.refId,
        fields: [
          { name: 'Time', type: g.FieldType.time, values: values.map(([at]) => at * 1000) },
          { name: 'Value', type: g.FieldType.number, labels: metric, values: values.map(([, value]) => number(value)) },
        ],
      }),
    );
  });
}

function asTable(refId, series, value) {
  const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))].sort();
  return g.createDataFrame({
    refId,
    fields: [
      { name: 'Time', type: g.FieldType.time, values: series.map(({ values }) => values.at(-1)[0] * 1000) },
      ...labels.map((name) => ({ name, type: g.FieldType.string, values: series.map(({ metric }) => metric[name] ?? '') })),
      { name: value, type: g.FieldType.number, values: series.map(({ values }) => number(values.at(-1)[1])) },
    ],
  });
}

function asSpans(traces) {
  const spans = traces.flatMap((trace) => trace.spanSets.flatMap((set) => set.spans.map((span) => ({ trace, span }))));
  const attributes = [...new Set(spans.flatMap(({ span }) => span.attributes.map(({ key }) => key)))].sort();
  const value = (span, key) => Object.values(span.attributes.find((one) => one.key === key)?.value ?? {})[0];
  const text = (name, of, config = {}) => ({ name, type: g.FieldType.string, config, values: spans.map(of) });
  return g.createDataFrame({
    name: 'Spans',
    fields: [
      text('traceIdHidden', ({ trace }) => trace.traceID, { custom: { hidden: true } }),
      text('traceService', ({ trace }) => trace.rootServiceName, { displayNameFromDS: 'Trace Service' }),
      text('traceName', ({ trace }) => trace.rootTraceName, { displayNameFromDS: 'Trace Name' }),
      text('spanID', ({ span }) => span.spanID, { displayNameFromDS: 'Span ID', unit: 'string' }),
      { name: 'time', type: g.FieldType.time, config: { displayNameFromDS: 'Start time' }, values: spans.map(({ span }) => span.startTimeUnixNano / 1e6) },
      text('name', ({ span }) => span.name, { displayNameFromDS: 'Name', custom: { hidden: true } }),
      ...attributes.map((key) => text(key, ({ span }) => value(span, key), { displayNameFromDS: key })),
      { name: 'duration', type: g.FieldType.number, config: { displayNameFromDS: 'Duration', unit: 'ns' }, values: spans.map(({ span }) => Number(span.durationNanos)) },
    ],
  });
}

function transformed(panel, data) {
  return new Promise((resolve, reject) =>
    g.transformDataFrame(panel.transformations ?? [], data, { interpolate: (text) => text }).subscribe({ next: resolve, error: reject }),
  );
}

export async function shown(panel, answers) {
  const data = await transformed(panel, frames(panel, answers));
  const fieldConfigRegistry = registry(panel);
  return g.applyFieldOverrides({
    data, fieldConfig: panel.fieldConfig, fieldConfigRegistry, replaceVariables: (text) => text, theme: g.createTheme(), timeZone: 'utc',
  });
}

export async function* faults(panel, answers) {
  const data = await shown(panel, answers);
  if (data.length === 0) {
    return;
  }
  const asked = new Set(Object.keys(answers).filter((refId) => answers[refId].length > 0));
  // Series are named by legends, which the Prometheus datasource makes, and colours are told for models there may not be.
  for (const { matcher, properties } of panel.type === 'table' ? panel.fieldConfig.overrides : []) {
    const isUnasked = matcher.id === 'byFrameRefID' ? !asked.has(matcher.options) : /^Value #/.test(matcher.options) && !asked.has(matcher.options.at(-1));
    const matches = g.getFieldMatcher(matcher);
    if (!isUnasked && !data.some((frame) => frame.fields.some((field) => matches(field, frame, data)))) {
      yield `the override for ${matcher.options} matches nothing of ${data.flatMap(({ fields }) => fields.map(({ name }) => name))}`;
    }
    const title = properties.find(({ id }) => id === 'displayName')?.value;
    if (title && !isUnasked && !data.some((frame) => frame.fields.some((field) => g.getFieldDisplayName(field, frame, data) === title))) {
      yield `no column is called ${title}`;
    }
  }
  if (panel.type === 'table') {
    if (data.length > 1) {
      yield `${data.length} tables where one is shown`;
    }
    const order = panel.transformations.find(({ id }) => id === 'organize').options.indexByName;
    const names = data[0].fields.map(({ name, config }) => config.displayNameFromDS ?? name);
    if (names.join() !== [...names].sort((a, b) => order[a] - order[b]).join() || names.some((name) => !(name in order))) {
      yield `the columns are ${names}`;
    }
    for (const field of data[0].fields.filter(({ config, type }) => config.custom?.align === 'right' && type !== g.FieldType.number)) {
      yield `${field.name} stands right and is sorted as ${field.type}`;
    }
  }
  for (const field of data.flatMap(({ fields }) => fields).filter(({ type }) => type === g.FieldType.number)) {
    const { unit, mappings } = field.config;
    if (unit && !UNITS.has(unit) && unit !== 'tok/s' && !/^(suffix|prefix):/.test(unit)) {
      yield `Grafana knows no unit ${unit}`;
    }
    for (const value of new Set(field.values.filter((one) => one !== null && one !== undefined))) {
      const { text } = field.display(value);
      const dashed = Number.isNaN(value) && text === '\u2013';
      if (text === '' || (!dashed && /undefined|NaN|\[object/.test(text) !== Number.isNaN(value))) {
        yield `${field.name}: ${value} is shown as "${text}"`;
      }
      if (mappings?.some(({ type }) => type === 'value') && String(value) === text) {
        yield `${field.name}: ${value} has no word among ${JSON.stringify(mappings[0].options)}`;
      }
    }
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  let judged = 0;
  for (const { board, panel, answers } of JSON.parse(readFileSync(0, 'utf8'))) {
    for await (const fault of faults(panel, answers)) {
      console.log(`${board} / ${panel.title}: ${fault}`);
    }
    judged += 1;
  }
  console.log(`${judged} panels judged`);
}
