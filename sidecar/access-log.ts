import type { Writable } from 'node:stream'
import type { Clock } from '../platform/clock.js'

/** Which requests and connections get a line. */
export type AccessLogMode = 'all' | 'denied' | 'off'

export interface AccessLogOptions {
  readonly destination: Writable
  readonly mode: AccessLogMode
  readonly clock: Clock
}

/** One JSON line for each request or TCP connection, written in batches. */
export interface AccessLog {
  readonly mode: AccessLogMode
  /** `fields` is the inside of a JSON object, without its braces. */
  write(fields: string): void
  flush(): void
  /** Lines given up because the destination does not keep up. */
  readonly lost: number
}

const BATCH_CHARACTERS = 32 * 1024
/** What may wait in the destination before lines are given up: logging must not take the memory. */
const MAX_WAITING = 8 * 1024 * 1024

export function accessLog({ destination, mode, clock }: AccessLogOptions): AccessLog {
  const stamp = timeStamp(clock)
  let batch = ''
  let lost = 0
  const flush = () => {
    if (batch === '') return
    destination.write(batch)
    batch = ''
  }
  return {
    mode,
    get lost() {
      return lost
    },
    flush,
    write(fields) {
      if (destination.writableLength > MAX_WAITING) {
        lost += 1
        return
      }
      batch += `{"time":"${stamp()}",${fields}}\n`
      if (batch.length > BATCH_CHARACTERS) flush()
    },
  }
}

/** `"name":"value",` for the beginning of a line; nothing for what is not known. */
export function textField(name: string, value: string | undefined): string {
  return value === undefined ? '' : `"${name}":${jsonText(value)},`
}

export function numberField(name: string, value: number | undefined): string {
  return value === undefined ? '' : `"${name}":${value},`
}

/** What needs no escape in JSON: printable ASCII without the quote and the backslash. */
const PLAIN = /^[ !#-[\]-~]*$/

export function jsonText(value: string): string {
  return PLAIN.test(value) ? `"${value}"` : JSON.stringify(value)
}

/** ISO 8601 in UTC. The part down to the second is made once for each second. */
function timeStamp(clock: Clock): () => string {
  let second = Number.NaN
  let prefix = ''
  return () => {
    const now = clock.now()
    const time = now.getTime()
    const current = Math.floor(time / 1000)
    if (current !== second) {
      second = current
      prefix = now.toISOString().slice(0, -'000Z'.length)
    }
    const milliseconds = time - current * 1000
    const zeros = milliseconds < 10 ? '00' : milliseconds < 100 ? '0' : ''
    return `${prefix}${zeros}${milliseconds}Z`
  }
}
