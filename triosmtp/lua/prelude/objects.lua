-- What scripts see of the host: objects with methods and fields, modules with functions and constants.
-- An object is a userdata value without content: no script can make one, or read what is behind it.
local bounds, require_modules = ...
local newproxy, getmetatable, setmetatable, error, tostring, type, concat =
  newproxy, getmetatable, setmetatable, error, tostring, type, table.concat
local lib, classes = {}, {}
local numbers = setmetatable({}, { __mode = "k" })   -- by object
local objects = setmetatable({}, { __mode = "v" })   -- by number
local class_of = setmetatable({}, { __mode = "k" })
local dead = {}

local function handle_of(object, class)
  if class and class_of[object] ~= class then return nil end
  return numbers[object]
end
lib.handle_of = handle_of

local metas = {}
local function class(name)
  local found = classes[name]
  if found then return found end
  local template = newproxy(true)
  local meta = getmetatable(template)
  found = { template = template, methods = {}, getters = {}, setters = {} }
  classes[name] = found
  meta.__metatable, metas[name] = name, meta
  function meta.__index(self, key)
    local method = found.methods[key]
    if method then return method end
    local getter = found.getters[key]
    if getter then return getter(self) end
    return nil
  end
  function meta.__newindex(self, key, value)
    local setter = found.setters[key]
    if not setter then error(name .. " has no field '" .. tostring(key) .. "' that can be set", 2) end
    setter(self, value)
  end
  function meta.__tostring() return name end
  function meta.__gc(self)
    local number = numbers[self]
    if number and not objects[number] then dead[#dead + 1] = number end
  end
  return found
end

-- Return the object with a number, as Python returns objects.
function lib.object(name, number)
  local object = objects[number]
  if object == nil then
    object = newproxy(class(name).template)
    objects[number], numbers[object], class_of[object] = object, number, name
  end
  return object
end

-- Return an object that Python does not know.
function lib.new(name) return newproxy(class(name).template) end

-- Replace a getter by f(object, getter).
function lib.wrap_getter(name, field, f)
  local getters = class(name).getters
  local former = getters[field]
  getters[field] = function(self) return f(self, former) end
end

-- Return the numbers that no script refers to any more.
function lib.drain()
  local gone = dead
  dead = {}
  return concat(gone, " ")
end

local function module_of(path)
  local at = require_modules[path]
  if at then return at end
  at = {}
  require_modules[path] = at
  local parent, name = path:match("^(.*)%.([^.]+)$")
  if parent then module_of(parent)[name] = at else _G[path] = at end
  return at
end
lib.module_of = module_of

function lib.define_function(path, name, called) module_of(path)[name] = bounds.host(called) end
function lib.define_constant(path, name, value) module_of(path)[name] = value end
function lib.define_method(name, method, called)
  class(name).methods[method] = bounds.method(called, name, method, handle_of)
end
function lib.define_getter(name, field, called)
  class(name).getters[field] = bounds.method(called, name, field, handle_of)
end
function lib.define_setter(name, field, called)
  class(name).setters[field] = bounds.method(called, name, field, handle_of)
end
-- Metamethods besides those above.
function lib.set_meta(name, event, f)
  class(name)
  metas[name][event] = f
end
function lib.set_method(name, method, f) class(name).methods[method] = f end
return lib
