import { type DestinationStream, pino } from 'pino'

export type LogFields = Readonly<Record<string, unknown>>

/** The shape of fastify's and pino's logger: fields first, then a constant message. */
export interface Log {
  debug(fields: LogFields, message: string): void
  info(fields: LogFields, message: string): void
  warn(fields: LogFields, message: string): void
  error(fields: LogFields, message: string): void
  child(fields: LogFields): Log
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** Names that a key, token or request must never be logged under; a slip shows as [redacted]. */
const SECRET_FIELDS = [
  'key',
  'privateKey',
  'token',
  'csr',
  'passphrase',
  'password',
  'authorization',
  'cookie',
]

/** JSON lines on `destination` (standard error unless given), one per decision. */
export function jsonLog(options: {
  level: LogLevel
  name: string
  destination?: DestinationStream
}): Log {
  return pino(
    {
      level: options.level,
      base: { component: options.name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
      redact: { paths: SECRET_FIELDS.flatMap((name) => [name, `*.${name}`]), censor: '[redacted]' },
    },
    options.destination ?? pino.destination({ fd: 2, sync: true }),
  )
}

const nothing = () => {}
/** Says nothing; for tests and for library use without a log. */
export const silentLog: Log = {
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
  child: () => silentLog,
}
