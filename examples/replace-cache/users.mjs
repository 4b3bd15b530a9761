/** The slow source behind both caches, with its calls counted. */
export const calls = { count: 0 };

export async function load(id) {
  calls.count++;
  await new Promise(setImmediate);
  return { id, name: `User ${id}` };
}
