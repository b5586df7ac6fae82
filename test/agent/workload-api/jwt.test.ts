import { status } from '@grpc/grpc-js'
import * as jose from 'jose'
import { describe, expect, test } from 'vitest'
import type {
  JWTSVIDResponse,
  ValidateJWTSVIDResponse,
} from '../../../spiffe/workload-api/index.js'
import { testAuthority } from '../../support/authority.js'
import { fakeAttestation } from '../../support/fake-attestation.js'
import { fakeClock } from '../../support/fake-clock.js'
import { fakeIdentities, sentryAway } from '../../support/fake-identities.js'
import { answer, received, security } from '../../support/local-client.js'
import { type TestEndpoint, testEndpoint } from '../../support/local-endpoint.js'

const mine = ['unix:uid:1000']
const denied = { code: status.PERMISSION_DENIED, details: 'no identity issued' }
const partner = testAuthority('partner.example')
const stranger = testAuthority('stranger.example')

function fetch(endpoint: TestEndpoint, audience: string[], spiffeId = '') {
  return answer<JWTSVIDResponse>((done) =>
    endpoint.client.workload.fetchJwtsvid({ audience, spiffeId }, security(), done),
  )
}

function validate(endpoint: TestEndpoint, svid: string, audience = 'orders') {
  return answer<ValidateJWTSVIDResponse>((done) =>
    endpoint.client.workload.validateJwtsvid({ audience, svid }, security(), done),
  )
}

describe('FetchJWTSVID', () => {
  const three = ['/c', '/a', '/b'].map((path) => ({ path, selectors: mine, hint: 'same' }))

  test('WL-45 WL-48 WL-49 WL-84 gives a token for each identity, in the order of FetchX509SVID', async () => {
    const identities = fakeIdentities({ entries: three })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const { svids } = await fetch(endpoint, ['orders'])

    const ids = ['/c', '/a', '/b'].map((path) => `spiffe://prod.example${path}`)
    expect(svids.map(({ spiffeId }) => spiffeId)).toEqual(ids)
    expect(svids.map(({ svid }) => jose.decodeJwt(svid).sub)).toEqual(ids)
    expect(svids.map(({ hint }) => hint)).toEqual(['same', '', ''])
  })

  test('WL-44 asks for exactly the audiences of the request', async () => {
    const identities = fakeIdentities({ entries: three })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const { svids } = await fetch(endpoint, ['a', 'b'])
    expect(jose.decodeJwt(svids[0]!.svid).aud).toEqual(['a', 'b'])
    expect(identities.audiences).toEqual([
      ['a', 'b'],
      ['a', 'b'],
      ['a', 'b'],
    ])
  })

  test('WL-46 gives only the token of the identity that is named', async () => {
    const identities = fakeIdentities({ entries: three })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const { svids } = await fetch(endpoint, ['orders'], 'spiffe://prod.example/a')
    expect(svids.map(({ spiffeId }) => spiffeId)).toEqual(['spiffe://prod.example/a'])
    expect(identities.audiences).toHaveLength(1)
  })

  test('WL-47 WL-51 refuses an identity of somebody else in the words for none at all', async () => {
    const identities = fakeIdentities({
      entries: [...three, { path: '/other', selectors: ['unix:uid:2000'] }],
    })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const other = fetch(endpoint, ['orders'], 'spiffe://prod.example/other')
    await expect(other).rejects.toMatchObject(denied)
    const absent = fetch(endpoint, ['orders'], 'spiffe://prod.example/absent')
    await expect(absent).rejects.toMatchObject(denied)
    identities.setEntries([])
    await expect(fetch(endpoint, ['orders'])).rejects.toMatchObject(denied)
    expect(identities.audiences).toEqual([])
  })

  test.each([
    ['WL-19 no audience', [], '', 'audience must be specified'],
    ['WL-19 an empty audience', [''], '', 'audience must be specified'],
    ['WL-19 an empty audience among others', ['a', ''], '', 'audience must be specified'],
    ['an identity that is no SPIFFE ID', ['a'], 'prod.example/a', 'spiffe_id is not a SPIFFE ID'],
  ])('refuses %s before it looks at the caller', async (_, audience, spiffeId, details) => {
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ attestation })
    await expect(fetch(endpoint, audience, spiffeId)).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details,
    })
    expect(attestation.looks).toBe(0)
  })

  test('is unavailable when the sentry is, and does not say more', async () => {
    const identities = fakeIdentities({ entries: three })
    identities.fail(sentryAway())
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    await expect(fetch(endpoint, ['orders'])).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: 'identity is not available yet',
    })
    identities.fail(new Error('disk on fire at 10.0.0.7'))
    await expect(fetch(endpoint, ['orders'])).rejects.toMatchObject({
      code: status.INTERNAL,
      details: 'internal error',
    })
  })

  test('WE-21 looks at the caller again when the tokens took a while', async () => {
    const identities = fakeIdentities({ entries: three })
    const attestation = fakeAttestation()
    const clock = fakeClock()
    const jwtSvid: typeof identities.jwtSvid = async (request) => {
      await clock.advance(6)
      attestation.exit()
      return identities.jwtSvid(request)
    }
    const slow = { ...identities, jwtSvid }
    await using endpoint = await testEndpoint({ identities: slow, attestation, clock })
    await expect(fetch(endpoint, ['orders'])).rejects.toMatchObject(denied)
    expect(identities.audiences).toHaveLength(3)
  })

  test('gives no token for an entry that went while it was made', async () => {
    const identities = fakeIdentities({ entries: three })
    const clock = fakeClock()
    const jwtSvid: typeof identities.jwtSvid = async (request) => {
      await clock.advance(6)
      identities.setEntries(three.slice(1))
      return identities.jwtSvid(request)
    }
    const slow = { ...identities, jwtSvid }
    await using endpoint = await testEndpoint({
      identities: slow,
      attestation: fakeAttestation(),
      clock,
    })
    await expect(fetch(endpoint, ['orders'])).rejects.toMatchObject(denied)
  })
})

describe('FetchJWTBundles', () => {
  test('WL-53 WL-54 WL-55 holds plain JWK Sets of JWT keys, our own among them', async () => {
    const identities = fakeIdentities({
      entries: [{ path: '/web', selectors: mine, federatesWith: ['partner.example'] }],
      federated: [partner, stranger],
    })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchJwtBundles({}, security()))
    const { bundles } = await stream.next()
    expect([...bundles.keys()].sort()).toEqual([
      'spiffe://partner.example',
      'spiffe://prod.example',
    ])

    const keySet = JSON.parse(Buffer.from(bundles.get('spiffe://prod.example')!).toString())
    expect(keySet.keys).toHaveLength(1)
    expect(keySet.keys[0]).toMatchObject({ kid: identities.authority.jwtKey.keyId })
    expect(keySet.keys[0]).not.toHaveProperty('use')
    expect(keySet.keys[0]).not.toHaveProperty('x5c')
    // OPEN-24: a library that knows nothing of SPIFFE finds the key.
    const token = identities.authority.issueJwt({ id: '/web', audience: 'orders' })
    await expect(
      jose.jwtVerify(token, jose.createLocalJWKSet(keySet), { audience: 'orders' }),
    ).resolves.toBeDefined()
  })

  test('WL-56 refuses a caller without an entry', async () => {
    await using endpoint = await testEndpoint({ attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchJwtBundles({}, security()))
    expect(await stream.ended).toEqual(denied)
  })
})

describe('ValidateJWTSVID', () => {
  const entries = [{ path: '/web', selectors: mine, federatesWith: ['partner.example'] }]

  test('WL-59 WL-60 WL-62 WL-63 tells whose token it is and what it claims', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const token = identities.authority.issueJwt({
      id: '/web',
      audience: 'orders',
      claims: { role: 'buyer', nested: { list: [1, true, null, 'x'] }, __proto__: { a: 1 } },
    })
    const { spiffeId, claims } = await validate(endpoint, token)
    expect(spiffeId).toBe('spiffe://prod.example/web')
    expect(claims).toMatchObject({
      sub: 'spiffe://prod.example/web',
      aud: ['orders'],
      exp: expect.any(Number),
      role: 'buyer',
      nested: { list: [1, true, null, 'x'] },
    })
  })

  test('WL-61 hands on only known claims of another trust domain', async () => {
    const identities = fakeIdentities({ entries, federated: [partner] })
    await using endpoint = await testEndpoint({
      identities,
      attestation: fakeAttestation(),
      foreignClaims: ['tenant'],
    })
    const token = partner.issueJwt({
      id: '/api',
      audience: 'orders',
      claims: { role: 'admin', tenant: 'blue', jti: '7' },
    })
    const { spiffeId, claims } = await validate(endpoint, token)
    expect(spiffeId).toBe('spiffe://partner.example/api')
    expect(Object.keys(claims!).sort()).toEqual(['aud', 'exp', 'iat', 'jti', 'sub', 'tenant'])
  })

  test('WL-66 uses only the bundles that the caller federates with', async () => {
    const identities = fakeIdentities({ entries, federated: [partner, stranger] })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const token = stranger.issueJwt({ id: '/api', audience: 'orders' })
    await expect(validate(endpoint, token)).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: 'trust domain of the token is not trusted',
    })
  })

  const prod = testAuthority('prod.example')
  test.each([
    ['not a token', 'token is not a valid JWT-SVID', 'secret.text'],
    [
      'expired',
      'token has expired or is not valid yet',
      prod.issueJwt({ id: '/web', audience: 'orders', ttl: -3600 }),
    ],
    [
      'for somebody else',
      'token is for another audience',
      prod.issueJwt({ id: '/web', audience: 'Orders' }),
    ],
    [
      'of our name by the key of another trust domain',
      'token is not signed by a key of its trust domain',
      partner.issueJwt({
        id: 'spiffe://prod.example/web',
        audience: 'orders',
        header: { kid: 'x' },
      }),
    ],
    [
      'unsigned',
      'algorithm of the token is not allowed',
      `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from('{}').toString('base64url')}.`,
    ],
  ])(
    'OPEN-16 WL-59 names the check that failed for a token that is %s, and nothing of the token',
    async (_, details, token) => {
      const identities = fakeIdentities({ entries, authority: prod, federated: [partner] })
      await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
      await expect(validate(endpoint, token)).rejects.toMatchObject({
        code: status.INVALID_ARGUMENT,
        details,
      })
    },
  )

  test.each([
    ['no audience', '', 'a.b.c', 'audience must be specified'],
    ['no token', 'orders', '', 'svid must be specified'],
  ])('WL-19 refuses a request with %s', async (_, audience, svid, details) => {
    await using endpoint = await testEndpoint({ attestation: fakeAttestation() })
    await expect(validate(endpoint, svid, audience)).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details,
    })
  })

  test('WE-26 validates nothing for a caller without an identity', async () => {
    const identities = fakeIdentities()
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const token = identities.authority.issueJwt({ id: '/web', audience: 'orders' })
    await expect(validate(endpoint, token)).rejects.toMatchObject(denied)
  })
})
