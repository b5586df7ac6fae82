import { describe, expect, test } from 'vitest'
import { policyCompiler } from '../../cli/policy-compiler.js'
import { parseSpiffeId, parseTrustDomain } from '../../spiffe/index.js'
import { guardrail, policy, vector } from '../policies/mesh.js'

const trustDomain = parseTrustDomain('example.test')
const orders = parseSpiffeId('spiffe://example.test/ns/shop/sa/orders')
const any = 'from: [ { any: true } ]'

const compiler = (layout: 'kubernetes' | 'dapr' = 'kubernetes') =>
  policyCompiler({
    trustDomain,
    layout,
    aliases: { acme: ['acme.test'] },
    now: () => Date.UTC(2026, 5, 1),
  })

const admit = (text: string, of = compiler()) => of.admit({ text, source: 'p', existing: [] })

describe('the compiler of the sentry', () => {
  test('admits documents under what names them', () => {
    expect(admit(vector('language.yaml')).map(({ ref }) => ref)).toEqual([
      { kind: 'AccessPolicy', namespace: 'shop', name: 'orders' },
      { kind: 'AccessPolicy', namespace: 'shop', name: 'everyone' },
      { kind: 'Guardrail', namespace: '', name: 'quarantine' },
      { kind: 'Guardrail', namespace: '', name: 'shop-wide' },
      { kind: 'Guardrail', namespace: '', name: 'other-app' },
      { kind: 'PolicyTest', namespace: 'shop', name: 'orders' },
    ])
  })

  test.each([
    ['an app', policy([`{ name: a, ${any} }`]), ['app shop/orders']],
    [
      'a namespace',
      policy([`{ name: a, ${any} }`], { target: '{ namespace: true }' }),
      ['namespace shop'],
    ],
    ['the mesh', guardrail([`{ name: a, action: deny, ${any} }`]), ['mesh']],
    [
      'a guarded namespace',
      guardrail([`{ name: a, action: deny, ${any} }`], { target: '{ namespace: shop }' }),
      ['namespace shop'],
    ],
    [
      'a guarded app',
      guardrail([`{ name: a, action: deny, ${any} }`], {
        target: '{ namespace: shop, app: orders }',
      }),
      ['app shop/orders'],
    ],
  ])('files documents for %s where their targets look', (_, text, keys) => {
    const [document] = admit(text)
    expect(compiler().keysOfDocument(document!)).toEqual(keys)
    expect(compiler().keysOfTarget(orders)).toEqual(expect.arrayContaining(keys))
  })

  test.each([
    ['our own trust domain', { 'example.test': ['old.test'] }],
    ['nobody', { acme: [] }],
  ])('refuses a group of trust domains that stands for %s', (_, aliases) => {
    const options = { trustDomain, layout: 'kubernetes', aliases } as const
    expect(() => policyCompiler(options)).toThrow(
      expect.objectContaining({ code: 'CS_CONFIG_INVALID' }),
    )
  })

  test.each([
    ['an app', 'kubernetes', orders, ['mesh', 'namespace shop', 'app shop/orders']],
    ['an app of another layout', 'dapr', orders, ['mesh']],
    [
      'an app under dapr',
      'dapr',
      'spiffe://example.test/ns/shop/orders',
      ['mesh', 'namespace shop', 'app shop/orders'],
    ],
    ['no app', 'kubernetes', 'spiffe://example.test/vm/1', ['mesh']],
    [
      'an app of another trust domain',
      'kubernetes',
      'spiffe://other.test/ns/shop/sa/orders',
      ['mesh'],
    ],
  ] as const)('%s looks under its keys', (_, layout, target, keys) => {
    expect(compiler(layout).keysOfTarget(parseSpiffeId(target))).toEqual(keys)
  })

  test('makes the same snapshot for the same content, under the generation it is given', () => {
    const documents = admit(policy(['{ name: a, from: [ { trustDomain: acme } ] }']))
    const content = { target: orders, documents }
    const made = compiler().snapshot({ ...content, generation: 3n })
    expect(compiler().snapshot({ ...content, generation: 3n })).toEqual(made)
    expect(compiler().contentKey(content)).toBe(compiler().contentKey(content))
    expect(JSON.parse(Buffer.from(made.bytes).toString())).toMatchObject({
      generation: 3,
      target: orders,
      aliases: { acme: ['acme.test'] },
    })
  })

  test('holds tests against what is stored', () => {
    const stored = admit(policy([`{ name: a, ${any} }`]))
    const text = `apiVersion: countersign.dev/v1
kind: PolicyTest
metadata: { name: t, namespace: shop }
spec: { cases: [ { from: unauthenticated, to: { app: orders, tcp: true }, expect: allow } ] }`
    expect(() => compiler().admit({ text, source: 'p', existing: stored })).toThrow(
      expect.objectContaining({ code: 'CS_POLICY_TEST_FAILED' }),
    )
  })

  test('does not let go of what a stored test needs', () => {
    const stored = admit(policy([`{ name: a, ${any} }`]))
    const text = `apiVersion: countersign.dev/v1
kind: PolicyTest
metadata: { name: t, namespace: shop }
spec: { cases: [ { from: spiffe://example.test/x, to: { app: orders, tcp: true }, expect: allow } ] }`
    const [tested] = compiler().admit({ text, source: 'p', existing: stored })
    const existing = [...stored, tested!]
    expect(() => compiler().admitRemoval({ removed: stored, existing })).toThrow(
      expect.objectContaining({ code: 'CS_POLICY_TEST_FAILED' }),
    )
    expect(() => compiler().admitRemoval({ removed: existing, existing })).not.toThrow()
  })
})
