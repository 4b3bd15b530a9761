/**
 * The item that callers submit and get: bytes under an id. It never changes; `submit` stamps a copy.
 */
import { type InspectOptions, inspect } from 'node:util';
import { messageOf, SyncEngineError } from '../base/errors.js';
import { msOfVersion } from './hybrid-clock.js';
import { isText, TEXT_LIMITS, type TextLimit } from './item-text.js';
import { assertId } from './object-id.js';
import { formatOrigin } from './origin.js';
import { changed, contentHashOf, DEFAULT_STATE, type Revision } from './revision.js';

/** What the bytes are; `binary` is any. */
export type ContentType = 'json' | 'binary';

/** Finds out what bytes are. */
export const ContentType = {
  /** `'json'` where the bytes parse as JSON, else `'binary'`. Parses: not for hot paths. */
  detect(content: Uint8Array | string): ContentType {
    try {
      JSON.parse(typeof content === 'string' ? content : Buffer.from(content).toString('utf8'));
      return 'json';
    } catch {
      return 'binary';
    }
  },
};

/** What an item may be made with. */
export interface SyncItemInit {
  /** Default `'binary'`. */
  readonly contentType?: ContentType;
  /** 1 to 64 UTF-8 bytes; default `'default'`. */
  readonly state?: string;
  /** Up to 255 UTF-8 bytes. */
  readonly homeInstanceId?: string;
  /** W3C trace context of the write, up to 512 UTF-8 bytes each. */
  readonly traceParent?: string;
  readonly traceState?: string;
}

/** Whatever takes room. */
export interface SizedItem {
  readonly sizeBytes: number;
}

/** What the batcher needs to know of what it batches. */
export interface BatchableItem extends SizedItem {
  readonly id: string;
}

/** What an item can carry for its submit; checked there. `SubmitOptions` is the full form. */
export interface ItemOptions {
  readonly redis?: boolean;
  readonly redisTtl?: { readonly ms: number };
  readonly sql?: boolean;
  readonly state?: string;
  readonly ack?: 'memory' | 'wal' | 'stored';
  readonly signal?: AbortSignal;
}

/** Engine-internal access to what the public class keeps private; not exported from the package. */
export let revisionOf: (item: SyncItem) => Revision;
export let optionsOf: (item: SyncItem) => ItemOptions | undefined;
/** `accessCount`: reads from memory, -1 where that is not known. */
export let itemOf: (revision: Revision, accessCount?: number, lastAccessedSeconds?: number) => SyncItem;
/** The same item, said to be stale. */
export let staleOf: (item: SyncItem) => SyncItem;

/** The item, said to have been stored with others. It was not handed out yet. */
export let inBatch: (item: SyncItem, batchId: string) => SyncItem;

/** Marks the internal way of construction. */
const STAMPED = Symbol('stamped');

export class SyncItem implements BatchableItem {
  #revision: Revision;
  #options: ItemOptions | undefined;
  #accessCount = -1;
  #lastAccessedSeconds = 0;
  #stale = false;
  #batchId: string | undefined;

  static {
    revisionOf = (item) => item.#revision;
    optionsOf = (item) => item.#options;
    itemOf = (revision, accessCount = -1, lastAccessedSeconds = 0) => {
      const item = new SyncItem(STAMPED as never, undefined as never);
      item.#revision = revision;
      item.#accessCount = accessCount;
      item.#lastAccessedSeconds = lastAccessedSeconds;
      return item;
    };
    staleOf = (item) => {
      const stale = itemOf(item.#revision, item.#accessCount, item.#lastAccessedSeconds);
      stale.#stale = true;
      return stale;
    };
    inBatch = (item, batchId) => {
      item.#batchId = batchId;
      return item;
    };
  }

  /**
   * @param id Any well-formed string of 1 to 1,024 UTF-8 bytes.
   * @param content Copied, so the caller may reuse its buffer. A string is stored as UTF-8.
   * @throws TypeError for wrong types, `CONFIG` for a bad id or an over-long text.
   */
  constructor(id: string, content: Uint8Array | string, init?: SyncItemInit) {
    if ((id as unknown) === STAMPED) {
      this.#revision = undefined as never;
      return;
    }
    assertId(id);
    this.#revision = {
      id,
      version: 0,
      origin: '',
      deleted: false,
      contentType: contentTypeFrom(init),
      state: init === undefined ? DEFAULT_STATE : (textFrom(init, 'state') ?? DEFAULT_STATE),
      content: copyOf(content),
      contentHash: undefined,
      homeInstanceId: init === undefined ? undefined : textFrom(init, 'homeInstanceId'),
      traceParent: init === undefined ? undefined : textFrom(init, 'traceParent'),
      traceState: init === undefined ? undefined : textFrom(init, 'traceState'),
    };
  }

  /** An item of the JSON form of `value`. @throws TypeError where `value` has none (undefined, a cycle, a BigInt). */
  static fromJson(id: string, value: unknown, init?: Omit<SyncItemInit, 'contentType'>): SyncItem {
    assertId(id);
    return new SyncItem(id, jsonOf(id, value), { ...init, contentType: 'json' });
  }

  /** The id, as it was given. */
  get id(): string {
    return this.#revision.id;
  }

  /** What the bytes are. */
  get contentType(): ContentType {
    return this.#revision.contentType;
  }

  /** The state, by which items can be queried. */
  get state(): string {
    return this.#revision.state;
  }

  /** The bytes; a copy. */
  get content(): Buffer {
    return Buffer.from(this.#revision.content);
  }

  /** Bytes of content. */
  get sizeBytes(): number {
    return this.#revision.content.length;
  }

  /** The content as JSON, parsed at each call. @throws SyntaxError with the id where it is not JSON. */
  json<T = unknown>(): T {
    try {
      return JSON.parse(this.#revision.content.toString('utf8')) as T;
    } catch {
      // V8's own words quote the content, so they are not even the cause.
      const { id, contentType } = this;
      throw new SyntaxError(
        `The content of ${JSON.stringify(id)} is not JSON; its contentType is '${contentType}'. Use text() or content.`,
      );
    }
  }

  /** The content as UTF-8 text. */
  text(): string {
    return this.#revision.content.toString('utf8');
  }

  /** Whose item it is, where that was said. */
  get homeInstanceId(): string | undefined {
    return this.#revision.homeInstanceId;
  }

  /** W3C `traceparent` of the write. */
  get traceParent(): string | undefined {
    return this.#revision.traceParent;
  }

  /** W3C `tracestate` of the write. */
  get traceState(): string | undefined {
    return this.#revision.traceState;
  }

  /** Place in time of the write, `milliseconds × 2048 + counter`; `undefined` on an item not yet submitted. */
  get version(): number | undefined {
    return this.#stamped ? this.#revision.version : undefined;
  }

  /** Milliseconds since 1970, from the version. */
  get updatedAt(): number | undefined {
    return this.#stamped ? msOfVersion(this.#revision.version) : undefined;
  }

  /** Node and incarnation that stamped the write, `node#7`. */
  get origin(): string | undefined {
    return this.#stamped ? formatOrigin(this.#revision.origin) : undefined;
  }

  /** SHA-256 of the content, 64 hex digits; computed on first use. */
  get contentHash(): string | undefined {
    return this.#stamped ? contentHashOf(this.#revision) : undefined;
  }

  /**
   * The transaction that brought it into SQL, the same for all items of one; known of items that come from `changes()`.
   * It begins with the transaction's number in the change log.
   */
  get batchId(): string | undefined {
    return this.#batchId;
  }

  /** Milliseconds since 1970 of the last read from memory when this was answered, exact to about a second. */
  get lastAccessed(): number | undefined {
    return this.#accessCount === -1 ? undefined : this.#lastAccessedSeconds * 1000;
  }

  /** Reads from memory since the item is there, when this was answered. */
  get accessCount(): number | undefined {
    return this.#accessCount === -1 ? undefined : this.#accessCount;
  }

  /**
   * Whether it was served although others may have written it since: the change log of a shared archive could not be
   * read within `coherenceLeaseMs`. `get(id, { fresh: true })` never serves such an item.
   */
  get stale(): boolean {
    return this.#stale;
  }

  /** The same content in another state, not yet submitted. */
  withState(state: string): SyncItem {
    assertState(state);
    return this.#anew({ state });
  }

  /** The same content with options for its submit, not yet submitted; what `submit` is given beats them. */
  withOptions(options: ItemOptions): SyncItem {
    const item = this.#anew({});
    item.#options = { ...options };
    return item;
  }

  /** What `console.log` shows: which item it is, and nothing of its content. */
  [inspect.custom](depth: number, options: InspectOptions): string {
    if (depth < 0) return '[SyncItem]';
    const { id, version, sizeBytes, contentType } = this;
    const shown = { id, version, sizeBytes, contentType, deleted: this.#revision.deleted };
    return `SyncItem ${inspect(shown, options)}`;
  }

  #anew(change: Partial<Revision>): SyncItem {
    const unstamped = {
      version: 0,
      origin: '',
      redisTtlMs: undefined,
      base: undefined,
      refusal: undefined,
      cachedUntilMs: undefined,
    };
    const item = itemOf(changed(this.#revision, { ...unstamped, ...change }));
    item.#options = this.#options;
    return item;
  }

  get #stamped(): boolean {
    return this.#revision.version !== 0;
  }
}

/** @throws TypeError for a non-string, `CONFIG` for a bad length or form. */
export function assertState(state: unknown): asserts state is string {
  checkText(state, TEXT_LIMITS.state);
}

function contentTypeFrom(init: SyncItemInit | undefined): ContentType {
  const contentType = init?.contentType ?? 'binary';
  if (contentType !== 'binary' && contentType !== 'json') {
    throw new TypeError(`contentType is 'json' or 'binary'; got ${JSON.stringify(contentType)}.`);
  }
  return contentType;
}

function textFrom(init: SyncItemInit, field: keyof typeof TEXT_LIMITS): string | undefined {
  const value = init[field];
  if (value === undefined) return undefined;
  checkText(value, TEXT_LIMITS[field]);
  return value;
}

function checkText(value: unknown, limit: TextLimit): void {
  if (typeof value !== 'string') throw new TypeError(`${limit.name} is a string; got ${typeof value}.`);
  if (isText(value, limit)) return;
  throw new SyncEngineError(
    'CONFIG',
    `${limit.name} has ${Buffer.byteLength(value)} UTF-8 bytes${value.isWellFormed() ? '' : ' and is not well-formed'}; it has ${limit.bytesMin} to ${limit.bytesMax} well-formed ones.`,
  );
}

function copyOf(content: unknown): Buffer {
  if (typeof content === 'string') return Buffer.from(content, 'utf8');
  if (content instanceof Uint8Array) return Buffer.from(content);
  throw new TypeError(
    `Content is a Uint8Array or a string; got ${content === null ? 'null' : typeof content}. For a value use SyncItem.fromJson.`,
  );
}

function jsonOf(id: string, value: unknown): string {
  const none = `The value for ${JSON.stringify(id)} has no JSON form`;
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    throw new TypeError(`${none}: ${messageOf(error).split('\n', 1)[0]}.`, { cause: error });
  }
  if (text === undefined) throw new TypeError(`${none}: it is ${typeof value}.`);
  return text;
}
