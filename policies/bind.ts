import type { SpiffeId } from '../spiffe/index.js'
import type { CompiledPolicy } from './compile.js'
import type { DenyDecision } from './decision.js'
import type { UnauthenticatedDetail } from './policy.js'
import { COLUMNS, Column, type Sector, SHADOW } from './sector.js'

/** A caller on one connection, with the tries that apply to it. Bind again when the policy changes. */
export interface BoundCaller {
  /** `undefined` when no snapshot was ever received. */
  readonly policy: CompiledPolicy | undefined
  /** `undefined` for a caller without a verified SPIFFE ID. */
  readonly caller: SpiffeId | undefined
  readonly port: number | undefined
  /** @private The answer when no rule matches. */
  readonly otherwise: DenyDecision
  /** @private */
  readonly sector: Sector | undefined
  /** @private */
  readonly enforced: Plan
  /** @private `undefined` when no shadow rule is about this caller. */
  readonly shadow: Plan | undefined
}

/** The lists and trie roots of a caller's sources. */
export interface Plan {
  /** Entries for any path. */
  readonly open: readonly number[]
  readonly roots: readonly number[]
  /** Roots of the folded patterns of rules that deny. */
  readonly folded: readonly number[]
  readonly tcp: readonly number[]
}

export interface BindOptions {
  /** The port of the app that is called; without one, rules for certain ports deny but never allow. */
  readonly port?: number
  /** Why there is no verified SPIFFE ID. */
  readonly unauthenticatedBecause?: UnauthenticatedDetail
}

/** Looks up once per connection what every request on it will need. */
export function bindCaller(
  policy: CompiledPolicy | undefined,
  caller: SpiffeId | undefined,
  { port, unauthenticatedBecause = 'no-certificate' }: BindOptions = {},
): BoundCaller {
  const sector = policy?.engine.sectorFor(port)
  const keys = sector?.sources.keysFor(caller) ?? []
  const shadow = planOf(sector, keys, SHADOW)
  const otherwise: DenyDecision =
    caller === undefined
      ? {
          effect: 'deny',
          reason: 'unauthenticated',
          detail: unauthenticatedBecause,
          shadow: undefined,
        }
      : { effect: 'deny', reason: policy ? 'no-rule' : 'no-snapshot', shadow: undefined }
  return {
    policy,
    caller,
    port,
    otherwise,
    sector,
    enforced: planOf(sector, keys, 0),
    shadow: isEmpty(shadow) ? undefined : shadow,
  }
}

/** Shared, so that what most callers lack costs no memory and stays in the cache. */
const NOWHERE: readonly number[] = []

function planOf(sector: Sector | undefined, keys: readonly number[], offset: number): Plan {
  const inColumn = (column: number) => {
    const places = keys
      .map((key) => sector?.columns[key * COLUMNS + offset + column] ?? 0)
      .filter((place) => place !== 0)
    return places.length === 0 ? NOWHERE : places
  }
  return {
    open: inColumn(Column.open),
    roots: inColumn(Column.root),
    folded: inColumn(Column.folded),
    tcp: inColumn(Column.tcp),
  }
}

const isEmpty = (plan: Plan) =>
  Object.values(plan).every((places: readonly number[]) => places.length === 0)
