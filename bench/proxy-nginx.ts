import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** An nginx with one worker and a configuration of ours. */
export interface Nginx extends AsyncDisposable {
  /** The process that does the work. */
  readonly workerPid: number
}

/** Starts nginx in `folder`; `servers` is the content of its configuration beside the frame. */
export async function startNginx(options: {
  readonly folder: string
  readonly main?: string
  readonly servers: string
  readonly ports: readonly number[]
}): Promise<Nginx> {
  const { folder, main = '', servers, ports } = options
  await mkdir(folder, { recursive: true })
  const configuration = `${folder}/nginx.conf`
  await writeFile(
    configuration,
    `${main}
     daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log stderr warn;
     events { worker_connections 4096; }
     ${servers}`,
  )
  const child = spawn('nginx', ['-p', folder, '-e', 'stderr', '-c', configuration], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  for (const port of ports) await listening(port)
  const workerPid = await workerOf(child.pid ?? 0)
  return {
    workerPid,
    async [Symbol.asyncDispose]() {
      const closed = once(child, 'close')
      child.kill('SIGTERM')
      await closed
    },
  }
}

/** A port that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address ? address.port : 0
}

async function listening(port: number): Promise<void> {
  const { connect } = await import('node:net')
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const socket = connect(port, '127.0.0.1')
    const open = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    if (open) return
    await sleep(50)
  }
  throw new Error(`nginx does not listen on ${port}`)
}

async function workerOf(master: number): Promise<number> {
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '')
    const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
    if (parent === master) return Number(name)
  }
  throw new Error('nginx has no worker')
}

const TICKS_PER_SECOND = 100

/** CPU seconds that a process has used so far. */
export async function cpuSecondsOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}
