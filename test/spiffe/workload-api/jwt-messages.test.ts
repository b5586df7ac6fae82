import { describe, expect, test } from 'vitest'
import { idOfTrustDomain, jwtKeySetOf, parseSpiffeId } from '../../../spiffe/index.js'
import {
  readJwtBundles,
  readJwtSvids,
  readValidation,
} from '../../../spiffe/workload-api/jwt-messages.js'
import { type TestAuthority, testAuthority } from '../../support/authority.js'

const now = new Date('2026-11-20T12:00:00Z')
const a = testAuthority('a.example', { now })
const b = testAuthority('b.example', { now })
const webId = parseSpiffeId('spiffe://a.example/web')
const apiId = parseSpiffeId('spiffe://a.example/api')

const invalid = (reason: string) =>
  expect.objectContaining({
    code: 'CS_RESPONSE_INVALID',
    message: expect.stringContaining(reason) as string,
  }) as Error

describe('readJwtSvids', () => {
  const svid = (id = webId, options = {}) => ({
    spiffeId: id as string,
    svid: a.issueJwt({ id, audience: 'ledger', ...options }),
    hint: '',
  })
  const expected = { audience: ['ledger'], id: undefined }

  test('reads the token with its audience and times', () => {
    const [token, ...others] = readJwtSvids({ svids: [{ ...svid(), hint: 'internal' }] }, expected)
    expect(others).toEqual([])
    expect(token).toMatchObject({
      id: webId,
      audience: ['ledger'],
      issuedAt: now.getTime(),
      expiresAt: now.getTime() + 300_000,
      hint: 'internal',
    })
  })

  test('WL-45, WL-84: keeps the order of several', () => {
    const tokens = readJwtSvids({ svids: [svid(apiId), svid(webId)] }, expected)
    expect(tokens.map(({ id }) => id)).toEqual([apiId, webId])
  })

  test('an audience that is one string is one as well', () => {
    const one = svid(webId, { claims: { aud: 'ledger' } })
    expect(readJwtSvids({ svids: [one] }, expected)[0].audience).toEqual(['ledger'])
  })

  test.each([
    ['WL-47: no svid', [], 'response holds no svid'],
    ['WL-20: an empty spiffe_id', [{ ...svid(), spiffeId: '' }], 'svid 0: spiffe_id is empty'],
    ['WL-20: an empty svid', [{ ...svid(), svid: '' }], 'svid 0: svid is empty'],
    ['a second one that is bad', [svid(), { ...svid(), svid: '' }], 'svid 1:'],
    ['WL-48: another id than the subject', [{ ...svid(), spiffeId: apiId }], 'another subject'],
    [
      'WL-44: a token for somebody else',
      [svid(webId, { audience: 'bank' })],
      'not for the audience',
    ],
    ['a token without an expiry', [svid(webId, { claims: { exp: undefined } })], 'no expiry'],
    ['a token with an expiry in words', [svid(webId, { claims: { exp: 'soon' } })], 'no expiry'],
    ['a token that ends after time', [svid(webId, { claims: { exp: 9e12 } })], 'no expiry'],
    ['something that is no token', [{ ...svid(), svid: 'a.b' }], 'svid 0:'],
    [
      'a token with a line end in its signature',
      [{ ...svid(), svid: `${svid().svid}\r\nx` }],
      'signature of the token is not base64url',
    ],
    ['an id without a path', [{ ...svid(), spiffeId: 'spiffe://a.example' }], 'no path'],
  ])('refuses %s', (_, svids, reason) => {
    expect(() => readJwtSvids({ svids }, expected)).toThrow(invalid(reason))
  })

  test('WL-85: a hint of more than 1024 bytes counts as none', () => {
    const hinted = (hint: string) => readJwtSvids({ svids: [{ ...svid(), hint }] }, expected)[0]
    expect(hinted('h'.repeat(1024)).hint).toBe('h'.repeat(1024))
    expect(hinted(`${'h'.repeat(1023)}é`)).not.toHaveProperty('hint')
  })

  test('WL-46: refuses another identity than the one asked for', () => {
    expect(() => readJwtSvids({ svids: [svid(webId)] }, { ...expected, id: apiId })).toThrow(
      invalid('another identity'),
    )
  })

  test('every audience asked for must be in the token', () => {
    const wanted = { audience: ['ledger', 'bank'], id: undefined }
    expect(() => readJwtSvids({ svids: [svid()] }, wanted)).toThrow(invalid('not for the audience'))
    const both = svid(webId, { audience: ['bank', 'ledger'] })
    expect(readJwtSvids({ svids: [both] }, wanted)[0].audience).toEqual(['bank', 'ledger'])
  })

  test('never repeats a token in its message', () => {
    const entry = svid(webId, { audience: 'bank' })
    try {
      readJwtSvids({ svids: [entry] }, expected)
      expect.unreachable()
    } catch (error) {
      expect((error as Error).message).not.toContain(entry.svid.slice(0, 20))
    }
  })
})

describe('readJwtBundles', () => {
  const response = (...authorities: TestAuthority[]) => ({
    bundles: new Map<string, Uint8Array>(
      authorities.map(({ trustDomain, bundle }) => [
        idOfTrustDomain(trustDomain),
        Buffer.from(jwtKeySetOf(bundle)),
      ]),
    ),
  })

  test('OPEN-24: reads keys without use', () => {
    const bundles = readJwtBundles(response(a, b), undefined)
    expect([...bundles.keys()]).toEqual(['a.example', 'b.example'])
    const held = bundles.get(a.trustDomain)
    expect(held?.jwtAuthorities.get(a.jwtKey.keyId)?.publicKey.type).toBe('public')
  })

  test('WL-52: the bundles hold no X.509 authority', () => {
    const bundles = [...readJwtBundles(response(a), undefined).values()]
    expect(bundles.every(({ x509Authorities }) => x509Authorities.length === 0)).toBe(true)
  })

  test('OPEN-24: takes a matching use and passes over another', () => {
    const { keys } = JSON.parse(jwtKeySetOf(a.bundle)) as { keys: { kid: string }[] }
    const document = {
      keys: [
        ...keys.map((key) => ({ ...key, kid: 'matching', use: 'jwt-svid' })),
        ...keys.map((key) => ({ ...key, kid: 'other', use: 'wit-svid' })),
      ],
    }
    const bundles = new Map([
      [idOfTrustDomain(a.trustDomain), Buffer.from(JSON.stringify(document))],
    ])
    const held = readJwtBundles({ bundles }, undefined).get(a.trustDomain)
    expect([...(held?.jwtAuthorities.keys() ?? [])]).toEqual(['matching'])
  })

  test('WL-58: what a message leaves out is withdrawn, and an identical one changes nothing', () => {
    const both = readJwtBundles(response(a, b), undefined)
    expect(readJwtBundles(response(a, b), both)).toBe(both)
    const one = readJwtBundles(response(a), both)
    expect([...one.keys()]).toEqual(['a.example'])
    expect(one.get(a.trustDomain)).toBe(both.get(a.trustDomain))
  })

  test('another key under the same key id is a change', () => {
    const before = readJwtBundles(response(a), undefined)
    expect(readJwtBundles(response(testAuthority('a.example')), before)).not.toBe(before)
  })

  test.each([
    ['an empty map', [], 'response holds no bundle'],
    ['a key that is no id', [['a.example', '{"keys":[]}']], 'key of a bundle'],
    ['no JSON', [['spiffe://a.example', 'hello']], 'bundle of spiffe://a.example'],
    ['nothing', [['spiffe://a.example', '']], 'bundle of spiffe://a.example'],
    ['no keys', [['spiffe://a.example', '{}']], 'bundle of spiffe://a.example'],
  ] as const)('refuses %s', (_, entries, reason) => {
    const bundles = new Map<string, Uint8Array>(
      entries.map(([key, text]) => [key, Buffer.from(text)]),
    )
    expect(() => readJwtBundles({ bundles }, undefined)).toThrow(invalid(reason))
  })
})

describe('readValidation', () => {
  test('WL-60, WL-62: gives the subject and the claims', () => {
    const claims = { sub: webId, aud: ['ledger'], exp: 1, role: 'clerk' }
    expect(readValidation({ spiffeId: webId, claims })).toEqual({ id: webId, claims })
  })

  test('a member named __proto__ gives nothing to the claims around it', () => {
    const roles = Object.create({ admin: true }) as object
    const claims: Record<string, unknown> = { sub: webId, roles, list: [roles] }
    const found = readValidation({ spiffeId: webId, claims }).claims as {
      roles: { admin?: boolean }
      list: [{ admin?: boolean }]
    }
    expect([found.roles.admin, found.list[0].admin]).toEqual([undefined, undefined])
  })

  test.each([
    ['WL-63: an empty spiffe_id', { spiffeId: '', claims: { sub: webId } }, 'spiffe_id is empty'],
    ['WL-63: no claims', { spiffeId: webId, claims: undefined }, 'claims is empty'],
    ['another subject', { spiffeId: webId, claims: { sub: apiId } }, 'another subject'],
    ['claims without a subject', { spiffeId: webId, claims: {} }, 'another subject'],
    ['an id without a path', { spiffeId: 'spiffe://a.example', claims: {} }, 'no path'],
  ])('refuses %s', (_, response, reason) => {
    expect(() => readValidation(response)).toThrow(invalid(reason))
  })
})
