/**
 * Load on one HTTP/1.1 listener behind mTLS: every connection sends its next request when the answer to the
 * last one is there. Runs as a process of its own, told what to do by its parent.
 */
import { connect, type TLSSocket } from 'node:tls'

export interface LoadOrder {
  readonly port: number
  readonly key: string
  readonly cert: string
  readonly connections: number
  readonly warmUpMs: number
  readonly runMs: number
  /** What is sent again and again. */
  readonly request: string
}

export interface LoadResult {
  readonly requests: number
  readonly errors: number
  readonly seconds: number
  /** Microseconds. */
  readonly p50: number
  readonly p99: number
  /** CPU seconds of this process, so that a reader sees whether it was the bottleneck. */
  readonly cpuSeconds: number
}

type Message = LoadOrder | { readonly measure: boolean }

const MAX_SAMPLES = 4_000_000

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

  const drive = (socket: TLSSocket) => {
    let expected = 0
    let received = 0
    let sentAt = 0
    const send = () => {
      sentAt = performance.now()
      socket.write(order.request, 'latin1')
    }
    socket.on('data', (chunk: Buffer) => {
      if (expected === 0) expected = lengthOfAnswer(chunk)
      received += chunk.length
      if (received < expected) return
      if (received > expected || chunk[9] !== 0x32) errors += 1
      received = 0
      if (measuring && count < MAX_SAMPLES) {
        samples[count] = performance.now() - sentAt
        count += 1
      }
      if (!over) send()
    })
    socket.on('error', () => {
      errors += 1
    })
    send()
  }
  const sockets = await Promise.all(Array.from({ length: order.connections }, () => open(order)))
  for (const socket of sockets) drive(socket)
  await sleep(order.warmUpMs)
  process.send?.({ measure: true } satisfies Message)
  const cpu = process.cpuUsage()
  const started = performance.now()
  measuring = true
  await sleep(order.runMs)
  measuring = false
  const seconds = (performance.now() - started) / 1000
  const used = process.cpuUsage(cpu)
  process.send?.({ measure: false } satisfies Message)
  over = true
  for (const socket of sockets) socket.destroy()

  const sorted = samples.subarray(0, count).sort()
  return {
    requests: count,
    errors,
    seconds,
    p50: (sorted[Math.floor(count * 0.5)] ?? 0) * 1000,
    p99: (sorted[Math.floor(count * 0.99)] ?? 0) * 1000,
    cpuSeconds: (used.user + used.system) / 1e6,
  }
}

function open({ port, key, cert }: LoadOrder): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      port,
      host: '127.0.0.1',
      key,
      cert,
      // Measures a server that this process has started itself; trust is not what is measured.
      rejectUnauthorized: false,
      minVersion: 'TLSv1.3',
    })
    socket.once('secureConnect', () => {
      socket.setNoDelay(true)
      resolve(socket)
    })
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
