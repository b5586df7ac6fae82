import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { chmod, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BundleService } from '../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import { Bundle } from '../../proto/gen/spire/api/types/types.js'
import { oid, sequence, setOf, tlv } from '../../spiffe/asn1/index.js'
import { jwtKeySetOf, toPem, writeBundleDocument, type X509Svid } from '../../spiffe/index.js'
import { signJwt, testAuthority } from '../support/authority.js'
import { makeCertificate } from '../support/certificate.js'
import { fakeWorkloadApi } from '../support/fake-workload-api.js'
import { cliRun } from '../support/run-cli.js'
import { type TempFolder, tempFolder } from '../support/temp-folder.js'

const now = new Date('2026-11-20T12:00:00Z')
const authority = testAuthority('a.example', { now })
const other = testAuthority('b.example', { now })
const web = authority.issueX509({ id: '/web', dnsNames: ['web.a.example'], ttlMs: 42 * 60_000 })
const api = authority.issueX509({ id: '/api' })

const chainPem = ({ chain }: Pick<X509Svid, 'chain'>) =>
  chain.map(({ der }) => toPem('CERTIFICATE', der)).join('')
const keyPem = ({ privateKey }: X509Svid) =>
  privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()

let dir: TempFolder
beforeEach(async () => {
  dir = await tempFolder()
})
afterEach(() => dir[Symbol.asyncDispose]())

async function file(name: string, content: string | Uint8Array, mode = 0o600): Promise<string> {
  await writeFile(dir.file(name), content)
  await chmod(dir.file(name), mode)
  return dir.file(name)
}

const inspect = (args: readonly string[], options: Parameters<typeof cliRun>[1] = {}) =>
  cliRun(['inspect', ...args], { now: () => now, ...options })
const inspectText = (stdin: string | Uint8Array, ...args: string[]) =>
  inspect(['-', ...args], { stdin })

/** The one item of a JSON answer. */
async function itemOf(stdin: string | Uint8Array, ...args: string[]) {
  const { exit, stdout } = await inspectText(stdin, '-o', 'json', ...args)
  const answer = JSON.parse(stdout)
  expect(answer.schema).toBe('countersign/inspection/v1')
  expect(answer.items).toHaveLength(1)
  return { exit, item: answer.items[0] }
}

describe('certificates', () => {
  test.each([
    ['PEM', chainPem(web)],
    ['DER', Buffer.concat(web.chain.map(({ der }) => der))],
  ])('in %s: the chain with what time it has left', async (encoding, bytes) => {
    const { exit, stdout, stderr } = await inspectText(bytes)
    expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' })
    expect(stdout).toContain(`X.509 2 certificates (${encoding})`)
    expect(stdout).toMatch(/SPIFFE ID:\s+spiffe:\/\/a\.example\/web/)
    expect(stdout).toMatch(/expires:\s+in 42 min \(2026-11-20T12:42:00\.000Z\)/)
    expect(stdout).toMatch(/DNS names:\s+web\.a\.example/)
    expect(stdout).toMatch(/key:\s+EC P-256/)
    expect(stdout).toMatch(/signed with:\s+ECDSA-SHA256/)
    expect(stdout).toMatch(/role:\s+intermediate authority/)
    expect(stdout).toContain(web.chain[0].fingerprint)
  })

  test('as JSON', async () => {
    const { exit, item } = await itemOf(chainPem(web))
    expect(exit).toBe(0)
    expect(item).toMatchObject({
      source: 'standard input',
      kind: 'x509',
      encoding: 'PEM',
      findings: [],
      certificates: [
        {
          role: 'leaf',
          uris: ['spiffe://a.example/web'],
          dns_names: ['web.a.example'],
          not_after: '2026-11-20T12:42:00.000Z',
          key: 'EC P-256',
          sha256: web.chain[0].fingerprint,
        },
        { role: 'intermediate authority', uris: ['spiffe://a.example'] },
      ],
    })
  })

  test.each([
    [
      'an expired leaf',
      () =>
        chainPem(
          authority.issueX509({ id: '/web', notBefore: new Date(0), notAfter: new Date(1000) }),
        ),
      'CS_SVID_EXPIRED',
    ],
    [
      'a leaf of tomorrow',
      () =>
        chainPem(
          authority.issueX509({
            id: '/web',
            notBefore: new Date('2026-11-21T00:00:00Z'),
            notAfter: new Date('2026-11-22T00:00:00Z'),
          }),
        ),
      'CS_SVID_EXPIRED',
    ],
    [
      'a chain whose second certificate did not issue the first',
      () =>
        chainPem(web).replace(
          chainPem({ chain: [web.chain[1] ?? web.chain[0]] }),
          toPem('CERTIFICATE', other.issuer.certificate.der),
        ),
      'CS_PEER_CHAIN_INVALID',
    ],
  ])('%s is an error, and the exit code says so', async (_, make, code) => {
    const { exit, item } = await itemOf(make())
    expect(exit).toBe(3)
    expect(item.findings).toMatchObject([{ severity: 'error', code }])
  })

  test('a root with few days left is a warning, which fails with --strict only', async () => {
    const soon = testAuthority('a.example', { now: new Date('2026-01-20T12:00:00Z') })
    const pem = toPem('CERTIFICATE', soon.root.certificate.der)
    const { exit, stdout } = await inspectText(pem)
    expect(exit).toBe(0)
    expect(stdout).not.toContain('warning:')
    const strict = await inspectText(pem, '--strict')
    expect(strict.exit).toBe(0)

    const later = { now: () => new Date('2026-12-20T12:00:00Z') }
    const near = await inspect(['-'], { stdin: pem, ...later })
    expect(near).toMatchObject({ exit: 0 })
    expect(near.stdout).toMatch(/warning: authority of spiffe:\/\/a\.example expires in 31 d/)
    expect(await inspect(['-', '--strict'], { stdin: pem, ...later })).toMatchObject({ exit: 4 })
  })

  test('shows the rest of a certificate whose name cannot be read', async () => {
    const { subject: _, ...issuer } = authority.issuer.issuer
    // Text in UTF-8 that is none.
    const subject = sequence(setOf(sequence(oid('2.5.4.3'), tlv(0x0c, Uint8Array.of(0xff)))))
    const times = { notBefore: now.getTime(), notAfter: now.getTime() + 1000 }
    const { publicKeyInfo } = issuer
    const der = makeCertificate({
      subject,
      publicKeyInfo,
      issuer: { ...issuer, subject },
      ...times,
    })
    const { stdout, stderr } = await inspectText(toPem('CERTIFICATE', der))
    expect(stdout).toMatch(/issuer:\s+not readable/)
    expect(stderr).not.toContain('CS_INTERNAL')
  })

  test('--bundle verifies the chain against a bundle in JSON or PEM', async () => {
    const document = await file('bundle.json', writeBundleDocument(authority.bundle))
    const roots = await file('bundle.pem', toPem('CERTIFICATE', authority.root.certificate.der))
    const stranger = await file('other.json', writeBundleDocument(other.bundle))
    expect((await itemOf(chainPem(web), '--bundle', document)).item.findings).toEqual([])
    expect((await itemOf(chainPem(web), '--bundle', roots)).item.findings).toEqual([])
    const { exit, item } = await itemOf(chainPem(web), '--bundle', stranger)
    expect(exit).toBe(3)
    expect(item.findings).toMatchObject([{ code: 'CS_PEER_CHAIN_INVALID' }])
  })
})

describe('keys', () => {
  test('says of what kind a key is and that it belongs to the certificate beside it', async () => {
    const { exit, stdout } = await inspectText(chainPem(web) + keyPem(web))
    expect(exit).toBe(0)
    expect(stdout).toMatch(/form:\s+PKCS#8/)
    expect(stdout).toMatch(/key:\s+EC P-256/)
    expect(stdout).toMatch(/belongs to:\s+spiffe:\/\/a\.example\/web/)
  })

  test('survives a key on whose details Node gives up', async () => {
    const der = web.privateKey.export({ type: 'pkcs8', format: 'der' })
    // The length of the private part: it then holds more octets than its curve.
    der[35] = 102
    const { exit, stdout, stderr } = await inspect(['-'], { stdin: der })
    expect([0, 2]).toContain(exit)
    expect(stdout + stderr).not.toContain('CS_INTERNAL')
  })

  test('tells several keys in one file apart', async () => {
    const { stdout } = await inspectText(keyPem(web) + keyPem(api), '-o', 'json')
    const { items } = JSON.parse(stdout) as { items: { public_key_sha256: string }[] }
    expect(new Set(items.map((item) => item.public_key_sha256)).size).toBe(2)
  })

  test('never prints it, in no form', async () => {
    const jwk = web.privateKey.export({ format: 'jwk' })
    const secrets = [
      String(jwk.d),
      Buffer.from(String(jwk.d), 'base64url').toString('hex'),
      keyPem(web).split('\n')[2] ?? '?',
    ]
    for (const format of ['table', 'json']) {
      const { stdout, stderr } = await inspectText(keyPem(web), '-o', format)
      for (const secret of secrets) expect(stdout + stderr).not.toContain(secret)
      expect(stdout).not.toContain('PRIVATE KEY')
    }
  })

  test('in another file than the certificate, in any order', async () => {
    const [svid, key] = [await file('svid.pem', chainPem(web)), await file('svid.key', keyPem(web))]
    for (const files of [
      [svid, key],
      [key, svid],
    ]) {
      const { exit, stdout } = await inspect([...files, '-o', 'json'])
      expect(exit).toBe(0)
      const items: { kind: string; matches?: boolean }[] = JSON.parse(stdout).items
      expect(items.find(({ kind }) => kind === 'key')?.matches).toBe(true)
    }
  })

  test('a key that belongs to none of the certificates is an error', async () => {
    const { exit, stdout } = await inspectText(chainPem(web) + keyPem(api))
    expect(exit).toBe(3)
    expect(stdout).toContain('key belongs to none of the certificates (CS_X509_SVID_INVALID)')
  })

  test('a file that others may open is a warning', async () => {
    const path = await file('svid.key', keyPem(web), 0o644)
    const { exit, stdout } = await inspect([path])
    expect(exit).toBe(0)
    expect(stdout).toContain('others may open the file of the key (mode 0644)')
    expect(await inspect([path, '--strict'])).toMatchObject({ exit: 4 })
  })

  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const ed = generateKeyPairSync('ed25519')
  test.each([
    [
      'PKCS#8 in DER',
      web.privateKey.export({ type: 'pkcs8', format: 'der' }),
      'PKCS#8',
      'EC P-256',
    ],
    ['SEC1', web.privateKey.export({ type: 'sec1', format: 'pem' }), 'SEC1', 'EC P-256'],
    ['SEC1 in DER', web.privateKey.export({ type: 'sec1', format: 'der' }), 'SEC1', 'EC P-256'],
    ['PKCS#1', rsa.privateKey.export({ type: 'pkcs1', format: 'pem' }), 'PKCS#1', 'RSA 2048'],
    [
      'RSA in PKCS#8',
      rsa.privateKey.export({ type: 'pkcs8', format: 'pem' }),
      'PKCS#8',
      'RSA 2048',
    ],
    ['Ed25519', ed.privateKey.export({ type: 'pkcs8', format: 'pem' }), 'PKCS#8', 'Ed25519'],
    ['a public key', rsa.publicKey.export({ type: 'spki', format: 'pem' }), 'public', 'RSA 2048'],
    [
      'an encrypted one',
      rsa.privateKey.export({
        type: 'pkcs8',
        format: 'pem',
        cipher: 'aes-256-cbc',
        passphrase: 'x',
      }),
      'encrypted PKCS#8',
      null,
    ],
  ])('recognises %s', async (_, bytes, form, key) => {
    const { exit, item } = await itemOf(bytes)
    expect(exit).toBe(0)
    expect(item).toMatchObject({ kind: 'key', form, key, matches: null })
  })
})

describe('tokens', () => {
  const token = authority.issueJwt({ id: '/web', audience: 'ledger', claims: { role: 'clerk' } })

  test('shows header and claims with what time is left, and not the token', async () => {
    const { exit, stdout } = await inspectText(`${token}\n`)
    expect(exit).toBe(0)
    expect(stdout).toMatch(/alg:\s+ES256/)
    expect(stdout).toMatch(/sub:\s+spiffe:\/\/a\.example\/web/)
    expect(stdout).toMatch(/aud:\s+ledger/)
    expect(stdout).toMatch(/exp:\s+in 5 min \(2026-11-20T12:05:00\.000Z\)/)
    expect(stdout).toMatch(/role:\s+clerk/)
    expect(stdout).toMatch(/signature:\s+not verified/)
    expect(stdout).not.toContain(token.slice(-20))
  })

  test('--bundle verifies the signature', async () => {
    const own = await file('own.json', writeBundleDocument(authority.bundle))
    const stranger = await file(
      'other.json',
      writeBundleDocument(testAuthority('a.example', { now }).bundle),
    )
    expect((await itemOf(token, '--bundle', own)).item).toMatchObject({
      verified: true,
      findings: [],
    })
    const { exit, item } = await itemOf(token, '--bundle', stranger)
    expect(exit).toBe(3)
    expect(item).toMatchObject({ verified: false, findings: [{ code: 'CS_JWT_SVID_INVALID' }] })
  })

  const sign = (header: object, claims: object) =>
    signJwt({ header: { ...header, alg: 'ES256' }, claims, key: authority.jwtKey.privateKey })
  const claims = { sub: 'spiffe://a.example/web', aud: ['x'], exp: now.getTime() / 1000 + 60 }
  const unsigned = (header: object) =>
    [header, claims]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.') + '.AA'

  test.each([
    ['one that has expired', sign({}, { ...claims, exp: 1 }), 'CS_JWT_EXPIRED'],
    ['one of tomorrow', sign({}, { ...claims, nbf: claims.exp }), 'CS_JWT_EXPIRED'],
    ['one without a subject', sign({}, { ...claims, sub: undefined }), 'CS_JWT_SVID_INVALID'],
    [
      'one of somebody without a SPIFFE ID',
      sign({}, { ...claims, sub: 'bob' }),
      'CS_SPIFFE_ID_INVALID',
    ],
    ['one without an audience', sign({}, { ...claims, aud: undefined }), 'CS_JWT_SVID_INVALID'],
    ['one without an expiry', sign({}, { ...claims, exp: undefined }), 'CS_JWT_SVID_INVALID'],
    [
      'one with an algorithm that is not allowed',
      unsigned({ alg: 'HS256' }),
      'CS_JWT_ALG_NOT_ALLOWED',
    ],
  ])('%s is an error', async (_, jwt, code) => {
    const { exit, item } = await itemOf(jwt)
    expect(exit).toBe(3)
    expect(item.findings).toMatchObject([{ code }])
  })

  test('cannot make the terminal show what is not there', async () => {
    const jwt = sign(
      {},
      { ...claims, 'role\u001b[2J': 'clerk\u001b[31m\nsub: spiffe://a.example/admin\u202e' },
    )
    const { stdout } = await inspectText(jwt)
    expect(stdout).not.toContain('\u001b')
    expect(stdout).not.toContain('\u202e')
    expect(stdout.match(/^sub: /gm)).toHaveLength(1)
    expect(stdout).toContain('clerk\\u001b[31m\\u000asub: spiffe://a.example/admin\\u202e')
  })
})

describe('bundles', () => {
  test('shows the keys of a bundle document and whose it is', async () => {
    const { exit, stdout } = await inspectText(writeBundleDocument(authority.bundle))
    expect(exit).toBe(0)
    expect(stdout).toMatch(/trust domain:\s+a\.example/)
    expect(stdout).toMatch(/sequence:\s+1/)
    expect(stdout).toMatch(/refresh hint:\s+300 s/)
    expect(stdout).toMatch(/EC P-256\s+in 365 d/)
    expect(stdout).toContain(authority.jwtKey.keyId)
  })

  test('as JSON', async () => {
    expect((await itemOf(writeBundleDocument(authority.bundle))).item).toMatchObject({
      kind: 'bundle',
      trust_domain: 'a.example',
      sequence: '1',
      refresh_hint_seconds: 300,
      x509_authorities: [
        { role: 'root authority', sha256: authority.root.certificate.fingerprint },
      ],
      jwt_authorities: [{ key_id: authority.jwtKey.keyId, key: 'EC P-256' }],
    })
  })

  test('takes a plain JWK Set for the JWT keys that it holds', async () => {
    const { item } = await itemOf(jwtKeySetOf(authority.bundle))
    expect(item).toMatchObject({
      trust_domain: null,
      x509_authorities: [],
      jwt_authorities: [{ key_id: authority.jwtKey.keyId }],
    })
  })

  test('a bundle without a key revokes everything, which is worth an error', async () => {
    const { exit, item } = await itemOf('{"keys":[]}')
    expect(exit).toBe(3)
    expect(item.findings).toMatchObject([{ code: 'CS_BUNDLE_INVALID' }])
  })
})

describe('sockets', () => {
  test('says who listens, what it speaks and what it grants', async () => {
    await using endpoint = await fakeWorkloadApi({ authority, now: () => now })
    for (const target of [endpoint.address, endpoint.path]) {
      const { exit, stdout } = await inspect([target])
      expect(exit).toBe(0)
      expect(stdout).toMatch(/speaks:\s+the SPIFFE Workload API/)
      expect(stdout).toContain('spiffe://a.example/web')
      expect(stdout).toMatch(/file:\s+mode 0\d{3}, uid \d+/)
      expect(stdout).not.toContain('PRIVATE KEY')
    }
  })

  test.runIf(process.platform === 'linux')('names the process that listens', async () => {
    await using endpoint = await fakeWorkloadApi({ authority, now: () => now })
    const { stdout } = await inspect([endpoint.address, '-o', 'json'])
    expect(JSON.parse(stdout).items[0]).toMatchObject({
      kind: 'socket',
      speaks: 'spiffe workload api',
      listener: { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() },
      identity: { svids: [{ spiffe_id: 'spiffe://a.example/web' }] },
    })
  })

  test('a Workload API that grants nothing to this process', async () => {
    await using endpoint = await fakeWorkloadApi({ authority, identities: [], now: () => now })
    const { exit, stdout } = await inspect([endpoint.address])
    expect(exit).toBe(3)
    expect(stdout).toMatch(/speaks:\s+the SPIFFE Workload API, but no identity for this process/)
    expect(stdout).toContain('CS_NO_IDENTITY')
  })

  test('the socket of a sentry', async () => {
    const server = new Server()
    server.addService(BundleService, {
      getBundle: (_: unknown, done: (error: null, bundle: Bundle) => void) =>
        done(null, Bundle.fromPartial({ trustDomain: 'a.example' })),
    })
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${dir.file('s.sock')}`, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      )
    })
    const { exit, stdout } = await inspect([dir.file('s.sock')])
    expect(exit).toBe(0)
    expect(stdout).toMatch(/speaks:\s+the API of a SPIRE server or sentry of a\.example/)
    server.forceShutdown()
  })

  test('something else that listens', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined).end('HTTP/1.1 400 Bad Request\r\n\r\n')
    }).listen(dir.file('x.sock'))
    await once(server, 'listening')
    const { exit, stdout } = await inspect([dir.file('x.sock')])
    expect(exit).toBe(3)
    expect(stdout).toMatch(/speaks:\s+not known/)
    server.close()
  })

  test.each([
    ['an address where nothing listens', 'unix:///nonexistent/a.sock', 6, 'CS_SOCKET_MISSING'],
    ['an address that is none', 'unix://relative', 1, 'CS_SOCKET_INVALID'],
  ])('refuses %s', async (_, target, exit, code) => {
    const answer = await inspect([target])
    expect(answer).toMatchObject({ exit, stdout: '' })
    expect(answer.stderr).toContain(code)
  })
})

describe('what it cannot read', () => {
  test.each([
    ['nothing', '', 2, 'CS_USAGE'],
    ['words', 'hello', 2, 'CS_USAGE'],
    ['random bytes', Buffer.from([1, 2, 3, 0xff]), 2, 'CS_USAGE'],
    [
      'a sequence that is no certificate',
      Buffer.from([0x30, 0x03, 1, 2, 3]),
      1,
      'CS_CERTIFICATE_MALFORMED',
    ],
    ['a sequence without an end', Buffer.from([0x30, 0x82]), 1, 'CS_CERTIFICATE_MALFORMED'],
    [
      'PEM of another kind',
      '-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n',
      2,
      'CS_USAGE',
    ],
    [
      'a damaged certificate in PEM',
      '-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n',
      1,
      'CS_CERTIFICATE_MALFORMED',
    ],
    [
      'a damaged key in PEM',
      '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n',
      2,
      'CS_USAGE',
    ],
    ['JSON that is no bundle', '{"a":1}', 1, 'CS_BUNDLE_INVALID'],
    ['broken JSON', '{', 1, 'CS_BUNDLE_INVALID'],
    ['something like a token', 'a.b.c', 1, 'CS_JWT_SVID_INVALID'],
    ['more than it reads', Buffer.alloc(4 * 1024 * 1024 + 1), 2, 'CS_USAGE'],
  ])('refuses %s by code', async (_, bytes, exit, code) => {
    const answer = await inspectText(bytes)
    expect(answer).toMatchObject({ exit, stdout: '' })
    expect(answer.stderr).toContain(code)
  })

  test.each([
    ['a file that is not there', ['/nonexistent/file'], 1, 'CS_FILE_UNREADABLE'],
    ['a folder', ['/'], 2, 'CS_USAGE'],
    ['no argument', [], 2, 'missing required argument'],
    ['a bundle that is none', ['-', '--bundle', '/dev/null'], 2, 'CS_USAGE'],
  ])('refuses %s', async (_, args, exit, text) => {
    const answer = await inspect(args, { stdin: chainPem(web) })
    expect(answer.exit).toBe(exit)
    expect(answer.stderr).toContain(text)
  })
})

test('colours where a terminal wants them and nowhere else', async () => {
  const plain = await inspectText(chainPem(web))
  expect(plain.stdout).not.toContain('\u001b')
  const colourful = await inspect(['-'], { stdin: chainPem(web), colour: true })
  expect(colourful.stdout).toContain('\u001b[1m')
})
