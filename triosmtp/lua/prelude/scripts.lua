-- The modules that scripts register, and how their callouts are called.
local settings, bounds, objects = ...
local setmetatable, type, error, tostring, rawget, getmetatable = setmetatable, type, error, tostring, rawget, getmetatable
local next, find, gmatch, sort, concat = next, string.find, string.gmatch, table.sort, table.concat
local lib, modules = {}, {}
local msys = objects.module_of("msys")

function msys.registerModule(name, module)
  if type(name) ~= "string" then
    error("bad argument #1 to 'registerModule' (string expected, got " .. type(name) .. ")", 2)
  end
  if type(module) ~= "table" then
    error("bad argument #2 to 'registerModule' (table expected, got " .. type(module) .. ")", 2)
  end
  if not lib.loading then error("registerModule is for the top level of a script", 2) end
  if #modules >= 1000 then error("more than 1000 modules are registered", 2) end
  modules[#modules + 1] = { name = name, module = module }
end

-- Python sets this while the top level of a script runs.
function lib.set_loading(loading) lib.loading = loading end
function lib.count() return #modules end
function lib.name(number) return modules[number].name end

-- The names of `wanted` that are functions of a module, which may inherit them. It runs within the limits: a metamethod
-- of the script may be called.
function lib.methods(number, wanted)
  local found = {}
  for name in gmatch(wanted, "%S+") do
    if type(modules[number].module[name]) == "function" then found[#found + 1] = name end
  end
  return concat(found, " ")
end

-- The names of functions in a module that look like those of hooks, as a text.
function lib.hooks(number)
  local found = {}
  for name, value in next, modules[number].module do
    if type(name) == "string" and type(value) == "function" and #name < 100 and find(name, "^[%a]+_[%w_]+$") and #found < 200 then
      found[#found + 1] = name
    end
  end
  sort(found)
  return concat(found, " ")
end

-- What belongs to one session: the tables of its modules, and _TLS.
function lib.new_session() return { selves = {}, tls = {} } end
function lib.tls(session) return session.tls end

local function self_of(session, number)
  local found = session.selves[number]
  if not found then
    found = setmetatable({}, { __index = modules[number].module })
    session.selves[number] = found
  end
  return found
end

function lib.call(session, number, method, ...)
  return modules[number].module[method](self_of(session, number), ...)
end
-- The same with the text of a command, an ec_string that only Lua knows: behind the first argument, if there is one.
local texts = setmetatable({}, { __mode = "k" })
local function command(octets)
  local object = objects.new("ec_string")
  texts[object] = octets
  return object
end
function lib.call_command(session, number, method, octets, first, ...)
  local f, self = modules[number].module[method], self_of(session, number)
  if first == nil then return f(self, command(octets), ...) end
  return f(self, first, command(octets), ...)
end
-- Call a function of a table that a script has registered.
function lib.call_field(t, name, ...)
  local f = t[name]
  if type(f) ~= "function" then error("the table has no function " .. name, 0) end
  return f(t, ...)
end
function lib.call_without_session(number, method)
  local module = modules[number].module
  return module[method](module)
end

-- Strings that functions fill, and those of commands.
objects.wrap_getter("ec_string", "buffer", function(self, of_python) return texts[self] or of_python(self) end)
local function text(value)
  if type(value) == "userdata" and getmetatable(value) == "ec_string" then return value.buffer end
  return value
end
objects.set_meta("ec_string", "__tostring", function(s) return s.buffer end)
objects.set_meta("ec_string", "__len", function(s) return #s.buffer end)
objects.set_meta("ec_string", "__concat", function(a, b) return text(a) .. text(b) end)
objects.set_meta("ec_string", "__eq", function(a, b) return a.buffer == b.buffer end)
return lib
