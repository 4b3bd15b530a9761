/** Strings of which there are few, as small numbers: origins and states of items in slots. */

/** Numbers fit 16 bits. */
const COUNT_MAX = 2 ** 16;
/** Of a string of some length, its place in map and array included. */
const STRING_BYTES = 100;

export class Interned {
  readonly #numbers = new Map<string, number>();
  readonly #texts: string[] = [];
  #lastText: string | undefined;
  #lastNumber = -1;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** The number of the text, or -1 where there are too many different ones already. */
  numberOf(text: string): number {
    if (text === this.#lastText) return this.#lastNumber;
    let number = this.#numbers.get(text);
    if (number === undefined) {
      if (this.#texts.length === COUNT_MAX) return -1;
      // A copy: the text may be a part of a long one, which it would keep alive.
      const own = Buffer.from(text, 'utf8').toString('utf8');
      number = this.#texts.push(own) - 1;
      this.#numbers.set(own, number);
      this.#bytes += STRING_BYTES + own.length * 2;
    }
    this.#lastText = this.#texts[number] as string;
    this.#lastNumber = number;
    return number;
  }

  textOf(number: number): string {
    return this.#texts[number] as string;
  }
}
