import type { Clock } from '../../platform/clock.js'
import type { Selector } from '../identities/identities.js'
import type { AttestationRequest, ProcessFacts, WorkloadAttestor } from './attestor.js'
import { binaryReader } from './binary.js'
import { type AccountNames, accountNames } from './names.js'

export interface UnixAttestorOptions {
  readonly clock: Clock
  /** Whether `unix:path` is found. On unless set. */
  readonly path?: boolean
  /** Whether `unix:sha256` is found. On unless set. */
  readonly sha256?: boolean
  readonly maxHashedBytes?: number
  readonly names?: AccountNames
}

/**
 * User, groups and binary of a process, in SPIRE's selectors: `unix:uid`, `unix:user`, `unix:gid`,
 * `unix:group`, `unix:supplementary_gid`, `unix:supplementary_group`, `unix:path`, `unix:sha256`.
 */
export function unixAttestor(options: UnixAttestorOptions): WorkloadAttestor {
  const { path = true, sha256 = true, names = accountNames() } = options
  const binaries = binaryReader(options)
  return {
    name: 'unix',
    async attest({ facts, process, signal }: AttestationRequest) {
      const found = accountSelectors(facts, names)
      if (path) found.push(...selector('path', binaries.pathOf(facts)))
      if (sha256)
        found.push(...selector('sha256', await binaries.sha256Of({ facts, process, signal })))
      return found
    },
  }
}

function accountSelectors({ uid, gid, groups }: ProcessFacts, names: AccountNames): Selector[] {
  return [
    ...selector('uid', uid),
    ...selector('user', names.user(uid)),
    ...selector('gid', gid),
    ...selector('group', names.group(gid)),
    ...groups.flatMap((group) => selector('supplementary_gid', group)),
    ...groups.flatMap((group) => selector('supplementary_group', names.group(group))),
  ]
}

function selector(name: string, value: string | number | undefined): Selector[] {
  return value === undefined ? [] : [{ type: 'unix', value: `${name}:${value}` }]
}
