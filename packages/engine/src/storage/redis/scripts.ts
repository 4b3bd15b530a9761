/**
 * What runs inside Redis. A script is one step there: what it reads and what it writes belong to one moment.
 *
 * The head is one string, `generation position begun chain`, so that it can be read with values by one MGET. `begun` is
 * the latest position whose writes have begun to arrive. Confirmations that came before their turn wait in a sorted set
 * of `position chain`.
 *
 * Numbers stay strings where they are only passed on: Lua's own have 53 bits, and print 14 digits of them.
 */
import { hash } from 'node:crypto';
import { ORDER_BYTES } from './value-codec.js';

export interface Script {
  readonly text: string;
  readonly sha: string;
}

const script = (text: string): Script => ({ text, sha: hash('sha1', text) });

/** Confirmations that wait live as long as this: whoever needs them later repairs instead. */
const CONFIRMED_TTL_MS = 86_400_000;

/**
 * KEYS: head, confirmed, then one for each write.
 * ARGV: generation, latest time (ms), known ('' for cache-only), begins ('1'), chain to confirm with ('' for none), then all
 * writes in one string: u32 length, f64 life (ms), value, of each. A negative life: only where something is. One string,
 * since the client sends every buffer by itself: 100 of them took three times as long.
 * Answers: {status, position, a digit per write}; status 0 done, 1 moved, 2 late.
 *
 * The comparison goes byte by byte: `<` on Lua's strings follows the server's locale.
 */
export const WRITE = script(`
local head = redis.call('GET', KEYS[1])
if not head then return {1, '0', ''} end
local generation, position, begun, chain = string.match(head, '^(%x+) (%d+) (%d+) (%x*)$')
if generation ~= ARGV[1] then return {1, '0', ''} end
local time = redis.call('TIME')
if time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(ARGV[2]) then return {2, position, ''} end

local known = ARGV[3] ~= '' and tonumber(ARGV[3]) or nil
if ARGV[4] == '1' and known > tonumber(begun) then
  begun = ARGV[3]
  redis.call('SET', KEYS[1], generation .. ' ' .. position .. ' ' .. begun .. ' ' .. chain)
end
local fills = known == nil or known >= tonumber(begun)

local byte, call, pcall = string.byte, redis.call, redis.pcall
local outcomes, full = {}, false
local blob, at, unpack, sub = ARGV[6], 1, struct.unpack, string.sub
for i = 3, #KEYS do
  local key = KEYS[i]
  local length, life, start = unpack('>I4d', blob, at)
  local marks = life < 0
  at = start + length
  local there = pcall('GETRANGE', key, 0, ${ORDER_BYTES - 1})
  if type(there) == 'table' then
    call('DEL', key)
    there = ''
  end
  local newer = there ~= ''
  if newer then
    newer = false
    for place = 1, ${ORDER_BYTES} do
      local a, b = byte(blob, start + place - 1), byte(there, place)
      if a ~= b then
        newer = b == nil or a > b
        break
      end
    end
  end
  if newer or (there == '' and fills and not marks) then
    -- A script that has deleted something is let through from then on, however full the server is.
    full = full or pcall('PSETEX', key, math.abs(life), sub(blob, start, at - 1)).err ~= nil
    if full then
      if there ~= '' then call('DEL', key) end
      outcomes[i - 2] = '3'
    else
      outcomes[i - 2] = '1'
    end
  else
    outcomes[i - 2] = there == '' and '0' or '2'
  end
end

if ARGV[5] ~= '' then
  local at = tonumber(position)
  if known == at + 1 then
    position, chain, at = ARGV[3], ARGV[5], known
    while true do
      local follows = call('ZRANGEBYSCORE', KEYS[2], at + 1, at + 1)[1]
      if not follows then break end
      position, chain = string.match(follows, '^(%d+) (%x*)$')
      at = at + 1
    end
    call('ZREMRANGEBYSCORE', KEYS[2], '-inf', position)
    call('SET', KEYS[1], generation .. ' ' .. position .. ' ' .. begun .. ' ' .. chain)
  elseif known > at then
    call('ZADD', KEYS[2], ARGV[3], ARGV[3] .. ' ' .. ARGV[5])
    call('PEXPIRE', KEYS[2], ${CONFIRMED_TTL_MS})
  end
end
return {0, position, table.concat(outcomes)}
`);

/** KEYS: head. ARGV: generation expected ('' for none), the next head. Answers with the head afterwards. */
export const MOVE = script(`
local head = redis.call('GET', KEYS[1])
local generation = head and string.match(head, '^(%x+) ') or ''
if generation == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
  return ARGV[2]
end
return head
`);
