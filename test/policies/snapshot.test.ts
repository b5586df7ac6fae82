import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import {
  type Aliases,
  buildSnapshot,
  compileSnapshot,
  parseDocuments,
  readSnapshot,
  snapshotContentKey,
} from '../../policies/index.js'
import { parseSpiffeId, parseTrustDomain } from '../../spiffe/index.js'
import { guardrail, policy, trustDomain, vector } from './mesh.js'
import { snapshotBytes } from './snapshots.js'

const target = parseSpiffeId('spiffe://example.test/ns/shop/sa/orders')
const aliases: Aliases = new Map([
  ['acme', [parseTrustDomain('acme.test'), parseTrustDomain('acme-old.test')]],
  ['unused', [parseTrustDomain('x.test')]],
])
const any = 'from: [ { any: true } ]'

function build(yaml: string, generation = 1) {
  const documents = parseDocuments(yaml, 'p.yaml')
  return buildSnapshot({
    trustDomain,
    layout: 'kubernetes',
    target,
    documents,
    aliases,
    generation,
  })
}

const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

describe('a snapshot', () => {
  test('is the same bytes for the same documents, today and tomorrow', () => {
    const built = build(vector('language.yaml'), 7)
    expect(textOf(built.bytes)).toBe(vector('language.snapshot.json'))
    expect(built.id).toBe('86b6893664295db0d64334dbad9262ed27f5770727e37c0ca546118793bc97c1')
    expect(built.id).toBe(createHash('sha256').update(built.bytes).digest('hex'))
  })

  test('holds only what reaches its target', () => {
    const yaml =
      policy([`{ name: own, ${any} }`]) +
      policy([`{ name: of-all, ${any} }`], { name: 'all', target: '{ namespace: true }' }) +
      policy([`{ name: other, ${any} }`], { name: 'other', target: '{ app: other }' }) +
      guardrail([`{ name: mesh, action: deny, ${any} }`]) +
      guardrail([`{ name: elsewhere, action: deny, ${any} }`], {
        name: 'elsewhere',
        target: '{ namespace: elsewhere }',
      })
    const { policies, guardrails } = readSnapshot(build(yaml).bytes)
    expect(policies.map(({ name }) => name)).toEqual(['all', 'orders'])
    expect(guardrails.map(({ name }) => name)).toEqual(['guard'])
  })

  test('of an ID that is no app holds the guardrails of the mesh', () => {
    const documents = parseDocuments(
      policy([`{ name: a, ${any} }`], { target: '{ namespace: true }' }) +
        guardrail([`{ name: g, action: deny, ${any} }`]),
      'p',
    )
    for (const id of ['spiffe://example.test/vm/1', 'spiffe://partner.test/ns/shop/sa/orders']) {
      const built = buildSnapshot({
        trustDomain,
        layout: 'kubernetes',
        documents,
        generation: 1,
        target: parseSpiffeId(id),
      })
      const snapshot = readSnapshot(built.bytes)
      expect(snapshot.app.app).toBeUndefined()
      expect(snapshot.policies).toEqual([])
      expect(snapshot.guardrails).toHaveLength(1)
    }
  })

  test('keeps shadow rules apart, where a reader that does not know them does not look', () => {
    const yaml =
      policy([`{ name: a, ${any} }`, `{ name: s, mode: shadow, ${any} }`]) +
      policy([`{ name: t, ${any}, expires: "2026-01-01T00:00:00Z" }`], {
        name: 'trial',
        mode: 'shadow',
      })
    const snapshot = readSnapshot(build(yaml).bytes)
    expect(snapshot.policies.map(({ rules }) => rules.map(({ name }) => name))).toEqual([['a']])
    expect(snapshot.shadow.map(({ name, rules }) => [name, rules[0]?.name])).toEqual([
      ['orders', 's'],
      ['trial', 't'],
    ])
    expect(JSON.parse(textOf(build(yaml).bytes))).toMatchObject({ requires: [] })
  })

  test('names the features that a reader must have', () => {
    const yaml = policy([`{ name: a, ${any}, notBefore: "1970-01-01T00:00:00Z" }`])
    expect(JSON.parse(textOf(build(yaml).bytes))).toMatchObject({ requires: ['validity'] })
  })

  test.each([
    [
      'the order of rules',
      [`{ name: a, ${any} }`, `{ name: b, ${any} }`],
      [`{ name: b, ${any} }`, `{ name: a, ${any} }`],
    ],
    [
      'the order of callers',
      ['{ name: a, from: [ { app: x }, { app: y } ] }'],
      ['{ name: a, from: [ { app: y }, { app: x } ] }'],
    ],
    [
      'a caller named twice',
      ['{ name: a, from: [ { app: x } ] }'],
      ['{ name: a, from: [ { app: x }, { app: x, namespace: shop } ] }'],
    ],
    [
      'the order of paths',
      [`{ name: a, ${any}, to: [ { paths: [/x, /y] } ] }`],
      [`{ name: a, ${any}, to: [ { paths: [/y, /x, /x] } ] }`],
    ],
    [
      'the spelling of a time',
      [`{ name: a, ${any}, expires: "2026-01-01T00:00:00Z" }`],
      [`{ name: a, ${any}, expires: "2026-01-01T01:00:00.000+01:00" }`],
    ],
    [
      'what is there anyway',
      [`{ name: a, ${any} }`],
      [`{ name: a, ${any}, mode: enforce, action: allow }`],
    ],
  ])('does not change with %s', (_, one, other) => {
    expect(build(policy(other)).id).toBe(build(policy(one)).id)
  })

  test('has a key that changes with its content and not with its generation', () => {
    const key = (yaml: string) =>
      snapshotContentKey({
        trustDomain,
        layout: 'kubernetes',
        target,
        aliases,
        documents: parseDocuments(yaml, 'p'),
      })
    const one = policy([`{ name: a, ${any} }`])
    expect(key(one)).toBe(key(one))
    expect(key(one)).not.toBe(key(policy([`{ name: b, ${any} }`])))
    expect(key(one + policy([`{ name: x, ${any} }`], { name: 'x', target: '{ app: x }' }))).toBe(
      key(one),
    )
    expect(build(one, 1).id).not.toBe(build(one, 2).id)
  })

  test.each([-1, 1.5, Number.NaN, 2 ** 53])('is not built for generation %s', (generation) => {
    expect(() => build('', generation)).toThrow(
      expect.objectContaining({ code: 'CS_SNAPSHOT_INVALID' }),
    )
  })
})

const rule = { name: 'r', action: 'allow', from: ['any'] }
const withRule = (fields: object) =>
  snapshotBytes({ policies: [{ name: 'p', rules: [{ ...rule, ...fields }] }] })

describe('a reader', () => {
  test('takes the smallest snapshot, which denies everything', () => {
    const snapshot = readSnapshot(snapshotBytes())
    expect(snapshot).toMatchObject({ generation: 1, target, trustDomain, policies: [] })
    expect(compileSnapshot(snapshot)).toMatchObject({ id: snapshot.id, generation: 1, target })
  })

  test.each([
    ['another format', snapshotBytes({ format: 2 })],
    ['a feature that it does not have', snapshotBytes({ requires: ['validity', 'when.jwt'] })],
    ['another format with another shape', snapshotBytes({ format: 2, policies: 'elsewhere' })],
  ])('calls incompatible %s', (_, bytes) => {
    expect(() => readSnapshot(bytes)).toThrow(
      expect.objectContaining({ code: 'CS_SNAPSHOT_INCOMPATIBLE' }),
    )
  })

  const empty = textOf(snapshotBytes())

  test.each([
    ['no bytes', ''],
    ['no JSON', '{'],
    ['a list', '[]'],
    ['a byte order mark', `\ufeff${empty}`],
    ['a space too many', `${empty} `],
    [
      'fields out of order',
      empty
        .replace('"aliases":{},', '')
        .replace('{', '{"format":1,')
        .replace('"format":1,"gen', '"gen'),
    ],
    ['a field that is there twice', empty.replace('"format":1', '"format":1,"format":1')],
    ['another spelling of a number', empty.replace('"generation":1', '"generation":1.0')],
    ['another spelling of a text', empty.replace('example.test"}', '\\u0065xample.test"}')],
    ['nesting without end', '['.repeat(100_000)],
  ])('refuses %s', (_, text) => {
    expect(() => readSnapshot(new TextEncoder().encode(text))).toThrow(
      expect.objectContaining({ code: 'CS_SNAPSHOT_INVALID' }),
    )
  })

  test('refuses bytes that are no UTF-8', () => {
    const bytes = snapshotBytes({ policies: [{ name: 'é', rules: [rule] }] })
    bytes[bytes.indexOf(0xc3)] = 0xff
    expect(() => readSnapshot(bytes)).toThrow(
      expect.objectContaining({ code: 'CS_SNAPSHOT_INVALID' }),
    )
  })

  test.each([
    ['an unknown field', snapshotBytes({ extra: 1 })],
    [
      'an unknown field of a policy',
      snapshotBytes({ policies: [{ name: 'p', rules: [rule], mode: 'shadow' }] }),
    ],
    ['an unknown field of a rule', withRule({ when: [] })],
    ['an unknown field of an operation', withRule({ to: [{ paths: ['/x'], hosts: ['x'] }] })],
    ['an unknown field of the app', snapshotBytes({ app: { layout: 'kubernetes', probes: [] } })],
    ['another layout', snapshotBytes({ app: { layout: 'nomad' } })],
    ['a negative generation', snapshotBytes({ generation: -1 })],
    ['a generation as text', snapshotBytes({ generation: '1' })],
    ['a target that is no ID', snapshotBytes({ target: 'orders' })],
    ['a target without a path', snapshotBytes({ target: 'spiffe://example.test' })],
    ['a trust domain that is none', snapshotBytes({ trustDomain: 'Example.test' })],
    ['an alias of something that is no trust domain', snapshotBytes({ aliases: { acme: ['*'] } })],
    ['a policy without rules', snapshotBytes({ policies: [{ name: 'p', rules: [] }] })],
    ['a policy that is a text', snapshotBytes({ policies: ['p'] })],
    ['a port of 0', snapshotBytes({ policies: [{ name: 'p', ports: [0], rules: [rule] }] })],
    [
      'a port that is no number',
      snapshotBytes({ policies: [{ name: 'p', ports: [{ toString: 1 }], rules: [rule] }] }),
    ],
    ['no ports in a list', snapshotBytes({ policies: [{ name: 'p', ports: [], rules: [rule] }] })],
    ['a guardrail that allows', snapshotBytes({ guardrails: [{ name: 'g', rules: [rule] }] })],
    ['another action', withRule({ action: 'audit' })],
    ['nobody as a caller', withRule({ from: [] })],
    ['a caller that is no ID', withRule({ from: ['checkout'] })],
    ['a caller with a glob', withRule({ from: ['spiffe://example.test/*'] })],
    ['an empty list of operations', withRule({ to: [] })],
    ['a path that is not canonical', withRule({ to: [{ paths: ['//x'] }] })],
    ['a method in lower case', withRule({ to: [{ methods: ['get'] }] })],
    ['a gRPC pattern that is none', withRule({ to: [{ grpc: ['*'] }] })],
    ['tcp that is not true', withRule({ to: [{ tcp: 'yes' }] })],
    ['a time that is none', withRule({ expires: 'tomorrow' })],
    ['a time in another spelling', withRule({ expires: '2026-01-01T00:00:00Z' })],
  ])('refuses %s', (_, bytes) => {
    expect(() => readSnapshot(bytes)).toThrow(
      expect.objectContaining({ code: 'CS_SNAPSHOT_INVALID' }),
    )
  })

  test('leaves out shadow rules that it does not know, and says how many', () => {
    const shadow = [
      { kind: 'AccessPolicy', name: 'p', rules: [rule] },
      { kind: 'AccessPolicy', name: 'q', rules: [{ ...rule, when: [{ header: {} }] }] },
      { kind: 'Other', name: 'r', rules: [rule] },
    ]
    const snapshot = readSnapshot(snapshotBytes({ shadow }))
    expect(snapshot.shadow.map(({ name }) => name)).toEqual(['p'])
    expect(snapshot.unreadableShadow).toBe(2)
  })
})
