-- The operators that Momentum's Lua adds, as fields of the table "string": translated scripts call them.
-- Operands are 64-bit integers there; a number of Lua holds 53 bits exactly.
local bit, floor, tonumber, type, error, string = bit, math.floor, tonumber, type, error, string
local select = select
local rawget, getmetatable = rawget, debug.getmetatable
local band, bor, bxor, bnot, tobit = bit.band, bit.bor, bit.bxor, bit.bnot, bit.tobit
local TWO31, TWO32, TWO63, TWO64 = 2 ^ 31, 2 ^ 32, 2 ^ 63, 2 ^ 64

local function metamethod(value, event)
  local meta = getmetatable(value)
  return meta and rawget(meta, event)
end

local function integer(n)
  n = n < 0 and -floor(-n) or floor(n)
  if n >= -TWO63 and n < TWO63 then return n end
  return -TWO63 -- as a cast of C does, also with what is no number
end

-- Return the number of a 64-bit integer, from its upper and lower half.
local function joined(high, low) return high * TWO32 + low % TWO32 end

local function failed(a, b)
  local wrong = b
  if type(a) ~= "number" and not (type(a) == "string" and tonumber(a)) then wrong = a end
  error("attempt to perform bitwise arithmetic on a " .. type(wrong) .. " value", 3)
end

local function binary(event, numbers)
  return function(a, b)
    if type(a) == "number" and type(b) == "number" then return numbers(a, b) end
    local x = (type(a) == "number" or type(a) == "string") and tonumber(a)
    local y = (type(b) == "number" or type(b) == "string") and tonumber(b)
    if x and y then return numbers(x, y) end
    local method = metamethod(a, event) or metamethod(b, event)
    if method then return (method(a, b)) end
    failed(a, b)
  end
end

local function logic(operation)
  return function(a, b)
    a, b = integer(a), integer(b)
    if a >= -TWO31 and a < TWO31 and b >= -TWO31 and b < TWO31 then return operation(a, b) end
    local high = operation(tobit(floor(a / TWO32)), tobit(floor(b / TWO32)))
    return joined(high, operation(tobit(a % TWO32), tobit(b % TWO32)))
  end
end

local function shifted_left(a, n)
  a, n = integer(a), integer(n) % 64
  local low, high = a % TWO32, floor(a / TWO32) -- exact: each is below 2^53 after the shift of its half
  if n >= 32 then
    high = (low * 2 ^ (n - 32)) % TWO32
    low = 0
  else
    high = (high * 2 ^ n + floor(low / 2 ^ (32 - n))) % TWO32
    low = low * 2 ^ n % TWO32
  end
  if high >= TWO31 then high = high - TWO32 end
  return joined(high, low)
end

string["&"] = binary("__and", logic(band))
string["|"] = binary("__or", logic(bor))
string["^^"] = binary("__xor", logic(bxor))
string["<<"] = binary("__shl", shifted_left)
string[">>"] = binary("__shr", function(a, n) return floor(integer(a) / 2 ^ (integer(n) % 64)) end)
string["\\"] = binary("__intdiv", function(a, b) return floor(a / b) end)

string["~"] = function(a)
  local x = (type(a) == "number" or type(a) == "string") and tonumber(a)
  if x then return -1 - integer(x) end
  local method = metamethod(a, "__not")
  if method then return (method(a, a)) end
  error("attempt to perform bitwise arithmetic on a " .. type(a) .. " value", 2)
end

-- The table of arguments that Lua 5.0 had, and that Lua 5.1 still makes where "..." is not used.
string["arg"] = function(...) return { n = select("#", ...), ... } end

string["in"] = function(f, ...)
  if type(f) == "function" then return f, ... end
  local iter = metamethod(f, "__iter")
  if iter then return iter(f) end
  return f, ...
end
