import { generateKeyPairSync, sign } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { SignedSnapshot } from '../../proto/gen/countersign/policy/v1/policy.js'
import { SidecarError } from '../../sidecar/errors.js'
import { checkedPolicy, outlivedGeneration } from '../../sidecar/snapshot-check.js'
import { bundleSet, makeSpiffeId } from '../../spiffe/index.js'
import { testAuthority } from '../support/authority.js'
import {
  ORDERS_PATH,
  policySigner,
  signedContent,
  signedSnapshot,
  snapshotContent,
} from '../support/signed-snapshot.js'

const now = new Date('2026-11-20T12:00:00Z')
const authority = testAuthority('prod.test', { now })
const federated = testAuthority('partner.test', { now })
const target = makeSpiffeId(authority.trustDomain, ORDERS_PATH)
const options = { target, bundles: bundleSet([authority.bundle, federated.bundle]), now }
const signer = policySigner(authority)
const good = signedSnapshot({ authority, signer, generation: 7 })

const keysOf = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve })

function derSigned(): SignedSnapshot {
  const { target, content } = snapshotContent({ authority })
  const der = sign('sha256', content, signer.privateKey)
  return { ...signedContent({ target, content, signer }), signature: der }
}

function flipped(bytes: Uint8Array, at: number, bit = 0): Buffer {
  const copy = Buffer.from(bytes)
  const place = at % copy.length
  copy[place] = (copy[place] ?? 0) ^ (1 << bit)
  return copy
}

function jsonContent(change: Record<string, unknown>): Buffer {
  const json = JSON.parse(Buffer.from(good.content).toString()) as Record<string, unknown>
  const changed = Object.entries({ ...json, ...change }).sort(([a], [b]) => (a < b ? -1 : 1))
  return Buffer.from(JSON.stringify(Object.fromEntries(changed)))
}

const signedAs = (content: Uint8Array) => signedContent({ target, content, signer })

/** Signed by whoever has this ID, by its own trust domain's authority. */
const signedBy = (by: typeof authority, id: string) =>
  signedSnapshot({ authority, signer: by.issueX509({ id }) })

describe('a snapshot of the own policy signer', () => {
  test('comes to the policy it holds', () => {
    const policy = checkedPolicy(good, options)
    expect(policy).toMatchObject({ generation: 7, target })
  })

  test('is not compiled again when it is signed again', () => {
    const known = checkedPolicy(good, options)
    const again = signedSnapshot({ authority, generation: 7 })
    expect(again.signature).not.toEqual(good.signature)
    expect(checkedPolicy(again, { ...options, known })).toBe(known)
    const next = signedSnapshot({ authority, generation: 8 })
    expect(checkedPolicy(next, { ...options, known })).toMatchObject({ generation: 8 })
  })

  test('is judged by its signature also when its content is known', () => {
    const known = checkedPolicy(good, options)
    const forged = { ...good, signature: Buffer.alloc(64, 1) }
    expect(() => checkedPolicy(forged, { ...options, known })).toThrow(SidecarError)
  })
})

const past = { notBefore: new Date(now.getTime() - 2000), notAfter: new Date(now.getTime() - 1000) }
const future = { notBefore: new Date(now.getTime() + 60_000) }

test.each<[string, () => SignedSnapshot]>([
  ['signed by the SVID of a workload', () => signedBy(authority, '/ns/shop/sa/orders')],
  ['signed by the sentry under its other name', () => signedBy(authority, '/spire/server')],
  [
    'signed under a name below the signer',
    () => signedBy(authority, '/spire/countersign/policy-signer/x'),
  ],
  [
    'signed by the policy signer of a federated trust domain',
    () => signedBy(federated, '/spire/countersign/policy-signer'),
  ],
  [
    'signed in the own name by the CA of a federated trust domain',
    () => signedBy(federated, 'spiffe://prod.test/spire/countersign/policy-signer'),
  ],
  [
    'signed in the own name by a CA nobody knows',
    () => signedSnapshot({ authority: testAuthority('prod.test', { now }) }),
  ],
  [
    'signed by a signer that has expired',
    () => signedSnapshot({ authority, signer: policySigner(authority, past) }),
  ],
  [
    'signed by a signer whose time has not come',
    () => signedSnapshot({ authority, signer: policySigner(authority, future) }),
  ],
  [
    'signed with a key on another curve',
    () => signedSnapshot({ authority, signer: policySigner(authority, { keys: keysOf('P-384') }) }),
  ],
  ['with a signature in DER', derSigned],
  ['without a signature', () => ({ ...good, signature: Buffer.alloc(0) })],
  ['with a signature of nothing but zeros', () => ({ ...good, signature: Buffer.alloc(64) })],
  [
    'with a byte after the signature',
    () => ({ ...good, signature: Buffer.concat([good.signature, Buffer.alloc(1)]) }),
  ],
  [
    'with the signature of another snapshot',
    () => ({ ...good, signature: signedSnapshot({ authority, signer }).signature }),
  ],
  ['without a chain', () => ({ ...good, signerChain: [] })],
  ['without the intermediate', () => ({ ...good, signerChain: good.signerChain.slice(0, 1) })],
  [
    'with the chain of another signer',
    () => ({ ...good, signerChain: policySigner(authority).chain.map(({ der }) => der as Buffer) }),
  ],
  ['with garbage for a chain', () => ({ ...good, signerChain: [Buffer.from('leaf')] })],
  ['that is empty', () => ({ ...good, content: Buffer.alloc(0) })],
])('a snapshot %s is not trusted', (_, make) => {
  const snapshot = make()
  expect(() => checkedPolicy(snapshot, options)).toThrow(
    expect.objectContaining({ code: 'CS_SNAPSHOT_UNTRUSTED' }),
  )
})

test('a snapshot is not trusted while the bundle of the own trust domain is not there', () => {
  const bundles = bundleSet([federated.bundle])
  expect(() => checkedPolicy(good, { ...options, bundles })).toThrow(
    expect.objectContaining({ code: 'CS_SNAPSHOT_UNTRUSTED' }),
  )
})

test('one bit anywhere in content, signature or chain takes the trust away', () => {
  const part = fc.constantFrom('content', 'signature', 'leaf', 'intermediate')
  fc.assert(
    fc.property(part, fc.nat(), fc.integer({ min: 0, max: 7 }), (where, at, bit) => {
      const [leaf = Buffer.alloc(1), intermediate = Buffer.alloc(1)] = good.signerChain
      const spoilt: SignedSnapshot = {
        target,
        content: where === 'content' ? flipped(good.content, at, bit) : good.content,
        signature: where === 'signature' ? flipped(good.signature, at, bit) : good.signature,
        signerChain: [
          where === 'leaf' ? flipped(leaf, at, bit) : leaf,
          where === 'intermediate' ? flipped(intermediate, at, bit) : intermediate,
        ],
      }
      expect(() => checkedPolicy(spoilt, options)).toThrow(
        expect.objectContaining({ code: 'CS_SNAPSHOT_UNTRUSTED' }),
      )
    }),
    { numRuns: 300 },
  )
})

test.each<[string, string, () => SignedSnapshot]>([
  [
    'for another app is misdirected',
    'CS_SNAPSHOT_MISDIRECTED',
    () =>
      signedSnapshot({
        authority,
        signer,
        target: makeSpiffeId(authority.trustDomain, '/ns/shop/sa/checkout'),
      }),
  ],
  [
    'for another app under the own label is misdirected',
    'CS_SNAPSHOT_MISDIRECTED',
    () => {
      const other = makeSpiffeId(authority.trustDomain, '/ns/shop/sa/checkout')
      return signedAs(snapshotContent({ authority, target: other }).content)
    },
  ],
  [
    'under the label of another app is misdirected',
    'CS_SNAPSHOT_MISDIRECTED',
    () => ({ ...good, target: 'spiffe://prod.test/ns/shop/sa/checkout' }),
  ],
  [
    'that requires what this sidecar does not know is incompatible',
    'CS_SNAPSHOT_INCOMPATIBLE',
    () => signedAs(jsonContent({ requires: ['time-travel'] })),
  ],
  [
    'of a later format is incompatible',
    'CS_SNAPSHOT_INCOMPATIBLE',
    () => signedAs(jsonContent({ format: 2 })),
  ],
  [
    'with a field that is not known is invalid',
    'CS_SNAPSHOT_INVALID',
    () => signedAs(jsonContent({ extra: true })),
  ],
  [
    'that is not JSON is invalid',
    'CS_SNAPSHOT_INVALID',
    () => signedAs(Buffer.from('apiVersion: countersign.dev/v1')),
  ],
  [
    'that is not in canonical form is invalid',
    'CS_SNAPSHOT_INVALID',
    () => signedAs(Buffer.concat([good.content, Buffer.from('\n')])),
  ],
  ['that is nothing is invalid', 'CS_SNAPSHOT_INVALID', () => signedAs(Buffer.alloc(0))],
])('a signed snapshot %s', (_, code, make) => {
  const snapshot = make()
  expect(() => checkedPolicy(snapshot, options)).toThrow(expect.objectContaining({ code }))
})

describe('the generation of a snapshot whose signer has expired', () => {
  const expired = signedSnapshot({
    authority,
    generation: 9,
    signer: policySigner(authority, past),
  })

  test('still counts', () => {
    expect(outlivedGeneration(expired, options)).toBe(9)
  })

  test.each<[string, SignedSnapshot]>([
    ['forged', { ...expired, signature: Buffer.alloc(64, 1) }],
    ['without a chain', { ...expired, signerChain: [] }],
    ['with garbage for a chain', { ...expired, signerChain: [Buffer.from('leaf')] }],
    ['for another app', { ...expired, target: 'spiffe://prod.test/x' }],
    ['of nobody', signedSnapshot({ authority: testAuthority('prod.test', { now }) })],
  ])('does not count when the snapshot is %s', (_, snapshot) => {
    expect(outlivedGeneration(snapshot, options)).toBeUndefined()
  })
})
