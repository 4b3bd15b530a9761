/** The rows that are written, and the two of the outage. */
export const rowId = (at) => `row.${at}`;
export const rowText = (at) => JSON.stringify({ at, text: 'a small JSON document, as services keep them' });
export const KNOWN = 'outage.known';
export const NEW = 'outage.new';
