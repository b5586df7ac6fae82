import { describe, expect } from 'vitest'
import { canonicalJson, type Json } from '../../policies/canonical-json.js'
import { compilePolicy } from '../../policies/compile.js'
import { compiledFor } from '../../policies/evaluate.js'
import {
  type AccessRequest,
  bindCaller,
  type CompiledPolicy,
  canonicalise,
  decide,
  documentFromJson,
  documentToJson,
  type PolicyDocument,
  parseDocuments,
  rawConnection,
  readSnapshot,
  snapshotContentKey,
} from '../../policies/index.js'
import { type LinearQuestion, linearPolicy } from '../../policies/linear.js'
import { buildSnapshot } from '../../policies/snapshot.js'
import { parseSpiffeId, parseTrustDomain, type SpiffeId } from '../../spiffe/index.js'
import { fc, test } from './property.js'

/** Policies and requests out of few words, so that almost everything nearly matches. */
const trustDomains = ['example.test', 'partner.test', 'acme', 'acme-old.test'] as const
const names = ['a', 'b', 'a.b', 'A'] as const
const segments = ['a', 'A', 'b', 'a.', '...', 'a%20', '%20', 'a%20.', 'c'] as const
const methods = ['GET', 'HEAD', 'POST', 'PURGE'] as const
const ports = [80, 8080] as const
const times = [100, 200, 300] as const

const path = fc
  .tuple(
    fc.array(
      fc.oneof(
        { weight: 3, arbitrary: fc.constantFrom(...segments) },
        { weight: 1, arbitrary: fc.constant('{*}') },
      ),
      {
        maxLength: 4,
      },
    ),
    fc.constantFrom('', '/', '/{**}'),
  )
  .map(([parts, end]) => {
    const text = parts.map((part) => `/${part}`).join('') + end
    return text === '' ? '/' : text
  })

const selector: fc.Arbitrary<Json> = fc.oneof(
  fc.record({ app: fc.constantFrom(...names) }),
  fc.record({
    app: fc.constantFrom(...names),
    namespace: fc.constantFrom(...names),
    trustDomain: fc.constantFrom(...trustDomains),
  }),
  fc.record({ namespace: fc.constantFrom(...names) }),
  fc.record({ trustDomain: fc.constantFrom(...trustDomains) }),
  fc
    .tuple(
      fc.constantFrom(...trustDomains),
      fc.constantFrom('ns/{*}/sa/a', 'ns/a/{**}', '{**}', '{*}/a/sa/{*}', 'ns/a/sa/a', 'x'),
    )
    .map(([name, tail]) => ({ spiffeId: `spiffe://${name}/${tail}` })),
  fc.constant({ any: true }),
  fc.constant({ unauthenticated: true }),
)

const operation: fc.Arbitrary<Json> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      methods: fc.uniqueArray(fc.constantFrom(...methods), { minLength: 1, maxLength: 3 }),
      paths: fc.array(path, { minLength: 1, maxLength: 3 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ paths: fc.array(path, { minLength: 1, maxLength: 3 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      methods: fc.uniqueArray(fc.constantFrom(...methods), { minLength: 1 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ grpc: fc.constantFrom(['a/b'], ['a/*'], ['A/b', 'c/a']) }) },
  { weight: 1, arbitrary: fc.constant({ tcp: true }) },
  { weight: 1, arbitrary: fc.constant({}) },
)

const optionally = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 2 })
const iso = (at: number | undefined) => (at === undefined ? undefined : new Date(at).toISOString())

const rule = (action: fc.Arbitrary<string>) =>
  fc
    .record({
      action,
      mode: fc.constantFrom('enforce', 'enforce', 'enforce', 'shadow'),
      from: fc.array(selector, { minLength: 1, maxLength: 3 }),
      to: optionally(fc.array(operation, { minLength: 1, maxLength: 3 })),
      notBefore: optionally(fc.constantFrom(100, 200)),
      expires: optionally(fc.constantFrom(300, 400)),
    })
    .map(({ notBefore, expires, ...rest }) => ({
      ...rest,
      notBefore: iso(notBefore),
      expires: iso(expires),
    }))

const numbered = <T extends object>(items: readonly T[]) =>
  // Not in order, so that the order of names is not the order of the list.
  items.map((item, at) => ({ ...item, name: `r${(at * 7) % 10}` }))

const enforcement = (action: fc.Arbitrary<string>) =>
  fc.record({
    ports: optionally(fc.uniqueArray(fc.constantFrom(...ports), { minLength: 1 })),
    mode: fc.constantFrom('enforce', 'enforce', 'shadow'),
    rules: fc.array(rule(action), { minLength: 1, maxLength: 5 }).map(numbered),
  })

const accessPolicy = (action: fc.Arbitrary<string>) =>
  fc.tuple(fc.boolean(), enforcement(action)).map(([wide, { ports, mode, rules }]) => ({
    apiVersion: 'countersign.dev/v1',
    kind: 'AccessPolicy',
    spec: { target: { ...(wide ? { namespace: true } : { app: 'a' }), ports }, mode, rules },
  }))

const guardrail = fc
  .tuple(
    fc.constantFrom<Json>(
      { mesh: true },
      { namespace: 'a' },
      { namespace: 'a', app: 'a' },
      { namespace: 'b' },
    ),
    enforcement(fc.constant('deny')),
  )
  .map(([reach, { ports, mode, rules }]) => ({
    apiVersion: 'countersign.dev/v1',
    kind: 'Guardrail',
    spec: { target: { ...(reach as object), ports }, mode, rules: rules.map(withNamespaces) },
  }))

/** A guardrail has no namespace that an app could be of. */
const withNamespaces = <T extends { from: readonly Json[] }>(one: T): T => ({
  ...one,
  from: one.from.map((item) =>
    typeof item === 'object' && item !== null && 'app' in item && !('namespace' in item)
      ? { ...item, namespace: 'a' }
      : item,
  ),
})

type Draft = { readonly kind: string; readonly [name: string]: Json | undefined }

function documentsOf(drafts: readonly Draft[]): readonly PolicyDocument[] {
  const texts = drafts.map((draft, at) => {
    const name = `p${(at * 3) % 10}`
    const metadata = draft.kind === 'Guardrail' ? { name } : { name, namespace: 'a' }
    return canonicalJson({ ...draft, metadata })
  })
  return texts.map(documentFromJson)
}

const anyAction = fc.constantFrom('allow', 'deny')
const drafts = fc.array(
  fc.oneof({ weight: 3, arbitrary: accessPolicy(anyAction) }, { weight: 1, arbitrary: guardrail }),
  { maxLength: 5 },
)
const documents = drafts.map(documentsOf)

const caller = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .tuple(
        fc.constantFrom('example.test', 'partner.test', 'acme', 'acme.test', 'acme-old.test'),
        fc.constantFrom(
          'ns/a/sa/a',
          'ns/a/sa/b',
          'ns/b/sa/a',
          'ns/a.b/sa/A',
          'ns/a/a',
          'x',
          'ns/a/sa/a/c',
        ),
      )
      .map(([name, tail]): SpiffeId | undefined => parseSpiffeId(`spiffe://${name}/${tail}`)),
  },
  { weight: 1, arbitrary: fc.constant(undefined) },
)

const request: fc.Arbitrary<AccessRequest> = fc.oneof(
  {
    weight: 9,
    arbitrary: fc
      .tuple(
        fc.constantFrom(...methods, 'OPTIONS', 'X'),
        fc.array(fc.constantFrom(...segments, '{*}', 'x'), { maxLength: 5 }),
        fc.constantFrom('', '/'),
      )
      .map(([method, parts, end]) => {
        const target =
          method === 'OPTIONS' ? '*' : `/${parts.join('/')}${parts.length > 0 ? end : ''}`
        const canonical = canonicalise({ method, target })
        if ('malformed' in canonical) throw new Error(canonical.malformed)
        return canonical
      }),
  },
  { weight: 1, arbitrary: fc.constant(rawConnection) },
)

const question: fc.Arbitrary<LinearQuestion> = fc.record({
  caller,
  port: fc.constantFrom(...ports, 9, undefined),
  request,
  now: fc.constantFrom(0, ...times, 299, 400),
})

const deployment = {
  trustDomain: parseTrustDomain('example.test'),
  layout: 'kubernetes',
  aliases: new Map([['acme', ['acme.test', 'acme-old.test'].map(parseTrustDomain)]]),
} as const
const target = parseSpiffeId('spiffe://example.test/ns/a/sa/a')

function snapshotOf(of: readonly PolicyDocument[]) {
  return readSnapshot(buildSnapshot({ ...deployment, documents: of, target, generation: 1 }).bytes)
}

function ask(policy: CompiledPolicy, { caller, port, request, now }: LinearQuestion) {
  return decide(bindCaller(policy, caller, port === undefined ? {} : { port }), request, now)
}

/** Pairs of a policy and a request that are tried: each policy is asked many times. */
const QUESTIONS = 50
const questions = fc.array(question, { minLength: QUESTIONS, maxLength: QUESTIONS })
const POLICIES = 50_000 / QUESTIONS

describe('for any policy', () => {
  test(
    'the engine decides as the linear reference does',
    [documents, questions],
    (of, asked) => {
      const snapshot = snapshotOf(of)
      const compiled = compilePolicy(snapshot)
      const reference = linearPolicy(snapshot)
      for (const one of asked) expect(ask(compiled, one)).toEqual(reference(one))
    },
    POLICIES,
  )

  test(
    'the order of documents and rules changes nothing',
    [documents, questions],
    (of, asked) => {
      const reversed = of
        .toReversed()
        .map((one) => ('rules' in one ? { ...one, rules: one.rules.toReversed() } : one))
      const there = compiledFor(target, { ...deployment, documents: of })
      const back = compiledFor(target, { ...deployment, documents: reversed })
      expect(back.id).toBe(there.id)
      for (const one of asked) expect(ask(back, one)).toEqual(ask(there, one))
    },
    100,
  )

  test(
    'one more deny never allows more',
    [drafts, accessPolicy(fc.constant('deny')), questions],
    (of, more, asked) => {
      const before = compilePolicy(snapshotOf(documentsOf(of)))
      const after = compilePolicy(snapshotOf(documentsOf([...of, more])))
      for (const one of asked) {
        if (ask(before, one).effect === 'deny') expect(ask(after, one).effect).toBe('deny')
      }
    },
    120,
  )

  test(
    'one more allow never denies more',
    [drafts, accessPolicy(fc.constant('allow')), questions],
    (of, more, asked) => {
      const before = compilePolicy(snapshotOf(documentsOf(of)))
      const after = compilePolicy(snapshotOf(documentsOf([...of, more])))
      for (const one of asked) {
        if (ask(before, one).effect === 'allow') expect(ask(after, one).effect).toBe('allow')
      }
    },
    120,
  )

  test(
    'documents in shadow never change a verdict',
    [drafts, accessPolicy(anyAction), questions],
    (of, more, asked) => {
      const shadow = { ...more, spec: { ...more.spec, mode: 'shadow' } }
      const before = compilePolicy(snapshotOf(documentsOf(of)))
      const after = compilePolicy(snapshotOf(documentsOf([...of, shadow])))
      for (const one of asked) {
        const { shadow: _, ...verdict } = ask(before, one)
        expect(ask(after, one)).toMatchObject(verdict)
      }
    },
    100,
  )

  test(
    'a stored document reads back as it was',
    [documents],
    (of) => {
      for (const one of of) {
        expect(documentFromJson(documentToJson(one))).toEqual(one)
        expect(parseDocuments(documentToJson(one), 'p')).toEqual([one])
      }
    },
    120,
  )

  test(
    'a snapshot reads back as it was written',
    [documents],
    (of) => {
      const options = { ...deployment, documents: of, target }
      const built = buildSnapshot({ ...options, generation: 7 })
      const snapshot = readSnapshot(built.bytes)
      expect(snapshot).toMatchObject({ id: built.id, generation: 7, target, unreadableShadow: 0 })
      expect(snapshotContentKey(options)).toBe(snapshotContentKey({ ...options }))
      const rules = [...snapshot.policies, ...snapshot.guardrails, ...snapshot.shadow].flatMap(
        (policy) => policy.rules,
      )
      for (const { from, to } of rules) {
        expect(from).toEqual([...new Set(from)].sort())
        expect(to).not.toEqual([])
      }
    },
    120,
  )
})
