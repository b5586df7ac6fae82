import { closeSync, readlinkSync } from 'node:fs'
import type { Socket } from 'node:net'
import { constants } from 'node:os'
import { errno, load } from 'koffi'
import { AgentError } from '../errors.js'
import type { PeerCredentials, PeerKernel, ProcessHandle } from './kernel.js'

/** From the kernel's headers; the same on the architectures listed below. */
const SOL_SOCKET = 1
const SO_PEERCRED = 17
const SO_PEERGROUPS = 59
const SO_PEERPIDFD = 77
const SYS_PIDFD_OPEN = 434n
const POLLIN = 1
const ARCHITECTURES: readonly string[] = ['x64', 'arm64', 'riscv64', 'loong64', 'arm', 'ia32']

/** `NGROUPS_MAX` of the kernel. */
const MAX_GROUPS = 65_536
const LIKELY_GROUPS = 64

const { ENOPROTOOPT, EINTR, ERANGE } = constants.errno

/**
 * The kernel's answers by system call. Each call is made at once and none can block. Throws
 * `CS_PLATFORM_UNSUPPORTED` and `CS_PROC_UNUSABLE` where the answers could not be relied on.
 */
export function linuxKernel(): PeerKernel {
  const libc = loadLibc()
  const kernel: PeerKernel = {
    credentialsOf: (descriptor) => credentialsOf(libc, descriptor),
    handleOfPeer: (descriptor, pid) => handleOfPeer(libc, { descriptor, pid }),
    handleOfPid: (pid) => processHandle(libc, { pidfd: openPidfd(libc, pid), origin: 'pid' }),
  }
  assertUsable(kernel)
  return kernel
}

/**
 * The descriptor of an accepted socket, which Node shows nowhere else. It belongs to the socket: never
 * close it, and use it only while the socket is open.
 */
export function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as { _handle?: { readonly fd?: unknown } | null }
  if (typeof handle?.fd !== 'number' || handle.fd < 0) throw gone('connection is closed')
  return handle.fd
}

interface Libc {
  getsockopt(
    descriptor: number,
    level: number,
    name: number,
    value: Uint8Array,
    length: Uint32Array,
  ): number
  poll(descriptors: Uint8Array, count: number, timeoutMs: number): number
  pidfdOpen(pid: number): number
  errno(): number
}

function loadLibc(): Libc {
  if (process.platform !== 'linux' || !ARCHITECTURES.includes(process.arch)) {
    throw unsupported(`callers cannot be identified on ${process.platform} ${process.arch}`)
  }
  const library = load(null)
  const syscall = library.func('long syscall(long number, int pid, unsigned int flags)')
  return {
    getsockopt: library.func(
      'int getsockopt(int, int, int, _Out_ uint8_t *value, _Inout_ uint32_t *length)',
    ),
    poll: library.func('int poll(_Inout_ uint8_t *descriptors, unsigned long count, int timeout)'),
    pidfdOpen: (pid) => Number(syscall(SYS_PIDFD_OPEN, pid, 0)),
    errno,
  }
}

/** Fails at the start, and not at the first caller, where the system withholds what is needed. */
function assertUsable(kernel: PeerKernel): void {
  try {
    kernel.handleOfPid(process.pid).close()
  } catch (cause) {
    throw new AgentError('CS_PLATFORM_UNSUPPORTED', 'pidfd_open is not available', { cause })
  }
  if (ownPidInProc() !== String(process.pid)) {
    throw new AgentError('CS_PROC_UNUSABLE', '/proc belongs to another pid namespace')
  }
}

function ownPidInProc(): string | undefined {
  try {
    return readlinkSync('/proc/self')
  } catch {
    return undefined
  }
}

/** `struct ucred`: pid, uid, gid. A peer outside of the agent's PID namespace shows as pid 0. */
function credentialsOf(libc: Libc, descriptor: number): PeerCredentials {
  const option = readOption(libc, { descriptor, name: SO_PEERCRED, bytes: 12 })
  if ('failure' in option || option.value.length !== 12) throw gone('peer has no credentials')
  const { value } = option
  const pid = value.readInt32LE(0)
  if (pid <= 0) throw gone('peer lives outside of the pid namespace of the agent')
  return {
    pid,
    uid: value.readUInt32LE(4),
    gid: value.readUInt32LE(8),
    groups: groupsOf(libc, descriptor),
  }
}

function groupsOf(libc: Libc, descriptor: number): readonly number[] {
  for (const count of [LIKELY_GROUPS, MAX_GROUPS]) {
    const option = readOption(libc, { descriptor, name: SO_PEERGROUPS, bytes: count * 4 })
    if ('value' in option) return groupList(option.value)
    if (option.failure !== ERANGE) break
  }
  throw gone('peer has no list of groups')
}

function groupList(value: Buffer): readonly number[] {
  return Array.from({ length: value.length / 4 }, (_, at) => value.readUInt32LE(at * 4)).sort(
    (a, b) => a - b,
  )
}

function handleOfPeer(
  libc: Libc,
  { descriptor, pid }: { readonly descriptor: number; readonly pid: number },
): ProcessHandle {
  const option = readOption(libc, { descriptor, name: SO_PEERPIDFD, bytes: 4 })
  if ('value' in option && option.value.length === 4) {
    return processHandle(libc, { pidfd: option.value.readInt32LE(0), origin: 'socket' })
  }
  if ('failure' in option && option.failure === ENOPROTOOPT) {
    return processHandle(libc, { pidfd: openPidfd(libc, pid), origin: 'pid' })
  }
  throw gone('process that connected has ended')
}

function openPidfd(libc: Libc, pid: number): number {
  const pidfd = libc.pidfdOpen(pid)
  if (pidfd < 0) throw gone(`process ${pid} cannot be held: error ${libc.errno()}`)
  return pidfd
}

function processHandle(
  libc: Libc,
  { pidfd, origin }: { readonly pidfd: number; readonly origin: ProcessHandle['origin'] },
): ProcessHandle {
  let open = true
  // struct pollfd: descriptor, events asked for, events seen.
  const question = Buffer.alloc(8)
  question.writeInt32LE(pidfd, 0)
  question.writeInt16LE(POLLIN, 4)
  return {
    origin,
    hasExited() {
      if (!open) return true
      for (;;) {
        const ready = libc.poll(question, 1, 0)
        if (ready >= 0) return ready > 0
        // What cannot be told is not taken for alive.
        if (libc.errno() !== EINTR) return true
      }
    },
    close() {
      if (!open) return
      open = false
      closeSync(pidfd)
    },
  }
}

function readOption(
  libc: Libc,
  option: { readonly descriptor: number; readonly name: number; readonly bytes: number },
): { readonly value: Buffer } | { readonly failure: number } {
  const value = Buffer.alloc(option.bytes)
  const length = Uint32Array.of(option.bytes)
  const result = libc.getsockopt(option.descriptor, SOL_SOCKET, option.name, value, length)
  return result === 0 ? { value: value.subarray(0, length[0]) } : { failure: libc.errno() }
}

const gone = (message: string) => new AgentError('CS_CALLER_NOT_ATTESTED', message)
const unsupported = (message: string) => new AgentError('CS_PLATFORM_UNSUPPORTED', message)
