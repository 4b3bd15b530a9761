/**
 * Named steps of the write path, published on the diagnostics channel `sync-engine:step`, in whichever thread
 * takes the step. Free while nobody listens. The crash tests kill the process at each of them; the crash
 * table in ARCHITECTURE.md says what survives.
 */
import { channel } from 'node:diagnostics_channel';

export const STEPS = [
  'start.log-created',
  'start.log-opened',
  'start.archive-created',
  'start.archive-opened',
  'start.log-indexed',
  'start.running',
  'append.queued',
  'append.sent',
  'log.commit.begun',
  'log.commit.written',
  'log.commit.done',
  'append.acknowledged',
  'flush.taken',
  'archive.apply.begun',
  'archive.apply.written',
  'archive.apply.done',
  'flush.applied',
  'cache.sent',
  'cache.arrived',
  'release.queued',
  'log.release.done',
  'release.clean',
] as const;

export type StepName = (typeof STEPS)[number];

export const STEP_CHANNEL = 'sync-engine:step';

const steps = channel(STEP_CHANNEL);

export function step(name: StepName): void {
  if (steps.hasSubscribers) steps.publish(name);
}
