/**
 * What our generated boards may contain, built on Grafana's own types.
 *
 * Grafana's `Dashboard` leaves options, field options, overrides and targets open. Here each panel type gets the options
 * and field options of its own plugin, overrides may only name properties that exist, and targets are what our
 * datasources read. A key that no type knows is an error, because boards are checked as object literals.
 */
import type * as Schema from '@grafana/schema';
import type * as BarGauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as Gauge from '@grafana/schema/dist/esm/raw/composable/gauge/panelcfg/x/GaugePanelCfg_types.gen';
import type * as Heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as Logs from '@grafana/schema/dist/esm/raw/composable/logs/panelcfg/x/LogsPanelCfg_types.gen';
import type * as Stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as StateTimeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as Table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as Text from '@grafana/schema/dist/esm/raw/composable/text/panelcfg/x/TextPanelCfg_types.gen';
import type * as TimeSeries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** A type as JSON writes it: members of enums become their values. */
type Written<T> = T extends string
  ? string extends T ? string : `${T}`
  : T extends number
    ? `${T}` extends `${infer Value extends number}` ? Value : number
    : T extends boolean | null | undefined
      ? T
      : T extends ReadonlyArray<infer Item>
        ? Written<Item>[]
        : T extends object ? { [Key in keyof T]: Written<T[Key]> } : T;

// Queries ------------------------------------------------------------------------------------------------------------
interface Source<Type extends string> { type: Type; uid: `\${${string}}` }
interface Prom<Format extends string, Instant extends boolean> {
  refId: string; datasource: Source<'prometheus'>; editorMode: 'code'; expr: string; legendFormat: string;
  format: Format; instant: Instant; range: Instant extends true ? false : true; exemplar: boolean;
}
interface Loki { refId: string; datasource: Source<'loki'>; expr: string; queryType: 'range'; legendFormat?: string }
interface Tempo {
  refId: string; datasource: Source<'tempo'>; query: string; queryType: 'traceql'; limit: number;
  tableType: 'traces' | 'spans';
}
interface Api {
  refId: string; datasource: Source<'daemonpulse-actions-datasource'>;
  resource: 'operations' | 'approvals' | 'audit' | 'gates' | 'live' | 'think'; request?: string;
}

// Fields -------------------------------------------------------------------------------------------------------------
/** Stricter than Grafana: only through the proxy, never without a question, never with a header (a token would leak). */
interface Button {
  type: 'fetch'; title: string; confirmation: string; oneClick: false; style: { backgroundColor: string };
  fetch: {
    method: 'POST'; url: `/api/datasources/proxy/uid/${string}/v1/${string}`; queryParams: [string, string][]; headers: [];
  };
}
interface Link { title: string; url: `/d/${string}`; targetBlank: boolean }
type Field = Written<Omit<Schema.FieldConfig, 'custom' | 'actions' | 'links'>> & { actions?: Button[]; links?: Link[] };
type Property<Custom> =
  | { [Key in keyof Custom & string]: { id: `custom.${Key}`; value: Written<NonNullable<Custom[Key]>> } }[keyof Custom & string]
  | { [Key in keyof Field & string]: { id: Key; value: NonNullable<Field[Key]> } }[keyof Field & string];
interface Fields<Custom> {
  defaults: Field & { unit: string } & ({} extends Custom ? { custom?: Written<Custom> } : { custom: Written<Custom> });
  overrides: { matcher: { id: 'byName' | 'byRegexp'; options: string }; properties: Property<Custom>[] }[];
}

// Panels -------------------------------------------------------------------------------------------------------------
type Common = Required<
  Pick<Written<Schema.Panel>, 'id' | 'title' | 'description' | 'gridPos' | 'transformations' | 'links' | 'pluginVersion' | 'transparent'>
> & { datasource: { type: string; uid: string }; interval?: string };
type Panel<Type extends string, Options, Custom, Target> = Common & {
  type: Type; options: Written<Options>; fieldConfig: Fields<Custom>; targets: [Target, ...Target[]];
};
type AnyPanel =
  | Panel<'stat', Stat.Options, {}, Prom<'time_series', boolean>>
  | Panel<'gauge', Gauge.Options, {}, Prom<'time_series', true>>
  | Panel<'bargauge', BarGauge.Options, {}, Prom<'time_series', true>>
  | Panel<'timeseries', TimeSeries.Options, TimeSeries.FieldConfig, Prom<'time_series', false> | Loki>
  | Panel<'state-timeline', StateTimeline.Options, StateTimeline.FieldConfig, Prom<'time_series', false>>
  | Panel<'heatmap', Heatmap.Options, Heatmap.FieldConfig, Prom<'heatmap', false>>
  | Panel<'table', Table.Options, Table.FieldConfig, Prom<'table', true> | Tempo | Api>
  | Panel<'logs', Logs.Options, {}, Loki | Api>
  | (Omit<Common, 'datasource' | 'links' | 'transformations'> & { type: 'text'; options: Written<Text.Options> });
type Heading = Required<Omit<Written<Schema.RowPanel>, 'datasource' | 'repeat' | 'panels'>> & (
  | { collapsed: true; panels: [AnyPanel, ...AnyPanel[]] }
  | { collapsed: false; panels: []; repeat: string }
);

// The rest of a board ------------------------------------------------------------------------------------------------
type Variable = Omit<Written<Schema.VariableModel>, 'query'> & {
  query: string | { qryType: 1; query: string; refId: string }; label: string; description: string;
};
interface Note {
  name: string; datasource: Source<'prometheus'>; enable: boolean; hide: boolean; iconColor: string;
  expr: string; titleFormat: string; step: string; useValueForTime: boolean;
}
export type Board = Omit<Written<Schema.Dashboard>, 'panels' | 'templating' | 'annotations' | 'schemaVersion' | 'editable'> & {
  uid: string; title: string; description: string; schemaVersion: 41; editable: false;
  panels: (AnyPanel | Heading)[];
  templating: { list: Variable[] };
  annotations: { list: Note[] };
};
