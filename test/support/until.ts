/** Resolves when the condition holds. It is looked at once per turn of the event loop, so nothing is timed. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}
