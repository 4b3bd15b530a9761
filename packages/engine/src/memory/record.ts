/**
 * What a slot keeps in a slab: the id, and the parts of a revision that have no array of their own.
 *
 *   u16 units of the id · id (a byte or two a unit) · content · [hash, 32] · [log position or end of life, f64]
 *   · [u16 length, bytes] × 4 of homeInstanceId, traceParent, traceState, and redisTtlMs in digits
 *
 * Numbers in little-endian order. Ids are compared unit by unit with the string that a caller gives, so nothing is
 * decoded to find one, and no part of a caller's string is kept alive.
 */
import {
  type ContentTypeName,
  EMPTY_CONTENT,
  NO_CONTENT_HASH,
  type Refusal,
  type Revision,
  type RevisionBase,
} from '../item/revision.js';

export const RECORD_DELETED = 1;
const RECORD_JSON = 2;
/** The id has units above 255. */
const RECORD_WIDE = 4;
const RECORD_HASH = 8;
export const RECORD_NUMBER = 16;
const RECORD_TEXTS = 32;

const HASH_BYTES = 32;
const NUMBER_BYTES = 8;
const ID_HEAD_BYTES = 2;

/** Flags of the record of a revision. `number`: its position or the end of its life, 0 for neither. */
export function recordFlags(revision: Revision, withContent: boolean, number: number): number {
  let flags = number === 0 ? 0 : RECORD_NUMBER;
  if (isWide(revision.id)) flags |= RECORD_WIDE;
  if (revision.deleted) flags |= RECORD_DELETED;
  if (revision.contentType === 'json') flags |= RECORD_JSON;
  if (!withContent) return flags;
  if (!revision.deleted && revision.contentHash !== undefined) flags |= RECORD_HASH;
  if (hasTexts(revision)) flags |= RECORD_TEXTS;
  return flags;
}

export function recordBytes(revision: Revision, flags: number, withContent: boolean): number {
  let bytes = ID_HEAD_BYTES + revision.id.length * (flags & RECORD_WIDE ? 2 : 1);
  if (withContent) bytes += revision.content.length;
  if (flags & RECORD_HASH) bytes += HASH_BYTES;
  if (flags & RECORD_NUMBER) bytes += NUMBER_BYTES;
  if (flags & RECORD_TEXTS) {
    for (const text of textsOf(revision)) bytes += 2 + Buffer.byteLength(text);
  }
  return bytes;
}

export function writeRecord(
  revision: Revision,
  flags: number,
  withContent: boolean,
  number: number,
  target: Buffer,
  start: number,
): void {
  const { id } = revision;
  let at = target.writeUInt16LE(id.length, start);
  at += target.write(id, at, flags & RECORD_WIDE ? 'utf16le' : 'latin1');
  if (withContent) {
    target.set(revision.content, at);
    at += revision.content.length;
  }
  if (flags & RECORD_HASH) at += target.write(revision.contentHash as string, at, HASH_BYTES, 'hex');
  if (flags & RECORD_NUMBER) at = target.writeDoubleLE(number, at);
  if ((flags & RECORD_TEXTS) === 0) return;
  for (const text of textsOf(revision)) {
    const bytes = target.write(text, at + 2, 'utf8');
    target.writeUInt16LE(bytes, at);
    at += 2 + bytes;
  }
}

export function recordHasId(id: string, flags: number, source: Buffer, start: number): boolean {
  const length = id.length;
  if (((source[start] as number) | ((source[start + 1] as number) << 8)) !== length) return false;
  let at = start + ID_HEAD_BYTES;
  if ((flags & RECORD_WIDE) === 0) {
    for (let unit = 0; unit < length; unit++) if (id.charCodeAt(unit) !== source[at++]) return false;
    return true;
  }
  for (let unit = 0; unit < length; unit++) {
    const low = source[at++] as number;
    if (id.charCodeAt(unit) !== (low | ((source[at++] as number) << 8))) return false;
  }
  return true;
}

export function recordId(flags: number, source: Buffer, start: number): string {
  const end = contentStart(flags, source, start);
  return source.toString(flags & RECORD_WIDE ? 'utf16le' : 'latin1', start + ID_HEAD_BYTES, end);
}

/** The log position, or the end of life. */
export function recordNumber(flags: number, contentBytes: number, source: Buffer, start: number): number {
  const at = contentStart(flags, source, start) + contentBytes + (flags & RECORD_HASH ? HASH_BYTES : 0);
  return source.readDoubleLE(at);
}

/** A revision in a slab, decoded where it is asked for. The slab is never overwritten, so it never changes. */
export class RecordRevision implements Revision {
  readonly id: string;
  readonly version: number;
  readonly origin: string;
  readonly state: string;
  readonly base: RevisionBase | undefined = undefined;
  readonly refusal: Refusal | undefined = undefined;
  readonly #flags: number;
  readonly #source: Buffer;
  readonly #start: number;
  readonly #contentBytes: number;
  #content: Buffer | undefined;
  #hash: string | undefined;

  constructor(
    id: string,
    version: number,
    origin: string,
    state: string,
    flags: number,
    source: Buffer,
    start: number,
    contentBytes: number,
  ) {
    this.id = id;
    this.version = version;
    this.origin = origin;
    this.state = state;
    this.#flags = flags;
    this.#source = source;
    // Nothing of the slab is touched before it is asked for.
    this.#start = start;
    this.#contentBytes = contentBytes;
  }

  get #contentAt(): number {
    return contentStart(this.#flags, this.#source, this.#start);
  }

  get deleted(): boolean {
    return (this.#flags & RECORD_DELETED) !== 0;
  }

  get contentType(): ContentTypeName {
    return (this.#flags & RECORD_JSON) !== 0 ? 'json' : 'binary';
  }

  get content(): Buffer {
    if (this.#contentBytes === 0) return EMPTY_CONTENT;
    if (this.#content === undefined) {
      const at = this.#contentAt;
      this.#content = this.#source.subarray(at, at + this.#contentBytes);
    }
    return this.#content;
  }

  get contentHash(): string | undefined {
    if (this.#hash !== undefined) return this.#hash;
    if (this.deleted) return NO_CONTENT_HASH;
    if ((this.#flags & RECORD_HASH) === 0) return undefined;
    const at = this.#contentAt + this.#contentBytes;
    this.#hash = this.#source.toString('hex', at, at + HASH_BYTES);
    return this.#hash;
  }

  set contentHash(hash: string | undefined) {
    this.#hash = hash;
  }

  get cachedUntilMs(): number | undefined {
    if ((this.#flags & RECORD_NUMBER) === 0) return undefined;
    const at = this.#contentAt + this.#contentBytes + (this.#flags & RECORD_HASH ? HASH_BYTES : 0);
    return this.#source.readDoubleLE(at);
  }

  get homeInstanceId(): string | undefined {
    return this.#text(0);
  }

  get traceParent(): string | undefined {
    return this.#text(1);
  }

  get traceState(): string | undefined {
    return this.#text(2);
  }

  get redisTtlMs(): number | undefined {
    const digits = this.#text(3);
    return digits === undefined ? undefined : Number(digits);
  }

  #text(which: number): string | undefined {
    if ((this.#flags & RECORD_TEXTS) === 0) return undefined;
    let at = this.#contentAt + this.#contentBytes;
    if (this.#flags & RECORD_HASH) at += HASH_BYTES;
    if (this.#flags & RECORD_NUMBER) at += NUMBER_BYTES;
    for (let passed = 0; passed < which; passed++) at += 2 + this.#source.readUInt16LE(at);
    const bytes = this.#source.readUInt16LE(at);
    return bytes === 0 ? undefined : this.#source.toString('utf8', at + 2, at + 2 + bytes);
  }
}

function contentStart(flags: number, source: Buffer, start: number): number {
  const units = (source[start] as number) | ((source[start + 1] as number) << 8);
  return start + ID_HEAD_BYTES + (flags & RECORD_WIDE ? units * 2 : units);
}

/** Whether a unit of the text is above 255. */
export function isWide(id: string): boolean {
  for (let at = 0; at < id.length; at++) if (id.charCodeAt(at) > 255) return true;
  return false;
}

function hasTexts({ homeInstanceId, traceParent, traceState, redisTtlMs }: Revision): boolean {
  return (
    homeInstanceId !== undefined ||
    traceParent !== undefined ||
    traceState !== undefined ||
    redisTtlMs !== undefined
  );
}

function textsOf({ homeInstanceId, traceParent, traceState, redisTtlMs }: Revision): readonly string[] {
  return [homeInstanceId ?? '', traceParent ?? '', traceState ?? '', redisTtlMs?.toString() ?? ''];
}
