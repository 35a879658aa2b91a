-- What bounds scripts: instructions, processor time, memory; coroutines that can wait for the host.
-- Everything here is reached by scripts as closures only. Nothing of Python is in a table that they can read.
local settings = ...
local STEP, MAX_CPU, SOFT_KB = settings.step, settings.max_cpu, settings.soft_kb
local WAIT = {}
local clock, gcinfo, error, type, select = os.clock, gcinfo, error, type, select
local raw_pcall, raw_xpcall, collect = pcall, xpcall, collectgarbage
local create, resume, yield, status, running, wrap =
  coroutine.create, coroutine.resume, coroutine.yield, coroutine.status, coroutine.running, coroutine.wrap
local load, rep = loadstring, string.rep
local sethook, traceback, setmetatable, tostring = debug.sethook, debug.traceback, setmetatable, tostring

local callouts = {}            -- by number: those that run or wait
-- Of the callout that runs: instructions left, the clock when it was resumed, which limit it exceeded, where.
local left, started, exceeded, place
local lib = {}

local function trip(text)
  if not exceeded then exceeded, place = text, traceback("", 3) end
  error(exceeded, 3)
end

-- Freed if scripts have used everything: so the host has memory to go on.
local function ballast() return rep("x", settings.ballast) end
local reserve = ballast()

local active = false -- whether a callout runs
local function hook()
  if not active then return end
  left = left - STEP
  if exceeded or left < 0 then trip("too many instructions") end
  if gcinfo() > SOFT_KB then
    collect("collect")
    if gcinfo() > SOFT_KB then trip("not enough memory") end
  end
  if clock() - started > MAX_CPU then trip("too much processor time") end
end

function lib.charge(steps)
  left = left - steps
  if active and (exceeded or left < 0) then trip("too many instructions") end
end

-- A script may catch an error, but not that of a limit.
local function caught(...)
  if exceeded then error(exceeded, 0) end
  return ...
end

function lib.pcall(...) return caught(raw_pcall(...)) end

-- The hook does not fire within its own errors, so no handler of a script runs there: it runs after the unwinding, and
-- has the traceback from before it.
local trace_of_error
local function remember(value)
  trace_of_error = traceback("", 2)
  return value
end
local function handled(handler, ok, ...)
  if exceeded then error(exceeded, 0) end
  if ok then return true, ... end
  return false, (handler(...))
end
function lib.xpcall(f, handler, ...) return handled(handler, raw_xpcall(f, remember, ...)) end
function lib.traceback(text, ...)
  local trace = trace_of_error
  trace_of_error = nil
  if trace and select("#", ...) == 0 and (text == nil or type(text) == "string") then return (text or "") .. trace end
  return traceback(text, ...)
end

-- Calls of the host. A function of Python returns true and its values, false and the text of an error, or nil: then
-- the session has to wait for it.
local finish
function finish(ok, ...)
  if ok then return ... end
  if ok == nil then return finish(yield(WAIT)) end
  error((...), 2) -- the calls of finish() leave no frames behind: this is the script's line
end

local function room()
  if gcinfo() > SOFT_KB then
    collect("collect")
    if gcinfo() > SOFT_KB then error("not enough memory", 3) end
  end
end

function lib.host(called)
  return function(...)
    room()
    return finish(called(...))
  end
end

function lib.method(called, class, name, handle_of)
  return function(self, ...)
    local handle = handle_of(self, class)
    if not handle then error("bad self of '" .. name .. "' (" .. class .. " expected, got " .. type(self) .. ")", 2) end
    room()
    return finish(called(handle, ...))
  end
end

-- Coroutines of scripts. What waits within one passes its wait up to the session.
local of_scripts = setmetatable({}, { __mode = "k" })
local function passed(co, ok, first, ...)
  if ok and first == WAIT then return passed(co, resume(co, yield(WAIT))) end
  if exceeded then error(exceeded, 0) end
  return ok, first, ...
end

lib.coroutine = { status = status }
function lib.coroutine.create(f)
  local co = create(f)
  of_scripts[co] = true
  return co
end
function lib.coroutine.resume(co, ...) return passed(co, resume(co, ...)) end
function lib.coroutine.yield(...)
  if not of_scripts[running()] then error("attempt to yield from outside a coroutine", 2) end
  return yield(...)
end
function lib.coroutine.running()
  local co = running()
  return of_scripts[co] and co or nil
end
local function unwrapped(ok, ...)
  if ok then return ... end
  error((...), 3)
end
function lib.coroutine.wrap(f)
  local co = lib.coroutine.create(f)
  return function(...) return unwrapped(passed(co, resume(co, ...))) end
end

-- One callout: Python calls begin() once, then continue() after each wait.
local function text_of(value)
  local kind = type(value)
  if kind == "string" or kind == "number" then return tostring(value) end
  return "(error object is a " .. kind .. " value)"
end

local function settled(id, callout, ok, first, ...)
  active = false
  if gcinfo() > SOFT_KB then
    reserve = nil
    if not ok then callouts[id], callout.co = nil, nil end
    collect("collect")
    if gcinfo() < SOFT_KB then reserve = ballast() end
  end
  local limit, trace = exceeded, place
  callout.left, callout.exceeded, callout.place = left, limit, trace
  left, started, exceeded, place = 1e15, 1e15, nil, nil
  if ok and first == WAIT then return "wait" end
  callouts[id] = nil
  if limit then return "limit", limit, trace end
  if not ok then return "error", text_of(first), callout.co and traceback(callout.co, "") or "" end
  return "done", first, ...
end

-- Callouts are resumed from this coroutine: lupa takes what is on the stack of the main one for results of its own.
local driver
local globals, rawset = _G, rawset
local function serve(id, callout, ...)
  rawset(globals, "_TLS", callout.tls) -- no metamethod of a script runs here, outside of the limits
  left, exceeded, place, started = callout.left, callout.exceeded, callout.place, clock()
  active = true
  return settled(id, callout, resume(callout.co, ...))
end
local function kept(running, ...)
  driver = running
  return ...
end
local serve_all
function serve_all(...)
  return serve_all(yield(serve(...)))
end

function lib.go_on(id, ...)
  local running = driver or wrap(serve_all)
  driver = nil -- an error, of memory, ends it
  return kept(running, running(id, callouts[id], ...))
end

function lib.begin(id, instructions, tls, f, ...)
  callouts[id] = { co = create(f), left = instructions, tls = tls }
  return lib.go_on(id, ...)
end

function lib.compile(text, name)
  local f, message = load(text, name)
  return f, message
end

function lib.abandon(id) callouts[id] = nil end

left, started = 1e15, 1e15
sethook(hook, "", STEP)
return lib
