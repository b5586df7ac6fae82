import { CR, LF } from './characters.js'
import type { WireFault } from './wire-fault.js'

export interface HeadSearch {
  readonly from: number
  readonly maxBytes: number
  /** Of the first line. */
  readonly maxLine: number
}

const END = Buffer.from('\r\n\r\n')

/**
 * Finds the empty line that ends a head. Gives the index behind it, undefined while it has not come, or
 * what is wrong already with the part that is there: what never becomes a head need not be waited for.
 */
export function findHeadEnd(bytes: Buffer, search: HeadSearch): number | undefined | WireFault {
  const { from, maxBytes } = search
  const found = bytes.indexOf(END, from)
  if (found === -1) return faultOfPart(bytes, search)
  const end = found + END.length
  return end - from > maxBytes ? 'head_too_large' : end
}

function faultOfPart(
  bytes: Buffer,
  { from, maxBytes, maxLine }: HeadSearch,
): WireFault | undefined {
  const first = bytes.indexOf(LF, from)
  if (first === -1 && bytes.length - from > maxLine) return 'target_too_long'
  for (let at = first; at !== -1; at = bytes.indexOf(LF, at + 1)) {
    if (at === from || bytes[at - 1] !== CR) return 'bare_line_end'
  }
  return bytes.length - from > maxBytes ? 'head_too_large' : undefined
}
