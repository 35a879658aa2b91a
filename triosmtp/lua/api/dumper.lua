-- msys.dumper.Dumper: a value as the text of a Lua chunk that returns it.
local settings, bounds, objects = ...
local type, tostring, pairs, format, concat, sort, rep, error = type, tostring, pairs, string.format, table.concat, table.sort, string.rep, error
local MAX_DEPTH, MAX_PARTS = 64, 100000

local function key_text(key)
  if type(key) == "string" and key:find("^[%a_][%w_]*$") then return key end
  if type(key) == "string" then return "[" .. format("%q", key) .. "]" end
  return "[" .. tostring(key) .. "]"
end

local function before(a, b)
  local ta, tb = type(a), type(b)
  if ta ~= tb then return ta < tb end
  if ta == "number" or ta == "string" then return a < b end
  return tostring(a) < tostring(b)
end

local dump
function dump(value, parts, depth, above)
  local kind = type(value)
  if #parts > MAX_PARTS then error("Dumper: the value is too large", 0) end
  if kind == "string" then
    parts[#parts + 1] = format("%q", value)
  elseif kind ~= "table" then
    local text = tostring(value)
    if kind ~= "number" and kind ~= "boolean" and kind ~= "nil" then text = format("%q", text) end
    parts[#parts + 1] = text
  elseif above[value] or depth > MAX_DEPTH then
    parts[#parts + 1] = format("%q", above[value] and "recursive table" or "deep table")
  else
    above[value] = true
    local keys, indent = {}, rep("  ", depth)
    for key in pairs(value) do keys[#keys + 1] = key end
    sort(keys, before)
    if #keys == 0 then
      parts[#parts + 1] = "{ }"
    else
      parts[#parts + 1] = "{\n"
      for _, key in ipairs(keys) do
        parts[#parts + 1] = indent .. key_text(key) .. " = "
        dump(value[key], parts, depth + 1, above)
        parts[#parts + 1] = ",\n"
      end
      parts[#parts + 1] = rep("  ", depth - 1) .. "}"
    end
    above[value] = nil
  end
end

objects.module_of("msys.dumper").Dumper = function(value)
  local parts = { "return " }
  dump(value, parts, 1, {})
  return concat(parts)
end
