import { SentryError } from './errors.js'

const MAX_NAME_LENGTH = 253
/** An SVID is sent in every handshake; one with more names is a mistake. */
const MAX_NAMES = 100

/** Letters, digits, dashes and underscores, at most 63, with a letter or digit at both ends. */
const LABEL = /^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$/
const WILDCARD = '*'
const ALL_DIGITS = /^\d+$/

const invalid = (message: string) => new SentryError('CS_ISSUE_REQUEST_INVALID', message)

/** Holds names to what a certificate may carry as dNSName. Throws `CS_ISSUE_REQUEST_INVALID`. */
export function assertDnsNames(names: readonly string[]): void {
  if (names.length === 0) return
  if (names.length > MAX_NAMES) throw invalid(`there are more than ${MAX_NAMES} DNS names`)
  for (const name of names) assertDnsName(name)
  if (new Set(names.map((name) => name.toLowerCase())).size !== names.length) {
    throw invalid('a DNS name is given twice')
  }
}

function assertDnsName(name: string): void {
  if (name.length > MAX_NAME_LENGTH) {
    throw invalid(`DNS name is longer than ${MAX_NAME_LENGTH} bytes`)
  }
  const labels = name.split('.')
  const concrete = labels[0] === WILDCARD ? labels.slice(1) : labels
  // A wildcard over a whole top-level domain matches names of owners who never asked.
  if (concrete.length < labels.length && concrete.length < 2) {
    throw invalid('wildcard DNS name needs two labels behind the star')
  }
  if (!concrete.every((label) => LABEL.test(label))) {
    throw invalid('DNS name has a label that is empty, too long or not letters, digits and dashes')
  }
  if (ALL_DIGITS.test(labels.at(-1) ?? '')) throw invalid('DNS name is an IP address')
}
