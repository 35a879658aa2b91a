-- msys.runInPool: there are no pools of threads here. A function runs at once, or once the callout is over.
local settings, bounds, objects = ...
local type, error, pcall = type, error, bounds.pcall
local msys = objects.module_of("msys")
local after = msys._after
msys._after = nil

function msys.runInPool(pool, f, later)
  if type(f) ~= "function" then error("bad argument #2 to 'runInPool' (function expected, got " .. type(f) .. ")", 2) end
  if later == true then
    after(f)
    return true
  end
  if type(later) ~= "function" then return pcall(f) end
  local function finish(...)
    pcall(later)
    return ...
  end
  return finish(pcall(f))
end
