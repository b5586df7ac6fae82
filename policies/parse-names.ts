import { parseTrustDomain, type TrustDomain } from '../spiffe/index.js'
import { type Cursor, quoted, report, textOf, textThat } from './cursor.js'
import type { PatternFault } from './pattern.js'

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/
const SEGMENT = /^[A-Za-z0-9._-]{1,253}$/

/** The name of a document or rule: what stands in logs and metrics. */
export function nameOf(cursor: Cursor): string {
  const text = textOf(cursor)
  if (text !== '' && !NAME.test(text)) {
    report(cursor, {
      message: `${quoted(text)} is not a name`,
      hint: 'use letters, digits, dots, dashes and underscores, a letter or digit first',
    })
  }
  return text
}

/** The name of an app or a namespace: one segment of a SPIFFE ID, literally. */
export function segmentOf(cursor: Cursor): string {
  const text = textOf(cursor)
  if (text !== '' && (!SEGMENT.test(text) || text === '.' || text === '..')) {
    report(cursor, {
      message: `${quoted(text)} cannot be a segment of a SPIFFE ID`,
      hint: 'use letters, digits, dots, dashes and underscores; wildcards go into spiffeId',
    })
  }
  return text
}

export function trustDomainOf(cursor: Cursor): TrustDomain | undefined {
  return textThat(cursor, parseTrustDomain)
}

/** A pattern that `faultOf` finds nothing wrong with; otherwise the nearest one is offered. */
export function patternOf(
  cursor: Cursor,
  faultOf: (text: string) => PatternFault | undefined,
): string {
  const text = textOf(cursor)
  const found = text === '' ? undefined : faultOf(text)
  if (found !== undefined) {
    report(cursor, {
      code: 'CS_POLICY_PATTERN_INVALID',
      message: `${quoted(text)}: ${found.fault}`,
      hint: found.nearest && `did you mean ${quoted(found.nearest)}?`,
    })
  }
  return text
}

const RFC_3339 =
  /^(\d{4}-\d{2}-\d{2})[Tt]([01]\d|2[0-3])(:[0-5]\d){2}(\.\d{1,9})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$/

/** Milliseconds since 1970 of an RFC 3339 time. */
export function timeOf(cursor: Cursor): number | undefined {
  return textThat(cursor, (text) => {
    const day = RFC_3339.exec(text)?.[1]
    const at = Date.parse(text.toUpperCase())
    // The runtime takes the 31st of every month: a day that is none reads differently when written back.
    if (day === undefined || isoTime(Date.parse(`${day}T00:00:00Z`)).slice(0, 10) !== day) {
      throw new RangeError(`${quoted(text)} is not a time such as 2026-12-31T00:00:00Z`)
    }
    if (!/^\d{4}-/.test(isoTime(at))) throw new RangeError('time is out of range')
    return at
  })
}

const isoTime = (at: number) => (Number.isNaN(at) ? '' : new Date(at).toISOString())
