import type { Socket } from 'node:net'
import type { Log } from '../../platform/log.js'
import { AgentError } from '../errors.js'
import type { Selector } from '../identities/identities.js'
import type { AttestationRequest, ProcessFacts, WorkloadAttestor } from './attestor.js'
import type { PeerCredentials, PeerKernel, ProcessHandle } from './kernel.js'
import { descriptorOf, linuxKernel } from './peer.js'
import { type PinnedProcess, pinProcess } from './process.js'

/** What is known of a caller at one moment. */
export interface AttestedCaller {
  readonly facts: ProcessFacts
  readonly selectors: readonly Selector[]
  /** Equal for two callers exactly when their selectors are. */
  readonly key: string
}

/** The process at the other end of a connection, held until {@link Caller.close}. */
export interface Caller {
  readonly pid: number
  readonly uid: number
  readonly heldBy: ProcessHandle['origin']
  /**
   * Looks at the process anew. Throws `CS_CALLER_NOT_ATTESTED` when it has ended or has other rights than
   * when it connected, `CS_CALLER_CHANGED` when it runs another binary, `CS_ATTESTORS_FAILED`, or the
   * signal's reason.
   */
  attest(signal: AbortSignal): Promise<AttestedCaller>
  close(): void
}

export interface Attestation {
  /** Throws `CS_CALLER_NOT_ATTESTED`. `selectors` are those that the socket itself vouches for. */
  callerOn(socket: Socket, selectors: readonly Selector[]): Caller
  /** A process that has not called; for whoever may ask about others. Throws `CS_CALLER_NOT_ATTESTED`. */
  processWithPid(pid: number): Caller
}

export interface AttestationOptions {
  readonly attestors: readonly WorkloadAttestor[]
  readonly log: Log
  readonly kernel?: PeerKernel
  readonly procRoot?: string
}

/** Throws `CS_PLATFORM_UNSUPPORTED` and `CS_PROC_UNUSABLE`. */
export function attestation(options: AttestationOptions): Attestation {
  const { kernel = linuxKernel(), procRoot } = options
  return {
    callerOn(socket, selectors) {
      const descriptor = descriptorOf(socket)
      const credentials = kernel.credentialsOf(descriptor)
      const handle = kernel.handleOfPeer(descriptor, credentials.pid)
      return pin({ handle, pid: credentials.pid, procRoot }, (process) =>
        heldCaller({ ...options, process, handle, credentials, selectors }),
      )
    },
    processWithPid(pid) {
      const handle = kernel.handleOfPid(pid)
      return pin({ handle, pid, procRoot }, (process) => {
        const credentials = { pid, ...process.status() }
        return heldCaller({ ...options, process, handle, credentials, selectors: [] })
      })
    },
  }
}

interface Pin {
  readonly handle: ProcessHandle
  readonly pid: number
  readonly procRoot: string | undefined
}

/** The handle came first: if it is alive now, then the folder opened in between is of its process. */
function pin({ handle, pid, procRoot }: Pin, use: (process: PinnedProcess) => Caller): Caller {
  let process: PinnedProcess | undefined
  try {
    process = pinProcess(pid, procRoot)
    if (handle.hasExited()) throw refused('process has ended')
    return use(process)
  } catch (error) {
    process?.close()
    handle.close()
    throw error
  }
}

interface HeldCaller extends AttestationOptions {
  readonly process: PinnedProcess
  readonly handle: ProcessHandle
  readonly credentials: PeerCredentials
  readonly selectors: readonly Selector[]
}

function heldCaller(held: HeldCaller): Caller {
  const { process, handle, credentials } = held
  const first = { startTime: process.stat().startTime, file: process.binary()?.file }
  const closed = new AbortController()
  let looking: Promise<AttestedCaller> | undefined
  return {
    pid: credentials.pid,
    uid: credentials.uid,
    heldBy: handle.origin,
    async attest(signal) {
      signal.throwIfAborted()
      // Its last look at the process is yet to come, so it answers also who asks only now.
      looking ??= lookAt(held, first, closed.signal).finally(() => {
        looking = undefined
      })
      const attested = await looking
      signal.throwIfAborted()
      return attested
    },
    close() {
      closed.abort(refused('connection is closed'))
      process.close()
      handle.close()
    },
  }
}

/** Of the process as it was when its connection was accepted. */
interface FirstSeen {
  readonly startTime: bigint
  /** The binary. Whoever got the connection from the process must not speak for what it runs later. */
  readonly file: string | undefined
}

async function lookAt(
  held: HeldCaller,
  first: FirstSeen,
  signal: AbortSignal,
): Promise<AttestedCaller> {
  const { process, handle, credentials, selectors } = held
  if (handle.hasExited()) throw refused('process has ended')
  const facts = { ...credentials, startTime: first.startTime, binary: process.binary() }
  const found = await askAll(held, { facts, process, signal })
  assertStillSo(facts, first, held)
  const all = [...selectors, ...found]
  return { facts, selectors: all, key: keyOf(all) }
}

/** Whether it is still the process that connected, with the rights it had then, running the same file. */
function assertStillSo(
  facts: ProcessFacts,
  first: FirstSeen,
  { process, handle }: HeldCaller,
): void {
  const { state, startTime } = process.stat()
  const ids = process.status()
  const binary = process.binary()
  // Asked last: had the process ended before, nothing read above would be about it.
  if (handle.hasExited() || state === 'Z' || state === 'X') throw refused('process has ended')
  if (startTime !== first.startTime) throw refused('pid belongs to another process now')
  if (!sameIds(ids, facts)) throw refused('process has changed its user or groups')
  if (facts.binary?.file !== first.file || binary?.file !== first.file) {
    throw new AgentError('CS_CALLER_CHANGED', 'process has executed another binary')
  }
}

type Ids = Pick<PeerCredentials, 'uid' | 'gid' | 'groups'>

function sameIds(a: Ids, b: Ids): boolean {
  return (
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.groups.length === b.groups.length &&
    a.groups.every((group, at) => group === b.groups[at])
  )
}

/** All at once. One that fails costs its own selectors, which can only take entries away. */
async function askAll(
  { attestors, log }: AttestationOptions,
  request: AttestationRequest,
): Promise<readonly Selector[]> {
  const answers = await Promise.allSettled(attestors.map(async (one) => one.attest(request)))
  const found = answers.flatMap((answer, at) => {
    if (answer.status === 'fulfilled') return [answer.value]
    const { pid } = request.facts
    const reason = answer.reason instanceof Error ? answer.reason.message : 'no reason given'
    log.warn({ pid, attestor: attestors[at]?.name, reason }, 'attestor failed')
    return []
  })
  if (found.length === 0) throw new AgentError('CS_ATTESTORS_FAILED', 'every attestor failed')
  return found.flat()
}

function keyOf(selectors: readonly Selector[]): string {
  return selectors
    .map(({ type, value }) => JSON.stringify([type, value]))
    .sort()
    .join('')
}

const refused = (message: string) => new AgentError('CS_CALLER_NOT_ATTESTED', message)
