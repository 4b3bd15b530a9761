/** The W3C form of a place in a trace, `00-<trace>-<span>-<flags>`, as items carry it. */
import type { SpanContextLike } from './options.js';

const FORM = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;

/** `undefined` for what is none: a caller's mistake in a header must not fail a write. */
export function parseTraceParent(traceParent: string | undefined): SpanContextLike | undefined {
  const found = traceParent === undefined ? null : FORM.exec(traceParent);
  if (found === null || traceParent?.startsWith('ff')) return undefined;
  const [, traceId, spanId, flags] = found as unknown as [string, string, string, string];
  // Of version 00 nothing may follow; all zeros are no ids.
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  if (traceParent?.startsWith('00') === true && traceParent.length !== 55) return undefined;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) };
}
