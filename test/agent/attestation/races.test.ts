import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { chmod } from 'node:fs/promises'
import net from 'node:net'
import { setImmediate } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Attestation, attestation, type Caller } from '../../../agent/attestation/caller.js'
import { linuxKernel } from '../../../agent/attestation/peer.js'
import { parseStat } from '../../../agent/attestation/proc-format.js'
import { unixAttestor } from '../../../agent/attestation/unix.js'
import { systemClock } from '../../../platform/clock.js'
import { silentLog } from '../../../platform/log.js'
import { compiledRelay, isRoot, otherBinary, startRelay } from '../../support/relay.js'
import { type TempFolder, tempFolder } from '../../support/temp-folder.js'

const signal = new AbortController().signal
const OTHER_UID = 61_001

let dir: TempFolder
let program: string | undefined
let sockets = 0

beforeAll(async () => {
  dir = await tempFolder()
  await chmod(dir.path, 0o777)
  program = compiledRelay(dir.file('relay'))
  if (!program) console.log('skipped without a C compiler: exec after connecting')
})
afterAll(() => dir[Symbol.asyncDispose]())

const attested = attestation({ attestors: [unixAttestor({ clock: systemClock })], log: silentLog })
const programs = () => [undefined, ...(program ? [program] : [])]

describe('a process that connects', () => {
  test('WE-21 WL-7 is known by the selectors of its user, groups and binary', async () => {
    await using listener = await listen(attested)
    await using relay = await startRelay({ agentPath: listener.path, path: nextPath() })
    const caller = await listener.caller()
    const { facts, selectors } = await caller.attest(signal)

    expect(caller.pid).toBe(relay.pid)
    expect(facts.uid).toBe(process.getuid?.())
    const values = selectors.map(({ type, value }) => `${type}:${value}`)
    expect(values).toContain(`unix:uid:${process.getuid?.()}`)
    expect(values).toContain(`unix:gid:${process.getgid?.()}`)
    expect(values).toContain(`unix:path:${process.execPath}`)
    expect(values.filter((value) => /^unix:sha256:[0-9a-f]{64}$/.test(value))).toHaveLength(1)
  })

  test('WE-22 takes no part in it: a process that does nothing more is attested all the same', async () => {
    await using listener = await listen(attested)
    await using _ = await startRelay({ agentPath: listener.path, path: nextPath() })
    await expect((await listener.caller()).attest(signal)).resolves.toBeDefined()
  })

  test.runIf(isRoot)('has the supplementary groups it connected with', async () => {
    await using listener = await listen(attested)
    const script = `process.setgroups([61005, 61003]); process.setgid(61004); process.setuid(61002)
      require('node:net').connect(process.argv[1])`
    const child = spawn(process.execPath, ['-e', script, listener.path], {
      stdio: 'ignore',
      cwd: '/',
    })
    const caller = await listener.caller()
    const { selectors } = await caller.attest(signal)
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    await exit

    const numbers = selectors.map(({ value }) => value).filter((value) => /id:\d+$/.test(value))
    expect(numbers).toEqual([
      'uid:61002',
      'gid:61004',
      'supplementary_gid:61003',
      'supplementary_gid:61005',
    ])
  })
})

describe('a process that is no longer there', () => {
  test('is refused when it has forked and ended, though its child holds the connection', async () => {
    for (const one of programs()) {
      await using listener = await listen(attested)
      await using relay = await startRelay({
        agentPath: listener.path,
        path: nextPath(),
        ...(one && { program: one }),
      })
      const caller = await listener.caller()
      await caller.attest(signal)
      await relay.command('handover')
      await expect(caller.attest(signal)).rejects.toMatchObject({ code: 'CS_CALLER_NOT_ATTESTED' })
    }
  })

  test('is refused as a zombie that nobody has waited for', async () => {
    await using listener = await listen(attested)
    // The shell becomes a program that never waits for the child it inherits.
    const script = `exec 3<&0; "$0" -e "$1" "$2" <&3 & exec sleep 600`
    const connect = `require('node:net').connect(process.argv[1]); process.stdin.resume()
      process.stdin.on('data', () => process.exit(0)); console.log('connected')`
    const shell = spawn('sh', ['-c', script, process.execPath, connect, listener.path], {
      stdio: ['pipe', 'ignore', 'inherit'],
    })
    const caller = await listener.caller()
    const { pid } = (await caller.attest(signal)).facts
    shell.stdin?.write('end\n')
    await untilState(pid, 'Z')

    await expect(caller.attest(signal)).rejects.toMatchObject({ code: 'CS_CALLER_NOT_ATTESTED' })
    expect(stateOf(pid)).toBe('Z')
    const exit = once(shell, 'exit')
    shell.kill('SIGKILL')
    await exit
  })

  test('is refused when it had ended before the agent looked for the first time', async () => {
    await using listener = await listen(attested)
    // The test, and with it the agent, stands still until the process has come and gone.
    await using _ = leftBehind(listener.path)
    await expect(listener.caller()).rejects.toMatchObject({ code: 'CS_CALLER_NOT_ATTESTED' })
  })
})

describe.runIf(isRoot)('a pid that has gone to another process', () => {
  test('does not make that process the caller', async ({ skip }) => {
    await using listener = await listen(attested)
    await using relay = await startRelay({ agentPath: listener.path, path: nextPath() })
    const caller = await listener.caller()
    const { facts } = await caller.attest(signal)
    await relay.command('handover')
    await untilState(facts.pid, undefined)
    await using impostor = recycle(facts.pid)
    if (!impostor) return skip('pids cannot be chosen here')

    expect(stateOf(facts.pid)).toBeDefined()
    await expect(caller.attest(signal)).rejects.toMatchObject({ code: 'CS_CALLER_NOT_ATTESTED' })
  })

  test('does not do so either when that happened before the agent accepted', async ({ skip }) => {
    await using listener = await listen(attested)
    await using left = leftBehind(listener.path)
    await using impostor = recycle(left.pid)
    if (!impostor) return skip('pids cannot be chosen here')
    await expect(listener.caller()).rejects.toMatchObject({ code: 'CS_CALLER_NOT_ATTESTED' })
  })
})

describe('a process that has become something else', () => {
  test('WE-21 is refused after it has executed another binary, on the connection it had before', async ({
    skip,
  }) => {
    if (!program) return skip('needs a C compiler')
    await using listener = await listen(attested)
    await using relay = await startRelay({ agentPath: listener.path, path: nextPath(), program })
    const caller = await listener.caller()
    const { selectors } = await caller.attest(signal)
    expect(selectors).toContainEqual({ type: 'unix', value: `path:${program}` })

    await relay.command(`exec ${otherBinary(program)}`)
    await expect(caller.attest(signal)).rejects.toMatchObject({ code: 'CS_CALLER_CHANGED' })
  })

  test.runIf(isRoot)('is refused after it has taken another user', async () => {
    for (const one of programs()) {
      await using listener = await listen(attested)
      await using relay = await startRelay({
        agentPath: listener.path,
        path: nextPath(),
        ...(one && { program: one }),
      })
      const caller = await listener.caller()
      expect((await caller.attest(signal)).facts.uid).toBe(0)
      await relay.command(`setuid ${OTHER_UID}`)
      await expect(caller.attest(signal)).rejects.toMatchObject({ code: 'CS_CALLER_NOT_ATTESTED' })
    }
  })

  test('keeps its path when its binary is replaced on disk, and a newcomer gets none for the old one', async ({
    skip,
  }) => {
    if (!program) return skip('needs a C compiler')
    const installed = otherBinary(program)
    await using listener = await listen(attested)
    await using _ = await startRelay({
      agentPath: listener.path,
      path: nextPath(),
      program: installed,
    })
    const caller = await listener.caller()
    const before = await caller.attest(signal)
    execFileSync('sh', ['-c', 'cp "$1" "$1.new" && mv "$1.new" "$1"', 'sh', installed])
    const after = await caller.attest(signal)
    expect(after.facts.binary?.link).toBe(`${installed} (deleted)`)
    expect(after.selectors).toEqual(before.selectors)

    const fresh = attestation({ attestors: [unixAttestor({ clock: systemClock })], log: silentLog })
    const late = fresh.processWithPid(caller.pid)
    const seenLate = await late.attest(signal)
    late.close()
    expect(seenLate.selectors.filter(({ value }) => value.startsWith('path:'))).toEqual([])
    expect(seenLate.selectors.filter(({ value }) => value.startsWith('sha256:'))).toHaveLength(1)
  })
})

describe('the path of a binary', () => {
  test('does not count when its process has mounted a file of its own there', async ({ skip }) => {
    const [own, trusted] = [dir.file('own'), dir.file('trusted')]
    execFileSync('sh', ['-c', 'cp "$(command -v sh)" "$1" && cp "$1" "$2"', 'sh', own, trusted])
    const script = 'mount --bind "$1" "$2" && echo mounted && exec "$2" -c "read line"'
    const child = spawn('unshare', ['-Urm', 'sh', '-c', script, 'sh', own, trusted], {
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    const [said] = await Promise.race([once(child.stdout, 'data'), once(child, 'close')])
    if (!String(said).startsWith('mounted')) return skip('users may not mount here')
    // The shell is about to become the forged program.
    while (readLink(child.pid) !== trusted) await setImmediate()

    const caller = attested.processWithPid(child.pid ?? 0)
    const { selectors, facts } = await caller.attest(signal)
    caller.close()
    expect(facts.binary?.link).toBe(trusted)
    expect(selectors.filter(({ value }) => value.startsWith('path:'))).toEqual([])
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    await exit
  })
})

describe('the hold on a process', () => {
  test('is by its pid on an older kernel, and still ends with the process', async () => {
    const kernel = linuxKernel()
    const older = attestation({
      attestors: [unixAttestor({ clock: systemClock })],
      log: silentLog,
      kernel: { ...kernel, handleOfPeer: (_, pid) => kernel.handleOfPid(pid) },
    })
    await using listener = await listen(older)
    await using relay = await startRelay({ agentPath: listener.path, path: nextPath() })
    const caller = await listener.caller()
    expect(caller.heldBy).toBe('pid')
    await expect(caller.attest(signal)).resolves.toBeDefined()
    await relay.command('handover')
    await expect(caller.attest(signal)).rejects.toMatchObject({ code: 'CS_CALLER_NOT_ATTESTED' })
  })

  test('is of the socket itself where the kernel offers it', async () => {
    await using listener = await listen(attested)
    await using _ = await startRelay({ agentPath: listener.path, path: nextPath() })
    const caller = await listener.caller()
    expect(['socket', 'pid']).toContain(caller.heldBy)
  })

  test('ends with the caller: nothing can be asked afterwards, and closing twice is the same as once', async () => {
    await using listener = await listen(attested)
    await using _ = await startRelay({ agentPath: listener.path, path: nextPath() })
    const caller = await listener.caller()
    caller.close()
    caller.close()
    await expect(caller.attest(signal)).rejects.toMatchObject({ code: 'CS_CALLER_NOT_ATTESTED' })
  })

  test('leaves no descriptor behind, whatever becomes of the process', async () => {
    const kernel = linuxKernel()
    const before = openDescriptors()
    const own = attestation({
      attestors: [unixAttestor({ clock: systemClock })],
      log: silentLog,
      kernel,
    })
    for (let round = 0; round < 20; round += 1) {
      const caller = own.processWithPid(process.pid)
      await caller.attest(signal)
      caller.close()
      expect(() => own.processWithPid(2 ** 22 + 1)).toThrow()
    }
    expect(openDescriptors()).toBe(before)
  })
})

/** Connects, gives the connection to a process that outlives it, and ends. */
const LEAVE_BEHIND = `
  const socket = require('node:net').connect(process.argv[1], () => {
    const stdio = ['ignore', 'ignore', 'ignore', socket]
    const keeper = require('node:child_process').spawn('sleep', ['600'], { stdio, detached: true })
    process.stdout.write(String(keeper.pid), () => process.exit(0))
  })`

/** Stands still until that has happened; `pid` is the one that connected and is gone. */
function leftBehind(path: string): AsyncDisposable & { readonly pid: number } {
  const script = [process.execPath, '-e', LEAVE_BEHIND, path] as const
  const { pid, stdout } = spawnSync(script[0], script.slice(1), { encoding: 'utf8' })
  return {
    pid,
    [Symbol.asyncDispose]: async () => {
      process.kill(Number(stdout), 'SIGKILL')
    },
  }
}

interface Listener extends AsyncDisposable {
  readonly path: string
  /** The next process that connects. */
  caller(): Promise<Caller>
}

async function listen(through: Attestation): Promise<Listener> {
  const path = nextPath()
  const server = net.createServer({ pauseOnConnect: true })
  const open = new Set<net.Socket>()
  const callers: Caller[] = []
  const connections = nextOf(server)
  await new Promise<void>((resolve) => server.listen(path, resolve))
  await chmod(path, 0o777)
  return {
    path,
    async caller() {
      const socket = await connections()
      open.add(socket)
      const caller = through.callerOn(socket, [])
      callers.push(caller)
      return caller
    },
    async [Symbol.asyncDispose]() {
      for (const caller of callers) caller.close()
      for (const socket of open) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function nextOf(server: net.Server): () => Promise<net.Socket> {
  const waiting: net.Socket[] = []
  const wanting: ((socket: net.Socket) => void)[] = []
  server.on('connection', (socket) => {
    const taker = wanting.shift()
    if (taker) taker(socket)
    else waiting.push(socket)
  })
  return () => {
    const socket = waiting.shift()
    return socket ? Promise.resolve(socket) : new Promise((resolve) => wanting.push(resolve))
  }
}

function nextPath(): string {
  sockets += 1
  return dir.file(`s${sockets}`)
}

function readLink(pid: number | undefined): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/exe`)
  } catch {
    return undefined
  }
}

function stateOf(pid: number): string | undefined {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'utf8')).state
  } catch {
    return undefined
  }
}

/** There is no event for it, so the event loop turns until it is so. */
async function untilState(pid: number, state: string | undefined): Promise<void> {
  while (stateOf(pid) !== state) await setImmediate()
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}

/** Another process with a pid that has become free; undefined where that cannot be arranged. */
function recycle(pid: number): AsyncDisposable | undefined {
  for (let attempt = 0; attempt < 500; attempt += 1) {
    try {
      writeFileSync('/proc/sys/kernel/ns_last_pid', String(pid - 1))
    } catch {
      return undefined
    }
    const child = spawn('sleep', ['600'], { stdio: 'ignore' })
    if (child.pid === pid) {
      const end = async () => {
        const exit = once(child, 'exit')
        child.kill('SIGKILL')
        await exit
      }
      return { [Symbol.asyncDispose]: end }
    }
    child.kill('SIGKILL')
  }
  return undefined
}
