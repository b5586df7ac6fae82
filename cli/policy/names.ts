import { appOfId, idOfApp, type Layout, layouts } from '../../policies/index.js'
import { parseWorkloadId, type SpiffeId, type TrustDomain } from '../../spiffe/index.js'
import { CliError } from '../errors.js'

/** Where short names are at home. */
export interface Neighbourhood {
  readonly trustDomain: TrustDomain
  readonly layout: Layout
  /** Of apps that are named alone. */
  readonly namespace: string | undefined
}

export const isId = (name: string) => name.startsWith('spiffe://')

/** The ID that `spiffe://…`, `namespace/app` or `app` stands for. Throws `CS_USAGE`. */
export function idNamed(name: string, { trustDomain, layout, namespace }: Neighbourhood): SpiffeId {
  if (isId(name)) return parseWorkloadId(name)
  const [app = '', own = namespace, ...more] = name.split('/').toReversed()
  if (own === undefined || more.length > 0) {
    throw new CliError('CS_USAGE', `${name} is neither <namespace>/<app> nor a SPIFFE ID`)
  }
  return idOfApp(layout, trustDomain, { namespace: own, app })
}

/** The target that a name stands for, among those that the sentry has. Throws `CS_NOT_FOUND`. */
export function targetNamed(name: string, targets: readonly SpiffeId[]): SpiffeId {
  if (isId(name)) return parseWorkloadId(name)
  const [app = '', namespace] = name.split('/').toReversed()
  const found = targets.filter((target) =>
    layouts.some((layout) => {
      const named = appOfId(layout, target)
      return named?.app === app && (namespace === undefined || named.namespace === namespace)
    }),
  )
  const [first, ...more] = found
  if (first === undefined) {
    const known = targets.length === 0 ? 'no entry names an app yet' : `there are ${shown(targets)}`
    throw new CliError('CS_NOT_FOUND', `no entry names an app ${name}; ${known}`)
  }
  if (more.length > 0) throw new CliError('CS_USAGE', `${name} is one of ${shown(found)}`)
  return first
}

function shown(targets: readonly SpiffeId[]): string {
  const few = targets.slice(0, 5).join(', ')
  return targets.length > 5 ? `${few} and ${targets.length - 5} more` : few
}
