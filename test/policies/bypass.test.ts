import { describe, expect, test } from 'vitest'
import {
  canonicalise,
  compileSnapshot,
  parseDocuments,
  readSnapshot,
  removesHeader,
} from '../../policies/index.js'
import { guardrail, mesh, policy } from './mesh.js'
import { snapshotBytes } from './snapshots.js'

/**
 * The rows of the bypass list that the engine alone can decide: whatever is sent, the forbidden
 * path is refused or denied and no other spelling of it is let through. The sidecar and ext_authz run
 * the same rows against a backend that counts.
 */
const any = 'from: [ { any: true } ]'

const guarded = mesh(
  policy([
    `{ name: public, ${any}, to: [ { paths: ["/public/{**}", /info, /a, /login, "/x/{**}", "/v1/{**}", "/user/{**}", /orders] } ] }`,
    `{ name: forbidden, action: deny, ${any}, to: [ { paths: [/admin, "/admin/{**}", /private, /a/b, /x/y, "/v1/internal/{**}", /user/profile] } ] }`,
  ]),
)

describe('paths', () => {
  test.each([
    ['BY-P01', 'GET /info/../private', 'deny malformed:dot_segment'],
    ['BY-P01', 'GET /public/../admin', 'deny malformed:dot_segment'],
    ['BY-P02', 'GET /a?x', 'allow orders/public'],
    ['BY-P02', 'GET /other?/a', 'deny no-rule'],
    ['BY-P02', 'GET /a#x', 'deny malformed:fragment'],
    ['BY-P03', 'GET //admin', 'deny orders/forbidden'],
    ['BY-P03', 'GET /a%2Fb', 'deny malformed:encoded_slash'],
    ['BY-P03', 'GET /a%5Cb', 'deny malformed:encoded_slash'],
    ['BY-P04', 'GET /user/profile#x', 'deny malformed:fragment'],
    ['BY-P06', 'GET admin%2F..%2Fpublic', 'deny malformed:not_origin_form'],
    ['BY-P06', 'GET /admin%2F..%2Fpublic', 'deny malformed:encoded_slash'],
    ['BY-P06', 'GET /public%23/../x', 'deny malformed:encoded_delimiter'],
    ['BY-P06', 'GET /public%3F', 'deny malformed:encoded_delimiter'],
    ['BY-P06', 'GET /public\r', 'deny malformed:bad_byte'],
    ['BY-P07', 'POST admin', 'deny malformed:not_origin_form'],
    ['BY-P07', 'POST shop.Orders/Delete', 'deny malformed:not_origin_form'],
    ['BY-P08', 'GET //x/y', 'deny orders/forbidden'],
    ['BY-P08', 'GET //public.test/x/y', 'deny no-rule'],
    ['BY-P10', 'GET /public/../', 'deny malformed:dot_segment'],
    ['BY-P10', 'GET /public/%2e%2e/admin', 'deny malformed:dot_segment'],
    ['BY-P10', 'GET /./admin', 'deny malformed:dot_segment'],
    ['BY-P10', 'GET /public/%2Fadmin', 'deny malformed:encoded_slash'],
    ['BY-P10', 'GET /public/%5Cadmin', 'deny malformed:encoded_slash'],
    ['BY-P10', 'GET /public/%00/admin', 'deny malformed:encoded_control'],
    ['BY-P10', 'GET /public/%3B/admin', 'deny malformed:path_parameter'],
    ['BY-P10', 'GET /public/%3F/admin', 'deny malformed:encoded_delimiter'],
    ['BY-P10', 'GET /public/%23/admin', 'deny malformed:encoded_delimiter'],
    ['BY-P11', 'GET /public\\..\\admin', 'deny malformed:backslash'],
    ['BY-P11', 'GET /public/..%2fadmin', 'deny malformed:encoded_slash'],
    ['BY-P11', 'GET /public/..%5cadmin', 'deny malformed:encoded_slash'],
    ['BY-P11', 'GET /%61dmin', 'deny orders/forbidden'],
    ['BY-P12', 'GET /v1/..;/internal', 'deny malformed:path_parameter'],
    ['BY-P12', 'GET /v1/internal;a=b', 'deny malformed:path_parameter'],
    ['BY-P12', 'GET /v1/internal%3B', 'deny malformed:path_parameter'],
    ['BY-P12', 'GET /v1/internal%20', 'deny orders/forbidden'],
    ['BY-P13', 'GET /public/%252e%252e/admin', 'deny malformed:double_encoding'],
    ['BY-P14', 'GET /ADMIN', 'deny orders/forbidden'],
    ['BY-P14', 'GET /admin/', 'deny orders/forbidden'],
    ['BY-P14', 'GET /admin.', 'deny orders/forbidden'],
    ['BY-P14', 'GET /Admin./x%20', 'deny orders/forbidden'],
    ['BY-P16', 'POST /orders', 'allow orders/public'],
  ])('%s: %j is answered with %s', (_, http, expected) => {
    expect(words(http)).toBe(expected)
  })

  test('BY-P06: the path that is decided on is the path that is dispatched', () => {
    for (const target of ['//admin', '/%61dmin', '/x//y?q#'.slice(0, -1), '/caf%c3%a9']) {
      const request = canonicalise({ method: 'GET', target })
      if ('malformed' in request) throw new Error(request.malformed)
      const again = canonicalise({ method: 'GET', target: request.path + request.query })
      expect(again).toEqual(request)
    }
  })

  test('BY-P11: a pattern goes through the same function as the input', () => {
    const text = policy([`{ name: r, action: deny, ${any}, to: [ { paths: ["/%61dmin"] } ] }`])
    expect(() => parseDocuments(text, 'p')).toThrow(
      expect.objectContaining({ code: 'CS_POLICY_PATTERN_INVALID' }),
    )
  })

  test.each([
    ['BY-P15', 'x-original-url'],
    ['BY-P15', 'x-rewrite-url'],
    ['BY-P16', 'x-http-method-override'],
  ])('%s: %s never reaches the app', (_, name) => {
    expect(removesHeader(name, { hopByHop: new Set() })).toBe(true)
  })

  test('BY-H02: a list of more than a hundred matchers is read like a short one', () => {
    const paths = Array.from({ length: 150 }, (_, at) => `/p${at}`)
    const callers = Array.from({ length: 150 }, (_, at) => `{ app: c${at} }`)
    const { say } = mesh(
      policy([`{ name: r, from: [ ${callers.join()} ], to: [ { paths: [${paths.join()}] } ] }`]),
    )
    // Each question is also put to the linear reference, which knows no fast path.
    for (const at of [0, 99, 100, 101, 149]) {
      expect(say({ from: `c${at}`, http: `GET /p${149 - at}` })).toBe('allow orders/r')
      expect(say({ from: `c${at}`, http: 'GET /p150' })).toBe('deny no-rule')
    }
    expect(say({ from: 'c150', http: 'GET /p0' })).toBe('deny no-rule')
  })
})

function words(http: string): string {
  return guarded.say({ http })
}

describe('identities', () => {
  test('BY-I01: a TCP deny with a wildcard source matches', () => {
    const { say } = mesh(
      policy([
        `{ name: a, ${any} }`,
        '{ name: d, action: deny, from: [ { spiffeId: "spiffe://example.test/ns/{*}/sa/etl" } ], to: [ { tcp: true } ] }',
      ]),
    )
    expect(say({ tcp: true, from: 'batch/etl' })).toBe('deny orders/d')
    expect(say({ tcp: true, from: 'checkout' })).toBe('allow orders/a')
  })

  test('BY-I02: a dot in a name is a dot', () => {
    const { say } = mesh(
      policy([
        '{ name: r, from: [ { app: a.b }, { namespace: n.s } ], to: [ { grpc: [a.b.C/D] } ] }',
      ]),
    )
    expect(say({ from: 'a.b', grpc: 'a.b.C/D' })).toBe('allow orders/r')
    expect(say({ from: 'axb', grpc: 'a.b.C/D' })).toBe('deny no-rule')
    expect(say({ from: 'nxs/app', grpc: 'a.b.C/D' })).toBe('deny no-rule')
    expect(say({ from: 'a.b', grpc: 'axb.C/D' })).toBe('deny no-rule')
  })

  test.each(['a[b', 'a*', 'a?b', 'a(b', 'a|b', 'a{b', 'a\\\\b', 'a^', 'a$'])(
    'BY-I02: %s is no name at all',
    (name) => {
      expect(() =>
        parseDocuments(policy([`{ name: r, from: [ { app: "${name}" } ] }`]), 'p'),
      ).toThrow(expect.objectContaining({ code: 'CS_POLICY_INVALID' }))
    },
  )

  test('BY-I03: a plaintext caller does not slip through an exception', () => {
    const { say } = mesh(
      policy([
        `{ name: everyone, ${any} }`,
        '{ name: but-batch, action: deny, from: [ { namespace: batch } ] }',
      ]),
    )
    expect(say({ from: { unauthenticated: 'no-certificate' } })).toBe('deny unauthenticated')
    expect(say({ from: 'batch/etl' })).toBe('deny orders/but-batch')
  })
})

describe('combinations', () => {
  test('BY-C01: a lone deny under default deny still denies everything else', () => {
    const { say } = mesh(policy([`{ name: d, action: deny, ${any}, to: [ { paths: [/x] } ] }`]))
    expect(say({ http: 'GET /x' })).toBe('deny orders/d')
    expect(say({ http: 'GET /y' })).toBe('deny no-rule')
    expect(say({ tcp: true })).toBe('deny orders/d')
  })

  test.each([
    ['wildcard and literal at one place', ['/a/{*}', '/a/b', '/{*}/b', '/{**}']],
    ['open and closed ends', ['/a', '/a/{**}', '/a/b/{**}', '/a/{*}/{**}']],
  ])('BY-C02: merging %s neither adds nor skips', (_, paths) => {
    const rules = paths.flatMap((path, at) => [
      `{ name: a${at}, from: [ { app: c${at % 2} } ], to: [ { methods: [GET], paths: ["${path}"] } ] }`,
      `{ name: d${at}, action: deny, from: [ { app: c${at} } ], to: [ { methods: [PUT], paths: ["${path}"] } ] }`,
    ])
    const { ask } = mesh(policy(rules))
    for (const from of ['c0', 'c1', 'c2', 'c3']) {
      for (const path of ['/', '/a', '/a/b', '/b', '/b/b', '/a/b/c', '/A/b', '/a/c/d/e']) {
        for (const method of ['GET', 'PUT', 'POST']) ask({ from, http: `${method} ${path}` })
      }
      ask({ from, tcp: true })
    }
  })

  test('BY-C02: a rule for all ports does not swallow one for a port', () => {
    const { say } = mesh(
      policy([`{ name: a, ${any} }`]) +
        policy([`{ name: d, action: deny, ${any}, to: [ { paths: [/x] } ] }`], {
          name: 'one-port',
          target: '{ app: orders, ports: [8080] }',
        }),
    )
    expect(say({ port: 8080, http: 'GET /x' })).toBe('deny one-port/d')
    expect(say({ port: 8081, http: 'GET /x' })).toBe('allow orders/a')
  })

  test.each([
    ['first', [`{ name: a, ${any} }`, `{ name: d, action: deny, from: [ { app: checkout } ] }`]],
    ['last', [`{ name: d, action: deny, from: [ { app: checkout } ] }`, `{ name: a, ${any} }`]],
  ])('BY-C03: a broad allow that comes %s does not open a narrow deny', (_, rules) => {
    expect(mesh(policy(rules)).say({})).toBe('deny orders/d')
  })

  test('BY-C04: a policy holds on raw connections too', () => {
    const { say } = mesh(policy(['{ name: a, from: [ { app: checkout } ] }']))
    expect(say({ tcp: true })).toBe('allow orders/a')
    expect(say({ tcp: true, from: 'other' })).toBe('deny no-rule')
  })

  test('a guardrail cannot be overridden from anywhere', () => {
    const { say } = mesh(
      policy([`{ name: a, ${any} }`], { name: 'aaa' }) +
        policy([`{ name: a, ${any} }`], { name: 'all', target: '{ namespace: true }' }) +
        guardrail(['{ name: q, action: deny, from: [ { namespace: compromised } ] }']),
    )
    expect(say({ from: 'compromised/x' })).toBe('deny guard/q')
  })
})

describe('snapshots', () => {
  test('BY-H09: a snapshot with something unknown is incompatible', () => {
    expect(() => readSnapshot(snapshotBytes({ requires: ['when.header'] }))).toThrow(
      expect.objectContaining({ code: 'CS_SNAPSHOT_INCOMPATIBLE' }),
    )
  })
})

describe('BY-D01', () => {
  const rules = [
    `{ name: deep, ${any}, to: [ { paths: ["/${'{*}/'.repeat(31)}{**}"] } ] }`,
    `{ name: mixed, ${any}, to: [ { paths: [${alternatives(6).join()}] } ] }`,
    `{ name: denied, action: deny, ${any}, to: [ { paths: ["/${'a/'.repeat(30)}b"] } ] }`,
  ]
  const { policyFor, ask } = mesh(policy(rules))

  test.each([
    ['one segment over and over', 'a/'],
    ['empty segments', '/'],
    ['capitals', 'A/'],
    ['trailing dots', 'a./'],
    ['encoded spaces', '%20/'],
  ])('%s: the steps of a decision do not grow with a path beyond the patterns', (_, unit) => {
    const steps = (count: number) => {
      const { walk } = policyFor('orders').engine.sectorFor(undefined)
      const before = walk.visits
      ask({ http: `GET /${unit.repeat(count)}x` })
      return walk.visits - before
    }
    expect(steps(2_000)).toBe(steps(200))
    expect(steps(2_000)).toBeLessThan(500)
  })

  test('the tries of a policy are walked in steps that its size alone bounds', () => {
    const { walk } = policyFor('orders').engine.sectorFor(undefined)
    const before = walk.visits
    ask({ http: `GET /${'a/'.repeat(6)}` })
    // Every one of the 2^6 alternatives matches: each of their 2^7 prefixes is seen once.
    expect(walk.visits - before).toBeLessThanOrEqual(2 ** 7 + 32 + 32)
  })

  test('a compiled snapshot is bounded', () => {
    const from = Array.from({ length: 1000 }, (_, at) => `spiffe://example.test/x/${at}`)
    const paths = Array.from({ length: 1000 }, (_, at) => `/p${at}`)
    const rule = (name: string) => ({
      name,
      action: 'allow',
      from: from.sort(),
      to: [{ paths: paths.sort() }],
    })
    const policies = [{ name: 'p', rules: ['a', 'b', 'c', 'd', 'e'].map(rule) }]
    expect(() => compileSnapshot(readSnapshot(snapshotBytes({ policies })))).toThrow(
      expect.objectContaining({ code: 'CS_SNAPSHOT_INVALID' }),
    )
  })
})

/** All paths of a length whose segments are `a` or `{*}`. */
function alternatives(length: number): readonly string[] {
  if (length === 0) return ['']
  return alternatives(length - 1)
    .flatMap((path) => [`${path}/a`, `${path}/{*}`])
    .map((path) => (length === 6 ? JSON.stringify(path) : path))
}
