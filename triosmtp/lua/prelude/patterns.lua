-- The functions of strings that match patterns.  Lua's own matcher is used if its steps are few; it cannot be stopped,
-- and some patterns take it hours.  Else the matcher below is used: the hook counts what it does.
local settings, bounds = ...
local string, error, type, tonumber, tostring, select, unpack, concat, setmetatable, getmetatable =
  string, error, type, tonumber, tostring, select, unpack, table.concat, setmetatable, debug.getmetatable
local find, match, gsub, sub, byte = string.find, string.match, string.gsub, string.sub, string.byte
local charge, MAX_STEPS, MAX_STRING = bounds.charge, settings.max_steps, settings.max_string
local min, max = math.min, math.max

local kinds, kinds_size = {}, 0 -- of patterns seen: { quantifiers, optional items, anchored }
local function kind_of(pattern)
  local kind = kinds[pattern]
  if not kind then
    local plain = gsub(gsub(pattern, "%%b..", "*"), "%%.", "")
    kind = { select(2, gsub(plain, "[*+-]", "")), select(2, gsub(plain, "?", "")), sub(pattern, 1, 1) == "^" }
    if kinds_size > 500 then kinds, kinds_size = {}, 0 end
    kinds[pattern], kinds_size = kind, kinds_size + 1
  end
  return kind
end

-- Return whether Lua's matcher may be used; count its steps.
local function cheap(s, pattern)
  if #pattern > 200 then return false end
  local kind = kind_of(pattern)
  local steps = (#s + 1) ^ (kind[1] + (kind[3] and 0 or 1)) * 2 ^ kind[2] * #pattern
  if kind[1] + kind[2] == 0 and MAX_STEPS > 0 then return true end -- its steps are those of a search: see step()
  if steps > MAX_STEPS then return false end
  charge(steps / 50)
  return true
end

-- A pattern is compiled to nodes: one for each item, each with its kind.
local function item_end(p, i)
  local c = sub(p, i, i)
  if c == "%" then
    if i == #p then error("malformed pattern (ends with '%')", 0) end
    return i + 1
  elseif c ~= "[" then
    return i
  end
  i = i + 1
  if sub(p, i, i) == "^" then i = i + 1 end
  repeat
    if i > #p then error("malformed pattern (missing ']')", 0) end
    local inner = sub(p, i, i)
    i = i + 1
    if inner == "%" then i = i + 1 end
  until sub(p, i, i) == "]"
  return i
end

local function literal(p, i)
  local c = sub(p, i, i)
  if find(c, "^%W") and c ~= "." and c ~= "[" and c ~= "%" and c ~= "\0" then return "%" .. c end
  return nil
end

local function special(p, i, level)
  local c = sub(p, i, i + 1)
  if c == "%b" then
    if i + 3 > #p then error("unbalanced pattern", 0) end
    return { kind = "call", pattern = "^" .. sub(p, i, i + 3) }, i + 4
  elseif c == "%f" then
    if sub(p, i + 2, i + 2) ~= "[" then error("missing '[' after '%f' in pattern", 0) end
    local e = item_end(p, i + 2)
    return { kind = "call", pattern = "^" .. sub(p, i, e) }, e + 1
  elseif find(c, "^%%%d") then
    return { kind = "back", index = byte(c, 2) - 48 }, i + 2
  elseif sub(c, 1, 1) == "(" then
    if sub(c, 2, 2) == ")" then return { kind = "position" }, i + 2 end
    return { kind = "open" }, i + 1
  elseif sub(c, 1, 1) == ")" then
    return { kind = "close" }, i + 1
  elseif sub(c, 1, 1) == "$" and i == #p then
    return { kind = "end" }, i + 1
  end
end

local compiled, compiled_size = {}, 0
local function compile(p, i)
  local key = i .. p
  local nodes = compiled[key]
  if nodes then return nodes end
  nodes = {}
  while i <= #p do
    local node, next_i = special(p, i)
    if not node then
      local e = item_end(p, i)
      local item = literal(p, i) or sub(p, i, e)
      local mark = sub(p, e + 1, e + 1)
      if mark ~= "" and find(mark, "^[*+?-]") then next_i = e + 2 else mark, next_i = "", e + 1 end
      node = { kind = mark, pattern = "^" .. item, run = "^" .. item .. "*", item = item }
    end
    nodes[#nodes + 1] = node
    i = next_i
  end
  for k = 1, #nodes do -- what a match begins with, if that is a single item
    local kind = nodes[k].kind
    if kind == "" or kind == "+" then nodes.head = nodes[k].item end
    if kind ~= "open" and kind ~= "position" then break end
  end
  if compiled_size > 200 then compiled, compiled_size = {}, 0 end
  compiled[key], compiled_size = nodes, compiled_size + 1
  return nodes
end

local function last_open(captures)
  for n = #captures, 1, -1 do
    if captures[n].open then return captures[n] end
  end
  error("invalid pattern capture", 0)
end

-- Return the position behind the match of the nodes from k on at i, or nil.
local run
local function greedy(s, nodes, k, i, captures, least)
  local _, e = find(s, nodes[k].run, i)
  if e then charge((e - i) / 16) end
  for j = (e or i - 1) + 1, i + least, -1 do
    local r = run(s, nodes, k + 1, j, captures)
    if r then return r end
  end
end
local function capture(s, nodes, k, i, captures)
  local kind = nodes[k].kind
  if kind == "close" then
    local closed = last_open(captures)
    closed.open, closed.last = false, i - 1
    local r = run(s, nodes, k + 1, i, captures)
    if not r then closed.open = true end
    return r
  end
  local n = #captures + 1
  if n > 32 then error("too many captures", 0) end
  captures[n] = { first = i, open = kind == "open", position = kind == "position" }
  local r = run(s, nodes, k + 1, i, captures)
  if not r then captures[n] = nil end
  return r
end
function run(s, nodes, k, i, captures)
  while true do
    local node = nodes[k]
    if not node then return i end
    local kind = node.kind
    if kind == "" then
      if not find(s, node.pattern, i) or i > #s then return nil end
      i = i + 1
    elseif kind == "*" or kind == "+" then
      return greedy(s, nodes, k, i, captures, kind == "+" and 1 or 0)
    elseif kind == "-" then
      local r = run(s, nodes, k + 1, i, captures)
      if r then return r end
      if i > #s or not find(s, node.pattern, i) then return nil end
      i, k = i + 1, k - 1
    elseif kind == "?" then
      if i <= #s and find(s, node.pattern, i) then
        local r = run(s, nodes, k + 1, i + 1, captures)
        if r then return r end
      end
    elseif kind == "call" then
      charge((#s - i) / 16)
      local first, e = find(s, node.pattern, i)
      if not first then return nil end
      i = e + 1
    elseif kind == "back" then
      local c = captures[node.index]
      if not c or c.open then error("invalid capture index", 0) end
      if c.position then return nil end
      local text = sub(s, c.first, c.last)
      if sub(s, i, i + #text - 1) ~= text then return nil end
      i = i + #text
    elseif kind == "end" then
      if i ~= #s + 1 then return nil end
    else
      return capture(s, nodes, k, i, captures)
    end
    k = k + 1
  end
end

local function values(s, first, e, captures)
  if #captures == 0 then return first, e end
  local found = {}
  for n = 1, #captures do
    local c = captures[n]
    if c.open then error("unfinished capture", 0) end
    if c.position then found[n] = c.first else found[n] = sub(s, c.first, c.last) end
  end
  return first, e, unpack(found, 1, #captures)
end

local function search(s, p, i, anchored)
  local nodes = compile(p, anchored and 2 or 1)
  while i <= #s + 1 do
    if nodes.head and not anchored then
      i = find(s, nodes.head, i)
      if not i then return nil end
    end
    local captures = {}
    local e = run(s, nodes, 1, i, captures)
    if e then return values(s, i, e - 1, captures) end
    if anchored then return nil end
    i = i + 1
  end
  return nil
end

-- Return the first and last position of the next match, and its captures.
local function counted(s, i, first, ...)
  charge(((first or #s) - i) / 16)
  return first, ...
end
local function step(s, p, i)
  if cheap(s, p) then return counted(s, i, find(s, p, i)) end
  return search(s, p, i, sub(p, 1, 1) == "^")
end

local function text(value, n, name)
  if type(value) == "string" then return value end
  if type(value) == "number" then return tostring(value) end
  error("bad argument #" .. n .. " to '" .. name .. "' (string expected, got " .. type(value) .. ")", 3)
end
local function start(s, init)
  init = tonumber(init) or 1
  if init < 0 then init = max(#s + init + 1, 1) elseif init == 0 then init = 1 end
  return min(init, #s + 1)
end

function string.find(s, p, init, plain)
  s, p = text(s, 1, "find"), text(p, 2, "find")
  if plain or not find(p, "[%^%$%*%+%?%.%(%[%%%-]") then
    charge(#s / 64)
    return find(s, p, init, true)
  end
  return step(s, p, start(s, init))
end

local function captured(s, first, e, ...)
  if not first then return nil end
  if select("#", ...) == 0 then return sub(s, first, e) end
  return ...
end
function string.match(s, p, init)
  s, p = text(s, 1, "match"), text(p, 2, "match")
  return captured(s, step(s, p, start(s, init)))
end

function string.gmatch(s, p)
  s, p = text(s, 1, "gmatch"), text(p, 2, "gmatch")
  if sub(p, 1, 1) == "^" then p = "%" .. p end
  local at = 1
  local function advance(first, e, ...)
    if not first then
      at = #s + 2
      return nil
    end
    at = max(e, first) + 1
    return captured(s, first, e, ...)
  end
  return function()
    if at > #s + 1 then return nil end
    return advance(step(s, p, at))
  end
end
string.gfind = string.gmatch

local function replacement(repl, whole, ...)
  local kind, first = type(repl), ...
  if select("#", ...) == 0 then first = whole end
  local value
  if kind == "table" then
    value = repl[first]
  elseif select("#", ...) == 0 then
    value = repl(whole)
  else
    value = repl(...)
  end
  if not value then return whole end
  if type(value) ~= "string" and type(value) ~= "number" then
    error("invalid replacement value (a " .. type(value) .. ")", 4)
  end
  return tostring(value)
end

local function expanded(repl, whole, ...)
  local list = { ... }
  if #list == 0 then list[1] = whole end
  return (gsub(repl, "%%(.)", function(c)
    if c == "0" then return whole end
    local n = tonumber(c)
    if not n then return c end
    if not list[n] then error("invalid capture index", 0) end
    return tostring(list[n])
  end))
end

-- Return whether Lua's gsub() may do it: it calls nothing of the script, and its result is small enough.
local function simple(s, p, repl)
  if type(repl) ~= "string" or not cheap(s, p) then return false end
  local _, references = gsub(repl, "%%%d", "")
  charge(#s / 4)
  return (#s + 1) * (#repl + references * #s) <= MAX_STRING
end

function string.gsub(s, p, repl, count)
  s, p = text(s, 1, "gsub"), text(p, 2, "gsub")
  if type(repl) == "number" then repl = tostring(repl) end
  local kind = type(repl)
  if kind ~= "string" and kind ~= "table" and kind ~= "function" then
    error("bad argument #3 to 'gsub' (string/function/table expected, got " .. kind .. ")", 2)
  end
  if simple(s, p, repl) then return gsub(s, p, repl, count) end
  count = count and tonumber(count) or #s + 1
  local replace = kind == "string" and expanded or replacement
  local anchored, pieces, at, done, size = sub(p, 1, 1) == "^", {}, 1, 0, 0
  local function add(piece)
    size = size + #piece
    if size > MAX_STRING then error("resulting string too large", 4) end
    pieces[#pieces + 1] = piece
  end
  local function one(first, e, ...)
    if not first then return false end
    add(sub(s, at, first - 1))
    add(replace(repl, sub(s, first, e), ...))
    done = done + 1
    if e < first then add(sub(s, first, first)) end
    at = max(e, first) + 1
    return not anchored
  end
  while done < count and at <= #s + 1 do
    if not one(step(s, p, at)) then break end
  end
  add(sub(s, at))
  return concat(pieces), done
end
