import type { Certificate, NameConstraints } from './x509-certificate.js'

/** More comparisons than this only come from a certificate made to cost time. */
const MAX_COMPARISONS = 10_000

const IP_ADDRESS = /^[0-9.]+$/

/**
 * Why the names of `certificate` lie outside the constraints of a CA above it (RFC 5280 §4.2.1.10), or
 * `undefined` if they all lie inside. A constraint of a kind that is not understood lets nothing through.
 */
export function outsideNameConstraints(
  certificate: Certificate,
  constraints: NameConstraints,
): string | undefined {
  if (constraints.others) return 'a CA has name constraints of a kind that cannot be checked'
  const { uriNames, dnsNames } = certificate
  const { permittedUris, excludedUris, permittedDns, excludedDns } = constraints
  const comparisons =
    uriNames.length * (permittedUris.length + excludedUris.length) +
    dnsNames.length * (permittedDns.length + excludedDns.length)
  if (comparisons > MAX_COMPARISONS) return 'a CA has more name constraints than are checked'

  const uri = uriNames.find((name) => !uriInside(name, permittedUris, excludedUris))
  if (uri !== undefined) return `${uri} is outside the name constraints of a CA`
  const dns = dnsNames.find((name) => !dnsInside(name, permittedDns, excludedDns))
  if (dns !== undefined) return `DNS name ${dns} is outside the name constraints of a CA`
  return undefined
}

function uriInside(
  uri: string,
  permitted: readonly string[],
  excluded: readonly string[],
): boolean {
  if (permitted.length === 0 && excluded.length === 0) return true
  const host = hostOf(uri)
  // A URI without a host name, or with an address, cannot be compared, so it may not pass.
  if (host === undefined || IP_ADDRESS.test(host)) return false
  if (excluded.some((base) => hostWithin(host, base))) return false
  return permitted.length === 0 || permitted.some((base) => hostWithin(host, base))
}

/** A URI constraint is one host or, with a leading dot, every host below a domain but not the domain itself. */
function hostWithin(host: string, base: string): boolean {
  if (base === '') return true
  return base.startsWith('.') ? host.length > base.length && host.endsWith(base) : host === base
}

function hostOf(uri: string): string | undefined {
  const authority = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(uri)?.[1]
  const host = authority
    ?.replace(/^.*@/, '')
    .replace(/:[0-9]*$/, '')
    .toLowerCase()
  return host === '' || host?.startsWith('[') ? undefined : host
}

function dnsInside(
  name: string,
  permitted: readonly string[],
  excluded: readonly string[],
): boolean {
  const host = name.toLowerCase()
  if (excluded.some((base) => dnsWithin(host, base) || wildcardReaches(host, base))) return false
  return permitted.length === 0 || permitted.some((base) => dnsWithin(host, base))
}

/** A DNS constraint is a domain and everything below it. */
function dnsWithin(host: string, base: string): boolean {
  if (base === '' || host === base) return true
  return host.endsWith(base.startsWith('.') ? base : `.${base}`)
}

/** Whether a wildcard name also stands for hosts inside an excluded subtree. */
function wildcardReaches(host: string, base: string): boolean {
  return host.startsWith('*.') && `.${base.replace(/^\./, '')}`.endsWith(host.slice(1))
}
