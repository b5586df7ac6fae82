import { generateKeyPairSync, type KeyObject, randomBytes, sign, verify } from 'node:crypto'
import { systemClock } from '../platform/clock.js'
import { systemRandom } from '../platform/random.js'
import { openAuthorities } from '../sentry/authorities/authorities.js'
import { proveKeyPossession } from '../sentry/csr.js'
import { issuePipeline } from '../sentry/issue.js'
import { bitString, contextTag, oid, sequence, tlv } from '../spiffe/asn1/index.js'
import { parseSpiffeId, parseTrustDomain } from '../spiffe/index.js'

/**
 * PF-1 and PF-4: the issue pipeline in this process against raw signatures of this process. Rounds of
 * all of them alternate, so that whatever else the machine does falls on each alike.
 */
const ROUNDS = 40
const WARM_UP_ROUNDS = 10
const PER_ROUND = 200
const REQUESTS = 64
const TBS_BYTES = 420

const id = parseSpiffeId('spiffe://bench.example/ns/prod/sa/orders')
const requests = Array.from({ length: REQUESTS }, makeRequest)
const proven = requests.map(proveKeyPossession)
const pipeline = await makePipeline()
const raw = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const message = randomBytes(TBS_BYTES)
const jwsKey = { key: raw.privateKey, dsaEncoding: 'ieee-p1363' } as const

const figures = measure({
  'raw sign + verify': () => {
    if (!verify('sha256', message, raw.publicKey, sign('sha256', message, raw.privateKey))) {
      throw new Error('signature does not verify')
    }
  },
  'CSR in, certificate out': (turn) => issueX509(proveKeyPossession(at(requests, turn))),
  'key in, certificate out': (turn) => issueX509(at(proven, turn)),
  'raw sign': () => sign('sha256', message, jwsKey),
  'JWT-SVID ES256': (turn) =>
    pipeline.jwt({ id, audience: [`aud-${turn % 7}`], ttlSeconds: 300, requester: 'bench' }),
})

print('PF-1', 'CSR in, certificate out', 'raw sign + verify')
print('PF-4', 'JWT-SVID ES256', 'raw sign')
print('    ', 'key in, certificate out', 'raw sign')

function issueX509(key: ReturnType<typeof proveKeyPossession>) {
  return pipeline.x509({ key, id, dnsNames: [], ttlSeconds: 3600, requester: 'bench' })
}

async function makePipeline() {
  const trustDomain = parseTrustDomain('bench.example')
  const file = { read: () => Promise.resolve(undefined), write: () => Promise.resolve() }
  const shared = { trustDomain, clock: systemClock, random: systemRandom }
  const authorities = await openAuthorities({ ...shared, file })
  return issuePipeline({ ...shared, authorities, audit: { record: () => {} } })
}

/** A PKCS#10 request without subject, as an agent of ours sends it. */
function makeRequest(): Uint8Array {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const info = sequence(
    Uint8Array.of(2, 1, 0),
    sequence(),
    publicKey.export({ type: 'spki', format: 'der' }),
    tlv(contextTag(0)),
  )
  return signedRequest(info, privateKey)
}

function signedRequest(info: Uint8Array, privateKey: KeyObject): Uint8Array {
  const ecdsaWithSha256 = sequence(oid('1.2.840.10045.4.3.2'))
  return sequence(info, ecdsaWithSha256, bitString(sign('sha256', info, privateKey)))
}

/** Microseconds of each, one sample a round. */
function measure(
  work: Readonly<Record<string, (turn: number) => unknown>>,
): ReadonlyMap<string, readonly number[]> {
  const samples = new Map(Object.keys(work).map((name) => [name, [] as number[]]))
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round += 1) {
    for (const [name, run] of Object.entries(work)) {
      const started = process.hrtime.bigint()
      for (let turn = 0; turn < PER_ROUND; turn += 1) run(turn)
      const spent = Number(process.hrtime.bigint() - started) / 1000 / PER_ROUND
      if (round >= 0) samples.get(name)?.push(spent)
    }
  }
  return samples
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

function at<T>(items: readonly T[], turn: number): T {
  const item = items[turn % items.length]
  if (item === undefined) throw new Error('there is no item')
  return item
}

/** The ratio is the median of those of each round, which a busy machine moves least. */
function print(figure: string, name: string, reference: string): void {
  const spent = figures.get(name) ?? []
  const against = figures.get(reference) ?? []
  const ratio = median(spent.map((time, round) => (against[round] ?? Number.NaN) / time))
  const shown = (times: readonly number[]) =>
    `${median(times).toFixed(1)} µs (${Math.round(1e6 / median(times))}/s)`
  console.log(
    `${figure}  ratio ${ratio.toFixed(2)}  ${name} ${shown(spent)}, ${reference} ${shown(against)}`,
  )
}
