import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  formatEndpointAddress,
  grpcTarget,
  locateEndpoint,
  parseEndpointAddress,
} from '../../../spiffe/workload-api/address.js'

describe('parseEndpointAddress', () => {
  test.each([
    ['WE-14: three slashes', 'unix:///run/a.sock', { kind: 'unix', path: '/run/a.sock' }],
    ['WE-14: one slash', 'unix:/run/a.sock', { kind: 'unix', path: '/run/a.sock' }],
    [
      'an encoded blank',
      'unix:///run/my%20agent.sock',
      { kind: 'unix', path: '/run/my agent.sock' },
    ],
    ['encoded UTF-8', 'unix:///run/%C3%A9.sock', { kind: 'unix', path: '/run/é.sock' }],
    ['an encoded question mark', 'unix:///run/a%3Fb', { kind: 'unix', path: '/run/a?b' }],
    [
      'a path of 107 bytes',
      `unix:///${'a'.repeat(106)}`,
      { kind: 'unix', path: `/${'a'.repeat(106)}` },
    ],
    ['WE-16: IPv4', 'tcp://127.0.0.1:8000', { kind: 'tcp', host: '127.0.0.1', port: 8000 }],
    ['WE-16: IPv6', 'tcp://[::1]:8000', { kind: 'tcp', host: '::1', port: 8000 }],
    ['WE-17: the lowest port', 'tcp://127.0.0.1:1', { kind: 'tcp', host: '127.0.0.1', port: 1 }],
    [
      'WE-17: the highest port',
      'tcp://127.0.0.1:65535',
      { kind: 'tcp', host: '127.0.0.1', port: 65_535 },
    ],
  ])('accepts %s', (_, text, expected) => {
    expect(parseEndpointAddress(text)).toEqual(expected)
  })

  test.each([
    ['WE-12: nothing', '', 'is empty'],
    ['WE-12: a bare path', '/run/a.sock', 'must start with unix: or tcp:'],
    ['WE-12: another scheme', 'http://127.0.0.1:8000', 'must start with unix: or tcp:'],
    ['WE-12: a name for grpc', 'dns:///x', 'must start with unix: or tcp:'],
    ['WE-12: a scheme in capitals', 'UNIX:///run/a.sock', 'must start with unix: or tcp:'],
    ['WE-12: a blank in front', ' unix:///run/a.sock', 'must start with unix: or tcp:'],
    ['WE-12: a blank behind', 'unix:///run/a.sock ', 'percent-encoded'],
    ['WE-12: a line end behind', 'unix:///run/a.sock\n', 'percent-encoded'],
    ['WE-12: a tab inside', 'unix:///run/\ta.sock', 'percent-encoded'],
    ['WE-12: a raw umlaut', 'unix:///run/ä.sock', 'percent-encoded'],
    ['WE-13: an authority', 'unix://h/run/a.sock', 'may not have an authority'],
    ['WE-13: a path that became the authority', 'unix://run/a.sock', 'may not have an authority'],
    ['WE-14: no path', 'unix:', 'absolute path'],
    ['WE-14: no path after two slashes', 'unix://', 'may not have an authority'],
    ['WE-14: a relative path', 'unix:run/a.sock', 'absolute path'],
    ['WE-14: a folder', 'unix:///run/', 'names a folder'],
    ['WE-14: the root folder', 'unix:///', 'names a folder'],
    ['WE-15: a query', 'unix:///run/a.sock?x', 'may not have a query'],
    ['WE-15: an empty query', 'unix:///run/a.sock?', 'may not have a query'],
    ['WE-15: a fragment', 'unix:///run/a.sock#x', 'may not have a fragment'],
    ['WE-15: an empty fragment', 'unix:///run/a.sock#', 'may not have a fragment'],
    ['half an escape', 'unix:///run/a%2', 'two hex digits'],
    ['an escape that is none', 'unix:///run/a%zz', 'two hex digits'],
    ['a hidden zero byte', 'unix:///run/a%00.sock', 'hides'],
    ['a hidden line end', 'unix:///run/a%0A.sock', 'hides'],
    ['a hidden slash', 'unix:///run%2Fa.sock', 'hides'],
    ['bytes that are not UTF-8', 'unix:///run/%FF.sock', 'not UTF-8'],
    ['a path of 108 bytes', `unix:///${'a'.repeat(107)}`, 'longer than 107 bytes'],
    ['WE-16: a host name', 'tcp://localhost:8000', 'IPv4 address'],
    ['WE-16: a shortened IPv4', 'tcp://127.1:8000', 'IPv4 address'],
    ['WE-16: an octal IPv4', 'tcp://0127.0.0.1:8000', 'IPv4 address'],
    ['WE-16: IPv6 without brackets', 'tcp://::1:8000', 'IPv4 address'],
    ['WE-16: IPv4 in brackets', 'tcp://[127.0.0.1]:8000', 'IPv4 address'],
    ['WE-16: IPv6 with a zone', 'tcp://[fe80::1%lo]:8000', 'IPv4 address'],
    ['WE-16: no host', 'tcp://:8000', 'IP address and a port'],
    ['WE-17: no port', 'tcp://127.0.0.1', 'IP address and a port'],
    ['WE-17: an empty port', 'tcp://127.0.0.1:', 'port from 1 to 65535'],
    ['WE-17: port 0', 'tcp://127.0.0.1:0', 'port from 1 to 65535'],
    ['WE-17: port 65536', 'tcp://127.0.0.1:65536', 'port from 1 to 65535'],
    ['WE-17: a port in letters', 'tcp://127.0.0.1:http', 'port from 1 to 65535'],
    ['WE-17: a port with a sign', 'tcp://127.0.0.1:+80', 'port from 1 to 65535'],
    ['WE-17: a port with a fraction', 'tcp://127.0.0.1:80.5', 'port from 1 to 65535'],
    ['WE-18: a slash at the end', 'tcp://127.0.0.1:8000/', 'only an IP address and a port'],
    ['WE-18: a path', 'tcp://127.0.0.1:8000/foo', 'only an IP address and a port'],
    ['WE-18: a query', 'tcp://127.0.0.1:8000?x', 'only an IP address and a port'],
    ['WE-18: a fragment', 'tcp://127.0.0.1:8000#f', 'only an IP address and a port'],
    ['WE-18: user information', 'tcp://u@127.0.0.1:8000', 'only an IP address and a port'],
    ['tcp without slashes', 'tcp:127.0.0.1:8000', 'must start with tcp://'],
  ])('refuses %s', (_, text, reason) => {
    expect(() => parseEndpointAddress(text)).toThrow(
      expect.objectContaining({
        code: 'CS_SOCKET_INVALID',
        message: expect.stringContaining(reason) as string,
      }),
    )
  })

  test('refuses every byte in a path that RFC 3986 does not allow there, and takes all others', () => {
    const allowed = /[A-Za-z0-9._~!$&'()*+,;=:@/-]/
    for (let byte = 0; byte < 256; byte += 1) {
      const character = String.fromCharCode(byte)
      const parse = () => parseEndpointAddress(`unix:///run/a${character}b`)
      if (allowed.test(character))
        expect(parse()).toEqual({ kind: 'unix', path: `/run/a${character}b` })
      else expect(parse, `byte ${byte}`).toThrow()
    }
  })

  test('either refuses by code or gives an address that reads back as the same', () => {
    const prefix = fc.constantFrom('unix:', 'unix://', 'unix:///', 'tcp://', 'tcp://127.0.0.1:', '')
    fc.assert(
      fc.property(prefix, fc.string({ unit: 'binary' }), (start, rest) => {
        try {
          const address = parseEndpointAddress(start + rest)
          expect(parseEndpointAddress(formatEndpointAddress(address))).toEqual(address)
        } catch (error) {
          expect(error).toHaveProperty('code', 'CS_SOCKET_INVALID')
        }
      }),
    )
  })
})

describe('formatEndpointAddress', () => {
  test('encodes what an address may not hold as it is', () => {
    const path = '/run/my agent/ä?#%.sock'
    const text = formatEndpointAddress({ kind: 'unix', path })
    expect(text).toBe('unix:///run/my%20agent/%C3%A4%3F%23%25.sock')
    expect(parseEndpointAddress(text)).toEqual({ kind: 'unix', path })
  })

  test('puts IPv6 in brackets', () => {
    const address = { kind: 'tcp', host: '::1', port: 80 } as const
    expect(formatEndpointAddress(address)).toBe('tcp://[::1]:80')
    expect(grpcTarget(address)).toBe('ipv6:[::1]:80')
  })
})

describe('locateEndpoint', () => {
  const environment = { SPIFFE_ENDPOINT_SOCKET: 'unix:///run/named.sock' }

  test('WE-10: what is configured beats the environment', () => {
    expect(locateEndpoint('unix:///run/given.sock', environment)).toEqual({
      kind: 'unix',
      path: '/run/given.sock',
    })
  })

  test('WE-11: otherwise SPIFFE_ENDPOINT_SOCKET is used', () => {
    expect(locateEndpoint(undefined, environment)).toEqual({
      kind: 'unix',
      path: '/run/named.sock',
    })
  })

  test.each([
    ['nothing at all', undefined, {}, 'SPIFFE_ENDPOINT_SOCKET is not set'],
    [
      'an empty variable',
      undefined,
      { SPIFFE_ENDPOINT_SOCKET: '' },
      'SPIFFE_ENDPOINT_SOCKET: address is empty',
    ],
    ['an empty setting', '', environment, 'address is empty'],
  ])('WE-11: refuses %s', (_, configured, given, reason) => {
    expect(() => locateEndpoint(configured, given)).toThrow(
      expect.objectContaining({
        code: 'CS_SOCKET_INVALID',
        message: expect.stringContaining(reason) as string,
      }),
    )
  })
})
