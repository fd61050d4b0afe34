-- Health of an LLMDeployment for Argo CD: resource_customizations/llm-operator.dev/LLMDeployment/health.lua
-- The conditions follow kstatus; docs/status.md explains their reasons.
local hs = {status = "Progressing", message = "Waiting for the operator's first status"}

if obj.status == nil or obj.status.conditions == nil then
  return hs
end

local generation = 0
if obj.metadata ~= nil and obj.metadata.generation ~= nil then
  generation = obj.metadata.generation
end
if (obj.status.observedGeneration or 0) < generation then
  hs.message = "Waiting for the operator to observe the current spec"
  return hs
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end

local function text(condition)
  if condition.message ~= nil and condition.message ~= "" then
    return condition.reason .. ": " .. condition.message
  end
  return condition.reason
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
