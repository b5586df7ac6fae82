import type { Log, LogFields } from '../../platform/log.js'

export interface LogLine extends LogFields {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly message: string
}

/** Keeps what is logged, so that a test can look for it, and tells when a line comes. */
export interface MemoryLog extends Log {
  readonly lines: readonly LogLine[]
  /** Resolves once there is a line that `matches`, also one that is there already. */
  until(matches: (line: LogLine) => boolean): Promise<LogLine>
}

export function memoryLog(): MemoryLog {
  const lines: LogLine[] = []
  const watchers = new Set<() => void>()
  const write = (level: LogLine['level'], base: LogFields) => (fields: LogFields, text: string) => {
    lines.push({ ...base, ...fields, level, message: text })
    for (const watcher of Array.from(watchers)) watcher()
  }
  const logger = (base: LogFields): Log => ({
    debug: write('debug', base),
    info: write('info', base),
    warn: write('warn', base),
    error: write('error', base),
    child: (fields) => logger({ ...base, ...fields }),
  })
  return {
    ...logger({}),
    lines,
    until: (matches) =>
      new Promise((resolve, reject) => {
        const deadline = setTimeout(() => {
          watchers.delete(look)
          reject(new Error(`no such line among ${lines.map(({ message }) => message).join('; ')}`))
        }, 15_000)
        const look = () => {
          const line = lines.find(matches)
          if (!line) return
          clearTimeout(deadline)
          watchers.delete(look)
          resolve(line)
        }
        watchers.add(look)
        look()
      }),
  }
}
