{{- define "daemonpulse.labels" -}}
app.kubernetes.io/name: daemonpulse
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "daemonpulse.selector" -}}
app.kubernetes.io/name: daemonpulse
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "daemonpulse.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "daemonpulse.pull" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "daemonpulse.pod-security" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "daemonpulse.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "daemonpulse.otlp" -}}
{{- with .Values.otlp }}
{{- if .endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
{{- if .metrics }}
- {name: OTEL_METRICS_EXPORTER, value: otlp}
{{- end }}
{{- if .headersSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {name: {{ .headersSecret }}, key: headers}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What exporter and tap let out of text; YAML reads an unquoted off as false. */}}
{{- define "daemonpulse.capture" -}}
{{- if has .Values.capture (list "redacted" "full") }}
- {name: DAEMONPULSE_CAPTURE, value: {{ .Values.capture }}}
{{- end }}
{{- if .Values.liveTokenSecret }}
{{- if ne (toString .Values.capture) "full" }}{{ fail "liveTokenSecret shows text of running requests: it needs capture: full" }}{{ end }}
- {name: DAEMONPULSE_LIVE_TOKEN_FILE, value: /etc/daemonpulse/live/token}
{{- end }}
{{- end }}

{{- define "daemonpulse.secret-mounts" -}}
{{- range $name, $secret := . }}
{{- if $secret }}
- {name: {{ $name }}, mountPath: /etc/daemonpulse/{{ $name }}, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{- define "daemonpulse.secret-volumes" -}}
{{- range $name, $secret := . }}
{{- if $secret }}
- {name: {{ $name }}, secret: {secretName: {{ $secret }}, defaultMode: 0440}}
{{- end }}
{{- end }}
{{- end }}

{{/* The TOML file of several daemons; tokens are mounted as files. */}}
{{- define "daemonpulse.toml" -}}
{{- range . }}
[[daemons]]
name = {{ .name | quote }}
url = {{ .url | quote }}
{{- if .tokenSecret }}
token_file = "/etc/daemonpulse/tokens/{{ .name }}/token"
{{- end }}
{{- with .tapUrl }}
tap_url = {{ . | quote }}
{{- end }}
{{ end }}
{{- end }}

{{- define "daemonpulse.token-mounts" -}}
{{- range . }}
{{- if .tokenSecret }}
- {name: token-{{ .name | lower | replace "_" "-" | replace "." "-" }}, mountPath: /etc/daemonpulse/tokens/{{ .name }}, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{- define "daemonpulse.token-volumes" -}}
{{- range . }}
{{- if .tokenSecret }}
- {name: token-{{ .name | lower | replace "_" "-" | replace "." "-" }}, secret: {secretName: {{ .tokenSecret }}, defaultMode: 0440}}
{{- end }}
{{- end }}
{{- end }}
