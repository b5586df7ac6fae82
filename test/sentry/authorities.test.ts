import { execFileSync } from 'node:child_process'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { systemRandom } from '../../platform/random.js'
import { openSealer, sealedFile } from '../../platform/sealer.js'
import { openAuthorities } from '../../sentry/authorities/authorities.js'
import { makeProvenKey } from '../../sentry/csr.js'
import type { SentryError } from '../../sentry/errors.js'
import { issuePipeline } from '../../sentry/issue.js'
import {
  bundleSet,
  decodeJwt,
  keyUsages,
  parseCertificate,
  parseSpiffeId,
  parseTrustDomain,
  toPem,
  verifyJwtSvid,
  verifyX509Svid,
} from '../../spiffe/index.js'
import { memoryFile, recordedAudit, type SentryCa, sentryCa } from '../support/authorities.js'
import { fakeClock } from '../support/fake-clock.js'
import { tempFolder } from '../support/temp-folder.js'
import { missing, openssl } from '../support/tools.js'

const SECOND = 1000
const HOUR = 3600 * SECOND
const DAY = 24 * HOUR
const trustDomain = parseTrustDomain('prod.example')
const id = parseSpiffeId('spiffe://prod.example/orders')
const { key } = makeProvenKey()

const coded = (code: string, message?: RegExp) =>
  expect.objectContaining({
    name: 'SentryError',
    code,
    ...(message && { message: expect.stringMatching(message) }),
  })

function issue({ authorities, clock }: SentryCa, ttlSeconds = 3600) {
  const pipeline = issuePipeline({
    trustDomain,
    authorities,
    clock,
    random: systemRandom,
    audit: recordedAudit(),
  })
  return {
    chain: pipeline.x509({ key, id, dnsNames: [], ttlSeconds, requester: 'local' }).chain,
    jwt: (audience = 'payments') =>
      pipeline.jwt({ id, audience: [audience], ttlSeconds, requester: 'local' }),
  }
}

/** Made once: a key for RS256 takes a tenth of a second and more. Nobody moves its clock. */
const firstStart = sentryCa()
const firstContent = firstStart.then(({ file }) => file.content!)

/** Authorities that were made at the time at which the fake clock starts. */
async function madeBefore(options: Parameters<typeof sentryCa>[0] = {}) {
  return sentryCa({ file: memoryFile(await firstContent), ...options })
}

describe('the first start', () => {
  test('makes a root, an issuer and a JWT key of each algorithm, and stores them before they are used', async () => {
    const ca = await firstStart
    const { root, issuer, jwt } = ca.authorities.status()
    const now = ca.clock.now().getTime()
    expect(ca.file.writes).toBe(1)
    expect(root).toMatchObject({ notBefore: now - 10 * SECOND, notAfter: now + 365 * DAY })
    expect(issuer).toMatchObject({ notBefore: now - 10 * SECOND, notAfter: now + 7 * DAY })
    expect(jwt.map(({ algorithm, phase }) => [algorithm, phase])).toEqual([
      ['ES256', 'active'],
      ['RS256', 'active'],
    ])
  })

  test('makes CA certificates as the standard wants them (ID-31 to ID-34, X509-9 to X509-12, X509-17, X509-22 to X509-25, X509-52, OPEN-4)', async () => {
    const { authorities } = await firstStart
    const root = parseCertificate(authorities.bundleKeys().x509[0]!)
    const { issuer } = authorities.x509Signer()
    for (const certificate of [root, issuer]) {
      expect(certificate.uriNames).toEqual(['spiffe://prod.example'])
      expect(certificate.basicConstraints?.ca).toBe(true)
      expect(certificate.keyUsage).toBe(keyUsages.keyCertSign | keyUsages.cRLSign)
      expect(certificate.criticalExtensions.toSorted()).toEqual(['2.5.29.15', '2.5.29.19'])
      expect(certificate.extendedKeyUsage).toBeUndefined()
      expect(Buffer.from(certificate.subject).includes(certificate.serialNumber)).toBe(true)
    }
    expect(issuer.basicConstraints?.pathLength).toBe(0)
    expect(root.issuer).toEqual(root.subject)
    expect(root.authorityKeyId).toBeUndefined()
    expect(issuer.issuer).toEqual(root.subject)
    expect(issuer.authorityKeyId).toBe(root.subjectKeyId)
  })

  test('gives two sentries different names and keys', async () => {
    const [one, other] = [await firstStart, await sentryCa()].map(({ authorities }) => {
      const certificate = parseCertificate(authorities.bundleKeys().x509[0]!)
      return {
        subject: Buffer.from(certificate.subject).toString('hex'),
        keyId: certificate.subjectKeyId,
      }
    })
    expect(one?.subject).not.toBe(other?.subject)
    expect(one?.keyId).not.toBe(other?.keyId)
  })

  test('uses nothing that it could not store', async () => {
    const file = memoryFile()
    file.failure = new Error('disk is full')
    await expect(sentryCa({ file })).rejects.toThrow('disk is full')
    expect(file.content).toBeUndefined()
  })

  test('is no first start when the trust domain is not new: a lost file is not replaced by a new CA', async () => {
    const file = memoryFile()
    await expect(sentryCa({ file, mustExist: true })).rejects.toThrow(
      coded('CS_AUTHORITY_FILE_INVALID', /missing/),
    )
    expect(file.writes).toBe(0)
  })

  test('records every authority that it makes', async () => {
    const { audit } = await firstStart
    expect(
      audit.events.map(({ type, details }) => [type, details?.authority, details?.phase]),
    ).toEqual([
      ['ca.rotation.phase.v1', 'root', 'created'],
      ['ca.rotation.phase.v1', 'issuer', 'created'],
      ['ca.rotation.phase.v1', 'jwt', 'created'],
      ['ca.rotation.phase.v1', 'jwt', 'created'],
    ])
  })

  test.skipIf(missing('authorities in OpenSSL', openssl))(
    'makes an issuer that openssl verify -x509_strict accepts under its root',
    async () => {
      await using dir = await tempFolder()
      const { authorities, clock } = await firstStart
      await writeFile(dir.file('root.pem'), toPem('CERTIFICATE', authorities.bundleKeys().x509[0]!))
      await writeFile(
        dir.file('issuer.pem'),
        toPem('CERTIFICATE', authorities.x509Signer().issuer.der),
      )
      const at = String(Math.floor(clock.now().getTime() / SECOND))
      const options = ['-x509_strict', '-attime', at, '-CAfile', dir.file('root.pem')]
      expect(
        execFileSync('openssl', ['verify', ...options, dir.file('issuer.pem')]).toString(),
      ).toContain(': OK')
    },
  )
})

describe('a later start', () => {
  test('finds the same keys, and writes nothing', async () => {
    const first = await madeBefore()
    const again = await sentryCa({ file: first.file, clock: first.clock, mustExist: true })
    expect(again.authorities.status()).toEqual(first.authorities.status())
    expect(again.authorities.bundleKeys()).toEqual(first.authorities.bundleKeys())
    expect(first.file.writes).toBe(0)
    expect(again.audit.events).toEqual([])
  })

  test('issues what holders of the old bundle accept', async () => {
    const first = await madeBefore()
    const again = await sentryCa({ file: first.file, clock: first.clock })
    const bundles = bundleSet([first.authorities.bundle()])
    const now = first.clock.now()
    const { chain, jwt } = issue(again)
    expect(verifyX509Svid({ chain, bundles, now }).id).toBe(id)
    expect(verifyJwtSvid({ token: jwt().token, bundles, audience: 'payments', now }).id).toBe(id)
  })

  test('keeps no key in clear on disk', async () => {
    await using dir = await tempFolder()
    const { path, open } = await onDisk(dir)
    await open()
    const content = await readFile(path)
    for (const mark of ['PRIVATE', 'prod.example', 'privateKey', 'MIGH', 'version']) {
      expect(content.includes(mark)).toBe(false)
    }
    expect((await readdir(dir.path)).toSorted()).toEqual(['authorities.sealed'])
  })

  test.each([
    ['one bit is another', (content: Buffer) => flip(content, content.length - 40)],
    ['the format mark is another', (content: Buffer) => flip(content, 0)],
    ['it is cut short', (content: Buffer) => content.subarray(0, content.length - 1)],
    ['it is empty', () => Buffer.alloc(0)],
    ['it is of another kind', () => Buffer.from('{}')],
  ])('refuses a sealed file when %s, and leaves it as it is', async (_, damage) => {
    await using dir = await tempFolder()
    const { path, open } = await onDisk(dir)
    await open()
    const damaged = Buffer.from(damage(await readFile(path)))
    await writeFile(path, damaged)
    await expect(open()).rejects.toMatchObject({ code: 'CS_SEAL_BROKEN' })
    expect(await readFile(path)).toEqual(damaged)
  })

  test('refuses the wrong seal key, and leaves the file as it is', async () => {
    await using dir = await tempFolder()
    const { path, open } = await onDisk(dir)
    await open()
    const before = await readFile(path)
    await expect(open(Buffer.alloc(32, 9))).rejects.toMatchObject({ code: 'CS_SEAL_BROKEN' })
    expect(await readFile(path)).toEqual(before)
  })

  test('refuses the authorities of another trust domain', async () => {
    const { file } = await madeBefore()
    const writes = file.writes
    const other = parseTrustDomain('other.example')
    await expect(sentryCa({ file, trustDomain: other })).rejects.toThrow(
      coded('CS_AUTHORITY_FILE_INVALID', /other\.example/),
    )
    expect(file.writes).toBe(writes)
  })

  const state = firstContent.then((content) => JSON.parse(Buffer.from(content).toString()))
  const strange = sentryCa().then(({ file }) => JSON.parse(Buffer.from(file.content!).toString()))
  interface State {
    readonly root: object & { readonly privateKey: string }
    readonly issuer: object & { readonly privateKey: string }
    readonly jwtKeys: readonly { readonly privateKey: string }[]
  }
  test.each<[string, (own: State, other: State) => unknown]>([
    ['no JSON', () => undefined],
    ['a list', () => []],
    ['another version', (own) => ({ ...own, version: 2 })],
    ['no root', (own) => ({ ...own, root: undefined })],
    ['no issuer', (own) => ({ ...own, issuer: null })],
    ['no JWT keys', (own) => ({ ...own, jwtKeys: 'none' })],
    [
      'the key of another root',
      (own, other) => ({ ...own, root: { ...own.root, privateKey: other.root.privateKey } }),
    ],
    [
      'the key of another issuer',
      (own, other) => ({ ...own, issuer: { ...own.issuer, privateKey: other.issuer.privateKey } }),
    ],
    ['a key that is none', (own) => ({ ...own, root: { ...own.root, privateKey: 'AAAA' } })],
    [
      'a certificate that is none',
      (own) => ({ ...own, issuer: { ...own.issuer, certificate: 'AAAA' } }),
    ],
    [
      'a JWT key under the wrong algorithm',
      (own) => ({
        ...own,
        jwtKeys: own.jwtKeys.map((jwt) => ({ ...jwt, algorithm: 'RS256' })),
      }),
    ],
    [
      'a JWT key without its times',
      (own) => ({ ...own, jwtKeys: own.jwtKeys.map((jwt) => ({ ...jwt, expiresAt: '1' })) }),
    ],
    [
      'a JWT key of another pair',
      (own, other) => ({
        ...own,
        jwtKeys: own.jwtKeys.map((jwt, index) => ({
          ...jwt,
          privateKey: other.jwtKeys[index]!.privateKey,
        })),
      }),
    ],
  ])('refuses a state with %s, and says nothing of what is in it', async (_, change) => {
    const [own, other] = [await state, await strange]
    const text = JSON.stringify(change(own, other)) ?? 'no JSON'
    const file = memoryFile(Buffer.from(text))
    const error = await sentryCa({ file }).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'CS_AUTHORITY_FILE_INVALID' })
    expect((error as SentryError).cause).toBeUndefined()
    expect(file.writes).toBe(0)
  })

  test('refuses an issuer that its root did not sign', async () => {
    const [own, other] = [await state, await strange]
    const file = memoryFile(Buffer.from(JSON.stringify({ ...own, issuer: other.issuer })))
    await expect(sentryCa({ file })).rejects.toThrow(coded('CS_ISSUE_CHECK_FAILED'))
    expect(file.writes).toBe(0)
  })
})

describe('the issuer', () => {
  test('stays for half of its life, and is then replaced without a word to anybody', async () => {
    const ca = await madeBefore()
    const { authorities, clock } = ca
    const before = { keys: authorities.bundleKeys(), keyId: authorities.status().issuer.keyId }
    await clock.advance(3.5 * DAY - 10 * SECOND)
    expect(await authorities.rotateIfDue()).toBe(false)
    await clock.advance(10 * SECOND)
    expect(await authorities.rotateIfDue()).toBe(true)
    const { issuer } = authorities.status()
    expect(issuer.keyId).not.toBe(before.keyId)
    expect(issuer.notAfter).toBe(clock.now().getTime() + 7 * DAY)
    expect(authorities.bundleKeys()).toEqual(before.keys)
    expect(await authorities.rotateIfDue()).toBe(false)
  })

  test('of before and of after are both accepted by whoever holds the root', async () => {
    const ca = await madeBefore()
    const bundles = bundleSet([ca.authorities.bundle()])
    const old = issue(ca, 86_400).chain
    await ca.clock.advance(3.9 * DAY)
    expect(() => verifyX509Svid({ chain: old, bundles, now: ca.clock.now() })).toThrow()
    const last = issue(ca, 86_400).chain
    await ca.authorities.rotateIfDue()
    const now = ca.clock.now()
    for (const chain of [last, issue(ca, 86_400).chain]) {
      expect(verifyX509Svid({ chain, bundles, now }).id).toBe(id)
    }
  })

  test('is replaced as soon as it has no room for a leaf as long as promised', async () => {
    const first = await madeBefore({ longestX509Svid: 3600 })
    const { file, clock } = first
    await clock.advance(2 * DAY)
    const again = await sentryCa({
      file,
      clock,
      issuerTtl: 20 * 86_400,
      longestX509Svid: 6 * 86_400,
    })
    expect(again.authorities.status().issuer.notAfter).toBe(clock.now().getTime() + 20 * DAY)
    expect(again.authorities.bundleKeys()).toEqual(first.authorities.bundleKeys())
  })

  test('never ends after its root, and is then no longer replaced', async () => {
    const ca = await sentryCa({ rootTtl: 20 * 86_400 })
    const rootEnds = ca.authorities.status().root.notAfter
    let replaced = 0
    for (let day = 0; day < 19.5; day += 0.5) {
      await ca.clock.advance(0.5 * DAY)
      if (await ca.authorities.rotateIfDue()) replaced += 1
      expect(ca.authorities.status().issuer.notAfter).toBeLessThanOrEqual(rootEnds)
      const [leaf] = issue(ca, 86_400).chain
      expect(parseCertificate(leaf).notAfter).toBeLessThanOrEqual(rootEnds)
    }
    expect(ca.authorities.status().issuer.notAfter).toBe(rootEnds)
    expect(replaced).toBeLessThan(8)
  })

  test('that ran out while the sentry was off is replaced at the start', async () => {
    const first = await madeBefore()
    await first.clock.advance(30 * DAY)
    const again = await sentryCa({ file: first.file, clock: first.clock })
    const now = first.clock.now()
    const bundles = bundleSet([first.authorities.bundle()])
    expect(verifyX509Svid({ chain: issue(again).chain, bundles, now }).id).toBe(id)
    expect(again.authorities.bundleKeys()).toEqual(first.authorities.bundleKeys())
  })

  test('stays when its successor cannot be stored, and is replaced later', async () => {
    const ca = await madeBefore()
    const before = ca.authorities.status()
    const stored = ca.file.content
    await ca.clock.advance(4 * DAY)
    ca.file.failure = new Error('disk is full')
    await expect(ca.authorities.rotateIfDue()).rejects.toThrow('disk is full')
    expect(ca.authorities.status().issuer).toEqual(before.issuer)
    expect(ca.file.content).toBe(stored)
    ca.file.failure = undefined
    expect(await ca.authorities.rotateIfDue()).toBe(true)
    expect(ca.authorities.status().issuer).not.toEqual(before.issuer)
  })

  test('is replaced once when it is asked for several times at once', async () => {
    const ca = await madeBefore()
    await ca.clock.advance(4 * DAY)
    const answers = await Promise.all([1, 2, 3].map(() => ca.authorities.rotateIfDue()))
    expect(answers).toEqual([true, true, true])
    expect(ca.file.writes).toBe(1)
  })

  test('leaves a record when it comes and goes', async () => {
    const ca = await madeBefore()
    ca.audit.events.length = 0
    await ca.clock.advance(4 * DAY)
    await ca.authorities.rotateIfDue()
    expect(ca.audit.events.map(({ details }) => [details?.authority, details?.phase])).toEqual([
      ['issuer', 'created'],
      ['issuer', 'removed'],
    ])
  })
})

describe('a JWT key', () => {
  const WEEK = 7 * 86_400
  const week = { jwtTtl: WEEK, longestJwtSvid: 3600 }
  const weekContent = sentryCa(week).then(({ file }) => file.content!)
  const weekly = async () => sentryCa({ ...week, file: memoryFile(await weekContent) })

  test('is published well before it signs, and stays until its last token has expired (FED-3, FED-4, FED-5)', async () => {
    const ca = await weekly()
    const { authorities, clock } = ca
    const [old] = published(ca)
    expect(published(ca)).toHaveLength(1)

    await clock.advance(3.6 * DAY)
    expect(await authorities.rotateIfDue()).toBe(true)
    const [, next] = published(ca)
    expect(published(ca)).toEqual([old, next])
    expect(issue(ca).jwt().keyId).toBe(old)

    await clock.advance(1500 * SECOND - 1)
    const last = issue(ca).jwt()
    expect(last.keyId).toBe(old)
    await clock.advance(1)
    expect(issue(ca).jwt().keyId).toBe(next)

    await authorities.rotateIfDue()
    expect(published(ca)).toEqual([old, next])
    await clock.advance(HOUR - 1)
    expect(verifies(ca, last.token)).toBe(true)
    expect(await authorities.rotateIfDue()).toBe(false)
    expect(published(ca)).toEqual([old, next])
    await clock.advance(1)
    expect(await authorities.rotateIfDue()).toBe(true)
    expect(published(ca)).toEqual([next])
  })

  test('loses its private half as soon as its successor signs', async () => {
    const ca = await weekly()
    const privates = () =>
      JSON.parse(Buffer.from(ca.file.content!).toString()).jwtKeys.filter(
        (held: { privateKey?: string }) => held.privateKey !== undefined,
      ).length
    await ca.clock.advance(3.6 * DAY)
    await ca.authorities.rotateIfDue()
    expect(privates()).toBe(4)
    await ca.clock.advance(1500 * SECOND)
    await ca.authorities.rotateIfDue()
    expect(privates()).toBe(2)
    expect(ca.authorities.status().jwt.map(({ phase }) => phase)).toEqual([
      'retired',
      'retired',
      'active',
      'active',
    ])
  })

  test('signs all the time, and nothing that does not verify, over many rotations', async () => {
    const ca = await weekly()
    const tokens: { readonly token: string; readonly expiresAt: number }[] = []
    for (let step = 0; step < 24; step += 1) {
      await ca.clock.advance(18 * HOUR + 7 * SECOND)
      await ca.authorities.rotateIfDue()
      const now = ca.clock.now().getTime()
      tokens.push(issue(ca).jwt(), issue(ca).jwt('sts.amazonaws.com'))
      for (const { token } of tokens.filter(({ expiresAt }) => expiresAt > now)) {
        expect(verifies(ca, token)).toBe(true)
      }
      expect(ca.authorities.bundleKeys().jwt.length).toBeLessThanOrEqual(4)
    }
    expect(new Set(tokens.map(({ token }) => decodeJwt(token).header.kid)).size).toBeGreaterThan(6)
  })

  test('no token outlives its key', async () => {
    const ca = await weekly()
    await ca.clock.advance(7 * DAY - 60 * SECOND)
    expect(issue(ca).jwt().expiresAt).toBe(ca.clock.now().getTime() + 60 * SECOND)
  })

  test('that ran out while the sentry was off is replaced at the start, and the new one signs at once', async () => {
    const first = await weekly()
    await first.clock.advance(8 * DAY)
    const again = await sentryCa({ ...week, file: first.file, clock: first.clock })
    expect(verifies(again, issue(again).jwt().token)).toBe(true)
    expect(published(again)).toHaveLength(1)
  })

  test('has an id that no other has', async () => {
    const ca = await weekly()
    await ca.clock.advance(4 * DAY)
    await ca.authorities.rotateIfDue()
    const ids = ca.authorities.bundleKeys().jwt.map(({ keyId }) => keyId)
    expect(new Set(ids).size).toBe(4)
    expect(ids.every((keyId) => /^[0-9a-f]{32}$/.test(keyId))).toBe(true)
  })
})

describe('a clock', () => {
  test.each([
    ['an hour back', -HOUR, 'not valid before', 3590],
    ['a year and an hour ahead', 365 * DAY + HOUR, 'expired', 3600],
  ])(
    'that is %s at the start is a refusal with the difference, and nothing is written',
    async (_, off, what, seconds) => {
      const { file, clock } = await madeBefore()
      const wrong = fakeClock(new Date(clock.now().getTime() + off))
      const refusal = coded(
        'CS_AUTHORITY_NOT_VALID',
        new RegExp(`root authority.*${what}.* ${seconds} s `),
      )
      await expect(sentryCa({ file, clock: wrong })).rejects.toThrow(refusal)
      expect(file.writes).toBe(0)
    },
  )

  test('that is set an hour back stops the signing, until it is right again', async () => {
    const ca = await madeBefore()
    const right = ca.clock.now()
    ca.clock.setWallClock(new Date(right.getTime() - HOUR))
    expect(() => issue(ca)).toThrow(
      coded('CS_AUTHORITY_NOT_VALID', /issuer authority.* 3590 s from now/),
    )
    expect(() => ca.authorities.jwtSigner()).toThrow(coded('CS_AUTHORITY_NOT_VALID', /ES256/))
    await expect(ca.authorities.rotateIfDue()).rejects.toThrow(
      coded('CS_AUTHORITY_NOT_VALID', /root/),
    )
    ca.clock.setWallClock(right)
    expect(verifies(ca, issue(ca).jwt().token)).toBe(true)
  })

  test('that is set an hour back when the authorities are older than that changes nothing', async () => {
    const ca = await madeBefore()
    await ca.clock.advance(DAY)
    ca.clock.setWallClock(new Date(ca.clock.now().getTime() - HOUR))
    const bundles = bundleSet([ca.authorities.bundle()])
    expect(verifyX509Svid({ chain: issue(ca).chain, bundles, now: ca.clock.now() }).id).toBe(id)
  })

  test('that is past the issuer stops the signing with the difference, and the next look replaces the issuer', async () => {
    const ca = await madeBefore()
    ca.clock.setWallClock(new Date(ca.clock.now().getTime() + 7 * DAY + HOUR))
    expect(() => issue(ca)).toThrow(coded('CS_AUTHORITY_NOT_VALID', /expired.* 3600 s ago/))
    await ca.authorities.rotateIfDue()
    expect(() => issue(ca)).not.toThrow()
  })

  test('that was ahead when the issuer was made does not leave the sentry without one', async () => {
    const ca = await madeBefore()
    const right = ca.clock.now()
    ca.clock.setWallClock(new Date(right.getTime() + 10 * DAY))
    await ca.authorities.rotateIfDue()
    ca.clock.setWallClock(right)
    expect(() => issue(ca)).toThrow(coded('CS_AUTHORITY_NOT_VALID'))
    expect(await ca.authorities.rotateIfDue()).toBe(true)
    expect(() => issue(ca)).not.toThrow()
  })
})

describe('lifetimes that cannot hold are refused with the number that would', () => {
  test.each([
    [
      'an issuer of more than half its root',
      { rootTtl: 1000, issuerTtl: 501 },
      /issuer .* 1 to 500 s/,
    ],
    [
      'an X509-SVID of more than half its issuer',
      { issuerTtl: 7200, longestX509Svid: 3601 },
      /X509-SVID .* 1 to 3600 s/,
    ],
    [
      'a JWT-SVID of more than a quarter of its key',
      { jwtTtl: 4000, longestJwtSvid: 1001 },
      /JWT-SVID .* 1 to 1000 s/,
    ],
    ['a lifetime of nothing', { longestX509Svid: 0 }, /X509-SVID/],
    ['a lifetime of half a second', { longestJwtSvid: 0.5 }, /JWT-SVID/],
    ['an issuer of nothing', { issuerTtl: 0 }, /issuer/],
  ])('%s', async (_, lifetimes, message) => {
    const file = memoryFile()
    await expect(sentryCa({ ...lifetimes, file })).rejects.toThrow(
      coded('CS_TTL_TOO_LONG', message),
    )
    expect(file.writes).toBe(0)
  })

  test('and those that just do are not', async () => {
    const { authorities } = await sentryCa({
      rootTtl: 1000,
      issuerTtl: 500,
      longestX509Svid: 250,
      jwtTtl: 400,
      longestJwtSvid: 100,
    })
    expect(authorities.lifetimes).toMatchObject({
      longestX509Svid: 250,
      longestJwtSvid: 100,
      jwtPublishAhead: 100,
    })
  })
})

function published({ authorities }: SentryCa): string[] {
  const ES256_INFO = 91
  return authorities
    .bundleKeys()
    .jwt.filter(({ publicKeyInfo }) => publicKeyInfo.length === ES256_INFO)
    .map(({ keyId }) => keyId)
}

function verifies({ authorities, clock }: SentryCa, token: string): boolean {
  const { aud } = decodeJwt(token).claims as { aud: string[] }
  const bundles = bundleSet([authorities.bundle()])
  return verifyJwtSvid({ token, bundles, audience: aud, now: clock.now() }).id === id
}

/** The authorities that were made before, in a real sealed file. */
async function onDisk(dir: { readonly path: string; file(name: string): string }) {
  const path = dir.file('authorities.sealed')
  const clock = fakeClock()
  const fileUnder = async (bytes: Uint8Array) => {
    const sealer = await openSealer({ kind: 'key', bytes })
    return sealedFile({ path, sealer, context: 'authorities' })
  }
  const rightKey = Buffer.alloc(32, 7)
  await (await fileUnder(rightKey)).write(await firstContent)
  return {
    path,
    async open(bytes: Uint8Array = rightKey) {
      const file = await fileUnder(bytes)
      return openAuthorities({ trustDomain, file, clock, random: systemRandom })
    },
  }
}

function flip(content: Buffer, at: number): Buffer {
  const changed = Buffer.from(content)
  changed[at]! ^= 1
  return changed
}
