// @ts-check
/** Preloaded into the subject: its wall clock can be set, `globalThis.setClock(ms)` off the machine's. */
const real = Date.now.bind(Date);
let offset = 0;
Date.now = () => real() + offset;
Object.defineProperty(globalThis, 'setClock', {
  /** @param {number} ms */
  value: (ms) => {
    offset = ms;
  },
});
