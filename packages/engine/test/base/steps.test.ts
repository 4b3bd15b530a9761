/** The named steps, as the crash tests hear of them. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readdirSync, readFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { STEP_CHANNEL, STEPS, type StepName, step } from '#engine/base/steps.js';

function heard(): StepName[] {
  const names: StepName[] = [];
  const listener = (name: unknown): void => {
    names.push(name as StepName);
  };
  subscribe(STEP_CHANNEL, listener);
  onTestFinished(() => {
    unsubscribe(STEP_CHANNEL, listener);
  });
  return names;
}

test('a step is published by its name, at once and in order', () => {
  const names = heard();
  step('append.queued');
  step('append.sent');
  expect(names).toEqual(['append.queued', 'append.sent']);
});

test('a step that nobody listens to is not kept for later', () => {
  step('append.queued');
  expect(heard()).toEqual([]);
});

test('the channel is the documented one', () => {
  expect(STEP_CHANNEL).toBe('sync-engine:step');
});

test('no two steps share a name, and each is taken somewhere in the engine', () => {
  expect(new Set(STEPS).size).toBe(STEPS.length);
  const root = new URL('../../src/', import.meta.url);
  const taken = readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .flatMap((path) => [...readFileSync(new URL(path, root), 'utf8').matchAll(/\bstep\('([^']+)'\)/g)])
    .map((match) => match[1]);
  expect(STEPS.filter((name) => !taken.includes(name))).toEqual([]);
});
