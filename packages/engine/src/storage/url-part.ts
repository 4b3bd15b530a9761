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
