import { COLON, CR, LF, SPACE, TAB, TOKEN, VALUE } from './characters.js'
import type { WireFault } from './wire-fault.js'

/** Receives each header line; returns what is wrong with it, if anything is. */
export type HeaderVisitor = (name: string, value: string) => WireFault | undefined

export interface HeaderSection {
  /** ISO-8859-1, one character per byte; every line ends in CR LF and there is no empty one. */
  readonly text: string
  /** Where the first header line starts. */
  readonly from: number
  readonly maxCount: number
}

/**
 * Reads header lines as strictly as RFC 9112 §5 has it: no folding, no blank before the colon, no
 * lone CR or LF, no control character. Names come out in lower case, values without outer blanks.
 */
export function readHeaders(
  { text, from, maxCount }: HeaderSection,
  visit: HeaderVisitor,
): WireFault | undefined {
  let at = from
  for (let count = 0; at < text.length; count += 1) {
    if (count === maxCount) return 'too_many_headers'
    const colon = nameEnd(text, at)
    if (colon === at || text.charCodeAt(colon) !== COLON) return faultOfName(text, at, colon)
    const start = skipBlanks(text, colon + 1)
    const end = valueEnd(text, start)
    if (text.charCodeAt(end) !== CR || text.charCodeAt(end + 1) !== LF) return 'bad_header'
    const fault = visit(text.slice(at, colon).toLowerCase(), withoutBlanks(text, start, end))
    if (fault) return fault
    at = end + 2
  }
  return undefined
}

function nameEnd(text: string, from: number): number {
  let at = from
  while (TOKEN[text.charCodeAt(at)] === 1) at += 1
  return at
}

function valueEnd(text: string, from: number): number {
  let at = from
  while (VALUE[text.charCodeAt(at)] === 1) at += 1
  return at
}

function skipBlanks(text: string, from: number): number {
  let at = from
  while (isBlank(text.charCodeAt(at))) at += 1
  return at
}

function withoutBlanks(text: string, start: number, end: number): string {
  let last = end
  while (last > start && isBlank(text.charCodeAt(last - 1))) last -= 1
  return text.slice(start, last)
}

function faultOfName(text: string, from: number, at: number): WireFault {
  return at === from && isBlank(text.charCodeAt(at)) ? 'folded_header' : 'bad_header'
}

const isBlank = (code: number) => code === SPACE || code === TAB
