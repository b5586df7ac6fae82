import { describe, expect, test } from 'vitest'
import {
  documentFromJson,
  documentToJson,
  PolicyError,
  type Problem,
  parseDocuments,
} from '../../policies/index.js'
import { vector } from './mesh.js'

/** The problems of a text that must be refused. */
function problemsOf(text: string): readonly Problem[] {
  try {
    parseDocuments(text, 'p.yaml')
  } catch (error) {
    if (error instanceof PolicyError) {
      expect(error.problems[0]?.code ?? error.code).toBe(error.code)
      return error.problems
    }
    throw error
  }
  throw new Error('the text was taken')
}

const policy = (rules: string, target = '{ app: orders }') => `apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: { name: orders, namespace: shop }
spec:
  target: ${target}
  rules: ${rules}
`

const guardrail = (rules: string, target = '{ mesh: true }') => `apiVersion: countersign.dev/v1
kind: Guardrail
metadata: { name: guard }
spec: { target: ${target}, rules: ${rules} }
`

const policyTest = (cases: string) => `apiVersion: countersign.dev/v1
kind: PolicyTest
metadata: { name: orders, namespace: shop }
spec: { cases: ${cases} }
`

const rule = (fields: string) => policy(`[{ name: r, from: [{ app: a }], ${fields} }]`)
const from = (selector: string) => policy(`[{ name: r, from: [${selector}] }]`)
const to = (operation: string) => rule(`to: [${operation}]`)

describe('a document', () => {
  test('needs no more than a target and who may call it', () => {
    expect(parseDocuments(policy('[{ name: r, from: [{ app: x }] }]'), 'p')).toEqual([
      {
        kind: 'AccessPolicy',
        name: 'orders',
        namespace: 'shop',
        app: 'orders',
        ports: undefined,
        mode: 'enforce',
        rules: [
          {
            name: 'r',
            action: 'allow',
            mode: 'enforce',
            from: [{ kind: 'app', app: 'x', namespace: undefined, trustDomain: undefined }],
            to: undefined,
            notBefore: undefined,
            expires: undefined,
            reason: undefined,
          },
        ],
      },
    ])
  })

  test('may use all of the language, and survives being stored', () => {
    const documents = parseDocuments(vector('language.yaml'), 'language.yaml')
    expect(documents.map(({ kind, name }) => `${kind} ${name}`)).toEqual([
      'AccessPolicy orders',
      'AccessPolicy everyone',
      'Guardrail quarantine',
      'Guardrail shop-wide',
      'Guardrail other-app',
      'PolicyTest orders',
    ])
    expect(documents[0]).toMatchObject({ ports: [8080, 9090], app: 'orders' })
    expect(documents[0]).toHaveProperty('rules.0.notBefore', Date.UTC(2025, 11, 31, 22))
    expect(documents[1]).toMatchObject({ mode: 'shadow', app: undefined })
    expect(documents.slice(2, 5).map((document) => 'reach' in document && document.reach)).toEqual([
      { kind: 'mesh' },
      { kind: 'namespace', namespace: 'shop' },
      { kind: 'app', namespace: 'shop', app: 'billing' },
    ])
    for (const document of documents) {
      expect(documentFromJson(documentToJson(document))).toEqual(document)
    }
  })

  test('may be JSON, indented with tabs', () => {
    const [document] = parseDocuments(policy('[{ name: r, from: [{ app: x }] }]'), 'p')
    const json = JSON.stringify(JSON.parse(documentToJson(document!)), undefined, '\t')
    expect(parseDocuments(json, 'p.json')).toEqual([document])
  })

  test.each([
    ['no text', ''],
    ['a comment', '# nothing yet\n'],
    ['empty documents', '---\n---\n---\n'],
  ])('is not there in %s', (_, text) => {
    expect(parseDocuments(text, 'p')).toEqual([])
  })
})

describe('an unknown field is refused with the nearest name', () => {
  test.each([
    ['of a document', policy('[]').replace('spec:', 'spce:'), 'spce', 'spec'],
    [
      'of metadata',
      policy('[]').replace('namespace: shop', 'namepsace: shop'),
      'metadata.namepsace',
      'namespace',
    ],
    ['of a spec', policy('[]').replace('rules:', 'rule:'), 'spec.rule', 'rules'],
    ['of a target', policy('[]', '{ apps: orders }'), 'spec.target.apps', 'app'],
    ['of a rule', rule('form: []'), 'spec.rules[0].form', 'from'],
    ['of a selector', from('{ apps: x }'), 'spec.rules[0].from[0].apps', 'app'],
    [
      'of a selector in capitals',
      from('{ spiffeID: x }'),
      'spec.rules[0].from[0].spiffeID',
      'spiffeId',
    ],
    ['of an operation', to('{ path: [/x] }'), 'spec.rules[0].to[0].path', 'paths'],
    ['of a case', policyTest('[{ form: unauthenticated }]'), 'spec.cases[0].form', 'from'],
    ['of a call', policyTest('[{ to: { ap: x } }]'), 'spec.cases[0].to.ap', 'app'],
    [
      'that negates',
      from('{ notNamespace: x }'),
      'spec.rules[0].from[0].notNamespace',
      'namespace',
    ],
  ])('%s', (_, text, field, near) => {
    const found = problemsOf(text).find((problem) => problem.field === field)
    expect(found).toMatchObject({ code: 'CS_POLICY_INVALID', message: 'unknown field' })
    expect(found?.hint).toBe(`did you mean "${near}"?`)
  })

  test('or with all names when none is near', () => {
    expect(problemsOf(to('{ hostnames: [x] }'))).toContainEqual(
      expect.objectContaining({ hint: 'fields here: methods, paths, grpc, tcp' }),
    )
  })
})

describe('what is not enforced yet is refused by name', () => {
  test.each(['when', 'limit'])('%s', (field) => {
    expect(problemsOf(rule(`${field}: []`))).toMatchObject([
      { code: 'CS_POLICY_UNSUPPORTED', field: `spec.rules[0].${field}` },
    ])
  })
})

describe('a problem is shown where it is', () => {
  test('with file, line, column and field', () => {
    const text = policy('\n    - name: r\n      from:\n        - app: x\n          namepsace: y')
    expect(() => parseDocuments(text, 'orders.yaml')).toThrow(
      'orders.yaml:10:11: spec.rules[0].from[0].namepsace: unknown field; did you mean "namespace"?',
    )
  })

  test('and all problems of all documents are found at once', () => {
    const bad = policy('[{ name: r, form: [], from: [{ app: 1 }] }]', '{ app: orders, port: 1 }')
    const fields = problemsOf(`${bad}---\n${guardrail('[]')}`).map(({ line, field }) => [
      line,
      field,
    ])
    expect(fields).toEqual([
      [5, 'spec.target.port'],
      [6, 'spec.rules[0].form'],
      [6, 'spec.rules[0].from[0].app'],
      [11, 'spec.rules'],
    ])
  })

  test('but not endlessly', () => {
    const rules = Array.from({ length: 1000 }, () => '{}').join(', ')
    expect(problemsOf(policy(`[${rules}]`))).toHaveLength(20)
  })

  test('and a message stays on one line and short, whatever the field is called', () => {
    const [problem] = problemsOf(policy('[]', `{ "a\\n\\u001b[31m${'x'.repeat(1000)}": 1 }`))
    expect(problem?.field.length).toBeLessThan(200)
    expect(problem?.field).not.toMatch(/\p{Cc}/u)
  })
})

describe('refuses', () => {
  test.each([
    [
      'another version',
      policy('[]').replace('dev/v1', 'dev/v2'),
      'apiVersion',
      'must be countersign.dev/v1',
    ],
    ['no version', policy('[]').replace(/^.*\n/, ''), 'apiVersion', 'is missing'],
    [
      'another kind',
      policy('[]').replace('AccessPolicy', 'AccessPolice'),
      'kind',
      'must be AccessPolicy or',
    ],
    ['a list as a document', '[1]', '', 'must be a map'],
    ['no name', policy('[]').replace('name: orders, ', ''), 'metadata.name', 'is missing'],
    [
      'no namespace',
      policy('[]').replace(', namespace: shop', ''),
      'metadata.namespace',
      'is missing',
    ],
    [
      'a namespace of a guardrail',
      guardrail('[]').replace('guard }', 'guard, namespace: shop }'),
      'metadata.namespace',
      'unknown field',
    ],
    [
      'a name with a slash',
      policy('[]').replace('name: orders', 'name: a/b'),
      'metadata.name',
      'is not a name',
    ],
    [
      'BY-I02: a bracket in a namespace',
      policy('[]').replace('namespace: shop', 'namespace: "a[b"'),
      'metadata.namespace',
      'cannot be a segment',
    ],
    [
      'BY-I02: a star as an app',
      from('{ app: "*" }'),
      'spec.rules[0].from[0].app',
      'cannot be a segment',
    ],
    [
      'a step up as an app',
      from('{ app: ".." }'),
      'spec.rules[0].from[0].app',
      'cannot be a segment',
    ],
    [
      'a number as a name',
      policy('[]').replace('name: orders', 'name: 12'),
      'metadata.name',
      'must be a text, not 12',
    ],
    ['no target', policy('[]', '{}'), 'spec.target', 'must name an app'],
    [
      'an app and its namespace',
      policy('[]', '{ app: x, namespace: true }'),
      'spec.target',
      'not both',
    ],
    [
      'the mesh as a target of an app owner',
      policy('[]', '{ mesh: true }'),
      'spec.target.mesh',
      'only a Guardrail',
    ],
    [
      'a namespace by name as a target of an app owner',
      policy('[]', '{ namespace: other }'),
      'spec.target.namespace',
      'must be true',
    ],
    [
      'a guardrail for its own namespace',
      guardrail('[]', '{ namespace: true }'),
      'spec.target.namespace',
      'no namespace of its own',
    ],
    [
      'a guardrail for an app of no namespace',
      guardrail('[]', '{ app: x }'),
      'spec.target',
      'name a namespace',
    ],
    [
      'a guardrail for the mesh and an app',
      guardrail('[]', '{ mesh: true, namespace: x }'),
      'spec.target',
      'not both',
    ],
    [
      'a port of 0',
      policy('[]', '{ app: x, ports: [0] }'),
      'spec.target.ports[0]',
      'from 1 to 65535',
    ],
    [
      'a port of 65536',
      policy('[]', '{ app: x, ports: [65536] }'),
      'spec.target.ports[0]',
      'from 1 to 65535',
    ],
    [
      'a port as a text',
      policy('[]', '{ app: x, ports: ["80"] }'),
      'spec.target.ports[0]',
      'from 1 to 65535',
    ],
    [
      'no ports in a list',
      policy('[]', '{ app: x, ports: [] }'),
      'spec.target.ports',
      'must not be empty',
    ],
    ['no rules', policy('[]'), 'spec.rules', 'must not be empty'],
    [
      'a rule without a name',
      policy('[{ from: [{ any: true }] }]'),
      'spec.rules[0].name',
      'is missing',
    ],
    ['a rule without callers', policy('[{ name: r }]'), 'spec.rules[0].from', 'is missing'],
    [
      'an empty list of callers',
      policy('[{ name: r, from: [] }]'),
      'spec.rules[0].from',
      'must not be empty',
    ],
    ['an empty list of operations', rule('to: []'), 'spec.rules[0].to', 'must not be empty'],
    ['another action', rule('action: audit'), 'spec.rules[0].action', 'must be allow or deny'],
    [
      'an action in capitals',
      rule('action: DENY'),
      'spec.rules[0].action',
      'must be allow or deny',
    ],
    ['another mode', rule('mode: permissive'), 'spec.rules[0].mode', 'must be enforce or shadow'],
    ['an empty selector', from('{}'), 'spec.rules[0].from[0]', 'must name a caller'],
    ['a selector that is a text', from('checkout'), 'spec.rules[0].from[0]', 'must be a map'],
    ['any: false', from('{ any: false }'), 'spec.rules[0].from[0].any', 'must be true'],
    [
      'two selectors in one',
      from('{ app: x, any: true }'),
      'spec.rules[0].from[0].app',
      'cannot stand beside any',
    ],
    [
      'a SPIFFE ID with a namespace',
      from('{ spiffeId: "spiffe://a/b", namespace: x }'),
      'spec.rules[0].from[0].namespace',
      'cannot stand beside spiffeId',
    ],
    [
      'a trust domain in capitals',
      from('{ trustDomain: Example.test }'),
      'spec.rules[0].from[0].trustDomain',
      'lowercase',
    ],
    [
      'a trust domain with a wildcard',
      from('{ trustDomain: "*.test" }'),
      'spec.rules[0].from[0].trustDomain',
      'lowercase',
    ],
    [
      'methods and gRPC in one',
      to('{ methods: [GET], grpc: [a.B/C] }'),
      'spec.rules[0].to[0]',
      'not several',
    ],
    ['tcp: false', to('{ tcp: false }'), 'spec.rules[0].to[0].tcp', 'must be true'],
    [
      'a method in lower case',
      to('{ methods: [get] }'),
      'spec.rules[0].to[0].methods[0]',
      'not a method in upper case',
    ],
    [
      'a star as a method',
      to('{ methods: ["*"] }'),
      'spec.rules[0].to[0].methods[0]',
      'not a method in upper case',
    ],
    [
      'a time without a zone',
      rule('expires: 2026-12-31T00:00:00'),
      'spec.rules[0].expires',
      'is not a time',
    ],
    ['a day without a time', rule('expires: 2026-12-31'), 'spec.rules[0].expires', 'is not a time'],
    [
      'the 30th of February',
      rule('expires: 2026-02-30T00:00:00Z'),
      'spec.rules[0].expires',
      'is not a time',
    ],
    [
      'the 25th hour',
      rule('expires: 2026-02-20T24:00:00Z'),
      'spec.rules[0].expires',
      'is not a time',
    ],
    ['a time as a number', rule('expires: 1800000000'), 'spec.rules[0].expires', 'must be a text'],
    [
      'an end before the start',
      rule('notBefore: 2026-01-02T00:00:00Z, expires: 2026-01-02T00:00:00Z'),
      'spec.rules[0]',
      'earlier than expires',
    ],
    ['a long reason', rule(`reason: ${'x'.repeat(1025)}`), 'spec.rules[0].reason', 'at most 1024'],
    ['no cases', policyTest('[]'), 'spec.cases', 'must not be empty'],
    [
      'a case from a pattern',
      policyTest('[{ from: "spiffe://a/{*}", to: { app: x, tcp: true }, expect: deny }]'),
      'spec.cases[0].from',
      'letters, digits',
    ],
    [
      'a case without a call',
      policyTest('[{ from: unauthenticated, to: { app: x }, expect: deny }]'),
      'spec.cases[0].to',
      'must be one call',
    ],
    [
      'a case with two calls',
      policyTest(
        '[{ from: unauthenticated, to: { app: x, tcp: true, grpc: a.B/C }, expect: deny }]',
      ),
      'spec.cases[0].to',
      'must be one call',
    ],
    [
      'a case with a path and no method',
      policyTest('[{ from: unauthenticated, to: { app: x, path: /x }, expect: deny }]'),
      'spec.cases[0].to',
      'both method and path',
    ],
    [
      'a case for all methods of a service',
      policyTest('[{ from: unauthenticated, to: { app: x, grpc: "a.B/*" }, expect: deny }]'),
      'spec.cases[0].to.grpc',
      'names one method',
    ],
    [
      'another expectation',
      policyTest('[{ from: unauthenticated, to: { app: x, tcp: true }, expect: maybe }]'),
      'spec.cases[0].expect',
      'must be allow or deny',
    ],
    [
      'a rule without its policy',
      policyTest('[{ from: unauthenticated, to: { app: x, tcp: true }, expect: deny, rule: r }]'),
      'spec.cases[0].rule',
      'must be <policy>/<rule>',
    ],
  ])('%s', (_, text, field, message) => {
    expect(problemsOf(text)).toContainEqual(
      expect.objectContaining({ field, message: expect.stringContaining(message) }),
    )
  })

  test.each([
    ['a guardrail that allows', guardrail('[{ name: r, action: allow, from: [{ any: true }] }]')],
    ['a guardrail without an action', guardrail('[{ name: r, from: [{ any: true }] }]')],
  ])('%s', (_, text) => {
    expect(problemsOf(text)).toMatchObject([{ code: 'CS_POLICY_GUARDRAIL_ALLOWS' }])
  })

  test('an app of no namespace in a guardrail', () => {
    expect(problemsOf(guardrail('[{ name: r, action: deny, from: [{ app: x }] }]'))).toMatchObject([
      { hint: 'add namespace beside app' },
    ])
  })

  test.each([
    [
      'two rules of one name',
      policy('[{ name: r, from: [{ any: true }] }, { name: r, from: [{ any: true }] }]'),
    ],
    ['two documents of one name', `${from('{ any: true }')}---\n${from('{ any: true }')}`],
    ['a field that is there twice', `${from('{ any: true }')}kind: AccessPolicy\n`],
  ])('%s', (_, text) => {
    expect(problemsOf(text)).toMatchObject([{ code: 'CS_POLICY_DUPLICATE' }])
  })

  test('a rule that multiplies without end', () => {
    const callers = Array.from({ length: 300 }, (_, at) => `{ app: a${at} }`).join()
    const paths = Array.from({ length: 300 }, (_, at) => `/p${at}`).join()
    expect(
      problemsOf(policy(`[{ name: r, from: [${callers}], to: [{ paths: [${paths}] }] }]`)),
    ).toMatchObject([{ message: 'from and to make more than 65536 combinations' }])
  })
})

describe('patterns', () => {
  test.each([
    '/',
    '/orders',
    '/orders/',
    '/orders/{*}',
    '/{*}/x/{*}',
    '/reports/{**}',
    '/reports/{**}/',
    '/{**}',
    '/caf%C3%A9',
    '/ADMIN',
    '/a.b-c_d~e',
    "/a!$&'()+,=:@",
    '/...',
  ])('takes the path %s', (path) => {
    expect(parseDocuments(to(`{ paths: [${JSON.stringify(path)}] }`), 'p')).toHaveLength(1)
  })

  test.each([
    ['orders', 'starts with a slash', '/orders'],
    ['/api*', 'whole segment', '/api/{**}'],
    ['/api/*', 'whole segment', '/api/{*}'],
    ['/api/**', 'whole segment', '/api/{**}'],
    ['/users/{id}', 'whole segment', '/users/{*}'],
    ['/users/{id}/x', 'whole segment', '/users/{*}/x'],
    ['/a*b/c', 'whole segment', '/{*}/c'],
    ['/x{*}', 'whole segment', '/{*}'],
    ['/{**}/x', 'only at the end', '/{*}/x'],
    ['/{**}/{**}', 'only at the end', '/{*}/{**}'],
    ['/a?x=1', 'never matched', '/a'],
    ['/a#x', 'never matched', '/a'],
    ['//a', 'canonical spelling', '/a'],
    ['/a//b', 'canonical spelling', '/a/b'],
    ['/%61dmin', 'canonical spelling', '/admin'],
    ['/caf%c3%a9', 'canonical spelling', '/caf%C3%A9'],
    ['/a/../b', 'dot_segment', undefined],
    ['/a%2Fb', 'encoded_slash', undefined],
    ['/a;b', 'path_parameter', undefined],
    ['/café', 'bad_byte', undefined],
    ['/100%', 'bad_escape', undefined],
    ['/%2541', 'double_encoding', undefined],
    [`/${'a/'.repeat(40)}`, 'at most 32 segments', undefined],
    [`/${'a'.repeat(1024)}`, 'at most 1024 bytes', undefined],
  ])('BY-D01: refuses the path %s', (path, fault, near) => {
    const [problem] = problemsOf(to(`{ paths: [${JSON.stringify(path)}] }`))
    expect(problem).toMatchObject({
      code: 'CS_POLICY_PATTERN_INVALID',
      message: expect.stringContaining(fault),
    })
    expect(problem?.hint).toBe(near && `did you mean ${JSON.stringify(near)}?`)
  })

  test.each(['shop.v1.Orders/Get', 'shop.v1.Orders/*', 'Greeter/SayHello', '_a.B_1/_c'])(
    'takes the gRPC method %s',
    (method) => {
      expect(parseDocuments(to(`{ grpc: ["${method}"] }`), 'p')).toHaveLength(1)
    },
  )

  test.each([
    ['/shop.v1.Orders/Get', 'shop.v1.Orders/Get'],
    ['shop.v1.Orders', 'shop.v1.Orders/*'],
    ['shop.v1.Orders/{*}', 'shop.v1.Orders/*'],
    ['shop.v1.*/Get', undefined],
    ['shop..Orders/Get', undefined],
    ['*/*', undefined],
    ['shop.v1.Orders/G*', undefined],
  ])('refuses the gRPC method %s', (method, near) => {
    const [problem] = problemsOf(to(`{ grpc: ["${method}"] }`))
    expect(problem?.code).toBe('CS_POLICY_PATTERN_INVALID')
    expect(problem?.hint).toBe(near && `did you mean "${near}"?`)
  })

  test.each([
    'spiffe://partner.test/batch/etl',
    'spiffe://partner.test/batch/{*}',
    'spiffe://partner.test/{*}/x',
    'spiffe://partner.test/{**}',
    'spiffe://acme/ns/x/{**}',
  ])('takes the SPIFFE ID %s', (id) => {
    expect(parseDocuments(from(`{ spiffeId: "${id}" }`), 'p')).toHaveLength(1)
  })

  test.each([
    ['https://partner.test/x', 'starts with spiffe://', undefined],
    ['spiffe://partner.test', 'names a trust domain', undefined],
    ['spiffe://{*}/x', 'never a wildcard', undefined],
    ['spiffe://*.test/x', 'never a wildcard', undefined],
    ['spiffe://Partner.test/x', 'lowercase', undefined],
    ['spiffe://partner.test/batch*', 'whole segment', 'spiffe://partner.test/{*}'],
    ['spiffe://partner.test/batch/*', 'whole segment', 'spiffe://partner.test/batch/{*}'],
    ['spiffe://partner.test/batch/**', 'whole segment', 'spiffe://partner.test/batch/{**}'],
    ['spiffe://partner.test/{**}/x', 'whole segment', 'spiffe://partner.test/{*}/x'],
    ['spiffe://partner.test/a/../b', 'dot segment', undefined],
    ['spiffe://partner.test/a/', 'end in a slash', undefined],
    ['spiffe://partner.test/a%2Fb', 'letters, digits', undefined],
    ['spiffe://partner.test:443/a', 'lowercase letters', undefined],
  ])('refuses the SPIFFE ID %s', (id, fault, near) => {
    const [problem] = problemsOf(from(`{ spiffeId: "${id}" }`))
    expect(problem).toMatchObject({
      code: 'CS_POLICY_PATTERN_INVALID',
      message: expect.stringContaining(fault),
    })
    expect(problem?.hint).toBe(near && `did you mean "${near}"?`)
  })
})

describe('a text that is not safe to read is refused', () => {
  test.each([
    ['an anchor', 'a: &x 1'],
    ['an alias', 'a: &x [1]\nb: [*x, *x]'],
    ['a billion laughs', 'a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]'],
    ['a tag', 'a: !!js/function "x"'],
    ["a tag of one's own", 'a: !secret x'],
    ['a quote that does not end', 'a: "x'],
    ['a wrong indentation', 'a:\n  b: 1\n c: 2'],
    ['a map as a key', '? { a: 1 }\n: 2'],
    ['brackets without end', '['.repeat(100_000)],
    ['braces without end', '{a: '.repeat(100_000)],
    ['dashes without end', '- '.repeat(100_000)],
    ['questions without end', '? '.repeat(100_000)],
  ])('%s', (_, text) => {
    expect(() => parseDocuments(text, 'p.yaml')).toThrow(
      expect.objectContaining({ code: 'CS_POLICY_MALFORMED' }),
    )
  })

  test('more than four mebibytes', () => {
    expect(() => parseDocuments('#'.repeat(4 * 2 ** 20 + 1), 'p')).toThrow(
      expect.objectContaining({ code: 'CS_POLICY_MALFORMED' }),
    )
  })

  test('more than twenty thousand documents', () => {
    expect(() => parseDocuments('--- 1\n'.repeat(20_001), 'p')).toThrow(
      expect.objectContaining({ code: 'CS_POLICY_MALFORMED' }),
    )
  })

  test.each([
    ['no JSON', '{'],
    ['a list', '[]'],
    ['another kind', '{"apiVersion":"countersign.dev/v1","kind":"Other"}'],
  ])('and so is a stored document that is %s', (_, json) => {
    expect(() => documentFromJson(json)).toThrow(PolicyError)
  })
})
