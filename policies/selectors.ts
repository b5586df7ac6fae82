import { parseTrustDomain, parseWorkloadId, type TrustDomain } from '../spiffe/index.js'
import { type Layout, pathOfApp } from './layout.js'
import { isWildcard, ONE, type PatternFault, REST } from './pattern.js'
import type { Selector } from './policy.js'

/**
 * What a selector is to the engine: `any`, `unauthenticated`, or a SPIFFE ID whose segments may be
 * wildcards and whose trust domain may be an alias group. No character of a name is a metacharacter.
 */
export type Source = string

export const ANY: Source = 'any'
export const UNAUTHENTICATED: Source = 'unauthenticated'

/** Declared alias groups: a name that stands for several trust domains. */
export type Aliases = ReadonlyMap<string, readonly TrustDomain[]>

export interface SourceContext {
  readonly layout: Layout
  /** The local trust domain. */
  readonly trustDomain: TrustDomain
  /** Of the document; a guardrail has none and names a namespace in each selector. */
  readonly namespace: string | undefined
}

/** The source that a selector of a document stands for. */
export function sourceOf(selector: Selector, context: SourceContext): Source {
  const { layout, trustDomain: local } = context
  switch (selector.kind) {
    case 'app': {
      const { app, namespace = context.namespace ?? '', trustDomain = local } = selector
      return `${SCHEME}${trustDomain}${pathOfApp(layout, { namespace, app })}`
    }
    case 'namespace': {
      const { namespace, trustDomain = local } = selector
      return `${SCHEME}${trustDomain}${pathOfApp(layout, { namespace, app: ONE })}`
    }
    case 'trustDomain':
      return `${SCHEME}${selector.trustDomain}/${REST}`
    case 'spiffeId':
      return selector.pattern
    case 'any':
      return ANY
    case 'unauthenticated':
      return UNAUTHENTICATED
  }
}

/** The trust domain of a source, which may be the name of an alias group. */
export function trustDomainOfSource(source: Source): string | undefined {
  if (!source.startsWith(SCHEME)) return undefined
  return source.slice(SCHEME.length).split('/', 1)[0]
}

/** A source once for each trust domain of the alias group that it names, or as it is. */
export function expandAlias(source: Source, aliases: Aliases): readonly Source[] {
  const name = trustDomainOfSource(source)
  const members = name === undefined ? undefined : aliases.get(name)
  if (name === undefined || members === undefined) return [source]
  const path = source.slice(SCHEME.length + name.length)
  return members.map((member) => `${SCHEME}${member}${path}`)
}

/** The trust domain and the path segments of a source or an ID. */
export function segmentsOfSource(source: Source): readonly string[] {
  return source.slice(SCHEME.length).split('/')
}

/** `undefined` for a SPIFFE ID or a pattern of one, else what is wrong. */
export function sourceFault(text: string): PatternFault | undefined {
  if (!text.startsWith(SCHEME)) return { fault: 'an id starts with spiffe://' }
  const [trustDomain = '', ...segments] = segmentsOfSource(text)
  if (/[{}*]/.test(trustDomain)) {
    return { fault: 'the trust domain of a pattern is a name, never a wildcard' }
  }
  return wildcardFault(trustDomain, segments) ?? literalFault(trustDomain, segments)
}

const SCHEME = 'spiffe://'

function wildcardFault(trustDomain: string, segments: readonly string[]): PatternFault | undefined {
  const legal = segments.map((segment, at) => legalSegment(segment, at === segments.length - 1))
  if (legal.every((segment, at) => segment === segments[at])) return undefined
  const fault = 'a wildcard is a whole segment: {*} for one, {**} last for zero or more'
  const nearest = `${SCHEME}${trustDomain}/${legal.join('/')}`
  return literalFault(trustDomain, legal) === undefined ? { fault, nearest } : { fault }
}

function legalSegment(segment: string, last: boolean): string {
  if (segment === REST || segment === '**') return last ? REST : ONE
  return /[{}*]/.test(segment) ? ONE : segment
}

function literalFault(trustDomain: string, segments: readonly string[]): PatternFault | undefined {
  const sample = segments.map((segment) => (isWildcard(segment) ? 'x' : segment))
  try {
    parseTrustDomain(trustDomain)
    parseWorkloadId(`${SCHEME}${[trustDomain, ...sample].join('/')}`)
    return undefined
  } catch (error) {
    return { fault: error instanceof Error ? error.message : String(error) }
  }
}
