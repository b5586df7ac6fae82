/** The name that a slip of the pen would turn into `text`, or `undefined` when none is close. */
export function nearestName(text: string, names: readonly string[]): string | undefined {
  const furthest = Math.max(1, Math.floor(text.length / 3))
  const byDistance = names
    .map((name) => ({ name, distance: distance(text.toLowerCase(), name.toLowerCase()) }))
    .sort((left, right) => left.distance - right.distance)
  const [best] = byDistance
  return best !== undefined && best.distance <= furthest ? best.name : undefined
}

/** Insertions, deletions, replacements and swaps of neighbours that lead from one text to the other. */
function distance(from: string, to: string): number {
  if (from.length > MAX_LENGTH) return from.length
  let before: number[] = []
  let last = Array.from({ length: to.length + 1 }, (_, at) => at)
  for (let row = 1; row <= from.length; row++) {
    const next = [row]
    for (let column = 1; column <= to.length; column++) {
      const same = from[row - 1] === to[column - 1]
      const best = Math.min(
        cell(last, column) + 1,
        cell(next, column - 1) + 1,
        cell(last, column - 1) + (same ? 0 : 1),
      )
      const swapped = from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1]
      next.push(swapped ? Math.min(best, cell(before, column - 2) + 1) : best)
    }
    before = last
    last = next
  }
  return cell(last, to.length)
}

/** Longer texts are no slip of the pen. */
const MAX_LENGTH = 64

const cell = (row: readonly number[], at: number) => row[at] ?? Number.POSITIVE_INFINITY
