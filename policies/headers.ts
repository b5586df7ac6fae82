/** Removed from every request before the decision, so that neither policy nor app can be misled by them. */
const REMOVED: ReadonlySet<string> = new Set([
  'x-forwarded-client-cert',
  'x-original-url',
  'x-rewrite-url',
  'x-http-method-override',
  'x-http-method',
  'x-method-override',
  'x-envoy-original-path',
])

const OURS = 'x-countersign-'

/** What a proxy in front of ours would set; removed unless that proxy is configured as trusted. */
const isForwarded = (name: string) => name === 'forwarded' || name.startsWith('x-forwarded-')

export interface HeaderRules {
  /** Lower-case names that the `Connection` header lists; see {@link connectionNames}. */
  readonly hopByHop: ReadonlySet<string>
  /** Whether `Forwarded` and `X-Forwarded-*` of the caller are believed. */
  readonly trustForwarded?: boolean
}

/**
 * Whether a header of the caller, by its lower-case name, is left out of what is decided on and
 * forwarded. The proxy's own headers are set afterwards.
 */
export function removesHeader(name: string, { hopByHop, trustForwarded }: HeaderRules): boolean {
  if (name.includes('_') || REMOVED.has(name) || name.startsWith(OURS)) return true
  if (hopByHop.has(name)) return true
  return trustForwarded !== true && isForwarded(name)
}

/** The lower-case names that the values of all `Connection` headers list. */
export function connectionNames(values: readonly string[]): ReadonlySet<string> {
  const names = values.flatMap((value) => value.split(','))
  return new Set(names.map((name) => name.trim().toLowerCase()).filter((name) => name !== ''))
}
