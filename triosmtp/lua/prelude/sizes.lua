-- The functions of strings and tables whose cost or result depends on their arguments: sizes are checked first, and what
-- they do counts as instructions.
local settings, bounds = ...
local string, table, error, type, tostring, select, unpack, floor, next, getmetatable =
  string, table, error, type, tostring, select, unpack, math.floor, next, debug.getmetatable
local rep, format, lower, upper, reverse, gsub, sub = string.rep, string.format, string.lower, string.upper,
  string.reverse, string.gsub, string.sub
local concat, insert, remove, sort, tonumber = table.concat, table.insert, table.remove, table.sort, tonumber
local charge, MAX_STRING = bounds.charge, settings.max_string

string.dump = nil
local function check(size)
  if size > MAX_STRING then error("resulting string too large", 3) end
  if size > 1000 then charge(size / 16) end
end

function string.rep(s, n, separator)
  local count, size = tonumber(n), type(s) == "string" and #s or 32
  if separator ~= nil then size = size + (type(separator) == "string" and #separator or 32) end
  if count and count > 0 then check(size * count) end
  return rep(s, n, separator)
end

local function charged(f)
  return function(s)
    if type(s) == "string" then check(#s) end
    return f(s)
  end
end
string.lower, string.upper, string.reverse = charged(lower), charged(upper), charged(reverse)

function string.format(text, ...)
  local values, size = { ... }, 0
  local count = select("#", ...)
  for i = 1, count do
    local kind = type(values[i])
    if kind == "table" or kind == "userdata" then values[i] = tostring(values[i]) end
    if type(values[i]) == "string" then size = size + 4 * #values[i] end
  end
  if type(text) == "string" then check(size + #text + 512 * select(2, gsub(text, "%%", ""))) end
  return format(text, unpack(values, 1, count))
end

function table.concat(t, separator, first, last)
  if type(t) == "table" then
    local size, between = 0, type(separator) == "string" and #separator or 0
    for i = first or 1, last or #t do
      local value = t[i]
      if type(value) ~= "string" and type(value) ~= "number" then break end
      size = size + #tostring(value) + between
      if size > MAX_STRING then error("resulting string too large", 2) end
    end
  end
  return concat(t, separator, first, last)
end

-- Moves items one by one, so that it counts.
function table.insert(...)
  local t, position = ...
  if select("#", ...) == 3 and type(t) == "table" and type(position) == "number" then charge((#t - position) / 4) end
  return insert(...)
end
function table.remove(t, position)
  if type(t) == "table" and type(position) == "number" then charge((#t - position) / 4) end
  if position == nil then return remove(t) end
  return remove(t, position)
end

-- Merge sort: its steps count, its worst case is the usual one, and the function that compares may wait.
local function before(a, b) return a < b end
local function merge(t, scratch, first, middle, last, less)
  for i = first, last do scratch[i] = t[i] end
  local i, j = first, middle + 1
  for k = first, last do
    if j > last or (i <= middle and not less(scratch[j], scratch[i])) then
      t[k], i = scratch[i], i + 1
    else
      t[k], j = scratch[j], j + 1
    end
  end
end
function table.sort(t, less)
  if type(t) ~= "table" then error("bad argument #1 to 'sort' (table expected, got " .. type(t) .. ")", 2) end
  if less ~= nil and type(less) ~= "function" then
    error("bad argument #2 to 'sort' (function expected, got " .. type(less) .. ")", 2)
  end
  local n = #t
  if not less and n <= 100 then
    charge(n * 4)
    return sort(t)
  end
  local scratch, width = {}, 1
  while width < n do
    for first = 1, n - width, 2 * width do
      local last = first + 2 * width - 1
      merge(t, scratch, first, first + width - 1, last < n and last or n, less or before)
    end
    width = 2 * width
  end
end

function table.getn(t) return #t end
function table.setn() error("'setn' is obsolete", 2) end
function table.maxn(t)
  local highest = 0
  for key in next, t do
    if type(key) == "number" and key > highest then highest = key end
  end
  return highest
end
function table.foreach(t, f)
  for key, value in next, t do
    local result = f(key, value)
    if result ~= nil then return result end
  end
end
function table.foreachi(t, f)
  for i = 1, #t do
    local result = f(i, t[i])
    if result ~= nil then return result end
  end
end
