import { X509Certificate as NodeCertificate, verify } from 'node:crypto'
import { createLocalJWKSet, jwtVerify } from 'jose'
import {
  bundleSet,
  jwtKeySetOf,
  peerVerifier,
  verifyJwtSvid,
  verifyX509Svid,
} from '../spiffe/index.js'
import { testAuthority } from '../test/support/authority.js'

/**
 * What it costs to verify a peer (leaf and intermediate under a root) and a token. The reference of chains is
 * `X509Certificate` of node:crypto parsing both certificates and checking both signatures, which judges
 * nothing else; the reference of tokens is one P-256 check with a warm key.
 */

const ROUNDS = 9
const ROUND_MS = 120

interface Row {
  readonly name: string
  readonly run: () => unknown
  readonly micros: number[]
}

const authority = testAuthority('bench.example')
const bundles = bundleSet([authority.bundle])
const now = new Date()
const svid = authority.issueX509({ id: '/ns/prod/app/pay' })
const chain = svid.chain.map(({ der }) => der)
const [leaf] = svid.chain
const issuerKey = authority.issuer.certificate.publicKey
const rootKey = authority.root.certificate.publicKey
const token = authority.issueJwt({ id: '/ns/prod/app/pay', audience: 'bench', ttl: 3600 })
const keySet = createLocalJWKSet(JSON.parse(jwtKeySetOf(authority.bundle)) as never)

const remembering = peerVerifier({ bundles })
/** Keeps no verdict, so that each leaf is new to it, under an intermediate that it knows. */
const meetingLeaves = peerVerifier({ bundles, maxCached: 0 })

const row = (name: string, run: () => unknown): Row => ({ name, run, micros: [] })

const reference = row('node:crypto, two signatures', () => {
  const [first, second] = chain.map((der) => new NodeCertificate(der))
  if (!first?.verify(second?.publicKey ?? rootKey) || !second?.verify(rootKey))
    throw new Error('reference')
})
const rawCheck = row('one P-256 check, warm key', () =>
  verify('sha256', leaf.tbs, issuerKey, leaf.signature),
)
const stateless = row('verifyX509Svid, nothing known', () =>
  verifyX509Svid({ chain, bundles, now }),
)
const newLeaf = row('peerVerifier, a new leaf', () => meetingLeaves.verify(chain, now))
const cached = row('peerVerifier, a known chain', () => remembering.verify(chain, now))
const jwt = row('verifyJwtSvid', () => verifyJwtSvid({ token, bundles, audience: 'bench', now }))
const rows = [reference, rawCheck, stateless, newLeaf, cached, jwt]

async function main(): Promise<void> {
  const jose = row('jose jwtVerify', () => undefined)
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const each of rows) each.micros.push(measure(each.run))
    jose.micros.push(await measureJose())
  }
  for (const each of [...rows, jose]) {
    console.log(`${each.name.padEnd(30)} ${median(each).toFixed(1).padStart(8)} µs`)
  }
  console.log('')
  for (const each of [stateless, newLeaf, cached]) {
    print(`${each.name} / node:crypto`, median(each) / median(reference))
  }
  print('verifyJwtSvid / one P-256 check', median(jwt) / median(rawCheck))
  print('verifyJwtSvid / jose', median(jwt) / median(jose))
}

function measure(run: () => unknown): number {
  const start = performance.now()
  let count = 0
  for (; performance.now() - start < ROUND_MS; count += 1) run()
  return ((performance.now() - start) * 1000) / count
}

async function measureJose(): Promise<number> {
  const start = performance.now()
  let count = 0
  for (; performance.now() - start < ROUND_MS; count += 1) {
    await jwtVerify(token, keySet, { audience: 'bench' })
  }
  return ((performance.now() - start) * 1000) / count
}

function median({ micros }: Row): number {
  return [...micros].sort((a, b) => a - b)[micros.length >> 1] ?? Number.NaN
}

function print(name: string, ratio: number): void {
  console.log(`${name.padEnd(46)} ${ratio.toFixed(3)}`)
}

await main()
