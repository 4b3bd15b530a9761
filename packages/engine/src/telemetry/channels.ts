/**
 * Events for whoever listens on `node:diagnostics_channel`, without a reference to the engine. Published only while
 * somebody does. Payloads are plain facts: ids where an event is about one, never content.
 *
 * A subscriber that throws harms no engine, but Node reports it as an uncaught exception of the process.
 */
import { type Channel, channel } from 'node:diagnostics_channel';

/** What is published on each channel. */
export interface ChannelPayloads {
  'sync_engine:state': { readonly node: string; readonly state: string; readonly previous: string };
  /** A batch ended its way to SQL. Counts are of writes; `code` says why what was not stored was not. */
  'sync_engine:flush': {
    readonly node: string;
    readonly status: 'ok' | 'error';
    readonly items: number;
    readonly bytes: number;
    readonly stored: number;
    readonly durationMs: number;
    readonly code: string | undefined;
  };
  /** A group was committed to the log, or failed. */
  'sync_engine:logCommit': {
    readonly node: string;
    readonly status: 'ok' | 'error';
    readonly records: number;
    readonly released: number;
    readonly bytes: number;
    readonly durationMs: number;
    readonly code: string | undefined;
  };
  'sync_engine:circuit': { readonly node: string; readonly tier: string; readonly state: string };
  'sync_engine:backpressure': { readonly node: string; readonly level: string; readonly previous: string };
  'sync_engine:corruption': {
    readonly node: string;
    readonly tier: string;
    readonly id: string | undefined;
  };
  'sync_engine:deadLetter': { readonly node: string; readonly id: string };
  /** What nobody waits for failed: the code, and where. Never the message of the error. */
  'sync_engine:error': {
    readonly node: string;
    readonly code: string;
    readonly tier: string | undefined;
    readonly operation: string | undefined;
  };
}

/** Name of a diagnostics channel. */
export type ChannelName = keyof ChannelPayloads;

export const CHANNELS = [
  'sync_engine:state',
  'sync_engine:flush',
  'sync_engine:logCommit',
  'sync_engine:circuit',
  'sync_engine:backpressure',
  'sync_engine:corruption',
  'sync_engine:deadLetter',
  'sync_engine:error',
] as const satisfies readonly ChannelName[];

const channels = new Map<ChannelName, Channel>(CHANNELS.map((name) => [name, channel(name)]));

/** Whether making a payload is worth while. */
export function isHeard(name: ChannelName): boolean {
  return channels.get(name)?.hasSubscribers === true;
}

export function publish<Name extends ChannelName>(name: Name, payload: ChannelPayloads[Name]): void {
  const target = channels.get(name);
  if (target?.hasSubscribers === true) target.publish(payload);
}
