-- The globals of scripts: what Lua 5.1 has, without what reaches files, processes, bytecode, or more than its share.
local host, bounds, loaded = ...
local max_string, output, translate, find_module = host.max_string, host.output, host.translate, host.find_module
local G, raw_load, error, type, tostring, select, setfenv, getfenv =
  _G, loadstring, error, type, tostring, select, setfenv, getfenv
local setmetatable, concat, rawget = setmetatable, table.concat, rawget
local pairs, ipairs, gcinfo, gsub, gmatch, match = pairs, ipairs, gcinfo, string.gsub, string.gmatch, string.match
local allowed = {
  "assert", "error", "getfenv", "getmetatable", "ipairs", "math", "next", "pairs", "rawequal", "rawget", "rawset", "select",
  "setfenv", "setmetatable", "string", "table", "tonumber", "tostring", "type", "unpack", "_G",
}
local kept = {}
for _, name in ipairs(allowed) do kept[name] = G[name] end
local clock, date, difftime, time = os.clock, os.date, os.difftime, os.time
for name in pairs(G) do G[name] = nil end
for name, value in pairs(kept) do G[name] = value end

G._VERSION = "Lua 5.1"
G.pcall, G.xpcall, G.coroutine = bounds.pcall, bounds.xpcall, bounds.coroutine
G.gcinfo = gcinfo
function G.collectgarbage(option)
  if option == nil or option == "collect" or option == "step" then return 0 end
  if option == "count" then return gcinfo() end
  return 0
end

local function refused(name)
  return function() error(name .. " is not available to scripts", 2) end
end
G.os = {
  clock = clock, difftime = difftime, time = time,
  date = function(format, ...)
    if format ~= nil and #format > 200 then error("bad argument #1 to 'date' (format too long)", 2) end
    return date(format, ...)
  end,
  getenv = function() return nil end,
}
for _, name in ipairs { "execute", "exit", "remove", "rename", "setlocale", "tmpname" } do G.os[name] = refused("os." .. name) end
G.io = {}
for _, name in ipairs { "close", "flush", "input", "lines", "open", "output", "popen", "read", "tmpfile", "type", "write" } do
  G.io[name] = refused("io." .. name)
end
G.loadfile, G.dofile = refused("loadfile"), refused("dofile")

local function print(...)
  local texts = {}
  for i = 1, select("#", ...) do texts[i] = tostring((select(i, ...))) end
  local text = concat(texts, "\t")
  bounds.charge(#text)
  output(text)
end
G.print, G.debug = print, { output = print, traceback = bounds.traceback }

-- Chunks. Each is translated by the host; bytecode is no source text.
local function load_text(text, name, ...)
  bounds.charge(#text * 500) -- the host translates it: microseconds for each token
  local lua, message = translate(text, name)
  if not lua then return nil, message end
  return raw_load(lua, name)
end
function G.loadstring(text, name)
  if type(text) == "number" then text = tostring(text) end
  if type(text) ~= "string" then error("bad argument #1 to 'loadstring' (string expected, got " .. type(text) .. ")", 2) end
  if name ~= nil and type(name) ~= "string" then error("bad argument #2 to 'loadstring' (string expected)", 2) end
  return load_text(text, name or text)
end
function G.load(reader, name)
  if type(reader) ~= "function" then error("bad argument #1 to 'load' (function expected, got " .. type(reader) .. ")", 2) end
  local pieces, size = {}, 0
  while true do
    local piece = reader()
    if piece == nil or piece == "" then break end
    if type(piece) ~= "string" then return nil, "reader function must return a string" end
    size = size + #piece
    if size > max_string then return nil, "chunk too large" end
    pieces[#pieces + 1] = piece
  end
  return load_text(concat(pieces), name or "=(load)")
end

-- Modules.
local loading, of_files = {}, {}
local function load_module(name)
  local lua, chunk = find_module(name)
  if not lua then error(chunk, 3) end
  local f, message = raw_load(lua, chunk)
  if not f then error(message, 0) end
  return f
end
function G.require(name)
  if type(name) ~= "string" then error("bad argument #1 to 'require' (string expected, got " .. type(name) .. ")", 2) end
  local key = gsub(name, "/", ".")
  local found = loaded[key]
  if found ~= nil then
    if loading[key] then error("loop or previous error loading module '" .. name .. "'", 2) end
    return found
  end
  local f = load_module(name)
  loading[key], loaded[key], of_files[key] = true, false, true
  local result = f(name)
  loading[key] = nil
  if result ~= nil then loaded[key] = result elseif loaded[key] == false then loaded[key] = true end
  return loaded[key]
end
G.package = { loaded = loaded, path = "", cpath = "", preload = {},
  seeall = function(module) setmetatable(module, { __index = G }) end }

local function table_at(name)
  local at = G
  for part in gmatch(name, "[^.]+") do
    local found = rawget(at, part)
    if found == nil then
      found = {}
      at[part] = found
    elseif type(found) ~= "table" then
      return nil
    end
    at = found
  end
  return at
end
function G.module(name, ...)
  local module = loaded[name]
  if type(module) ~= "table" then
    module = table_at(name)
    if not module then error("name conflict for module '" .. name .. "'", 2) end
    loaded[name] = module
  end
  if module._NAME == nil then
    module._M, module._NAME, module._PACKAGE = module, name, match(name, "^(.*%.)[^.]*$") or ""
  end
  setfenv(2, module)
  for i = 1, select("#", ...) do (select(i, ...))(module) end
end
G._OSTLS = {}
G.math.mod = G.math.fmod -- its name in Lua 5.0, which Lua 5.1 still has

-- Run a script of the configuration, unless another has required it. Its name may be that of a module of ours.
local require = G.require
return { run_script = function(name)
  local key = gsub(name, "/", ".")
  if loaded[key] == nil then return require(name) end
  if not of_files[key] then
    of_files[key] = true
    load_module(name)(name)
  end
end }
