import { systemRandom } from '../../platform/random.js'
import type { AuditEvent, AuditSink } from '../../sentry/audit/event.js'
import {
  type Authorities,
  type AuthoritiesOptions,
  type AuthorityFile,
  openAuthorities,
} from '../../sentry/authorities/authorities.js'
import { parseTrustDomain, type TrustDomain } from '../../spiffe/index.js'
import { type FakeClock, fakeClock } from './fake-clock.js'

/** A sealed file without the seal: it holds what was written last, and can be made to fail. */
export interface MemoryFile extends AuthorityFile {
  content: Uint8Array | undefined
  writes: number
  failure: Error | undefined
}

export function memoryFile(content?: Uint8Array): MemoryFile {
  const file: MemoryFile = {
    content,
    writes: 0,
    failure: undefined,
    read: () => Promise.resolve(file.content),
    write(plain) {
      if (file.failure) return Promise.reject(file.failure)
      file.content = new Uint8Array(plain)
      file.writes += 1
      return Promise.resolve()
    },
  }
  return file
}

/** Keeps what it is told, in order. */
export interface RecordedAudit extends AuditSink {
  readonly events: AuditEvent[]
}

export function recordedAudit(): RecordedAudit {
  const events: AuditEvent[] = []
  return { events, record: (event) => events.push(event) }
}

export interface SentryCa {
  readonly trustDomain: TrustDomain
  readonly authorities: Authorities
  readonly file: MemoryFile
  readonly clock: FakeClock
  readonly audit: RecordedAudit
}

/** Real authorities of the sentry, at a time that stands until it is moved. */
export async function sentryCa(
  options: Partial<
    AuthoritiesOptions & { readonly clock: FakeClock; readonly file: MemoryFile }
  > = {},
): Promise<SentryCa> {
  const trustDomain = options.trustDomain ?? parseTrustDomain('prod.example')
  const file = options.file ?? memoryFile()
  const clock = options.clock ?? fakeClock()
  const audit = recordedAudit()
  const authorities = await openAuthorities({
    random: systemRandom,
    audit,
    ...options,
    trustDomain,
    file,
    clock,
  })
  return { trustDomain, authorities, file, clock, audit }
}
