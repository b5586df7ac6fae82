import { describe, expect, test } from 'vitest'
import { authorize, bindCaller, decide, rawConnection } from '../../policies/index.js'
import { parseSpiffeId } from '../../spiffe/index.js'
import { guardrail, type MeshOptions, mesh, policy } from './mesh.js'

const any = 'from: [ { any: true } ]'
const local = 'spiffe://example.test/ns'

describe('who is asking', () => {
  const callers = (selector: string, options?: MeshOptions) => {
    const { say } = mesh(policy([`{ name: r, from: [ ${selector} ] }`]), options)
    return (from: string) => say({ from }).startsWith('allow')
  }

  test.each([
    ['app', '{ app: checkout }', [`${local}/shop/sa/checkout`]],
    ['app of another namespace', '{ app: etl, namespace: batch }', [`${local}/batch/sa/etl`]],
    [
      'app of another trust domain',
      '{ app: etl, namespace: batch, trustDomain: partner.test }',
      ['spiffe://partner.test/ns/batch/sa/etl'],
    ],
    [
      "app of one's own namespace in another trust domain",
      '{ app: checkout, trustDomain: partner.test }',
      ['spiffe://partner.test/ns/shop/sa/checkout'],
    ],
    ['namespace', '{ namespace: batch }', [`${local}/batch/sa/etl`, `${local}/batch/sa/x`]],
    [
      'namespace of another trust domain',
      '{ namespace: batch, trustDomain: partner.test }',
      ['spiffe://partner.test/ns/batch/sa/etl'],
    ],
    [
      'trustDomain',
      '{ trustDomain: partner.test }',
      [
        'spiffe://partner.test/ns/batch/sa/etl',
        'spiffe://partner.test/ns/shop/sa/checkout',
        'spiffe://partner.test/x',
      ],
    ],
    ['spiffeId', `{ spiffeId: "${local}/batch/sa/etl" }`, [`${local}/batch/sa/etl`]],
    [
      'spiffeId with {*}',
      '{ spiffeId: "spiffe://example.test/ns/{*}/sa/etl" }',
      [`${local}/batch/sa/etl`],
    ],
    [
      'spiffeId with {**}',
      '{ spiffeId: "spiffe://example.test/ns/batch/{**}" }',
      [`${local}/batch/sa/etl`, `${local}/batch/sa/x`, `${local}/batch/etl`, `${local}/batch`],
    ],
  ])('%s matches exactly those it names', (_, selector, expected) => {
    const isAllowed = callers(selector)
    const everyone = [
      `${local}/shop/sa/checkout`,
      `${local}/batch/sa/etl`,
      `${local}/batch/sa/x`,
      `${local}/batch/etl`,
      `${local}/batch`,
      `${local}/batch-2/sa/x`,
      'spiffe://partner.test/ns/batch/sa/etl',
      'spiffe://partner.test/ns/shop/sa/checkout',
      'spiffe://partner.test/x',
      'spiffe://partner.test.evil.test/x',
      'spiffe://example.test.evil.test/ns/batch/sa/etl',
      'spiffe://xexample.test/ns/shop/sa/checkout',
    ]
    expect(everyone.filter(isAllowed)).toEqual(everyone.filter((id) => expected.includes(id)))
  })

  test('any: true matches every verified ID and nobody without one', () => {
    const { say } = mesh(policy([`{ name: r, ${any} }`]))
    expect(say({ from: 'spiffe://other.test/x' })).toBe('allow orders/r')
    expect(say({ from: { unauthenticated: 'no-certificate' } })).toBe('deny unauthenticated')
  })

  test('unauthenticated: true matches nobody with an ID', () => {
    const { say } = mesh(policy(['{ name: r, from: [ { unauthenticated: true } ] }']))
    expect(say({ from: { unauthenticated: 'no-certificate' } })).toBe('allow orders/r')
    expect(say({ from: 'checkout' })).toBe('deny no-rule')
  })

  test('an alias group stands for each of its trust domains, in every kind of selector', () => {
    const aliases = { acme: ['acme.test', 'acme-old.test'] }
    for (const selector of [
      '{ app: checkout, trustDomain: acme }',
      '{ namespace: shop, trustDomain: acme }',
      '{ trustDomain: acme }',
      '{ spiffeId: "spiffe://acme/ns/{*}/sa/checkout" }',
    ]) {
      const isAllowed = callers(selector, { aliases })
      const ids = ['acme.test', 'acme-old.test', 'acme', 'acme-new.test', 'example.test'].map(
        (name) => `spiffe://${name}/ns/shop/sa/checkout`,
      )
      expect(ids.filter(isAllowed)).toEqual(ids.slice(0, 2))
    }
  })

  test('the layout decides what an app is called', () => {
    const { say } = mesh(
      policy(['{ name: r, from: [ { app: checkout }, { namespace: batch } ] }']),
      {
        layout: 'dapr',
      },
    )
    expect(say({ from: `${local}/shop/checkout` })).toBe('allow orders/r')
    expect(say({ from: `${local}/batch/x` })).toBe('allow orders/r')
    expect(say({ from: `${local}/shop/sa/checkout` })).toBe('deny no-rule')
  })

  test.each([
    'no-certificate',
    'no-identity-yet',
    'not-spiffe',
    'multiple-uri-san',
    'svid-expired',
    'unknown-trust-domain',
    'chain-invalid',
  ] as const)('a refusal says that the reason was %s', (unauthenticated) => {
    const { ask } = mesh(policy([`{ name: r, ${any} }`]))
    expect(ask({ from: { unauthenticated } })).toEqual({
      effect: 'deny',
      reason: 'unauthenticated',
      detail: unauthenticated,
      shadow: undefined,
    })
  })
})

describe('what is asked for', () => {
  const allows = (operation: string) => {
    const { say } = mesh(policy([`{ name: r, ${any}, to: [ ${operation} ] }`]))
    return (call: Parameters<typeof say>[0]) => say(call) === 'allow orders/r'
  }

  test.each([
    [
      '{ paths: [/orders] }',
      ['/orders', '/orders/'],
      ['/', '/orders/42', '/ordersx', '/Orders', '/orders%20'],
    ],
    ['{ paths: [/orders/] }', ['/orders', '/orders/', '//orders'], ['/orders/42']],
    ['{ paths: [/] }', ['/', '//'], ['/x']],
    [
      '{ paths: ["/orders/{*}"] }',
      ['/orders/42', '/orders/42/', '/orders/{*}'],
      ['/orders', '/orders/', '/orders/4/2'],
    ],
    ['{ paths: ["/{*}/items"] }', ['/a/items', '/items/items'], ['/items', '/a/b/items']],
    [
      '{ paths: ["/reports/{**}"] }',
      ['/reports', '/reports/', '/reports/a/b'],
      ['/report', '/', '/reportsx'],
    ],
    ['{ paths: ["/{**}"] }', ['/', '/a', '/a/b/c/d/e/f/g'], []],
    ['{ paths: ["/{*}/{**}"] }', ['/a', '/a/b/c'], ['/']],
    ['{ paths: ["/a/{*}/c", "/a/b/d"] }', ['/a/b/c', '/a/b/d', '/a/x/c'], ['/a/x/d']],
    ['{ paths: [/caf%C3%A9] }', ['/caf%C3%A9', '/caf%c3%a9'], ['/cafe']],
    ['{ methods: [GET] }', ['/', '/x/y'], []],
  ])('%s matches the paths it should', (operation, matching, others) => {
    const isAllowed = allows(operation)
    const all = [...matching, ...others]
    expect(all.filter((path) => isAllowed({ http: `GET ${path}` }))).toEqual(matching)
  })

  test.each([
    ['{ methods: [GET] }', ['GET', 'HEAD']],
    ['{ methods: [HEAD] }', ['HEAD']],
    ['{ methods: [POST, PURGE] }', ['POST', 'PURGE']],
    ['{ paths: ["/{**}"] }', ['GET', 'HEAD', 'POST', 'PURGE', 'OPTIONS', 'MKCOL']],
    ['{}', ['GET', 'HEAD', 'POST', 'PURGE', 'OPTIONS', 'MKCOL']],
  ])('%s matches the methods it should', (operation, matching) => {
    const isAllowed = allows(operation)
    const all = ['GET', 'HEAD', 'POST', 'PURGE', 'OPTIONS', 'MKCOL']
    expect(all.filter((method) => isAllowed({ http: `${method} /x` }))).toEqual(matching)
  })

  test('more methods than there are bits are still told apart', () => {
    const methods = Array.from({ length: 32 }, (_, at) => `M${at}`)
    const more = Array.from({ length: 32 }, (_, at) => `N${at}`)
    const { say } = mesh(
      policy([
        `{ name: a, ${any}, to: [ { methods: [${methods.join()}], paths: [/a] } ] }`,
        `{ name: b, ${any}, to: [ { methods: [${more.join()}], paths: [/b] } ] }`,
      ]),
    )
    const allowed = [...methods, ...more, 'X'].filter(
      (method) => say({ http: `${method} /b` }) === 'allow orders/b',
    )
    expect(allowed).toEqual(more)
  })

  test.each([
    ['{ grpc: [shop.v1.Orders/Get] }', ['shop.v1.Orders/Get']],
    ['{ grpc: ["shop.v1.Orders/*"] }', ['shop.v1.Orders/Get', 'shop.v1.Orders/List']],
  ])('%s matches the gRPC methods it should', (operation, matching) => {
    const isAllowed = allows(operation)
    const all = [
      'shop.v1.Orders/Get',
      'shop.v1.Orders/List',
      'shop.v1.Orders/get/x',
      'shop.v1.OrdersX/Get',
      'shopxv1.Orders/Get',
    ]
    expect(all.filter((grpc) => isAllowed({ grpc }))).toEqual(matching)
    // gRPC-Web and Connect use the same path with other content types, and GET.
    expect(isAllowed({ http: 'GET /shop.v1.Orders/Get' })).toBe(true)
    expect(isAllowed({ tcp: true })).toBe(false)
  })

  test('tcp: true matches raw connections and no request', () => {
    const isAllowed = allows('{ tcp: true }')
    expect(isAllowed({ tcp: true })).toBe(true)
    expect(isAllowed({ http: 'GET /' })).toBe(false)
  })

  test('without to, every operation matches', () => {
    const { say } = mesh(policy([`{ name: r, ${any} }`]))
    expect(say({ tcp: true })).toBe('allow orders/r')
    expect(say({ http: 'DELETE /x' })).toBe('allow orders/r')
    expect(say({ http: 'OPTIONS *' })).toBe('allow orders/r')
  })

  test('no path rule can match the asterisk of OPTIONS', () => {
    expect(allows('{ paths: ["/{**}"] }')({ http: 'OPTIONS *' })).toBe(false)
    expect(allows('{ methods: [OPTIONS] }')({ http: 'OPTIONS *' })).toBe(true)
    const { say } = mesh(
      policy([
        `{ name: a, ${any} }`,
        `{ name: d, action: deny, ${any}, to: [ { paths: ["/{**}"] } ] }`,
      ]),
    )
    expect(say({ http: 'OPTIONS *' })).toBe('allow orders/a')
  })

  test.each([
    ['no ports named', '{ app: orders }', [8080, 9090, undefined]],
    ['one port named', '{ app: orders, ports: [8080] }', [8080]],
  ])('with %s, a rule applies on the right ports', (_, target, expected) => {
    const { say } = mesh(policy([`{ name: r, ${any} }`], { target }))
    const ports = [8080, 9090, undefined].filter((port) =>
      say(port === undefined ? {} : { port }).startsWith('allow'),
    )
    expect(ports).toEqual(expected)
  })

  test('rules of several documents meet on a port', () => {
    const { say } = mesh(
      policy([`{ name: a, ${any} }`], { target: '{ app: orders, ports: [8080, 9090] }' }) +
        policy([`{ name: d, action: deny, ${any} }`], {
          name: 'deny',
          target: '{ namespace: true, ports: [9090] }',
        }),
    )
    expect(say({ port: 8080 })).toBe('allow orders/a')
    expect(say({ port: 9090 })).toBe('deny deny/d')
    expect(say({ port: 7070 })).toBe('deny no-rule')
  })

  test('where there is no port, rules for certain ports deny and never allow', () => {
    const certain = '{ app: orders, ports: [9090] }'
    const allows = policy([`{ name: a, ${any} }`])
    const denies = policy([`{ name: d, action: deny, ${any} }`], { name: 'deny', target: certain })
    expect(mesh(allows + denies).say({})).toBe('deny deny/d')
    expect(mesh(allows + denies).say({ port: 7070 })).toBe('allow orders/a')
    expect(mesh(policy([`{ name: a, ${any} }`], { target: certain })).say({})).toBe('deny no-rule')

    const guarded =
      allows +
      guardrail([`{ name: g, action: deny, ${any} }`], { target: '{ mesh: true, ports: [9090] }' })
    expect(mesh(guarded).say({})).toBe('deny guard/g')
    expect(mesh(guarded).say({ port: 7070 })).toBe('allow orders/a')
  })

  test('a rule exists only within its time', () => {
    const { ask, policyFor } = mesh(
      policy([
        `{ name: r, ${any}, notBefore: "2026-01-01T00:00:00Z", expires: "2026-02-01T00:00:00Z" }`,
        `{ name: d, action: deny, ${any}, expires: "2026-01-10T00:00:00Z" }`,
      ]),
    )
    const at = (month: number, day: number, ms = 0) =>
      ask({ now: Date.UTC(2026, month - 1, day) + ms }).effect
    expect(at(1, 1, -1)).toBe('deny')
    expect(at(1, 1)).toBe('deny')
    expect(at(1, 10, -1)).toBe('deny')
    expect(at(1, 10)).toBe('allow')
    expect(at(2, 1, -1)).toBe('allow')
    expect(at(2, 1)).toBe('deny')

    const { nextEdge } = policyFor('orders')
    expect(
      [0, Date.UTC(2026, 0, 1), Date.UTC(2026, 0, 10), Date.UTC(2026, 1, 1)].map(nextEdge),
    ).toEqual([Date.UTC(2026, 0, 1), Date.UTC(2026, 0, 10), Date.UTC(2026, 1, 1), undefined])
  })
})

describe('a deny is wider than an allow', () => {
  const denied = (pattern: string) => {
    const { say } = mesh(
      policy([
        `{ name: a, ${any} }`,
        `{ name: d, action: deny, ${any}, to: [ { paths: ["${pattern}"] } ] }`,
      ]),
    )
    return (path: string) => say({ http: `GET ${path}` }) === 'deny orders/d'
  }

  test.each([
    [
      '/admin',
      ['/admin', '/ADMIN', '/admin/', '/admin.', '/Admin%20', '/admin.%20./', '/admin/.%20/'],
      ['/admin/x', '/admin.x', '/%20admin'],
    ],
    ['/Admin', ['/admin', '/ADMIN', '/aDMIN.'], ['/admin.x']],
    ['/admin.', ['/admin', '/admin.', '/admin...'], []],
    ['/a/b', ['/a/b', '/A./B%20', '/a%20/b', '/.../a/b', '/a/%20/b'], ['/a/c', '/a']],
    ['/a/{*}', ['/a/b', '/A/b', '/a/...', '/a/b/%20'], ['/a', '/A/...', '/a/b/c']],
    ['/users/@me', ['/users/@me', '/users/%40me', '/Users/%40ME'], ['/users/%40you', '/users/me']],
    ['/users/%40me', ['/users/@me', '/users/%40me'], ['/users/me']],
    ['/a=b', ['/a=b', '/a%3Db', '/A%3DB%2E'], ['/a%3Dc', '/a%20b']],
    ['/a/{**}', ['/a', '/A', '/a/b', '/a./x/y'], ['/b']],
    ['/caf%C3%A9', ['/caf%C3%A9', '/CAF%c3%a9'], ['/cafe']],
  ])('%s in other spellings', (pattern, matching, others) => {
    const isDenied = denied(pattern)
    expect([...matching, ...others].filter(isDenied)).toEqual(matching)
  })

  test('but an allow is never folded', () => {
    const { say } = mesh(policy([`{ name: a, ${any}, to: [ { paths: [/Admin] } ] }`]))
    const paths = ['/Admin', '/Admin/', '/admin', '/ADMIN', '/Admin.', '/Admin%20']
    expect(paths.filter((path) => say({ http: `GET ${path}` }) === 'allow orders/a')).toEqual([
      '/Admin',
      '/Admin/',
    ])
  })

  test('a gRPC method is folded too', () => {
    const { say } = mesh(
      policy([
        `{ name: a, ${any} }`,
        `{ name: d, action: deny, ${any}, to: [ { grpc: ["shop.Orders/*"] } ] }`,
      ]),
    )
    expect(say({ grpc: 'SHOP.orders/Get' })).toBe('deny orders/d')
  })

  test('a deny for HTTP matches a raw connection by its source alone, an allow never', () => {
    const documents = (action: string) =>
      policy([
        `{ name: t, from: [ { namespace: shop } ], to: [ { tcp: true } ] }`,
        `{ name: h, action: ${action}, from: [ { app: checkout } ], to: [ { methods: [GET], paths: [/x] } ] }`,
      ])
    expect(mesh(documents('deny')).say({ tcp: true })).toBe('deny orders/h')
    expect(mesh(documents('deny')).say({ tcp: true, from: 'other' })).toBe('allow orders/t')
    expect(mesh(documents('allow')).say({ tcp: true })).toBe('allow orders/t')
    expect(
      mesh(policy([`{ name: h, ${any}, to: [ { paths: ["/{**}"] } ] }`])).say({ tcp: true }),
    ).toBe('deny no-rule')
  })
})

describe('the order of decision', () => {
  const allow = `{ name: a, ${any} }`
  const deny = `{ name: d, action: deny, ${any} }`

  test.each([
    ['nothing', '', 'deny no-rule'],
    ['a policy of another app', policy([allow], { target: '{ app: other }' }), 'deny no-rule'],
    [
      'a policy of another namespace',
      policy([allow]).replace('namespace: shop', 'namespace: x'),
      'deny no-rule',
    ],
    ['an allow', policy([allow]), 'allow orders/a'],
    [
      'an allow for the namespace',
      policy([allow], { target: '{ namespace: true }' }),
      'allow orders/a',
    ],
    [
      'BY-C01: a lone deny for something else',
      policy([`{ name: d, action: deny, ${any}, to: [ { paths: [/x] } ] }`]),
      'deny no-rule',
    ],
    ['an allow and a deny', policy([allow, deny]), 'deny orders/d'],
    ['a deny and an allow', policy([deny, allow]), 'deny orders/d'],
    ['a guardrail over both', policy([allow, deny]) + guardrail([deny]), 'deny guard/d'],
    [
      'a guardrail for the namespace',
      policy([allow]) + guardrail([deny], { target: '{ namespace: shop }' }),
      'deny guard/d',
    ],
    [
      'a guardrail for the app',
      policy([allow]) + guardrail([deny], { target: '{ namespace: shop, app: orders }' }),
      'deny guard/d',
    ],
    [
      'a guardrail for another app',
      policy([allow]) + guardrail([deny], { target: '{ namespace: shop, app: x }' }),
      'allow orders/a',
    ],
    [
      'a guardrail for another namespace',
      policy([allow]) + guardrail([deny], { target: '{ namespace: x }' }),
      'allow orders/a',
    ],
    [
      'a guardrail on another port',
      policy([allow]) + guardrail([deny], { target: '{ mesh: true, ports: [9] }' }),
      'allow orders/a',
    ],
  ])('%s', (_, documents, expected) => {
    expect(mesh(documents).say({ port: 8080 })).toBe(expected)
  })

  test('the lowest <policy>/<rule> in byte order is reported', () => {
    const names = ['b/a', 'a/b', 'a/a', 'B/z', 'a-b/a', 'a.b/a']
    const documents = names.map((name) => {
      const [document = '', rule = ''] = name.split('/')
      return { document, rule }
    })
    const yaml = (action: string) =>
      [...new Set(documents.map(({ document }) => document))]
        .map((document) =>
          policy(
            documents
              .filter((one) => one.document === document)
              .map(({ rule }) => `{ name: ${rule}, action: ${action}, ${any} }`),
            { name: document },
          ),
        )
        .join('')
    const [lowest] = [...names].sort((left, right) =>
      Buffer.compare(Buffer.from(left), Buffer.from(right)),
    )
    expect(lowest).toBe('B/z')
    expect(mesh(yaml('allow')).say({})).toBe('allow B/z')
    expect(mesh(yaml('deny')).say({})).toBe('deny B/z')
    const without = yaml('allow').replace('name: B,', 'name: z,')
    // A dash and a dot come before the slash that ends a shorter name.
    expect(mesh(without).say({})).toBe('allow a-b/a')
  })

  test('a decision says everything that the log needs', () => {
    const { ask } = mesh(
      policy(['{ name: r, from: [ { app: checkout } ], to: [ { paths: ["/orders/{*}"] } ] }']),
    )
    expect(ask({ http: 'GET /orders/42' })).toEqual({
      effect: 'allow',
      reason: 'allow-rule',
      policy: 'orders',
      rule: 'r',
      pattern: '/orders/{*}',
      shadow: undefined,
    })
  })

  test('without a snapshot everything is denied', () => {
    const caller = parseSpiffeId(`${local}/shop/sa/checkout`)
    expect(decide(bindCaller(undefined, caller), rawConnection, 0)).toMatchObject({
      effect: 'deny',
      reason: 'no-snapshot',
    })
    expect(decide(bindCaller(undefined, undefined), rawConnection, 0)).toMatchObject({
      effect: 'deny',
      reason: 'unauthenticated',
    })
  })

  test('an unauthenticated caller is let in by name and still held by denies for it', () => {
    const { say } = mesh(
      policy([
        '{ name: open, from: [ { unauthenticated: true } ], to: [ { paths: ["/public/{**}"] } ] }',
        '{ name: shut, action: deny, from: [ { unauthenticated: true } ], to: [ { paths: [/public/admin] } ] }',
      ]),
    )
    const from = { unauthenticated: 'no-certificate' } as const
    expect(say({ from, http: 'GET /public/x' })).toBe('allow orders/open')
    expect(say({ from, http: 'GET /public/ADMIN' })).toBe('deny orders/shut')
    expect(say({ from, http: 'GET /private' })).toBe('deny unauthenticated')
  })
})

describe('shadow', () => {
  const allow = `{ name: a, ${any}, to: [ { paths: [/x] } ] }`
  const shadow = (rule: string) => policy([rule], { name: 'trial', mode: 'shadow' })

  test.each([
    [
      'a shadow allow where nothing allows',
      shadow(allow),
      'deny no-rule',
      { effect: 'allow', direction: 'would_allow', policy: 'trial', rule: 'a' },
    ],
    [
      'a shadow deny over an allow',
      policy([allow]) + shadow(`{ name: d, action: deny, ${any} }`),
      'allow orders/a',
      { effect: 'deny', direction: 'would_deny', policy: 'trial', rule: 'd' },
    ],
    [
      'a shadow guardrail over an allow',
      policy([allow]) + guardrail([`{ name: g, action: deny, ${any} }`], { mode: 'shadow' }),
      'allow orders/a',
      { effect: 'deny', direction: 'would_deny', policy: 'guard', rule: 'g' },
    ],
    [
      'a shadow allow beside an allow',
      policy([allow]) + shadow(allow),
      'allow orders/a',
      { effect: 'allow', direction: undefined, policy: 'trial', rule: 'a' },
    ],
    [
      'a shadow allow under a deny',
      policy([`{ name: d, action: deny, ${any} }`]) + shadow(allow),
      'deny orders/d',
      { effect: 'deny', direction: undefined, policy: 'trial', rule: 'a' },
    ],
    [
      'a shadow rule about something else',
      policy([allow]) + shadow(`{ name: d, action: deny, ${any}, to: [ { paths: [/y] } ] }`),
      'allow orders/a',
      undefined,
    ],
    ['no shadow rule', policy([allow]), 'allow orders/a', undefined],
  ])('%s never changes the verdict', (_, documents, verdict, expected) => {
    const { say, ask } = mesh(documents)
    expect(say({ http: 'GET /x' })).toBe(verdict)
    expect(ask({ http: 'GET /x' }).shadow).toEqual(expected)
  })

  test('one rule of a document may be in shadow', () => {
    const { say, ask } = mesh(policy([allow, `{ name: d, mode: shadow, action: deny, ${any} }`]))
    expect(say({ http: 'GET /x' })).toBe('allow orders/a')
    expect(ask({ http: 'GET /x' }).shadow?.direction).toBe('would_deny')
  })

  test('an unauthenticated caller that a shadow rule would let in is still refused', () => {
    const { ask } = mesh(shadow('{ name: a, from: [ { unauthenticated: true } ] }'))
    expect(ask({ from: { unauthenticated: 'svid-expired' } })).toMatchObject({
      reason: 'unauthenticated',
      detail: 'svid-expired',
      shadow: { direction: 'would_allow' },
    })
  })

  test('folded denies are folded in shadow too', () => {
    const { ask } = mesh(
      policy([
        `{ name: a, ${any} }`,
        `{ name: e, action: deny, ${any}, to: [ { paths: [/Y] } ] }`,
      ]) + shadow(`{ name: d, action: deny, ${any}, to: [ { paths: [/Admin] } ] }`),
    )
    expect(ask({ http: 'GET /ADMIN.' })).toMatchObject({
      effect: 'allow',
      shadow: { direction: 'would_deny', rule: 'd' },
    })
  })
})

describe('a permit', () => {
  const { policyFor } = mesh(
    policy(['{ name: r, from: [ { app: checkout } ], to: [ { tcp: true } ] }']),
  )
  const checkout = parseSpiffeId(`${local}/shop/sa/checkout`)

  test('comes with an allow, and says for whom, what and by which rule', () => {
    const verdict = authorize(bindCaller(policyFor('orders'), checkout), rawConnection, 0)
    expect(verdict.permit).toEqual({ peer: checkout, request: rawConnection, rule: 'orders/r' })
    expect(verdict.decision.effect).toBe('allow')
  })

  test('does not come with a deny', () => {
    const other = parseSpiffeId(`${local}/shop/sa/other`)
    const verdict = authorize(bindCaller(policyFor('orders'), other), rawConnection, 0)
    expect(verdict.permit).toBeUndefined()
    expect(verdict.decision.reason).toBe('no-rule')
  })
})
