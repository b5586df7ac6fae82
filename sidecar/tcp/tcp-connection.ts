import type { Socket } from 'node:net'
import type { Decision } from '../../policies/index.js'
import { numberField, textField } from '../access-log.js'
import type { CloseReason } from '../exchange.js'
import { decisionFields } from '../http-exchange.js'
import type { Secure, TunnelMeter } from '../metrics.js'
import type { ProxyContext } from '../proxy-context.js'
import { TcpRelay } from './relay.js'

/** What is noted of one TCP connection, from its beginning to its line in the access log. */
export interface TcpRecord {
  ended(how: CloseReason): void
  bytes(fromNear: number, fromFar: number): void
}

export interface TcpRecordOptions {
  readonly context: ProxyContext
  readonly meter: TunnelMeter
  readonly tunnel: string
  readonly secure: Secure
  readonly callerNamespace: string
  readonly decision: Decision | undefined
  /** The policy that it is the answer of. */
  readonly snapshotId?: string | undefined
  /** The beginning of the line: fields, each with its comma. */
  readonly fields: string
}

export function tcpRecord(options: TcpRecordOptions): TcpRecord {
  const { context, meter, tunnel, secure, callerNamespace, decision, fields } = options
  const { clock, accessLog, metrics } = context
  const started = clock.hrtime()
  const id = context.nextId()
  let fromNear = 0
  let fromFar = 0
  meter.secure(secure)
  if (decision) meter.decision(decision, callerNamespace)
  return {
    bytes(more, back) {
      fromNear += more
      fromFar += back
      meter.bytes(more, back)
    },
    ended(how) {
      meter.ended(how)
      if (how === 'policy') metrics.terminated.inc({ tunnel, reason: how })
      if (accessLog.mode === 'off') return
      const ordinary = how === 'complete' && decision?.effect !== 'deny'
      if (accessLog.mode === 'denied' && ordinary) return
      accessLog.write(
        `${fields}${textField('decision_id', id)}${decisionFields(decision)}${textField('snapshot_id', options.snapshotId)}${numberField('bytes_in', fromNear)}${numberField('bytes_out', fromFar)}"duration_ns":${clock.hrtime() - started},"close_reason":"${how}"`,
      )
    },
  }
}

export function relayTcp(options: {
  readonly near: Socket
  readonly far: Socket
  readonly record: TcpRecord
  readonly context: ProxyContext
}): TcpRelay {
  const { near, far, record, context } = options
  return new TcpRelay({
    near,
    far,
    limits: context.limits,
    deadlines: context.deadlines,
    onBytes: record.bytes,
    onEnd: record.ended,
  })
}
