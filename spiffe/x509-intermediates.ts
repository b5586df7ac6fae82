import { createHash } from 'node:crypto'
import { recentlyUsed } from './recently-used.js'
import type { Certificate } from './x509-certificate.js'
import { parseCertificate } from './x509-parse.js'

/** The few intermediates that stand above many peers: read once, and their keys imported once. */
export interface KnownIntermediates {
  parse(der: Uint8Array): Certificate
  /** To be told only of those on an accepted path, so that no stranger can fill the memory. */
  keep(certificates: readonly Certificate[]): void
}

export function knownIntermediates(maxKept: number): KnownIntermediates {
  const known = recentlyUsed<Certificate>(maxKept)
  return {
    parse: (der) => known.get(fingerprintOf(der)) ?? parseCertificate(der),
    keep(certificates) {
      for (const certificate of certificates) known.set(certificate.fingerprint, certificate)
    },
  }
}

function fingerprintOf(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('hex')
}
