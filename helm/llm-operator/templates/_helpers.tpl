{{- define "llm-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "llm-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := include "llm-operator.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Names of cluster-scoped objects carry the namespace, so that two releases do not fight over one object. */}}
{{- define "llm-operator.clusterName" -}}
{{- printf "%s:%s" (include "llm-operator.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "llm-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "llm-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "llm-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "llm-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: llm-operator
{{- end -}}

{{- define "llm-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "llm-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "llm-operator.leaseName" -}}
{{- include "llm-operator.fullname" . -}}
{{- end -}}

{{- define "llm-operator.learnedName" -}}
{{- printf "%s-learned" (include "llm-operator.fullname" . | trunc 55 | trimSuffix "-") -}}
{{- end -}}

{{/*
An image of the project: a digest goes before a tag. Called with the root, the values of the image, and its name.
A name that the project does not own is never a default: without a registry the chart says what to do.
*/}}
{{- define "llm-operator.image" -}}
{{- $repository := .image.repository -}}
{{- if not $repository -}}
{{- if not .root.Values.imageRegistry -}}
{{- fail "\nimageRegistry is not set: it says where the images of llm-operator are, such as registry.example.com/llm for registry.example.com/llm/operator.\nThis chart names no registry of its own. Build and push the images (docs/install.md, \"The images\"), then add --set imageRegistry=REGISTRY/PATH." -}}
{{- end -}}
{{- $repository = printf "%s/%s" .root.Values.imageRegistry .name -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What the operator does to LLMDeployments and their children; the same in every namespace it serves. */}}
{{- define "llm-operator.workloadRules" -}}
- apiGroups: [llm-operator.dev]
  resources: [llmdeployments]
  verbs: [list, watch]
- apiGroups: [llm-operator.dev]
  resources: [llmdeployments/status]
  verbs: [patch]
- apiGroups: [llm-operator.dev]
  resources: [llmdeployments/finalizers]
  # Nothing is written: the admission plugin OwnerReferencesPermissionEnforcement (on in OpenShift) asks for this right
  # before what belongs to an object may hold up its foreground deletion.
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [controllerrevisions]
  # What an engine's pods were rendered as.
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [replicasets]
  # Whose a pod is, and whether a rollout stands still.
  verbs: [get]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
{{- if .Values.modelTools.enabled }}
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create]
{{- end }}
- apiGroups: [""]
  resources: [pods]
  # create: only as a dry run, to learn whether a pod with spec.podTemplate would be admitted.
  verbs: [list, watch, create]
{{- if .Values.rbac.podLogs }}
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
- apiGroups: [""]
  resources: [events]
  # list: of a pod, claim or Job that waits, to learn what for.
  verbs: [list, create]
{{- end -}}

{{- define "llm-operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "llm-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* Who reaches every engine: the operator, and who scrapes it. A podSelector alone would mean the engine's own namespace. */}}
{{- define "llm-operator.networkPeers" -}}
{{- $here := dict "matchLabels" (dict "kubernetes.io/metadata.name" .Release.Namespace) -}}
{{- $own := include "llm-operator.selectorLabels" . | fromYaml -}}
{{- $peers := list (dict "namespaceSelector" $here "podSelector" (dict "matchLabels" $own)) -}}
{{- range .Values.networkPolicy.metricsFrom -}}
{{- $peers = append $peers (ternary . (merge (dict "namespaceSelector" $here) .) (or (hasKey . "ipBlock") (hasKey . "namespaceSelector"))) -}}
{{- end -}}
{{- toJson (concat $peers .Values.networkPolicy.objects.from) -}}
{{- end -}}
