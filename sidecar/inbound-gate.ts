import type { Clock } from '../platform/clock.js'
import {
  authorize,
  type BoundCaller,
  bindCaller,
  type CanonicalRequest,
  type CompiledPolicy,
  canonicalise,
} from '../policies/index.js'
import type { HttpApp } from './app.js'
import type { Caller } from './caller.js'
import type { RequestHead } from './exchange.js'
import { headerOf, passedOn } from './headers.js'
import type { Gate, Judgement } from './http-exchange.js'
import { formatXfcc } from './xfcc.js'

/** Where the policy in force is to be had. */
export interface PolicySource {
  /** Undefined while none was ever received; everything is denied then. */
  current(): CompiledPolicy | undefined
  /** Calls after each change. Returns how to stop listening. */
  onChange(listener: () => void): () => void
}

export interface InboundGateOptions {
  readonly caller: Caller
  readonly ownId: string
  readonly policy: PolicySource
  readonly port: number | undefined
  readonly app: HttpApp
  readonly methods: ReadonlySet<string>
  readonly clock: Clock
  readonly newRequestId: () => string
}

/** Judges what one caller asks of the app, and hands on what may pass. */
export function inboundGate(options: InboundGateOptions): Gate {
  const { caller, policy, app, methods, clock, newRequestId } = options
  const bind = binding(options)
  const identity = identityHeaders(caller, options.ownId)
  const decide = (request: CanonicalRequest) =>
    authorize(bind(policy.current()), request, clock.now().getTime())

  return {
    judge(head): Judgement {
      const request = canonicalise(rawRequestOf(head))
      if ('malformed' in request) return { kind: 'malformed', code: request.malformed }
      if (!methods.has(request.method)) return { kind: 'malformed', code: 'unknown_method' }
      const { permit, decision } = decide(request)
      const { path } = request
      const snapshotId = policy.current()?.id
      if (!permit) return { kind: 'deny', path, decision, snapshotId }
      const headers = passedOn(head.headers, head.connectionNames)
      headers.push(...identity)
      if (headerOf(headers, 'x-request-id') === undefined) {
        headers.push('x-request-id', newRequestId())
      }
      const { body, upgrade } = head
      const along = { host: hostOf(request, head), headers, body, upgrade }
      return {
        kind: 'forward',
        path,
        decision,
        snapshotId,
        to: nobodyElse,
        send: (requester) => app.request(permit, along, requester),
        stillAllowed: () => decide(request).permit !== undefined,
      }
    },
  }
}

/** Looks the caller up once for each policy, not for each request. */
export function binding({
  caller,
  port,
}: {
  readonly caller: Caller
  readonly port: number | undefined
}): (policy: CompiledPolicy | undefined) => BoundCaller {
  const id = caller.kind === 'verified' ? caller.peer.id : undefined
  const options = {
    ...(port !== undefined && { port }),
    ...(caller.kind === 'unverified' && { unauthenticatedBecause: caller.detail }),
  }
  let bound: BoundCaller | undefined
  return (policy) => {
    if (bound === undefined || bound.policy !== policy) bound = bindCaller(policy, id, options)
    return bound
  }
}

const nobodyElse = () => undefined

/** What the canonicaliser looks at. */
export function rawRequestOf({ method, target, hosts, authority }: RequestHead) {
  return authority === undefined ? { method, target, hosts } : { method, target, hosts, authority }
}

/** As it was decided on, with its port: the policy does not look at that, and links of the app need it. */
export function hostOf({ host }: CanonicalRequest, { authority, hosts }: RequestHead): string {
  const named = authority ?? hosts[0] ?? ''
  const colon = named.lastIndexOf(':')
  return colon === -1 || named.endsWith(']') ? host : host + named.slice(colon)
}

/** Who calls, as the app is told: nothing else in a request says so. */
function identityHeaders(caller: Caller, ownId: string): readonly string[] {
  if (caller.kind === 'unverified') return []
  const { id, chain } = caller.peer
  const element = [
    ['By', ownId],
    ['Hash', chain[0].fingerprint],
    ['URI', id],
  ] as const
  return ['x-forwarded-client-cert', formatXfcc([element]), 'x-countersign-caller', id]
}
