{{- define "aegis.name" -}}
{{- if contains "aegis" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-aegis" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "aegis.selector" -}}
app.kubernetes.io/name: aegis
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "aegis.labels" -}}
{{ include "aegis.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "aegis.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "aegis.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "aegis.name" .) }}
{{- end }}

{{- /* The consumer group of the scorers, as aegis.toml has it. */}}
{{- define "aegis.scoreGroup" -}}
{{- $config := fromToml .Values.config }}
{{- dig "score" "group" "aegis-score" $config }}
{{- end }}

{{- /* Values that would put a secret into a ConfigMap or an environment, and numbers that contradict each other. */}}
{{- define "aegis.check" -}}
{{- $config := fromToml .Values.config }}
{{- if hasKey $config "Error" }}{{ fail (printf "config is not TOML: %s" (get $config "Error")) }}{{ end }}
{{- $policies := fromToml .Values.policies }}
{{- if hasKey $policies "Error" }}{{ fail (printf "policies is not TOML: %s" (get $policies "Error")) }}{{ end }}
{{- $settings := merge (dict) .Values.kafka.settings (dig "kafka" "settings" (dict) $config) }}
{{- range $name, $value := $settings }}
{{- if regexMatch "password|passphrase|secret|jaas|[._]pem$|oauthbearer[._]config" (lower $name) }}
{{ fail (printf "%s may be a secret: put it into a Secret and name that in kafka.secrets" $name) }}
{{- end }}
{{- end }}
{{- range $section := list "registry" "console" "traces" }}
{{- range $name, $value := dig $section (dict) $config }}
{{- if has $name (list "password" "proxy_secret" "headers") }}
{{ fail (printf "%s.%s in config is a secret: name a Secret instead" $section $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.score.autoscaling }}
{{- if not (has .kind (list "keda" "hpa" "none")) }}{{ fail "score.autoscaling.kind is not keda, hpa or none" }}{{ end }}
{{- if and (ne .kind "none") (gt (int .maxReplicas) (int $.Values.topics.partitions)) }}
{{ fail "score.autoscaling.maxReplicas is more than topics.partitions: a scorer without a partition does nothing" }}
{{- end }}
{{- if and (ne .kind "none") (lt (int .minReplicas) 1) }}
{{ fail "score.autoscaling.minReplicas is less than 1: the scorers themselves report the lag that they are scaled by" }}
{{- end }}
{{- end }}
{{- if and .Values.console.enabled (not .Values.console.credentialsSecret.name) }}
{{ fail "console.credentialsSecret is missing: the console answers beyond loopback only with users" }}
{{- end }}
{{- with .Values.serve }}
{{- if .enabled }}
{{- if not (and .keysSecret.name .keysSecret.key) }}
{{ fail "serve.keysSecret is missing, or its name or key: aegis serve answers beyond loopback only with API keys" }}
{{- end }}
{{- if and (dig "http" "moderation" "record" true $config) (not (and .recordKeySecret.name .recordKeySecret.key)) }}
{{ fail "serve.recordKeySecret is missing, or its name or key: servers and scorers need it, unless record = false in [http.moderation] of config" }}
{{- end }}
{{- if not (has .autoscaling.kind (list "hpa" "none")) }}{{ fail "serve.autoscaling.kind is not hpa or none" }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Servers and scorers share the secret by which scorers believe the decisions of requests. */}}
{{- define "aegis.hasRecordKey" -}}
{{- if and .Values.serve.enabled .Values.serve.recordKeySecret.name }}yes{{ end }}
{{- end }}

{{- define "aegis.recordEnv" -}}
{{- if include "aegis.hasRecordKey" . -}}
- {name: AEGIS__HTTP__MODERATION__RECORD_KEY_FILE, value: /etc/aegis-secrets/record-key/{{ .Values.serve.recordKeySecret.key }}}
{{- end }}
{{- end }}

{{- define "aegis.recordMount" -}}
{{- if include "aegis.hasRecordKey" . -}}
- {name: record-key, mountPath: /etc/aegis-secrets/record-key, readOnly: true}
{{- end }}
{{- end }}

{{- /* The one key of the Secret, because scorers have no use for its others. */}}
{{- define "aegis.recordVolume" -}}
{{- if include "aegis.hasRecordKey" . -}}
{{- with .Values.serve.recordKeySecret -}}
- {name: record-key, secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key }}, path: {{ .key }}}]}}
{{- end }}
{{- end }}
{{- end }}

{{- /* The text of a setting. Helm reads numbers as floats, and would write 10000000 as 1e+07. */}}
{{- define "aegis.setting" -}}
{{- if kindIs "float64" . }}{{ if eq . (floor .) }}{{ printf "%.0f" . }}{{ else }}{{ toString . }}{{ end }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{- /* The environment of every container. Dots in librdkafka's names are underscores there. */}}
{{- define "aegis.env" -}}
- {name: AEGIS_CONFIG, value: /etc/aegis/aegis.toml}
- {name: AEGIS__HTTP__LISTEN, value: "0.0.0.0:9464"}
- {name: AEGIS__KAFKA__BROKERS, value: {{ .Values.kafka.brokers | quote }}}
{{- range $name, $value := .Values.kafka.settings }}
- {name: AEGIS__KAFKA__SETTINGS__{{ $name | upper | replace "." "_" }}, value: {{ include "aegis.setting" $value | quote }}}
{{- end }}
{{- if .Values.kafka.caSecret.name }}
- {name: AEGIS__KAFKA__SETTINGS__SSL_CA_LOCATION, value: /etc/aegis-secrets/kafka-ca/{{ .Values.kafka.caSecret.key }}}
{{- end }}
{{- range $name, $secret := .Values.kafka.secrets }}
- {name: AEGIS__KAFKA__SECRETS__{{ $name | upper | replace "." "_" }}, value: /etc/aegis-secrets/{{ include "aegis.volume" $name }}/{{ $secret.key }}}
{{- end }}
{{- if .Values.registry.url }}
- {name: AEGIS__REGISTRY__URL, value: {{ .Values.registry.url | quote }}}
{{- end }}
{{- if .Values.registry.user }}
- {name: AEGIS__REGISTRY__USER, value: {{ .Values.registry.user | quote }}}
{{- end }}
{{- if .Values.registry.passwordSecret.name }}
- {name: AEGIS__REGISTRY__PASSWORD_FILE, value: /etc/aegis-secrets/registry/{{ .Values.registry.passwordSecret.key }}}
{{- end }}
{{- end }}

{{- /* The volume of a secret setting. Names of volumes have neither dots nor underscores. */}}
{{- define "aegis.volume" -}}
{{ . | lower | replace "." "-" | replace "_" "-" }}
{{- end }}

{{- define "aegis.mounts" -}}
- {name: config, mountPath: /etc/aegis, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if .Values.models.existingClaim }}
- {name: models, mountPath: /opt/aegis/models, readOnly: true}
{{- end }}
{{- if .Values.kafka.caSecret.name }}
- {name: kafka-ca, mountPath: /etc/aegis-secrets/kafka-ca, readOnly: true}
{{- end }}
{{- range $name, $secret := .Values.kafka.secrets }}
- {name: {{ include "aegis.volume" $name }}, mountPath: /etc/aegis-secrets/{{ include "aegis.volume" $name }}, readOnly: true}
{{- end }}
{{- if .Values.registry.passwordSecret.name }}
- {name: registry, mountPath: /etc/aegis-secrets/registry, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "aegis.volumes" -}}
- {name: config, configMap: {name: {{ include "aegis.name" . }}}}
- {name: tmp, emptyDir: {}}
{{- if .Values.models.existingClaim }}
- {name: models, persistentVolumeClaim: {claimName: {{ .Values.models.existingClaim }}, readOnly: true}}
{{- end }}
{{- if .Values.kafka.caSecret.name }}
- {name: kafka-ca, secret: {secretName: {{ .Values.kafka.caSecret.name }}, defaultMode: 0440}}
{{- end }}
{{- range $name, $secret := .Values.kafka.secrets }}
- {name: {{ include "aegis.volume" $name }}, secret: {secretName: {{ $secret.name }}, defaultMode: 0440}}
{{- end }}
{{- if .Values.registry.passwordSecret.name }}
- {name: registry, secret: {secretName: {{ .Values.registry.passwordSecret.name }}, defaultMode: 0440}}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* What every pod has: no root, no token of the cluster, and time to finish a batch. */}}
{{- define "aegis.pod" -}}
serviceAccountName: {{ include "aegis.serviceAccount" . }}
automountServiceAccountToken: false
# Twice experts.timeout_ms, and the time of a commit.
terminationGracePeriodSeconds: 75
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "aegis.container" -}}
image: {{ include "aegis.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* Liveness does not depend on the brokers: a restart would not bring them back. */}}
{{- define "aegis.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 3
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 3
{{- end }}

{{- define "aegis.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Members of one component are spread over nodes, as far as possible. */}}
{{- define "aegis.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "aegis.selector" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* A restart follows changes of aegis.toml. Roles read changed policies themselves. */}}
{{- define "aegis.annotations" -}}
aegis/config: {{ .Values.config | sha256sum | trunc 16 }}
{{- with .Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}
