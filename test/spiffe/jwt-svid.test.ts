import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import fc from 'fast-check'
import { createLocalJWKSet, jwtVerify, SignJWT } from 'jose'
import { describe, expect, test } from 'vitest'
import {
  bundleSet,
  decodeJwt,
  type JwtVerification,
  jwtKeySetOf,
  parseTrustDomain,
  type TrustBundle,
  verifyJwtSvid,
} from '../../spiffe/index.js'
import { signJwt, testAuthority } from '../support/authority.js'
import { codeOf, refusalOf } from './code-of.js'
import { HOUR, keys, MINUTE, NOW } from './x509-world.js'

const NINE = [
  'RS256',
  'RS384',
  'RS512',
  'ES256',
  'ES384',
  'ES512',
  'PS256',
  'PS384',
  'PS512',
] as const

const curveOf: Readonly<Record<string, 'P-256' | 'P-384' | 'P-521'>> = {
  ES256: 'P-256',
  ES384: 'P-384',
  ES512: 'P-521',
}
const keysFor = (algorithm: string) => keys('jwt', curveOf[algorithm] ?? 'rsa-2048')

const td = parseTrustDomain('td.example')
const bundle: TrustBundle = {
  trustDomain: td,
  x509Authorities: [],
  jwtAuthorities: new Map(
    ['ES256', 'ES384', 'ES512', 'RS256'].map((kid) => [
      kid,
      { keyId: kid, publicKey: keysFor(kid).publicKey },
    ]),
  ),
}
const bundles = bundleSet([bundle, testAuthority('other.example', { now: NOW }).bundle])

const seconds = Math.floor(NOW.getTime() / 1000)
const SUB = 'spiffe://td.example/ns/prod/app/pay'
const AUD = 'svc-b'
const goodClaims = { sub: SUB, aud: [AUD], exp: seconds + 300, iat: seconds }

interface TokenSpec {
  readonly header?: Readonly<Record<string, unknown>>
  readonly claims?: Readonly<Record<string, unknown>>
  readonly key?: KeyObject
  readonly alg?: string
}

/** A good token, but for what is given. `undefined` leaves a member out. */
function token({ header, claims, alg = 'ES256', key }: TokenSpec = {}): string {
  const kid = alg.startsWith('ES') ? alg : 'RS256'
  return signJwt({
    header: { alg, kid, typ: 'JWT', ...header },
    claims: { ...goodClaims, ...claims },
    key: key ?? keysFor(alg).privateKey,
  })
}

const verify = (text: string, options: Partial<JwtVerification> = {}) =>
  verifyJwtSvid({ token: text, bundles, audience: AUD, now: NOW, ...options })

const part = (value: unknown) =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')

describe('JWT-5 the nine algorithms', () => {
  test.each(NINE)('%s', async (alg) => {
    const ours = token({ alg })
    expect(verify(ours)).toMatchObject({ id: SUB, algorithm: alg })
    // The same in another library, in both directions.
    const keySet = createLocalJWKSet(JSON.parse(jwtKeySetOf(bundle)) as never)
    await expect(
      jwtVerify(ours, keySet, { audience: AUD, currentDate: NOW }),
    ).resolves.toBeDefined()
    const theirs = await new SignJWT(goodClaims)
      .setProtectedHeader({ alg, kid: curveOf[alg] ? alg : 'RS256' })
      .sign(keysFor(alg).privateKey)
    expect(verify(theirs).id).toBe(SUB)
  })
})

describe('accepts', () => {
  test.each([
    ['JWT-8', 'no type', { header: { typ: undefined } }],
    ['JWT-8', 'the type JOSE', { header: { typ: 'JOSE' } }],
    ['JWT-14 OPEN-8', 'an audience that is a string', { claims: { aud: AUD } }],
    ['JWT-14', 'one audience of several', { claims: { aud: ['x', AUD, 'y'] } }],
    [
      'JWT-9 ID-37',
      'claims of others',
      { claims: { jti: 'a', 'https://td.example/x': { y: [1] } } },
    ],
    ['JWT-7 OPEN-6', 'no kid', { header: { kid: undefined } }],
    ['OPEN-5', 'a header nobody knows', { header: { 'x-trace': 'a' } }],
    ['JWT-23', 'nbf a little in the future', { claims: { nbf: seconds + 5 } }],
    ['JWT-34', 'exp a little in the past', { claims: { exp: seconds - 5 } }],
    ['JWT-17', 'exp with a fraction', { claims: { exp: seconds + 0.5 } }],
    ['JWT-31', 'no iat', { claims: { iat: undefined } }],
    ['JWT-20', 'b64 that changes nothing', { header: { b64: true } }],
  ] satisfies [string, string, TokenSpec][])('%s: %s', (_, __, spec) => {
    expect(verify(token(spec)).id).toBe(SUB)
  })

  test('ID-23: a subject of 2048 bytes', () => {
    const sub = `spiffe://td.example/${'a'.repeat(2028)}`
    expect(verify(token({ claims: { sub } })).id).toHaveLength(2048)
  })

  test('JWT-31: the same token twice', () => {
    const text = token({ claims: { jti: 'once' } })
    expect([verify(text).id, verify(text).id]).toEqual([SUB, SUB])
  })
})

const INVALID = 'CS_JWT_SVID_INVALID'
const ALGORITHM = 'CS_JWT_ALG_NOT_ALLOWED'
const AUDIENCE = 'CS_JWT_AUDIENCE_MISMATCH'
const KEY = 'CS_JWT_KEY_UNKNOWN'
const EXPIRED = 'CS_JWT_EXPIRED'

/** A token whose header is replaced after signing: only the header is to be looked at. */
const withHeader = (header: unknown, payload = part(goodClaims)) =>
  `${part(header)}.${payload}.${part('signature')}`

describe('JWT-6 JWT-20 refuses every other algorithm before it looks at anything else', () => {
  test.each([
    'none',
    'None',
    'NONE',
    'HS256',
    'HS512',
    'EdDSA',
    'ES256K',
    'es256',
    '',
    'RSA-OAEP',
    'toString',
    '__proto__',
    5,
    null,
    ['ES256'],
    { a: 1 },
  ])('%j', (alg) => {
    expect(codeOf(() => verify(withHeader({ alg, typ: 'bad', crit: ['x'] }, 'garbage!')))).toBe(
      ALGORITHM,
    )
  })

  test('a header without one', () => {
    expect(codeOf(() => verify(withHeader({ kid: 'ES256' })))).toBe(ALGORITHM)
  })

  test('an unsigned token', () => {
    expect(codeOf(() => verify(`${part({ alg: 'none' })}.${part(goodClaims)}.`))).toBe(ALGORITHM)
  })

  test('HS256 keyed with the bytes of the public key', () => {
    const input = `${part({ alg: 'HS256', kid: 'RS256' })}.${part(goodClaims)}`
    const secret = keysFor('RS256').publicKey.export({ type: 'spki', format: 'pem' })
    const forged = `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`
    expect(codeOf(() => verify(forged))).toBe(ALGORITHM)
  })
})

const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' })

describe('refuses', () => {
  test.each([
    ['JWT-8', 'the type of a WIT-SVID', { header: { typ: 'wit+jwt' } }, INVALID],
    ['JWT-8', 'the type in small letters', { header: { typ: 'jwt' } }, INVALID],
    ['JWT-8', 'the type of an access token', { header: { typ: 'at+jwt' } }, INVALID],
    ['JWT-8', 'an empty type', { header: { typ: '' } }, INVALID],
    ['JWT-8', 'a type that is null', { header: { typ: null } }, INVALID],
    ['JWT-21 OPEN-5', 'critical headers', { header: { crit: ['exp'], exp: 1 } }, INVALID],
    ['OPEN-5', 'a payload that is not encoded', { header: { b64: false } }, INVALID],
    ['JWT-4', 'a token in the token', { header: { cty: 'JWT' } }, INVALID],
    ['OPEN-6', 'a kid that is a number', { header: { kid: 1 } }, INVALID],
    ['OPEN-6', 'an unknown kid', { header: { kid: 'ES999' } }, KEY],
    ['OPEN-6', 'a kid in another case', { header: { kid: 'es256' } }, KEY],
    ['OPEN-6', 'an empty kid', { header: { kid: '' } }, KEY],
    ['OPEN-6', 'the kid of a key of another kind', { header: { kid: 'RS256' } }, INVALID],
    ['OPEN-6', 'the kid of a key on another curve', { header: { kid: 'ES384' } }, INVALID],
    ['JWT-29', 'the kid of another key that fits', { key: stranger.privateKey }, INVALID],
    [
      'JWT-29',
      'no kid and a key of nobody',
      { header: { kid: undefined }, key: stranger.privateKey },
      INVALID,
    ],
    [
      'OPEN-5',
      'a key that it brings along',
      {
        header: { kid: 'own', jwk: stranger.publicKey.export({ format: 'jwk' }) },
        key: stranger.privateKey,
      },
      KEY,
    ],
    [
      'OPEN-5',
      'a key that it brings along under a good kid',
      {
        header: {
          jwk: stranger.publicKey.export({ format: 'jwk' }),
          x5c: ['MAA='],
          jku: 'https://evil.example',
        },
        key: stranger.privateKey,
      },
      INVALID,
    ],
    ['JWT-11', 'no subject', { claims: { sub: undefined } }, INVALID],
    ['JWT-11', 'an empty subject', { claims: { sub: '' } }, INVALID],
    ['JWT-11', 'a subject that is a list', { claims: { sub: [SUB] } }, INVALID],
    ['JWT-11', 'a subject that is no SPIFFE ID', { claims: { sub: 'pay' } }, INVALID],
    [
      'JWT-11 OPEN-9',
      'a subject without a path',
      { claims: { sub: 'spiffe://td.example' } },
      INVALID,
    ],
    [
      'JWT-11',
      'a subject with a dot segment',
      { claims: { sub: 'spiffe://td.example/a/../b' } },
      INVALID,
    ],
    [
      'ID-29',
      'a subject of another trust domain',
      { claims: { sub: 'spiffe://other.example/a' } },
      KEY,
    ],
    [
      'ID-29',
      'a subject of another trust domain without a kid',
      { claims: { sub: 'spiffe://other.example/a' }, header: { kid: undefined } },
      INVALID,
    ],
    [
      'ID-29',
      'a subject of an unknown trust domain',
      { claims: { sub: 'spiffe://unknown.example/a' } },
      'CS_BUNDLE_NOT_FOUND',
    ],
    ['JWT-13', 'no audience', { claims: { aud: undefined } }, INVALID],
    ['JWT-13', 'an empty list of audiences', { claims: { aud: [] } }, INVALID],
    ['JWT-13', 'an empty audience', { claims: { aud: '' } }, INVALID],
    ['JWT-13', 'an audience that is null', { claims: { aud: null } }, INVALID],
    ['JWT-13', 'an audience that is a number', { claims: { aud: 5 } }, INVALID],
    [
      'JWT-13',
      'an audience with a number beside the right one',
      { claims: { aud: [AUD, 5] } },
      INVALID,
    ],
    ['JWT-14', 'an audience that begins alike', { claims: { aud: ['svc-bb'] } }, AUDIENCE],
    ['JWT-14', 'an audience in another case', { claims: { aud: ['SVC-B'] } }, AUDIENCE],
    ['JWT-18', 'no expiry', { claims: { exp: undefined } }, INVALID],
    ['JWT-18', 'an expiry that is null', { claims: { exp: null } }, INVALID],
    ['JWT-18', 'an expiry that is text', { claims: { exp: String(seconds + 300) } }, INVALID],
    ['JWT-18', 'an expiry beyond all dates', { claims: { exp: 1e300 } }, INVALID],
    ['JWT-34', 'an expiry ten minutes ago', { claims: { exp: seconds - 600 } }, EXPIRED],
    ['JWT-22', 'an expiry at the end of the leeway', { claims: { exp: seconds - 10 } }, EXPIRED],
    ['JWT-23', 'nbf in an hour', { claims: { nbf: seconds + 3600 } }, EXPIRED],
    ['JWT-23', 'nbf that is text', { claims: { nbf: 'now' } }, INVALID],
    ['JWT-23', 'iat that is text', { claims: { iat: 'now' } }, INVALID],
  ] satisfies [string, string, TokenSpec, string][])('%s: %s', (_, __, spec, code) => {
    expect(codeOf(() => verify(token(spec)))).toBe(code)
  })
})

const [head, body, tail] = token().split('.') as [string, string, string]
const derSignature = sign('sha256', Buffer.from(`${head}.${body}`), keysFor('ES256').privateKey)

describe('refuses a form that is not the one of a JWS', () => {
  test.each([
    ['JWT-1', 'nothing', ''],
    ['JWT-1', 'two parts', `${head}.${body}`],
    ['JWT-4', 'five parts', `${head}.${body}.${tail}.a.b`],
    ['JWT-1', 'an empty payload', `${head}..${tail}`],
    ['JWT-1', 'an empty signature', `${head}.${body}.`],
    ['JWT-1', 'an empty header', `.${body}.${tail}`],
    [
      'JWT-2',
      'JSON serialisation',
      JSON.stringify({ protected: head, payload: body, signature: tail }),
    ],
    ['TRAP-3', 'padding', `${head}.${body}.${tail}==`],
    ['TRAP-3', 'standard base64', `${head}.${body}.${tail.slice(0, -2)}+/`],
    ['TRAP-3', 'a blank in the signature', `${head}.${body}. ${tail}`],
    ['TRAP-3', 'a line end after it', `${head}.${body}.${tail}\n`],
    [
      'TRAP-3',
      'bits left over',
      `${head}.${body}.${tail.slice(0, -1)}${tail.endsWith('B') ? 'C' : 'B'}`,
    ],
    [
      'JWT-21 TRAP-4',
      'a signature in DER',
      `${head}.${body}.${derSignature.toString('base64url')}`,
    ],
    [
      'JWT-21',
      'a signature that is too short',
      `${head}.${body}.${Buffer.from(tail, 'base64url').subarray(1).toString('base64url')}`,
    ],
    ['JWT-21', 'a header that is no object', `${part('[]')}.${body}.${tail}`],
    ['JWT-21', 'a header that is no JSON', `${part('{')}.${body}.${tail}`],
    ['TRAP-2', 'an algorithm twice', `${part('{"alg":"none","alg":"ES256"}')}.${body}.${tail}`],
    ['JWT-1', 'more bytes than any header carries', `${head}.${'a'.repeat(70_000)}.${tail}`],
  ])('%s: %s', (_, __, text) => {
    expect(codeOf(() => verify(text))).toBe(INVALID)
  })
})

test('TRAP-2 refuses a claim that occurs twice although it is signed', () => {
  const input = `${head}.${part(`{"sub":"${SUB}","aud":"${AUD}","exp":${seconds + 9},"exp":${seconds + 999}}`)}`
  const signature = sign('sha256', Buffer.from(input), {
    key: keysFor('ES256').privateKey,
    dsaEncoding: 'ieee-p1363',
  })
  expect(codeOf(() => verify(`${input}.${signature.toString('base64url')}`))).toBe(INVALID)
})

test('ID-35 JWT-21 notices every bit that changes', () => {
  const good = token()
  fc.assert(
    fc.property(
      fc.nat({ max: good.length - 1 }),
      fc.constantFrom(...'ABCyz019_-.'.split('')),
      (at, character) => {
        fc.pre(good[at] !== character)
        expect(codeOf(() => verify(good.slice(0, at) + character + good.slice(at + 1)))).not.toBe(
          'accepted',
        )
      },
    ),
    { numRuns: 500 },
  )
})

test('has nothing but coded refusals for any text', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(fc.json().map(part), { maxLength: 4 }).map((parts) => parts.join('.')),
      ),
      (text) => {
        expect(codeOf(() => verify(text))).not.toBe('accepted')
      },
    ),
    { numRuns: 1000 },
  )
})

test('gives back times in milliseconds and the claims as they are', () => {
  const text = token({ claims: { role: 'x' } })
  expect(verify(text)).toEqual({
    id: SUB,
    audience: [AUD],
    expiresAt: (seconds + 300) * 1000,
    issuedAt: seconds * 1000,
    algorithm: 'ES256',
    keyId: 'ES256',
    claims: { ...goodClaims, role: 'x' },
    token: text,
  })
})

test.each([
  [{ exp: seconds - 600 }, 'token expired 10 minutes ago, at 2026-11-20T11:50:00Z'],
  [{ nbf: seconds + 3600 }, 'token is not valid before 2026-11-20T13:00:00Z, 1 hour from now'],
])('says how far off the time is: %o', (claims, message) => {
  expect(refusalOf(() => verify(token({ claims })))?.message).toBe(message)
})

test('JWT-34 the leeway is what is configured, and bounded', () => {
  const late = token({ claims: { exp: seconds - 60 } })
  expect(codeOf(() => verify(late, { leewaySeconds: 0 }))).toBe(EXPIRED)
  expect(codeOf(() => verify(late, { leewaySeconds: 61 }))).toBe('accepted')
  expect(codeOf(() => verify(token({ claims: { exp: seconds } }), { leewaySeconds: 0 }))).toBe(
    EXPIRED,
  )
  for (const leewaySeconds of [301, -1, Number.NaN]) {
    expect(() => verify(late, { leewaySeconds })).toThrow(RangeError)
  }
})

test('JWT-33 without an audience of its own a verifier accepts nothing', () => {
  for (const audience of ['', [], ['']]) {
    expect(codeOf(() => verify(token({ claims: { aud: ['', AUD] } }), { audience }))).not.toBe(
      'accepted',
    )
    expect(codeOf(() => verify(token(), { audience }))).toBe(AUDIENCE)
  }
})

test('JWT-14 answers to any of several audiences', () => {
  expect(verify(token(), { audience: ['x', AUD] }).audience).toEqual([AUD])
})

test('OPEN-16 no refusal repeats the token', () => {
  const text = token({ claims: { exp: seconds - 600 } })
  for (const bad of [text, `${text}x`, text.slice(1)]) {
    const refusal = refusalOf(() => verify(bad))
    for (const piece of bad.split('.')) expect(refusal?.message).not.toContain(piece)
  }
})

test('OPEN-6 tries only so many keys for a token that names none', () => {
  const authorities = Array.from({ length: 40 }, (_, index) => ({
    keyId: `k${index}`,
    publicKey: index === 30 ? keysFor('ES256').publicKey : keys(`many ${index}`).publicKey,
  }))
  const many = { ...bundle, jwtAuthorities: new Map(authorities.map((each) => [each.keyId, each])) }
  const options = { bundles: bundleSet([many]) }
  expect(codeOf(() => verify(token({ header: { kid: undefined } }), options))).toBe(INVALID)
  expect(codeOf(() => verify(token({ header: { kid: 'k30' } }), options))).toBe('accepted')
})

test('verifies the tokens of the test authority at their time and not after it', () => {
  const authority = testAuthority('prod.example', { now: NOW })
  const options = { bundles: bundleSet([authority.bundle]), audience: 'x' }
  const text = authority.issueJwt({ id: '/a', audience: 'x', ttl: 60 })
  expect(verify(text, options).id).toBe('spiffe://prod.example/a')
  expect(
    codeOf(() => verify(text, { ...options, now: new Date(NOW.getTime() + MINUTE + HOUR) })),
  ).toBe(EXPIRED)
})

test('decodes a token for display, strictly and without judging it', () => {
  const foreign = token({ alg: 'ES256', claims: { exp: 1 }, key: stranger.privateKey })
  expect(decodeJwt(foreign)).toMatchObject({
    header: { alg: 'ES256' },
    claims: { sub: SUB, exp: 1 },
  })
  const escape = `${head}.${body}.\u001b[2J`
  for (const text of ['', 'a.b.c', `${head}.${part('[]')}.`, `${head}.${body}`, escape]) {
    expect(codeOf(() => decodeJwt(text))).toBe(INVALID)
  }
})
