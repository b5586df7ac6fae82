import { isIPv4, isIPv6 } from 'node:net'
import { SpiffeError } from '../errors.js'

/** Where a SPIFFE endpoint listens (SPIFFE Workload Endpoint §4). */
export type EndpointAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }

/** The variable that names the endpoint to a process that was not told otherwise. */
export const ENDPOINT_VARIABLE = 'SPIFFE_ENDPOINT_SOCKET'

/** `sun_path` holds 108 bytes with its final zero; a longer path would be cut short by the system. */
const MAX_SOCKET_PATH_BYTES = 107

/** RFC 3986 `pchar` without percent-encoding, and the slash. */
const PATH_CHARACTER = /[A-Za-z0-9._~!$&'()*+,;=:@/-]/
const HEX_PAIR = /^[0-9A-Fa-f]{2}$/
const PORT = /^[0-9]{1,5}$/

const invalid = (message: string) => new SpiffeError('CS_SOCKET_INVALID', message)

/** Reads `unix:///path` or `tcp://ip:port`, and nothing that merely resembles them. Throws `CS_SOCKET_INVALID`. */
export function parseEndpointAddress(text: string): EndpointAddress {
  if (text === '') throw invalid('address is empty')
  if (text.startsWith('unix:')) return parseUnixAddress(text.slice('unix:'.length))
  if (text.startsWith('tcp:')) return parseTcpAddress(text.slice('tcp:'.length))
  throw invalid('address must start with unix: or tcp:, such as unix:///run/agent.sock')
}

/** The address as {@link parseEndpointAddress} reads it. */
export function formatEndpointAddress(address: EndpointAddress): string {
  switch (address.kind) {
    case 'unix':
      return `unix://${encodePath(address.path)}`
    case 'tcp':
      return `tcp://${hostAndPort(address)}`
  }
}

/** The same address as a target of grpc-js, which takes a path as it is. */
export function grpcTarget(address: EndpointAddress): string {
  switch (address.kind) {
    case 'unix':
      return `unix://${address.path}`
    case 'tcp':
      return `${isIPv6(address.host) ? 'ipv6' : 'ipv4'}:${hostAndPort(address)}`
  }
}

/** The configured address or else the one in the environment. Throws `CS_SOCKET_INVALID`. */
export function locateEndpoint(
  configured: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): EndpointAddress {
  if (configured !== undefined) return parseEndpointAddress(configured)
  const named = environment[ENDPOINT_VARIABLE]
  if (named === undefined) throw invalid(`no address is given and ${ENDPOINT_VARIABLE} is not set`)
  return parseNamed(named)
}

function parseNamed(named: string): EndpointAddress {
  try {
    return parseEndpointAddress(named)
  } catch (error) {
    const why = error instanceof SpiffeError ? error.message : 'address cannot be read'
    throw new SpiffeError('CS_SOCKET_INVALID', `${ENDPOINT_VARIABLE}: ${why}`, { cause: error })
  }
}

function parseUnixAddress(rest: string): EndpointAddress {
  if (rest.startsWith('//') && !rest.startsWith('///')) {
    throw invalid('unix address may not have an authority: three slashes come before the path')
  }
  const encoded = rest.startsWith('//') ? rest.slice(2) : rest
  if (!encoded.startsWith('/')) throw invalid('unix address must hold an absolute path')
  if (encoded.endsWith('/')) throw invalid('unix address names a folder, not a socket')

  const path = decodePath(encoded)
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
    throw invalid(`socket path is longer than ${MAX_SOCKET_PATH_BYTES} bytes`)
  }
  return { kind: 'unix', path }
}

function decodePath(encoded: string): string {
  const bytes: number[] = []
  for (let at = 0; at < encoded.length; at += 1) {
    const character = encoded.charAt(at)
    if (character === '%') {
      bytes.push(decodePair(encoded.slice(at + 1, at + 3)))
      at += 2
    } else {
      assertPathCharacter(character)
      bytes.push(character.charCodeAt(0))
    }
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(bytes))
  } catch (error) {
    throw new SpiffeError('CS_SOCKET_INVALID', 'unix address is not UTF-8', { cause: error })
  }
}

function assertPathCharacter(character: string): void {
  if (character === '?') throw invalid('unix address may not have a query')
  if (character === '#') throw invalid('unix address may not have a fragment')
  if (!PATH_CHARACTER.test(character)) {
    throw invalid('unix address holds a character that must be percent-encoded')
  }
}

function decodePair(pair: string): number {
  if (!HEX_PAIR.test(pair)) throw invalid('unix address has a percent sign without two hex digits')
  const byte = Number.parseInt(pair, 16)
  if (byte < 0x20 || byte === 0x2f || byte === 0x7f) {
    throw invalid('unix address hides a control character or a slash')
  }
  return byte
}

function encodePath(path: string): string {
  return [...Buffer.from(path)].map(encodeByte).join('')
}

function encodeByte(byte: number): string {
  const character = String.fromCharCode(byte)
  if (byte < 0x80 && PATH_CHARACTER.test(character)) return character
  return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
}

function parseTcpAddress(rest: string): EndpointAddress {
  if (!rest.startsWith('//')) throw invalid('tcp address must start with tcp://')
  const authority = rest.slice(2)
  const extra = /[/?#@]/.exec(authority)
  if (extra) throw invalid(`tcp address may hold only an IP address and a port, not ${extra[0]}`)

  const colon = authority.lastIndexOf(':')
  const { host, port } = { host: authority.slice(0, colon), port: authority.slice(colon + 1) }
  if (colon === -1 || host === '') throw invalid('tcp address must hold an IP address and a port')
  return { kind: 'tcp', host: parseHost(host), port: parsePort(port) }
}

function parseHost(host: string): string {
  const bracketed = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : undefined
  // A zone (`%eth0`) is not part of an IP literal in RFC 3986.
  if (bracketed !== undefined && isIPv6(bracketed) && !bracketed.includes('%')) return bracketed
  if (bracketed === undefined && isIPv4(host)) return host
  throw invalid('tcp address needs an IPv4 address, or an IPv6 address in brackets')
}

function parsePort(text: string): number {
  const port = PORT.test(text) ? Number(text) : 0
  if (port < 1 || port > 65_535) throw invalid('tcp address needs a port from 1 to 65535')
  return port
}

function hostAndPort({ host, port }: { readonly host: string; readonly port: number }): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`
}
