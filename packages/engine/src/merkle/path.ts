/**
 * Paths of the Merkle tree. An id is cut at its dots into segments; every proper prefix of them is a path
 * above it. A path's *key* is the prefix with its trailing dot, and the root's key is empty, so the node of an
 * empty first segment (key `.`) is not the root.
 */
import { SyncEngineError } from '../base/errors.js';

/** Segments of one id; what lies beyond counts as part of the last. */
export const SEGMENTS_MAX = 64;

/** `''` and `[]` are the root, `['']` is the node of an empty first segment. A string is cut as an id is. */
export type MerklePath = string | readonly string[];

/** `'uk.nhs'` → `['uk', 'nhs']`. At most 64 segments: the last one takes the rest, dots and all. */
export function split(id: string): string[] {
  const segments: string[] = [];
  let from = 0;
  while (segments.length < SEGMENTS_MAX - 1) {
    const dot = id.indexOf('.', from);
    if (dot === -1) break;
    segments.push(id.slice(from, dot));
    from = dot + 1;
  }
  segments.push(id.slice(from));
  return segments;
}

/** Keys of the paths above `id`, the root first. */
export function keysAbove(id: string): string[] {
  const keys = [''];
  let from = 0;
  while (keys.length < SEGMENTS_MAX) {
    const dot = id.indexOf('.', from);
    if (dot === -1) break;
    from = dot + 1;
    keys.push(id.slice(0, from));
  }
  return keys;
}

/** Key of the path directly above `id`. */
export function keyAbove(id: string): string {
  const last = id.lastIndexOf('.');
  if (last === -1) return '';
  // Only ids with more than 64 segments need the walk from the front.
  if (last < SEGMENTS_MAX - 1) return id.slice(0, last + 1);
  return keysAbove(id).at(-1) as string;
}

/** Segments of a path that was given as a key. */
export function segmentsOfKey(key: string): string[] {
  return key === '' ? [] : split(key.slice(0, -1));
}

/** Key of the rows strictly below a path. */
export function keyOf(segments: readonly string[]): string {
  return segments.length === 0 ? '' : `${segments.join('.')}.`;
}

/** The id whose own leaf sits at a path; `undefined` for paths that no id can have. */
export function idOf(segments: readonly string[]): string | undefined {
  const id = segments.join('.');
  return id === '' ? undefined : id;
}

/** Above the key of a key: parent and last segment, as the path's row is stored. */
export function cutKey(key: string): { readonly parent: string; readonly segment: string } {
  const dot = key.length === 1 ? -1 : key.lastIndexOf('.', key.length - 2);
  return { parent: key.slice(0, dot + 1), segment: key.slice(dot + 1, -1) };
}

/** A path as callers give it, as segments. @throws TypeError for what is no path, `CONFIG` for one that no id can have. */
export function pathOf(path: MerklePath): readonly string[] {
  if (typeof path === 'string') return path === '' ? [] : split(path);
  if (!Array.isArray(path) || path.some((segment) => typeof segment !== 'string')) {
    throw new TypeError('A path is a string or an array of segments; [] is the root.');
  }
  if (path.length > SEGMENTS_MAX) {
    throw new SyncEngineError(
      'CONFIG',
      `The path has ${path.length} segments; from the ${SEGMENTS_MAX}th on, an id counts as one segment. Join the rest with dots.`,
    );
  }
  const dotted = path.findIndex((segment, at) => segment.includes('.') && at < SEGMENTS_MAX - 1);
  if (dotted !== -1) {
    throw new SyncEngineError(
      'CONFIG',
      `Segment ${dotted} of the path contains a dot. Pass 'a.b', or ['a', 'b'].`,
    );
  }
  return path;
}
