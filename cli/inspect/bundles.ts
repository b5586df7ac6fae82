import {
  type Certificate,
  type JwtAuthority,
  parseSpiffeId,
  trustDomainOf,
} from '../../spiffe/index.js'
import { isoTime } from '../api/views.js'
import { columns, fields, relativeTime } from '../output.js'
import { printable } from '../printable.js'
import { certificateJson, validityFindings } from './certificates.js'
import { type Finding, finding, type Inspection, warning } from './inspection.js'
import { keyName } from './keys.js'
import type { Recognised } from './recognise.js'

/** Shows the keys that a bundle document makes trusted. */
export function inspectBundle(
  { bundle, notes }: Extract<Recognised, { kind: 'bundle' }>,
  now: Date,
): Inspection {
  const { x509Authorities, jwtAuthorities, sequence, refreshHint } = bundle
  const name = namedTrustDomain(x509Authorities)
  return {
    kind: 'bundle',
    findings: [
      ...x509Authorities.flatMap((authority) => validityFindings(authority, now)),
      ...emptyFindings(x509Authorities.length + jwtAuthorities.size),
      ...notes.map((note) => warning('CS_BUNDLE_INVALID', note)),
    ],
    json: {
      trust_domain: name ?? null,
      sequence: sequence ?? null,
      refresh_hint_seconds: refreshHint ?? null,
      x509_authorities: x509Authorities.map(certificateJson),
      jwt_authorities: [...jwtAuthorities.values()].map(jwtAuthorityJson),
    },
    text: [
      'Trust bundle',
      '',
      fields([
        ['trust domain', name ?? 'not named in the document'],
        ['sequence', sequence === undefined ? '-' : String(sequence)],
        ['refresh hint', refreshHint === undefined ? '-' : `${refreshHint} s`],
      ]),
      '',
      x509Text(x509Authorities, now),
      '',
      jwtText([...jwtAuthorities.values()]),
    ].join('\n'),
  }
}

/** A bundle does not say whose it is; its authorities carry the ID of their trust domain, if they agree. */
function namedTrustDomain(authorities: readonly Certificate[]): string | undefined {
  const names = new Set(authorities.flatMap(({ uriNames }) => uriNames.flatMap(trustDomainIn)))
  const [only, ...others] = names
  return others.length === 0 ? only : undefined
}

function trustDomainIn(uri: string): readonly string[] {
  try {
    return [trustDomainOf(parseSpiffeId(uri))]
  } catch {
    return []
  }
}

function emptyFindings(keys: number): readonly Finding[] {
  if (keys > 0) return []
  return [
    finding('CS_BUNDLE_INVALID', 'bundle has no usable key: every SVID of its domain is refused'),
  ]
}

const jwtAuthorityJson = ({ keyId, publicKey }: JwtAuthority) => ({
  key_id: keyId,
  key: keyName(publicKey),
})

function x509Text(authorities: readonly Certificate[], now: Date): string {
  const rows = authorities.map((authority) => [
    authority.serialNumber,
    keyName(authority.publicKey),
    `${relativeTime(authority.notAfter, now)} (${isoTime(authority.notAfter)})`,
    authority.fingerprint,
  ])
  return columns(['X.509 AUTHORITY', 'KEY', 'EXPIRES', 'SHA-256'], rows)
}

function jwtText(authorities: readonly JwtAuthority[]): string {
  const rows = authorities.map(({ keyId, publicKey }) => [printable(keyId), keyName(publicKey)])
  return columns(['JWT KEY ID', 'KEY'], rows)
}
