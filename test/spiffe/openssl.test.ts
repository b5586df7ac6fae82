import { execFileSync, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { toPem } from '../../spiffe/index.js'
import { testAuthority } from '../support/authority.js'
import { tempFolder } from '../support/temp-folder.js'
import { x509Cases } from './x509-cases/index.js'
import { NOW } from './x509-world.js'

const available = spawnSync('openssl', ['version']).status === 0

interface Judgement {
  readonly chain: readonly Uint8Array[]
  readonly roots: readonly Uint8Array[]
  readonly at: Date
  readonly strict: boolean
}

/** What `openssl verify` says of a chain: nothing if it accepts. */
async function openssl({ chain, roots, at, strict }: Judgement): Promise<string> {
  await using folder = await tempFolder()
  const [leaf = new Uint8Array(), ...intermediates] = chain
  const write = (name: string, list: readonly Uint8Array[]) => {
    writeFileSync(folder.file(name), list.map((der) => toPem('CERTIFICATE', der)).join(''))
    return folder.file(name)
  }
  const args = [
    'verify',
    ...(strict ? ['-x509_strict'] : []),
    '-no-CApath',
    '-no-CAstore',
    '-attime',
    String(Math.floor(at.getTime() / 1000)),
    '-CAfile',
    write('roots.pem', roots),
    ...(intermediates.length > 0 ? ['-untrusted', write('chain.pem', intermediates)] : []),
    write('leaf.pem', [leaf]),
  ]
  try {
    execFileSync('openssl', args, { encoding: 'utf8', stdio: 'pipe' })
    return ''
  } catch (error) {
    return String((error as { stderr?: unknown }).stderr)
  }
}

describe.skipIf(!available)('OpenSSL', () => {
  test('accepts what the test authority issues, under its strictest rules', async () => {
    const authority = testAuthority('prod.example', { now: NOW })
    for (const request of [
      { id: '/a' },
      { id: '/b', dnsNames: ['b.example', '*.b.example'] },
      { id: '/c', ipNames: [Uint8Array.of(127, 0, 0, 1)] },
    ]) {
      const chain = authority.issueX509(request).chain.map(({ der }) => der)
      expect(
        await openssl({ chain, roots: [authority.root.certificate.der], at: NOW, strict: true }),
      ).toBe('')
    }
  })

  // Where OpenSSL is known to differ: an anchor must be self-signed, a mismatch of key identifiers counts,
  // the last second does not (RFC 5280 §4.1.2.5 includes it), and only one issuer of a name is tried.
  const excepted = /not self-signed|identifiers mislead|expires this very second|wrong key first/
  const accepted = x509Cases.filter(
    (each) => each.expect === 'accepted' && !excepted.test(each.name),
  )

  test.each(accepted.map((each) => [each.proves, each.name, each] as const))(
    '%s accepts too: %s',
    async (_, __, { chain, bundles = () => [] }) => {
      const roots = bundles().flatMap(({ x509Authorities }) =>
        x509Authorities.map(({ der }) => der),
      )
      expect(await openssl({ chain: chain(), roots, at: NOW, strict: false })).toBe('')
    },
  )
})
