import { request as httpRequest } from 'node:http'
import { CliError } from '../errors.js'

/** What an app got for a call. */
export interface CallAnswer {
  readonly status: number
  readonly body: string
  /** Given by the sidecar that refused; an app never sets it. */
  readonly decisionId: string | undefined
}

const CALL_TIMEOUT_MS = 10_000

/** One call over plain HTTP. Throws `CS_DEV_FAILED` when there is no answer. */
export function call(options: {
  address: string
  method: string
  path: string
  signal: AbortSignal
}): Promise<CallAnswer> {
  const { address, method, path, signal } = options
  return new Promise((resolve, reject) => {
    const fail = (error: Error) =>
      reject(
        new CliError('CS_DEV_FAILED', `no answer to ${method} ${path}: ${error.message}`, {
          cause: error,
        }),
      )
    const outgoing = httpRequest(
      `http://${address}${path}`,
      { method, signal, timeout: CALL_TIMEOUT_MS, agent: false },
      (answer) => {
        const chunks: Buffer[] = []
        answer.on('data', (chunk: Buffer) => chunks.push(chunk))
        answer.on('error', fail)
        answer.on('end', () => {
          const decision = answer.headers['x-countersign-decision']
          resolve({
            status: answer.statusCode ?? 0,
            body: Buffer.concat(chunks).toString('utf8').trim(),
            decisionId: typeof decision === 'string' ? decision : undefined,
          })
        })
      },
    )
    outgoing.on('timeout', () => outgoing.destroy(new Error('timed out')))
    outgoing.on('error', fail)
    outgoing.end()
  })
}

/** Reads JSON from an admin address, such as `/status`. Undefined while nothing answers there. */
export async function readStatus(address: string, signal: AbortSignal): Promise<unknown> {
  try {
    const { status, body } = await call({ address, method: 'GET', path: '/status', signal })
    return status === 200 ? JSON.parse(body) : undefined
  } catch {
    return undefined
  }
}
