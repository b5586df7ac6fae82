import { describe, expect, test } from 'vitest'
import {
  admitDocuments,
  admitRemoval,
  compiledFor,
  documentFromJson,
  type Explanation,
  explain,
  type PolicyDocument,
  parseDocuments,
  type Question,
  runTests,
} from '../../policies/index.js'
import { parseSpiffeId } from '../../spiffe/index.js'
import { guardrail, policy, trustDomain } from './mesh.js'

const any = 'from: [ { any: true } ]'
const deployment = { trustDomain, layout: 'kubernetes' } as const
const orders = parseSpiffeId('spiffe://example.test/ns/shop/sa/orders')
const checkout = parseSpiffeId('spiffe://example.test/ns/shop/sa/checkout')

const read = (yaml: string) => parseDocuments(yaml, 'p.yaml')

const policyTest = (cases: readonly string[], name = 'orders') => `---
apiVersion: countersign.dev/v1
kind: PolicyTest
metadata: { name: ${name}, namespace: shop }
spec:
  cases:
${cases.map((one) => `    - { from: ${checkout}, ${one} }\n`).join('')}`

const get = (path: string) => `to: { app: orders, method: GET, path: ${path} }`

describe('tests of policies', () => {
  const run = (yaml: string) => runTests({ ...deployment, documents: read(yaml), now: 0 })
  const allowing = policy([
    '{ name: a, from: [ { app: checkout } ], to: [ { methods: [GET], paths: ["/orders/{*}"] }, { grpc: [shop.Orders/Get] }, { tcp: true } ] }',
    '{ name: b, from: [ { app: other } ] }',
  ])

  test.each([
    ['an allow', `${get('/orders/42')}, expect: allow`, undefined],
    ['an allow by its rule', `${get('/orders/42')}, expect: allow, rule: orders/a`, undefined],
    [
      'an allow by another rule',
      `${get('/orders/42')}, expect: allow, rule: orders/b`,
      'expected allow by orders/b, got allow (allow-rule orders/a)',
    ],
    ['a deny', `${get('/x')}, expect: deny`, undefined],
    [
      'a deny of what is allowed',
      `${get('/orders/42')}, expect: deny`,
      'expected deny, got allow (allow-rule orders/a)',
    ],
    [
      'an allow of what nothing allows',
      `${get('/x')}, expect: allow`,
      'expected allow, got deny (no-rule)',
    ],
    ['a path as it is sent', `${get('/orders/../x')}, expect: deny`, undefined],
    [
      'a malformed path',
      `${get('/orders/../x')}, expect: allow`,
      'expected allow, got deny (malformed:dot_segment)',
    ],
    ['a gRPC method', 'to: { app: orders, grpc: shop.Orders/Get }, expect: allow', undefined],
    ['a raw connection', 'to: { app: orders, tcp: true }, expect: allow', undefined],
    ['another app', `to: { app: x, tcp: true }, expect: deny`, undefined],
  ])('%s', (_, one, failure) => {
    const { results, failed } = run(allowing + policyTest([one]))
    expect(results.map((result) => result.failure)).toEqual([failure])
    expect(failed).toBe(failure === undefined ? 0 : 1)
  })

  test('a caller without an identity', () => {
    const yaml = policyTest(['to: { app: orders, tcp: true }, expect: deny']).replace(
      checkout,
      'unauthenticated',
    )
    expect(run(policy([`{ name: a, ${any} }`]) + yaml).failed).toBe(0)
  })

  test('without a port, a case holds on every port that the policies name', () => {
    const onPort = (port: number, rule: string) =>
      policy([rule], { name: `p${port}`, target: `{ app: orders, ports: [${port}] }` })
    const allow = `{ name: a, ${any} }`
    expect(run(onPort(8080, allow) + policyTest([`${get('/x')}, expect: allow`])).failed).toBe(0)
    const both = onPort(8080, allow) + onPort(9090, `{ name: d, action: deny, ${any} }`)
    expect(run(both + policyTest([`${get('/x')}, expect: allow`])).results[0]?.failure).toBe(
      'expected allow, got deny (deny-rule p9090/d) on port 9090',
    )
    const named = `to: { app: orders, tcp: true, port: 8080 }, expect: allow`
    expect(run(both + policyTest([named])).failed).toBe(0)
  })

  test('count for each rule the cases that it matches and those that it decides', () => {
    const yaml =
      policy([`{ name: a, ${any} }`, `{ name: b, ${any} }`, `{ name: s, mode: shadow, ${any} }`]) +
      guardrail(['{ name: q, action: deny, from: [ { namespace: x } ] }']) +
      policyTest([`${get('/x')}, expect: allow`, `${get('/y')}, expect: allow`])
    expect(run(yaml).coverage).toEqual([
      { kind: 'Guardrail', document: 'guard', rule: 'q', matched: 0, decided: 0 },
      { kind: 'AccessPolicy', document: 'shop/orders', rule: 'a', matched: 2, decided: 2 },
      { kind: 'AccessPolicy', document: 'shop/orders', rule: 'b', matched: 2, decided: 0 },
      { kind: 'AccessPolicy', document: 'shop/orders', rule: 's', matched: 2, decided: 0 },
    ])
  })
})

describe('admission', () => {
  const allow = policy([`{ name: a, ${any} }`])
  const deny = policy([`{ name: d, action: deny, ${any} }`], { name: 'deny' })
  const expectation = policyTest([`${get('/x')}, expect: allow`])

  const admit = (documents: string, existing = '', now = 0) =>
    admitDocuments({ ...deployment, documents: read(documents), existing: read(existing), now })

  test.each([
    ['documents alone', allow, ''],
    ['a test that holds', allow + expectation, ''],
    ['a test of stored documents', expectation, allow],
    [
      'a document that replaces one of its name',
      allow,
      policy([`{ name: d, action: deny, ${any} }`]),
    ],
    ['nothing', '', ''],
  ])('takes %s', (_, documents, existing) => {
    expect(admit(documents, existing)).toEqual(read(documents))
  })

  test.each([
    ['a test that does not hold', deny + allow + expectation, ''],
    ['a test without its policy', expectation, ''],
    ['a document that breaks a stored test', deny, allow + expectation],
    [
      'a document that replaces the one a stored test needs',
      allow.replace('any: true', 'app: x'),
      allow + expectation,
    ],
  ])('refuses %s', (_, documents, existing) => {
    expect(() => admit(documents, existing)).toThrow(
      expect.objectContaining({
        code: 'CS_POLICY_TEST_FAILED',
        message: expect.stringContaining(
          'PolicyTest shop/orders, case 1: expected allow, got deny',
        ),
      }),
    )
  })

  test('lets pass what has nothing to do with a test that has failed since it was stored', () => {
    const expiring = policy([`{ name: a, ${any}, expires: "1970-01-02T00:00:00Z" }`])
    const later = Date.UTC(1970, 0, 3)
    const other = policy([`{ name: x, ${any} }`], { name: 'x', target: '{ app: x }' })
    expect(admit(other, expiring + expectation, later)).toHaveLength(1)
    expect(() => admit(expectation, expiring + expectation, later)).toThrow(
      expect.objectContaining({ code: 'CS_POLICY_TEST_FAILED' }),
    )
  })

  test('refuses two documents of one name', () => {
    const [document] = read(allow)
    const twice = [document, document] as readonly PolicyDocument[]
    expect(() => admitDocuments({ ...deployment, documents: twice, existing: [], now: 0 })).toThrow(
      expect.objectContaining({ code: 'CS_POLICY_DUPLICATE' }),
    )
  })

  test('refuses more than the proxy of one app takes', () => {
    const [template] = read(
      policy([
        `{ name: a, from: [ ${Array.from({ length: 256 }, (_, at) => `{ app: a${at} }`).join()} ], to: [ { paths: [${Array.from({ length: 256 }, (_, at) => `/p${at}`).join()}] } ] }`,
      ]),
    )
    const many = (count: number) =>
      Array.from({ length: count }, (_, at) => ({ ...template!, name: `p${at}` }))
    const admitted = (documents: readonly PolicyDocument[]) =>
      admitDocuments({ ...deployment, documents, existing: [], now: 0 })
    expect(admitted(many(61))).toHaveLength(61)
    expect(() => admitted(many(62))).toThrow(
      expect.objectContaining({
        code: 'CS_POLICY_INVALID',
        message: expect.stringContaining('policies for shop/orders'),
      }),
    )
  })

  test('refuses to take away what a test needs, and nothing else', () => {
    const existing = read(allow + deny.replace('any: true', 'app: x') + expectation)
    const [needed, unneeded, itself] = existing
    const removal = (...removed: (PolicyDocument | undefined)[]) =>
      admitRemoval({
        ...deployment,
        removed: removed.filter((one) => one !== undefined),
        existing,
        now: 0,
      })
    expect(() => removal(needed)).toThrow(
      expect.objectContaining({ code: 'CS_POLICY_TEST_FAILED' }),
    )
    expect(() => removal(unneeded)).not.toThrow()
    expect(() => removal(needed, itself)).not.toThrow()
  })
})

describe('explain', () => {
  const yaml =
    policy([
      '{ name: reads, from: [ { app: checkout } ], to: [ { methods: [GET], paths: ["/orders/{*}"] } ] }',
      '{ name: ended, from: [ { app: checkout } ], to: [ { paths: [/old] } ], expires: "1970-01-01T00:00:00Z" }',
      '{ name: calls, from: [ { app: other } ], to: [ { grpc: [shop.Orders/Get] } ] }',
      '{ name: trial, mode: shadow, from: [ { app: checkout } ], to: [ { paths: [/trial] } ] }',
      '{ name: no-admin, action: deny, from: [ { namespace: shop } ], to: [ { paths: ["/admin/{**}"] } ] }',
    ]) +
    policy(['{ name: admin-port, from: [ { app: checkout } ] }'], {
      name: 'admin',
      target: '{ app: orders, ports: [9090] }',
    }) +
    guardrail(['{ name: q, action: deny, from: [ { namespace: compromised } ] }'])
  const compiled = compiledFor(orders, { ...deployment, documents: read(yaml) })

  const ask = (question: Partial<Question> & { readonly http?: string }): Explanation => {
    const [method = 'GET', path = '/'] = (question.http ?? 'GET /').split(' ')
    return explain(compiled, {
      caller: checkout,
      port: 8080,
      now: 0,
      call: { kind: 'http', method, path },
      ...question,
    })
  }
  const failedOf = ({ candidates }: Explanation, rule: string) =>
    candidates.find((candidate) => candidate.rule === rule)?.failed

  test.each([
    ['an allow', { http: 'GET /orders/42' }, 'allow-rule'],
    ['a deny', { http: 'GET /ADMIN/x' }, 'deny-rule'],
    [
      'a guardrail',
      { caller: parseSpiffeId('spiffe://example.test/ns/compromised/sa/x') },
      'guardrail',
    ],
    ['no rule', { http: 'GET /x' }, 'no-rule'],
    [
      'another trust domain',
      { http: 'GET /orders/42', caller: parseSpiffeId('spiffe://other.test/ns/shop/sa/checkout') },
      'other-trust-domain',
    ],
    ['a malformed path', { http: 'GET /a/../b' }, 'malformed'],
    [
      'no identity yet',
      { caller: undefined, unauthenticatedBecause: 'no-identity-yet' },
      'no-identity-yet',
    ],
    [
      'an expired SVID',
      { caller: undefined, unauthenticatedBecause: 'svid-expired' },
      'svid-expired',
    ],
  ] as const)('tells %s apart', (_, question, cause) => {
    expect(ask(question).cause).toBe(cause)
  })

  test('shows the call as it was decided on', () => {
    expect(ask({ http: 'GET //orders/%34%32?x' }).canonical).toMatchObject({
      path: '/orders/42',
      query: '?x',
    })
  })

  test.each([
    ['port', { http: 'GET /x' }, 'admin/admin-port', '9090', '8080'],
    [
      'from',
      { http: 'GET /x' },
      'orders/calls',
      'spiffe://example.test/ns/shop/sa/other',
      checkout,
    ],
    ['protocol', { call: { kind: 'tcp' } }, 'orders/reads', 'http', 'tcp'],
    ['method', { http: 'PUT /orders/1' }, 'orders/reads', 'GET', 'PUT'],
    ['path', { http: 'HEAD /orders/1/2' }, 'orders/reads', '/orders/{*}', '/orders/1/2'],
    [
      'validity',
      { http: 'GET /old' },
      'orders/ended',
      'before 1970-01-01T00:00:00.000Z',
      '1970-01-01T00:00:00.000Z',
    ],
  ] as const)(
    'names the %s as the first condition that fails',
    (name, question, rule, wanted, found) => {
      expect(failedOf(ask(question), rule)).toEqual({ name, wanted, found })
    },
  )

  test.each([
    ['another method', { http: 'DELETE /orders/1' }, 'orders/reads'],
    ['another path', { http: 'GET /order/1' }, 'orders/reads'],
    [
      'another caller of the same call',
      { http: 'GET /orders/1', caller: parseSpiffeId('spiffe://example.test/ns/shop/sa/x') },
      'orders/reads',
    ],
    ['a rule that has ended', { http: 'GET /old' }, 'orders/ended'],
    [
      'another gRPC method',
      {
        call: { kind: 'grpc', method: 'shop.Orders/List' },
        caller: parseSpiffeId('spiffe://example.test/ns/shop/sa/other'),
      },
      'orders/calls',
    ],
  ] as const)('finds the nearest miss: %s', (_, question, rule) => {
    expect(ask(question).nearest?.rule).toBe(rule)
  })

  test('counts what each layer had to say', () => {
    expect(ask({ http: 'GET /orders/42' }).layers).toEqual([
      { name: 'guardrail', rules: 1, matching: 0 },
      { name: 'deny', rules: 1, matching: 0 },
      { name: 'allow', rules: 4, matching: 1 },
    ])
  })

  test('answers for the first port that the policies name', () => {
    expect(ask({ port: undefined }).port).toBe(9090)
  })

  test.each([
    ['HTTP', { http: 'DELETE /orders/42' }],
    ['gRPC', { call: { kind: 'grpc', method: 'shop.Orders/Get' } }],
    [
      'a raw connection',
      { call: { kind: 'tcp' }, caller: parseSpiffeId('spiffe://example.test/ns/x/sa/y') },
    ],
    ['the asterisk of OPTIONS', { http: 'OPTIONS *' }],
    ['a path that looks like a pattern', { http: 'GET /a/{*}/b*' }],
    ['an escaped path', { http: 'GET /caf%c3%a9' }],
    ['a caller of another namespace', { caller: parseSpiffeId('spiffe://example.test/ns/x/sa/y') }],
    [
      'a caller of another trust domain',
      { caller: parseSpiffeId('spiffe://other.test/ns/shop/sa/y') },
    ],
    ['a caller of another shape', { caller: parseSpiffeId('spiffe://other.test/vm/1') }],
    ['a caller without an identity', { caller: undefined }],
    ['a call on a port', { port: 8080 }],
  ] as const)('suggests a rule that allows exactly the call: %s', (_, question) => {
    const { suggestion, decision } = ask(question)
    expect(decision.effect).toBe('deny')
    const documents = [...read(yaml), documentFromJson(suggestion?.json ?? '')]
    const after = compiledFor(orders, { ...deployment, documents })
    const [method = 'GET', path = '/'] = ('http' in question ? question.http : 'GET /').split(' ')
    const base = {
      caller: checkout,
      port: 8080,
      now: 0,
      call: { kind: 'http', method, path },
    } as const
    expect(explain(after, { ...base, ...question }).decision).toMatchObject({
      effect: 'allow',
      rule: 'suggested',
    })
    const other = {
      ...base,
      ...question,
      call: { kind: 'http', method: 'PATCH', path: '/zzz' },
    } as const
    expect(explain(after, other).decision.effect).toBe('deny')
  })

  test.each([
    ['a deny', { http: 'GET /admin' }],
    ['a malformed request', { http: 'GET /..' }],
    ['an allow', { http: 'GET /orders/42' }],
  ])('suggests nothing where no rule would help: %s', (_, question) => {
    expect(ask(question).suggestion).toBeUndefined()
    expect(ask(question).nearest).toBeUndefined()
  })

  test('suggests nothing for a target that no policy can name', () => {
    const target = parseSpiffeId('spiffe://example.test/vm/1')
    const vm = compiledFor(target, { ...deployment, documents: read(yaml) })
    const question = { caller: checkout, port: undefined, now: 0, call: { kind: 'tcp' } } as const
    expect(explain(vm, question).suggestion).toBeUndefined()
  })

  test('says what shadow rules would change', () => {
    expect(ask({ http: 'GET /trial' }).decision.shadow).toMatchObject({ direction: 'would_allow' })
  })
})
