import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** An nginx with one worker and a configuration of ours. */
export interface Nginx extends AsyncDisposable {
  /** The process that does the work. */
  readonly workerPid: number
}

export interface NginxOptions {
  /** Made if needed; everything that nginx writes goes there. */
  readonly folder: string
  /** Directives of the main level, such as those that load modules. */
  readonly main?: string
  /** The blocks beside `events`. */
  readonly blocks: string
  /** Listened on when it is up. */
  readonly ports: readonly number[]
}

export async function startNginx({
  folder,
  main = '',
  blocks,
  ports,
}: NginxOptions): Promise<Nginx> {
  await mkdir(folder, { recursive: true })
  const configuration = `${folder}/nginx.conf`
  await writeFile(
    configuration,
    `${main}
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
${blocks}`,
  )
  const child = spawn('nginx', ['-p', folder, '-e', 'stderr', '-c', configuration], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  for (const port of ports) await listening(port)
  return {
    workerPid: await childOf(child.pid ?? 0),
    async [Symbol.asyncDispose]() {
      const closed = once(child, 'close')
      child.kill('SIGTERM')
      await closed
    },
  }
}

/** Where Debian's package libnginx-mod-stream puts what relays TCP; undefined without it. */
export function streamModule(): string | undefined {
  const path = '/usr/lib/nginx/modules/ngx_stream_module.so'
  return existsSync(path) ? path : undefined
}

/** A port that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address ? address.port : 0
}

/** CPU seconds that a process, with all its threads, has used so far. */
export async function cpuSecondsOf(pid: number): Promise<number> {
  const [, , ...fields] = await statOf(String(pid))
  return (Number(fields[9]) + Number(fields[10])) / TICKS_PER_SECOND
}

const TICKS_PER_SECOND = 100

async function listening(port: number): Promise<void> {
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

async function childOf(parent: number): Promise<number> {
  for (const name of await readdir('/proc')) {
    if (/^\d+$/.test(name) && Number((await statOf(name))[1]) === parent) return Number(name)
  }
  throw new Error('nginx has no worker')
}

/** The fields of proc(5) from the third on, behind the name, which may hold anything. */
async function statOf(pid: string): Promise<string[]> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}
