/**
 * What a configuration may say. One description serves the check of a file, the flags, the environment
 * variables, the JSON Schema and the page in `docs/`.
 */
export type Schema =
  | TextSchema
  | IntegerSchema
  | BooleanSchema
  | DurationSchema
  | ChoiceSchema
  | ListSchema
  | MapSchema
  | ObjectSchema

interface Described {
  readonly description: string
}

/** `format` narrows what the text may be; it is checked where the configuration is read. A path becomes an absolute one. */
export interface TextSchema extends Described {
  readonly kind: 'text'
  readonly default?: string
  readonly format?: 'path' | 'address' | 'trust-domain' | 'spiffe-id' | 'endpoint'
  readonly example?: string
  /** Never repeated in a message. */
  readonly secret?: true
}
export interface IntegerSchema extends Described {
  readonly kind: 'integer'
  readonly default?: number
  readonly minimum: number
  readonly maximum: number
}
export interface BooleanSchema extends Described {
  readonly kind: 'boolean'
  readonly default?: boolean
}
/** Written `90s`, `15m`, `1h`, `7d`; read as milliseconds. */
export interface DurationSchema extends Described {
  readonly kind: 'duration'
  readonly default?: string
  readonly minimum?: string
  readonly maximum?: string
}
export interface ChoiceSchema extends Described {
  readonly kind: 'choice'
  readonly values: readonly string[]
  readonly default?: string
}
export interface ListSchema extends Described {
  readonly kind: 'list'
  readonly items: Schema
  readonly default?: readonly never[]
}
export interface MapSchema extends Described {
  readonly kind: 'map'
  readonly values: Schema
  readonly default?: Readonly<Record<string, never>>
}
export interface ObjectSchema extends Described {
  readonly kind: 'object'
  readonly properties: Readonly<Record<string, Schema>>
}

/** What reading a configuration with this schema gives. A setting without a default may be absent. */
export type Read<S extends Schema> = S extends { kind: 'text' }
  ? string
  : S extends { kind: 'integer' | 'duration' }
    ? number
    : S extends { kind: 'boolean' }
      ? boolean
      : S extends { kind: 'choice'; values: readonly (infer V)[] }
        ? V
        : S extends { kind: 'list'; items: infer I extends Schema }
          ? readonly Read<I>[]
          : S extends { kind: 'map'; values: infer V extends Schema }
            ? Readonly<Record<string, Read<V>>>
            : S extends {
                  kind: 'object'
                  properties: infer P extends Readonly<Record<string, Schema>>
                }
              ? ReadObject<P>
              : never

type ReadObject<P extends Readonly<Record<string, Schema>>> = {
  readonly [K in keyof P as IsSure<P[K]> extends true ? K : never]: Read<P[K]>
} & {
  readonly [K in keyof P as IsSure<P[K]> extends true ? never : K]?: Read<P[K]>
}

type IsSure<S extends Schema> = S extends { kind: 'object' }
  ? true
  : S extends { default: unknown }
    ? true
    : false

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** Milliseconds of `90s`, `15m`, `1h`, `7d`, `1h30m`; undefined when it is no duration. */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d+(ms|s|m|h|d))+$/.test(text)) return undefined
  let total = 0
  for (const [, amount = '', unit = ''] of text.matchAll(/(\d+)(ms|s|m|h|d)/g)) {
    total += Number(amount) * (UNITS[unit] ?? 0)
  }
  return Number.isSafeInteger(total) ? total : undefined
}

/** The name among `known` that was probably meant, or undefined when none is near. */
export function nearestName(wrong: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((name) => ({ name, distance: editDistance(wrong.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)
  const best = ranked[0]
  return best && best.distance <= Math.max(2, wrong.length / 2) ? best.name : undefined
}

function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (let i = 1; i <= from.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= to.length; j += 1) {
      const substitution = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1)
      next.push(Math.min(substitution, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[to.length] ?? 0
}
