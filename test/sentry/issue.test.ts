import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { createLocalJWKSet, jwtVerify } from 'jose'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { systemRandom } from '../../platform/random.js'
import { makeProvenKey, proveKeyPossession } from '../../sentry/csr.js'
import { SentryError } from '../../sentry/errors.js'
import { type IssueOptions, type IssuePipeline, issuePipeline } from '../../sentry/issue.js'
import { buildSampleLeaf } from '../../sentry/signing/sample-leaf.js'
import type { JwtSigner, X509Signer } from '../../sentry/signing/signer.js'
import { subjectName } from '../../sentry/subject-name.js'
import type { SvidTemplate } from '../../sentry/svid-template.js'
import {
  bytesOf,
  nullValue,
  readElement,
  sequence,
  sequenceItems,
} from '../../spiffe/asn1/index.js'
import {
  bundleSet,
  decodeJwt,
  extendedKeyUsages,
  jwtKeySetOf,
  keyUsages,
  parseCertificate,
  parseSpiffeId,
  toPem,
  verifyJwtSvid,
  verifyX509Svid,
} from '../../spiffe/index.js'
import {
  type RecordedAudit,
  recordedAudit,
  type SentryCa,
  sentryCa,
} from '../support/authorities.js'
import { ecKeys, makeCsr } from '../support/csr.js'
import { tempFolder } from '../support/temp-folder.js'
import { missing, openssl } from '../support/tools.js'

const id = parseSpiffeId('spiffe://prod.example/orders')
const audience = ['payments']
const HOUR = 3_600_000

let ca: SentryCa
let audit: RecordedAudit
let pipeline: IssuePipeline

beforeAll(async () => {
  ca = await sentryCa()
})
beforeEach(() => {
  audit = recordedAudit()
  pipeline = pipelineWith()
})

function pipelineWith(options: Partial<IssueOptions> = {}): IssuePipeline {
  const { trustDomain, authorities, clock } = ca
  return issuePipeline({ trustDomain, authorities, clock, random: systemRandom, audit, ...options })
}

const key = makeProvenKey().key
const x509 = (request: Partial<Parameters<IssuePipeline['x509']>[0]> = {}, by = pipeline) =>
  by.x509({
    key,
    id,
    dnsNames: [],
    ttlSeconds: 3600,
    requester: 'spiffe://prod.example/spire/agent/a',
    ...request,
  })
const jwt = (request: Partial<Parameters<IssuePipeline['jwt']>[0]> = {}, by = pipeline) =>
  by.jwt({ id, audience, ttlSeconds: 300, requester: 'local', ...request })
const coded = (code: string) => expect.objectContaining({ name: 'SentryError', code })

describe('an X509-SVID', () => {
  test('goes from a request to a chain that a peer accepts, and carries only the key of the request', () => {
    const keys = ecKeys()
    const proven = proveKeyPossession(makeCsr({ keys }))
    const issued = x509({ key: proven, dnsNames: ['orders', 'orders.prod.svc'] })
    const now = ca.clock.now()
    const bundles = bundleSet([ca.authorities.bundle()])
    const peer = verifyX509Svid({ chain: issued.chain, bundles, now })
    const [leaf] = peer.chain
    expect(peer.id).toBe(id)
    expect(leaf.publicKey.equals(keys.publicKey)).toBe(true)
    expect(leaf.dnsNames).toEqual(['orders', 'orders.prod.svc'])
    expect(issued).toMatchObject({ id, serialNumber: leaf.serialNumber, notAfter: leaf.notAfter })
    expect(issued.notAfter).toBe(now.getTime() + HOUR)
    expect(leaf.notBefore).toBe(now.getTime() - 10_000)
  })

  test('keeps to the profile of a leaf (X509-1, X509-7, X509-8, X509-18, X509-22, X509-23, X509-26 to X509-31)', () => {
    const leaf = parseCertificate(x509().chain[0])
    expect(leaf.uriNames).toEqual([id])
    expect(leaf.subject).toHaveLength(2)
    expect(leaf.subjectAltNameCritical).toBe(true)
    expect(leaf.basicConstraints).toEqual({ ca: false, pathLength: undefined })
    expect(leaf.keyUsage).toBe(keyUsages.digitalSignature)
    expect(leaf.criticalExtensions).toContain('2.5.29.15')
    expect(leaf.extendedKeyUsage).toEqual([
      extendedKeyUsages.serverAuth,
      extendedKeyUsages.clientAuth,
    ])
    expect(leaf.subjectKeyId).toMatch(/^[0-9a-f]{40}$/)
    expect(leaf.authorityKeyId).toBe(ca.authorities.status().issuer.keyId)
  })

  test('has a subject where one is configured, and another where one is asked for', () => {
    const subject = subjectName({ country: 'US', organization: 'SPIRE' })
    const other = subjectName({ commonName: 'orders' })
    const configured = pipelineWith({ subject })
    expect(parseCertificate(x509({}, configured).chain[0]).subject).toEqual(new Uint8Array(subject))
    const leaf = parseCertificate(x509({ subject: other }, configured).chain[0])
    expect(leaf.subject).toEqual(new Uint8Array(other))
  })

  test('has another serial number each time', () => {
    const serials = Array.from({ length: 500 }, () => x509().serialNumber)
    expect(new Set(serials).size).toBe(500)
  })

  test('never outlives its issuer', () => {
    const { notAfter } = ca.authorities.status().issuer
    expect(x509({ ttlSeconds: 365 * 86_400 }).notAfter).toBe(notAfter)
  })

  test('is issued for an ID of 2048 bytes (ID-23)', () => {
    const longest = parseSpiffeId(`spiffe://prod.example/${'a'.repeat(2026)}`)
    expect(parseCertificate(x509({ id: longest }).chain[0]).uriNames).toEqual([longest])
  })

  test('leaves a record of who asked, for which entry, with serial and authority but no key', () => {
    const { serialNumber, notAfter } = x509({ entryId: 'e-1', dnsNames: ['orders'] })
    expect(audit.events).toEqual([
      {
        type: 'svid.issued.v1',
        subject: id,
        requester: 'spiffe://prod.example/spire/agent/a',
        details: {
          kind: 'x509',
          serialNumber,
          notAfter,
          authority: ca.authorities.status().issuer.keyId,
          dnsNames: ['orders'],
          entryId: 'e-1',
        },
      },
    ])
  })

  test.each([
    ['an ID without a path', { id: parseSpiffeId('spiffe://prod.example') }],
    ['an ID of another trust domain', { id: parseSpiffeId('spiffe://other.example/orders') }],
    ['a DNS name that is none', { dnsNames: ['*'] }],
    ['an IP address that is none', { ipAddresses: ['localhost'] }],
    ['a lifetime below zero', { ttlSeconds: -5 }],
  ])('is refused for %s, on the record', (_, request) => {
    expect(() => x509({ ...request, entryId: 'e-1' })).toThrow(coded('CS_ISSUE_REQUEST_INVALID'))
    expect(audit.events).toMatchObject([
      {
        type: 'svid.denied.v1',
        code: 'CS_ISSUE_REQUEST_INVALID',
        details: { kind: 'x509', entryId: 'e-1' },
      },
    ])
  })

  test.skipIf(missing('SVIDs in OpenSSL', openssl))(
    'passes openssl verify -x509_strict, with names, without and with a subject',
    async () => {
      await using dir = await tempFolder()
      const issued = [
        x509(),
        x509({ dnsNames: ['orders', '*.orders.example'], ipAddresses: ['10.0.0.1', '::1'] }),
        x509({ subject: subjectName({ country: 'US', commonName: 'orders' }) }),
      ]
      const paths = issued.map((_, index) => dir.file(`leaf-${index}.pem`))
      for (const [index, { chain }] of issued.entries()) {
        await writeFile(paths[index]!, toPem('CERTIFICATE', chain[0]))
      }
      await writeFile(dir.file('issuer.pem'), toPem('CERTIFICATE', issued[0]!.chain[1]!))
      await writeFile(
        dir.file('root.pem'),
        toPem('CERTIFICATE', ca.authorities.bundleKeys().x509[0]!),
      )
      const at = String(Math.floor(ca.clock.now().getTime() / 1000))
      const verified = execFileSync('openssl', [
        'verify',
        '-x509_strict',
        ...['-purpose', 'sslserver'].concat('-attime', at),
        ...['-CAfile', dir.file('root.pem')].concat('-untrusted', dir.file('issuer.pem')),
        ...paths,
      ])
      expect(verified.toString()).toBe(paths.map((path) => `${path}: OK\n`).join(''))
    },
  )
})

describe('an identity of the sentry itself', () => {
  test('has a key of its own, and names for the hosts that reach it', () => {
    const svid = pipeline.signingIdentity({
      id: parseSpiffeId('spiffe://prod.example/spire/server'),
      ttlSeconds: 3600,
      dnsNames: ['sentry.prod.example'],
      ipAddresses: ['127.0.0.1', '::1'],
    })
    const leaf = new X509Certificate(svid.chain[0].der)
    expect(leaf.checkPrivateKey(svid.privateKey)).toBe(true)
    expect(leaf.checkHost('sentry.prod.example')).toBe('sentry.prod.example')
    expect(leaf.checkIP('127.0.0.1')).toBe('127.0.0.1')
    expect(leaf.checkIP('::1')).toBe('::1')
    expect(svid.chain).toHaveLength(2)
    expect(audit.events).toMatchObject([{ type: 'svid.issued.v1', requester: 'local' }])
  })

  test('is another each time', () => {
    const own = () => pipeline.signingIdentity({ id, ttlSeconds: 60 }).chain[0].subjectKeyId
    expect(own()).not.toBe(own())
  })
})

describe('a JWT-SVID', () => {
  test('is accepted by our own verifier and by jose, with the claims that were asked for', async () => {
    const { token, keyId, issuedAt, expiresAt } = jwt()
    const now = ca.clock.now()
    const bundle = ca.authorities.bundle()
    const verified = verifyJwtSvid({
      token,
      bundles: bundleSet([bundle]),
      audience: 'payments',
      now,
    })
    expect(verified).toMatchObject({ id, audience, issuedAt, expiresAt, keyId, algorithm: 'ES256' })
    expect(expiresAt).toBe(now.getTime() + 300_000)

    const keySet = createLocalJWKSet(JSON.parse(jwtKeySetOf(bundle)))
    const { payload } = await jwtVerify(token, keySet, { currentDate: now, audience: 'payments' })
    expect(payload.sub).toBe(id)
  })

  test('has the header of its key and the claims of the standard, and nothing else (JWT-1, JWT-3, JWT-8, JWT-11, JWT-12, JWT-17, OPEN-8)', () => {
    const { token, keyId } = jwt({ audience: ['payments', 'ledger'] })
    const { header, claims } = decodeJwt(token)
    expect(header).toEqual({ alg: 'ES256', kid: keyId, typ: 'JWT' })
    expect(Object.keys(claims).toSorted()).toEqual(['aud', 'exp', 'iat', 'jti', 'sub'])
    expect(claims.aud).toEqual(['payments', 'ledger'])
    expect(decodeJwt(jwt().token).claims.aud).toEqual(['payments'])
    expect(claims.jti).toMatch(/^[A-Za-z0-9_-]{22}$/)
  })

  test('names its issuer where one is configured', () => {
    const named = pipelineWith({ jwtIssuer: 'https://oidc.prod.example' })
    expect(decodeJwt(jwt({}, named).token).claims.iss).toBe('https://oidc.prod.example')
  })

  test('keeps a token id that is given', () => {
    expect(decodeJwt(jwt({ jti: 'with "quotes"' }).token).claims.jti).toBe('with "quotes"')
  })

  test.each(['plain', 'with "quotes" and \\', 'ünïcode 🙂', '</script>', '\u2028', 'line\nend'])(
    'carries the audience %j as it is',
    (name) => {
      expect(decodeJwt(jwt({ audience: [name] }).token).claims.aud).toEqual([name])
    },
  )

  test.each([
    ['AWS', 'sts.amazonaws.com'],
    ['Entra', 'api://AzureADTokenExchange'],
  ])('is signed with RS256 for %s', (_, cloud) => {
    const { token } = jwt({ audience: ['payments', cloud] })
    expect(decodeJwt(token).header.alg).toBe('RS256')
    const bundles = bundleSet([ca.authorities.bundle()])
    expect(verifyJwtSvid({ token, bundles, audience: cloud, now: ca.clock.now() }).id).toBe(id)
  })

  test('is signed with RS256 for the audiences that are configured, and no others', () => {
    const configured = pipelineWith({ rs256Audiences: ['legacy'] })
    expect(decodeJwt(jwt({ audience: ['legacy'] }, configured).token).header.alg).toBe('RS256')
    const aws = jwt({ audience: ['sts.amazonaws.com'] }, configured)
    expect(decodeJwt(aws.token).header.alg).toBe('ES256')
  })

  test('lives no longer than the longest token (JWT-19)', () => {
    const { issuedAt, expiresAt } = jwt({ ttlSeconds: 365 * 86_400 })
    expect(expiresAt - issuedAt).toBe(ca.authorities.longestJwtSvid * 1000)
  })

  test('leaves a record with its id and key, and without the token', () => {
    const { token, keyId, expiresAt } = jwt({ entryId: 'e-1' })
    const { jti } = decodeJwt(token).claims
    expect(audit.events).toEqual([
      {
        type: 'svid.issued.v1',
        subject: id,
        requester: 'local',
        details: { kind: 'jwt', jti, audience, expiresAt, keyId, entryId: 'e-1' },
      },
    ])
  })

  test('is refused without an audience, on the record (JWT-12)', () => {
    expect(() => jwt({ audience: [] })).toThrow(coded('CS_ISSUE_REQUEST_INVALID'))
    expect(audit.events).toMatchObject([
      { type: 'svid.denied.v1', code: 'CS_ISSUE_REQUEST_INVALID' },
    ])
  })
})

describe('a signer that does not say what it was asked', () => {
  /** Changes what the real signer is told, or what it answers. */
  function bent(bend: {
    readonly template?: (template: SvidTemplate) => SvidTemplate
    readonly answer?: (der: Uint8Array) => Uint8Array
  }): X509Signer {
    const real = ca.authorities.x509Signer()
    const { template = (same) => same, answer = (same) => same } = bend
    return {
      issuer: real.issuer,
      sign(asked) {
        const [leaf, ...rest] = real.sign(template(asked))
        return [answer(leaf), ...rest]
      },
    }
  }
  const with509 = (signer: X509Signer) =>
    pipelineWith({ authorities: { ...ca.authorities, x509Signer: () => signer } })

  const otherKey = makeProvenKey().key
  const admin = parseSpiffeId('spiffe://prod.example/admin')
  test.each<[string, Parameters<typeof bent>[0]]>([
    ['another ID', { template: (template) => ({ ...template, id: admin }) }],
    ['another key', { template: (template) => ({ ...template, key: otherKey }) }],
    [
      'another serial number',
      { template: (template) => ({ ...template, serialNumber: Uint8Array.of(7) }) },
    ],
    [
      'a longer life',
      { template: (template) => ({ ...template, notAfter: template.notAfter + 1000 }) },
    ],
    [
      'an earlier start',
      { template: (template) => ({ ...template, notBefore: template.notBefore - 1000 }) },
    ],
    [
      'one more DNS name',
      { template: (template) => ({ ...template, dnsNames: ['more.example'] }) },
    ],
    [
      'one more IP address',
      { template: (template) => ({ ...template, ipAddresses: [Uint8Array.of(1, 2, 3, 4)] }) },
    ],
    [
      'a subject',
      { template: (template) => ({ ...template, subject: subjectName({ commonName: 'admin' }) }) },
    ],
    ['garbage', { answer: () => Uint8Array.of(0x30, 0) }],
    ['nothing', { answer: () => new Uint8Array() }],
    ['its own certificate', { answer: () => ca.authorities.x509Signer().issuer.der }],
    ['a part that no certificate has', { answer: withOneMorePart }],
  ])('is caught with %s, the first time and once a good one was seen', (_, bend) => {
    for (const before of [0, 2]) {
      let calls = 0
      const real = ca.authorities.x509Signer()
      const wrong = bent(bend)
      const signer: X509Signer = {
        issuer: real.issuer,
        sign: (template) => (calls++ < before ? real : wrong).sign(template),
      }
      const bentPipeline = with509(signer)
      for (let good = 0; good < before; good += 1) x509({}, bentPipeline)
      expect(() => x509({}, bentPipeline)).toThrow(coded('CS_ISSUE_CHECK_FAILED'))
      expect(audit.events.at(-1)).toMatchObject({
        type: 'svid.denied.v1',
        code: 'CS_ISSUE_CHECK_FAILED',
      })
    }
  })

  test('is caught with a leaf for signing certificates', async () => {
    const real = ca.authorities.x509Signer()
    const usage = Buffer.from('0603551d0f0101ff0404', 'hex')
    const answer = (der: Uint8Array) => {
      const bytes = Buffer.from(der)
      const at = bytes.indexOf(usage) + usage.length
      // digitalSignature becomes keyCertSign.
      Buffer.from('03020204', 'hex').copy(bytes, at)
      return bytes
    }
    expect(Buffer.from(x509().chain[0]).includes(usage)).toBe(true)
    expect(() => x509({}, with509(bent({ answer })))).toThrow(coded('CS_ISSUE_CHECK_FAILED'))
    expect(real.issuer.keyUsage).toBe(keyUsages.keyCertSign | keyUsages.cRLSign)
  })

  test('is caught with a leaf of another shape', () => {
    const encipherment = { ...key, kind: 'rsa' } as typeof key
    const template = (asked: SvidTemplate) => ({ ...asked, key: encipherment })
    expect(() => x509({}, with509(bent({ template })))).toThrow(coded('CS_ISSUE_CHECK_FAILED'))
  })

  test('is caught with a leaf in the name of another issuer', async () => {
    const other = await sentryCa()
    const foreign = other.authorities.x509Signer()
    const signer: X509Signer = {
      issuer: ca.authorities.x509Signer().issuer,
      sign: (template) => foreign.sign(template),
    }
    expect(() => x509({}, with509(signer))).toThrow(coded('CS_ISSUE_CHECK_FAILED'))
  })

  test.each<[string, (token: string) => string]>([
    ['other claims', (token) => withClaims(token, { sub: 'spiffe://prod.example/admin' })],
    ['one more claim', (token) => withClaims(token, { admin: true })],
    ['a later end', (token) => withClaims(token, { exp: 4_102_444_800 })],
    ['one more audience', (token) => withClaims(token, { aud: ['payments', 'ledger'] })],
    ['an audience that is no list', (token) => withClaims(token, { aud: 'payments' })],
    ['another header', (token) => withHeader(token, { typ: 'at+jwt' })],
    ['one more part', (token) => `${token}.x`],
    ['no token', () => ''],
    ['claims that are not JSON', (token) => token.replace(/\..*\./, '.e30x.')],
  ])('is caught with a token of %s', (_, bend) => {
    const real = ca.authorities.jwtSigner()
    const signer: JwtSigner = { ...real, sign: (template) => bend(real.sign(template)) }
    const bentPipeline = pipelineWith({
      authorities: { ...ca.authorities, jwtSigner: () => signer },
    })
    expect(() => jwt({}, bentPipeline)).toThrow(coded('CS_ISSUE_CHECK_FAILED'))
    expect(() => jwt({}, bentPipeline)).toThrow(SentryError)
  })
})

describe('time that passes while certificates are issued', () => {
  test('shows in each of them, whatever was seen before', async () => {
    const own = await sentryCa()
    const { trustDomain, authorities, clock } = own
    const moving = issuePipeline({ trustDomain, authorities, clock, random: systemRandom, audit })
    for (let step = 0; step < 50; step += 1) {
      for (const ttlSeconds of [60, 600]) {
        const { chain } = x509({ ttlSeconds }, moving)
        expect(parseCertificate(chain[0]).notAfter).toBe(
          wholeSecond(clock.now()) + ttlSeconds * 1000,
        )
      }
      await clock.advance(333)
    }
  })
})

describe('the sample of a template', () => {
  test('is a leaf like any other, but for one second of life', async () => {
    const { issuer } = ca.authorities.x509Signer()
    const template: SvidTemplate = {
      id,
      key,
      serialNumber: Uint8Array.of(1),
      notBefore: issuer.notBefore,
      notAfter: issuer.notBefore + 1000,
      dnsNames: [],
      ipAddresses: [],
      subject: subjectName({}),
    }
    const { privateKey } = ecKeys()
    const der = await buildSampleLeaf({
      template,
      issuer: { certificate: issuer, privateKey },
      shape: 'signing',
    })
    expect(parseCertificate(der)).toMatchObject({
      uriNames: [id],
      keyUsage: keyUsages.digitalSignature,
    })
  })
})

function wholeSecond(date: Date): number {
  return Math.floor(date.getTime() / 1000) * 1000
}

function withClaims(token: string, more: Readonly<Record<string, unknown>>): string {
  const [header, claims, signature] = token.split('.')
  const changed = { ...JSON.parse(Buffer.from(claims!, 'base64url').toString()), ...more }
  return `${header}.${Buffer.from(JSON.stringify(changed)).toString('base64url')}.${signature}`
}

function withHeader(token: string, more: Readonly<Record<string, unknown>>): string {
  const [header, ...rest] = token.split('.')
  const changed = { ...JSON.parse(Buffer.from(header!, 'base64url').toString()), ...more }
  return [Buffer.from(JSON.stringify(changed)).toString('base64url'), ...rest].join('.')
}

function withOneMorePart(der: Uint8Array): Uint8Array {
  return sequence(...sequenceItems(readElement(der)).map(bytesOf), nullValue())
}
