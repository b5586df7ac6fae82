/**
 * An entry is one way in which one rule can match: a rule with three paths has three. Entries are
 * numbered so that the lowest one that matches decides: guardrails first, then denies, then allows,
 * each by `<policy>/<rule>` in byte order.
 */
export interface Entries {
  /**
   * Two numbers for each entry, side by side: a mask with a bit for each method (all of them for any
   * method), and the index of a validity window (0 for always).
   */
  readonly tests: Int32Array
  /** Start and end of each window, in milliseconds since 1970. */
  readonly windowTimes: Float64Array
  /** The exact methods of entries that name one which has no bit of its own. */
  readonly crowded: ReadonlyMap<number, ReadonlySet<string>>
  /** Index of the entry's rule. */
  readonly rules: Int32Array
  readonly patterns: readonly (string | undefined)[]
}

/** What entries are asked. One object for all decisions of a policy, filled in for each. */
export interface Query {
  methodBit: number
  method: string
  now: number
}

/** Greater than every entry; closes a list. */
export const NO_ENTRY = 0x7fffffff

const TESTS = 2
const WINDOW = 1

export const ANY_METHOD = -1
export const NO_WINDOW = 0

/** Bit of every method that no rule names, and of those that came after the 30 with a bit of their own. */
export const CROWD_BIT = 1 << 30
const MAX_BITS = 30

/** Methods that are told apart by a bit, so that a list of them is one number. */
export interface MethodBits {
  bitOf(method: string): number
}

/** Gives bits to the methods that rules name, in the order in which they are first named. */
export function methodBits(named: Iterable<string>): MethodBits {
  const bits = new Map<string, number>()
  for (const method of named) {
    if (bits.size < MAX_BITS && !bits.has(method)) bits.set(method, 1 << bits.size)
  }
  return { bitOf: (method) => bits.get(method) ?? CROWD_BIT }
}

/** The mask of a rule's methods. `GET` covers `HEAD`. */
export function maskOf(methods: readonly string[] | undefined, { bitOf }: MethodBits): number {
  if (methods === undefined) return ANY_METHOD
  return methodsWithHead(methods).reduce((mask, method) => mask | bitOf(method), 0)
}

export function methodsWithHead(methods: readonly string[]): readonly string[] {
  return methods.includes('GET') ? [...methods, 'HEAD'] : methods
}

/** Entries, the lists they stand in, and what is asked of them. */
export interface Judge {
  readonly entries: Entries
  readonly lists: Int32Array
  readonly query: Query
}

/** The first entry of the list at `start` that is below `best` and lets the query pass, or `best`. */
export function firstPassing(
  { entries, lists, query }: Judge,
  start: number,
  best: number,
): number {
  const { tests } = entries
  const { methodBit } = query
  for (let place = start; ; place++) {
    const entry = lists[place] ?? NO_ENTRY
    if (entry >= best) return best
    if (((tests[entry * TESTS] ?? 0) & methodBit) === 0) continue
    const window = tests[entry * TESTS + WINDOW] ?? NO_WINDOW
    if (window !== NO_WINDOW && !isOpen(entries, window, query.now)) continue
    if (methodBit === CROWD_BIT && !namesCrowded(entries, entry, query.method)) continue
    return entry
  }
}

/** Leaves out entries that can never decide, because an earlier one in the same place always does. */
export function decidingEntries(entries: Entries, list: Int32Array): readonly number[] {
  const covered = new Map<number, number>()
  const kept: number[] = []
  for (const entry of list) {
    const mask = entries.tests[entry * TESTS] ?? 0
    const window = entries.tests[entry * TESTS + WINDOW] ?? NO_WINDOW
    const byEarlier = (covered.get(NO_WINDOW) ?? 0) | (covered.get(window) ?? 0)
    if ((mask & ~byEarlier) === 0) continue
    kept.push(entry)
    // An entry with a name in the crowd does not stand for all of the crowd.
    const surely = entries.crowded.has(entry) ? mask & ~CROWD_BIT : mask
    covered.set(window, (covered.get(window) ?? 0) | surely)
  }
  return kept
}

function isOpen({ windowTimes }: Entries, window: number, now: number): boolean {
  return now >= (windowTimes[window * 2] ?? 0) && now < (windowTimes[window * 2 + 1] ?? 0)
}

function namesCrowded({ crowded }: Entries, entry: number, method: string): boolean {
  const names = crowded.get(entry)
  return names === undefined || names.has(method)
}
