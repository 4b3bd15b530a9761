/** Strings of which there are few, as small numbers: origins and states of items in slots. Each is kept while it is used. */

/** Numbers fit 16 bits. */
const COUNT_MAX = 2 ** 16;
/** Of a string of some length, its place in map and arrays included. */
const STRING_BYTES = 110;

export class Interned {
  readonly #numbers = new Map<string, number>();
  readonly #texts: (string | undefined)[] = [];
  readonly #uses: number[] = [];
  readonly #free: number[] = [];
  #lastText: string | undefined;
  #lastNumber = -1;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** The number of the text, used once more; -1 where there are too many different ones. */
  use(text: string): number {
    if (text === this.#lastText) {
      (this.#uses[this.#lastNumber] as number)++;
      return this.#lastNumber;
    }
    let number = this.#numbers.get(text);
    if (number === undefined) {
      if (this.#numbers.size === COUNT_MAX) return -1;
      // A copy: the text may be a part of a long one, which it would keep alive.
      const own = Buffer.from(text, 'utf8').toString('utf8');
      number = this.#free.pop() ?? this.#texts.length;
      this.#texts[number] = own;
      this.#uses[number] = 0;
      this.#numbers.set(own, number);
      this.#bytes += bytesOf(own);
    }
    (this.#uses[number] as number)++;
    this.#lastText = this.#texts[number];
    this.#lastNumber = number;
    return number;
  }

  /** One use less. */
  release(number: number): void {
    const uses = (this.#uses[number] as number) - 1;
    this.#uses[number] = uses;
    if (uses > 0) return;
    const text = this.#texts[number] as string;
    this.#numbers.delete(text);
    this.#texts[number] = undefined;
    this.#free.push(number);
    this.#bytes -= bytesOf(text);
    if (number === this.#lastNumber) this.#lastText = undefined;
  }

  textOf(number: number): string {
    return this.#texts[number] as string;
  }
}

function bytesOf(text: string): number {
  return STRING_BYTES + text.length * 2;
}
