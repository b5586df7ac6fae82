/** Why a certificate or token does not count at `now`, or `undefined` if it does; with how far off the time is. */
export function outsideValidity(options: {
  readonly notBefore: number | undefined
  readonly notAfter: number
  readonly now: number
  /** Milliseconds forgiven at either end. */
  readonly early?: number
  readonly late?: number
}): string | undefined {
  const { notBefore, notAfter, now, early = 0, late = 0 } = options
  // Written so that a time that is not a number is never inside.
  if (!(now <= notAfter + late))
    return `expired ${span(now - notAfter)} ago, at ${instant(notAfter)}`
  if (notBefore !== undefined && now < notBefore - early) {
    return `is not valid before ${instant(notBefore)}, ${span(notBefore - now)} from now`
  }
  return undefined
}

const units = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1000],
] as const

/** A duration in its largest unit and the one below it: `2 hours 5 minutes`. */
function span(milliseconds: number): string {
  const first = units.findIndex(([, length]) => milliseconds >= length)
  if (first === -1) return 'less than a second'
  let rest = milliseconds
  return units
    .slice(first, first + 2)
    .map(([name, length]) => {
      const count = Math.floor(rest / length)
      rest -= count * length
      return count === 0 ? '' : `${count} ${name}${count === 1 ? '' : 's'}`
    })
    .filter((part) => part !== '')
    .join(' ')
}

function instant(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace('.000Z', 'Z')
}
