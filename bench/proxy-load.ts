/**
 * Load on one listener, from a process of its own: as many requests as there are callers are under way all the
 * time, over HTTP/1.1 one to a connection, over HTTP/2 several. Told what to do by its parent.
 */
import { type ClientHttp2Session, connect as connectH2 } from 'node:http2'
import { connect as connectPlain, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'

export interface LoadOrder {
  readonly port: number
  /** Without them the connection is plain. */
  readonly key?: string
  readonly cert?: string
  readonly protocol: 'http1' | 'h2'
  readonly connections: number
  /** Requests under way on one connection; 1 for HTTP/1.1. */
  readonly streams: number
  readonly path: string
  readonly warmUpMs: number
  readonly runMs: number
}

export interface LoadResult {
  readonly requests: number
  readonly errors: number
  readonly seconds: number
  /** Microseconds. */
  readonly p50: number
  readonly p99: number
  /** Of this process: near to `seconds`, it was what limited the rate. */
  readonly cpuSeconds: number
}

/** Sent when the measured part begins and ends. */
export interface LoadPhase {
  readonly measuring: boolean
}

const MAX_SAMPLES = 4_000_000

/** Sends one request; calls back with whether it was answered with 200. */
type Caller = (done: (good: boolean) => void) => void

if (process.send) {
  process.once('message', (order: LoadOrder) => {
    void run(order).then((result) => process.send?.(result))
  })
}

async function run(order: LoadOrder): Promise<LoadResult> {
  const samples = new Float64Array(MAX_SAMPLES)
  let count = 0
  let errors = 0
  let measuring = false
  let over = false
  const { callers, close } = await (order.protocol === 'h2' ? http2Callers : http1Callers)(order)

  const drive = (caller: Caller) => {
    const sentAt = performance.now()
    caller((good) => {
      if (!good) errors += 1
      if (measuring && count < MAX_SAMPLES) {
        samples[count] = performance.now() - sentAt
        count += 1
      }
      if (!over) drive(caller)
    })
  }
  for (const caller of callers) drive(caller)
  await sleep(order.warmUpMs)
  process.send?.({ measuring: true } satisfies LoadPhase)
  const cpu = process.cpuUsage()
  const started = performance.now()
  measuring = true
  await sleep(order.runMs)
  measuring = false
  const seconds = (performance.now() - started) / 1000
  const used = process.cpuUsage(cpu)
  process.send?.({ measuring: false } satisfies LoadPhase)
  over = true
  close()

  const sorted = samples.subarray(0, count).sort()
  const at = (share: number) => (sorted[Math.floor(count * share)] ?? 0) * 1000
  const cpuSeconds = (used.user + used.system) / 1e6
  return { requests: count, errors, seconds, p50: at(0.5), p99: at(0.99), cpuSeconds }
}

interface Callers {
  readonly callers: readonly Caller[]
  close(): void
}

async function http1Callers(order: LoadOrder): Promise<Callers> {
  const opening = Array.from({ length: order.connections }, () => openSocket(order))
  const sockets = await Promise.all(opening)
  const request = `GET ${order.path} HTTP/1.1\r\nHost: orders\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n`
  return {
    callers: sockets.map((socket) => http1Caller(socket, request)),
    close() {
      for (const socket of sockets) socket.destroy()
    },
  }
}

function http1Caller(socket: Socket, request: string): Caller {
  let done: ((good: boolean) => void) | undefined
  let expected = 0
  let received = 0
  const settle = (good: boolean) => {
    received = 0
    const settled = done
    done = undefined
    settled?.(good)
  }
  socket.on('data', (chunk: Buffer) => {
    // All answers are alike, so the first tells how long they are.
    if (expected === 0) expected = lengthOfAnswer(chunk)
    received += chunk.length
    if (received >= expected) settle(received === expected && chunk[9] === 0x32)
  })
  socket.on('error', () => settle(false))
  return (callback) => {
    done = callback
    socket.write(request, 'latin1')
  }
}

async function http2Callers(order: LoadOrder): Promise<Callers> {
  const opening = Array.from({ length: order.connections }, () => openSession(order))
  const sessions = await Promise.all(opening)
  return {
    callers: sessions.flatMap((session) =>
      Array.from({ length: order.streams }, () => http2Caller(session, order.path)),
    ),
    close() {
      for (const session of sessions) session.destroy()
    },
  }
}

function http2Caller(session: ClientHttp2Session, path: string): Caller {
  const fields = { ':path': path, 'user-agent': 'load' }
  return (done) => {
    const stream = session.request(fields)
    let good = false
    stream.on('response', (headers) => {
      good = headers[':status'] === 200
    })
    stream.on('error', () => {})
    stream.on('close', () => done(good))
    stream.resume()
  }
}

async function openSession(order: LoadOrder): Promise<ClientHttp2Session> {
  const socket = await openSocket(order)
  const session = connectH2('https://orders', { createConnection: () => socket })
  session.on('error', () => {})
  return session
}

function openSocket({ port, key, cert, protocol }: LoadOrder): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const where = { port, host: '127.0.0.1', noDelay: true }
    const socket =
      key === undefined || cert === undefined
        ? connectPlain(where, () => resolve(socket))
        : connectTls(
            {
              ...where,
              key,
              cert,
              // Measures a server that was started for it; whom to trust is not what is measured.
              rejectUnauthorized: false,
              minVersion: 'TLSv1.3',
              ALPNProtocols: [protocol === 'h2' ? 'h2' : 'http/1.1'],
            },
            () => resolve(socket),
          )
    socket.once('error', reject)
  })
}

function lengthOfAnswer(chunk: Buffer): number {
  const text = chunk.toString('latin1')
  const head = text.indexOf('\r\n\r\n') + 4
  const length = /content-length: (\d+)/i.exec(text)
  return head + Number(length?.[1] ?? 0)
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
