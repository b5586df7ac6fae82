import { AgentError } from '../errors.js'

/** What `/proc/<pid>/stat` says that tells one process from another. */
export interface ProcStat {
  /** `R`, `S`, …; `Z` for a zombie. */
  readonly state: string
  /** Field 22: clock ticks from the start of the system to that of the process. */
  readonly startTime: bigint
}

/** Effective ids and supplementary groups out of `/proc/<pid>/status`. */
export interface ProcStatus {
  readonly uid: number
  readonly gid: number
  /** In ascending order. */
  readonly groups: readonly number[]
}

/** Counted from the field after the name, which is field 3, the state. */
const START_TIME = 22 - 3

/**
 * Reads `/proc/<pid>/stat`. The name of the program stands in parentheses and may itself hold
 * parentheses, spaces and line ends, so the fields are counted from the last one.
 */
export function parseStat(text: string): ProcStat {
  const nameEnd = text.lastIndexOf(') ')
  if (nameEnd === -1) throw malformed('stat')
  const fields = text.slice(nameEnd + 2).split(' ')
  const [state = ''] = fields
  const startTime = fields[START_TIME] ?? ''
  if (!/^[A-Za-z]$/.test(state) || !/^\d{1,20}$/.test(startTime)) throw malformed('stat')
  return { state, startTime: BigInt(startTime) }
}

/** Reads `/proc/<pid>/status`. The kernel escapes line ends in the name, which comes before the ids. */
export function parseStatus(text: string): ProcStatus {
  const [, uid] = numbers(text, 'Uid', 4)
  const [, gid] = numbers(text, 'Gid', 4)
  const groups = numbers(text, 'Groups')
  if (uid === undefined || gid === undefined) throw malformed('status')
  return { uid, gid, groups: groups.sort((a, b) => a - b) }
}

function numbers(text: string, name: string, count?: number): number[] {
  const start = text.indexOf(`\n${name}:`)
  if (start === -1) throw malformed('status')
  const from = start + name.length + 2
  const end = text.indexOf('\n', from)
  const words = text.slice(from, end === -1 ? undefined : end).match(/\S+/g) ?? []
  if (!words.every((word) => /^\d{1,10}$/.test(word))) throw malformed('status')
  if (count !== undefined && words.length !== count) throw malformed('status')
  return words.map(Number)
}

const malformed = (file: string) =>
  new AgentError('CS_CALLER_NOT_ATTESTED', `/proc/<pid>/${file} of the process cannot be read`)
