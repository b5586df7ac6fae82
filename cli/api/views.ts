import {
  type Certificate,
  type TrustBundle,
  type TrustDomain,
  toPem,
  type X509Svid,
} from '../../spiffe/index.js'
import type { OwnJwtSvid, ValidatedJwt, X509Context } from '../../spiffe/workload-api/index.js'
import { columns, fields, relativeTime } from '../output.js'
import { printable } from '../printable.js'

/** The context as JSON: all that is public in it, and never a key. */
export function x509ContextJson({ svids, bundles, crls }: X509Context) {
  return {
    svids: svids.map(svidJson),
    bundles: [...bundles.values()].map((bundle) => ({
      trust_domain: bundle.trustDomain,
      x509_authorities: pemOf(bundle.x509Authorities),
    })),
    crls: crls.length,
  }
}

export function x509ContextText({ svids, bundles }: X509Context, now: Date): string {
  const rows = svids.map((svid) => [
    svid.id,
    printable(svid.hint ?? '-'),
    relativeTime(svid.chain[0].notAfter, now),
    svid.chain[0].serialNumber,
  ])
  return [
    columns(['SPIFFE ID', 'HINT', 'EXPIRES', 'SERIAL NUMBER'], rows),
    '',
    bundlesText(bundles, now),
  ].join('\n')
}

/** One update of a watch in one line. */
export function x509ContextLine({ svids, bundles }: X509Context, now: Date): string {
  const identities = svids.map(
    ({ id, chain: [leaf] }) =>
      `${id} ${leaf.serialNumber.slice(0, 8)} expires ${relativeTime(leaf.notAfter, now)}`,
  )
  return `${identities.join(', ')}; bundles: ${[...bundles.keys()].join(', ')}`
}

export function jwtSvidsJson(tokens: readonly OwnJwtSvid[]) {
  return {
    svids: tokens.map(({ id, hint, audience, issuedAt, expiresAt, token }) => ({
      spiffe_id: id,
      hint: hint ?? null,
      audience,
      issued_at: issuedAt === undefined ? null : isoTime(issuedAt),
      expires_at: isoTime(expiresAt),
      svid: token,
    })),
  }
}

export function validatedText({ id, claims }: ValidatedJwt, now: Date): string {
  const { exp } = claims
  const others = Object.entries(claims).filter(([name]) => name !== 'sub' && name !== 'exp')
  return fields([
    ['SPIFFE ID', id],
    ...(typeof exp === 'number' ? [['expires', relativeTime(exp * 1000, now)] as const] : []),
    ...others.map(([name, value]) => [printable(name), claimText(value)] as const),
  ])
}

/** A claim in one line. Numbers that are times, lists and objects read as in the token. */
export function claimText(value: unknown): string {
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) {
    return printable(value.join(', '))
  }
  return printable(typeof value === 'string' ? value : JSON.stringify(value))
}

export const isoTime = (ms: number) => new Date(ms).toISOString()

function svidJson({ id, hint, chain }: X509Svid) {
  const [leaf] = chain
  return {
    spiffe_id: id,
    hint: hint ?? null,
    serial_number: leaf.serialNumber,
    not_before: isoTime(leaf.notBefore),
    expires_at: isoTime(leaf.notAfter),
    x509_svid: pemOf(chain),
  }
}

function bundlesText(bundles: ReadonlyMap<TrustDomain, TrustBundle>, now: Date): string {
  const rows = [...bundles.values()].map(({ trustDomain, x509Authorities }) => [
    trustDomain,
    String(x509Authorities.length),
    x509Authorities.length === 0 ? '-' : relativeTime(soonestEnd(x509Authorities), now),
  ])
  return columns(['TRUST DOMAIN', 'AUTHORITIES', 'FIRST EXPIRES'], rows)
}

function soonestEnd(certificates: readonly Certificate[]): number {
  return Math.min(...certificates.map(({ notAfter }) => notAfter))
}

/** Certificates as PEM, one after the other. */
export function pemOf(certificates: readonly Certificate[]): string {
  return certificates.map(({ der }) => toPem('CERTIFICATE', der)).join('')
}
