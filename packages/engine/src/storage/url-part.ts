import type { SyncEngineError } from '../base/errors.js';

/** User, password or database of a URL, as it was before it was put there. */
export function decodedPart(part: string, config: (problem: string) => SyncEngineError): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw config(
      'a % in it is not followed by two hex digits; encode user and password by encodeURIComponent',
    );
  }
}

/** @param name Repeated only where it looks like one: in a URL that is not encoded it can be a part of a password. */
export function unknownOption(name: string, known: readonly string[]): string {
  const shown = /^[a-z_-]{1,30}$/i.test(name) ? ` ${JSON.stringify(name)}` : '';
  return `it has an unknown option${shown}; known are ${known.join(', ')}. A ? in user or password has to be encoded`;
}
