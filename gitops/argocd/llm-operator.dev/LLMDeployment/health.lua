-- Health of an LLMDeployment for Argo CD: resource_customizations/llm-operator.dev/LLMDeployment/health.lua
-- The conditions follow kstatus; docs/status.md explains their reasons. Reasons that this script does not know are shown
-- by the status of their condition.
local hs = {status = "Progressing", message = "Waiting for the operator's first status"}

local function is_table(value)
  return type(value) == "table"
end

local metadata = is_table(obj.metadata) and obj.metadata or {}
if metadata.deletionTimestamp ~= nil then
  hs.message = "Being deleted"
  return hs
end
if not is_table(obj.status) or not is_table(obj.status.conditions) then
  return hs
end
if (obj.status.observedGeneration or 0) < (metadata.generation or 0) then
  hs.message = "Waiting for the operator to observe the current spec"
  return hs
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  if is_table(condition) and condition.type ~= nil then
    conditions[condition.type] = condition
  end
end

local function text(condition)
  local reason = condition.reason or condition.type
  if condition.message ~= nil and condition.message ~= "" then
    return reason .. ": " .. condition.message
  end
  return reason
end

local stalled = conditions["Stalled"]
if stalled ~= nil and stalled.status == "True" then
  hs.status = "Degraded"
  hs.message = text(stalled)
  return hs
end

local ready = conditions["Ready"]
if ready == nil then
  hs.message = "Waiting for the condition Ready"
  return hs
end
hs.message = text(ready)
if ready.status == "True" then
  hs.status = "Healthy"
  if ready.reason == "Stopped" then
    hs.status = "Suspended"
  end
elseif ready.status == "False" then
  hs.status = "Degraded"
end
return hs
